//! What Python calls on a socket.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use rustix::io::Errno;
use rustix_futex_sync::Mutex;
use thistledown_kernel::Direction;

use super::Socket;
use crate::errors;
use crate::net::buffer;
use crate::net::stream::Buffered;
use crate::net::verbs::{Sent, Verb, operation};
use crate::operation::Operation;

const AF_INET: i32 = rustix::net::AddressFamily::INET.as_raw() as i32;
const AF_INET6: i32 = rustix::net::AddressFamily::INET6.as_raw() as i32;

fn count(bytes: i64, name: &str) -> PyResult<usize> {
    usize::try_from(bytes).map_err(|_| errors::wrong_value(format!("{name} must be >= 0, got {bytes}")))
}

#[pymethods]
impl Socket {
    #[new]
    #[pyo3(signature = (sock, limit=65536))]
    fn new(sock: Bound<'_, PyAny>, limit: i64) -> PyResult<Self> {
        let py = sock.py();
        let class = py.import(intern!(py, "socket"))?.getattr(intern!(py, "socket"))?;
        if !sock.is_instance(&class)? {
            return Err(errors::wrong_type(format!(
                "Socket wraps a `socket.socket`, got a {}: `td.connect` and `td.listen` make one",
                sock.get_type().name()?
            )));
        }
        if limit <= 0 {
            return Err(errors::wrong_value(format!("limit must be a number of bytes > 0, got {limit}")));
        }
        let fd: RawFd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
        if fd < 0 {
            return Err(errors::errno(Errno::BADF));
        }
        sock.call_method1(intern!(py, "setblocking"), (false,))?;
        let kind: i32 = sock.getattr(intern!(py, "type"))?.extract()?;
        let family: i32 = sock.getattr(intern!(py, "family"))?.extract()?;
        let plain = sock.get_type().getattr(intern!(py, "recv"))?.is(&class.getattr(intern!(py, "recv"))?);
        Ok(Self {
            fd: AtomicI32::new(fd),
            socket: Mutex::new(sock.unbind()),
            plain: AtomicBool::new(plain),
            stream: kind == 1 && (family == AF_INET || family == AF_INET6),
            limit: count(limit, "limit")?,
            registrations: Mutex::default(),
            watched: Mutex::new(None),
            incoming: Mutex::default(),
        })
    }

    /// The `socket.socket` under it.
    #[getter]
    fn socket(&self, py: Python<'_>) -> Py<PyAny> {
        self.python(py)
    }

    /// The descriptor's number; -1 once it is closed.
    fn fileno(&self) -> RawFd {
        self.fd()
    }

    /// The bytes that a buffered read looks through for its separator.
    #[getter]
    fn limit(&self) -> usize {
        self.limit
    }

    /// An operation that accepts a connection and gives ``(Socket, address)``. TCP connections get TCP_NODELAY.
    fn accept(slf: Bound<'_, Self>) -> Operation {
        operation(slf, Verb::Accept)
    }

    /// An operation that connects to an address.
    ///
    /// Args:
    ///     address: of the form that the socket's family has, as ``(host, port)``. To look a name up blocks the thread:
    ///         ``td.connect`` does that elsewhere.
    ///
    /// Raises:
    ///     OSError: when it is waited for: nobody answers there.
    fn connect(slf: Bound<'_, Self>, address: Py<PyAny>) -> Operation {
        operation(slf, Verb::Connect(address))
    }

    /// An operation that receives up to so many bytes; ``b""`` is the end of the stream.
    ///
    /// Args:
    ///     bufsize: bytes at most.
    ///
    /// Raises:
    ///     ValueError: less than 0.
    ///     OSError: when it is waited for: the connection is broken, or the socket closed.
    fn recv(slf: Bound<'_, Self>, bufsize: i64) -> PyResult<Operation> {
        let bytes = count(bufsize, "bufsize")?;
        Ok(operation(slf, Verb::Recv(bytes)))
    }

    /// An operation that receives into a writable buffer and gives how many bytes; 0 is the end of the stream.
    ///
    /// Args:
    ///     buffer: anything writable that has the buffer protocol.
    ///     nbytes: at most; 0 for as many as there is room for.
    ///
    /// Raises:
    ///     ValueError: less than 0.
    ///     OSError: when it is waited for: the connection is broken, or the socket closed.
    #[pyo3(signature = (buffer, nbytes=0))]
    fn recv_into(slf: Bound<'_, Self>, buffer: Py<PyAny>, nbytes: i64) -> PyResult<Operation> {
        let bytes = count(nbytes, "nbytes")?;
        Ok(operation(slf, Verb::RecvInto(buffer, bytes)))
    }

    /// An operation that sends what there is room for and gives how many bytes that were.
    ///
    /// Args:
    ///     data: bytes, or anything that has the buffer protocol.
    ///
    /// Raises:
    ///     TypeError: it has none.
    ///     OSError: when it is waited for: the connection is broken, or the socket closed.
    fn send(slf: Bound<'_, Self>, data: Py<PyAny>) -> PyResult<Operation> {
        buffer::length(data.bind(slf.py()))?;
        Ok(operation(slf, Verb::Send(data)))
    }

    /// An operation that sends all of it. Cancelled in the middle, it has sent a part that nobody knows.
    ///
    /// Args:
    ///     data: bytes, or anything that has the buffer protocol.
    ///
    /// Raises:
    ///     TypeError: it has none.
    ///     OSError: when it is waited for: the connection is broken, or the socket closed.
    fn sendall(slf: Bound<'_, Self>, data: Py<PyAny>) -> PyResult<Operation> {
        buffer::length(data.bind(slf.py()))?;
        Ok(operation(slf, Verb::SendAll(data, Sent::default())))
    }

    /// An operation that sends a datagram to an address and gives its length.
    ///
    /// Args:
    ///     data: bytes, or anything that has the buffer protocol.
    ///     address: of the form that the socket's family has.
    ///
    /// Raises:
    ///     TypeError: it has none.
    ///     OSError: when it is waited for: it cannot be sent.
    fn sendto(slf: Bound<'_, Self>, data: Py<PyAny>, address: Py<PyAny>) -> PyResult<Operation> {
        buffer::length(data.bind(slf.py()))?;
        Ok(operation(slf, Verb::SendTo(data, address)))
    }

    /// An operation that receives a datagram and gives ``(bytes, address)``.
    ///
    /// Args:
    ///     bufsize: bytes at most; what is longer is cut off.
    ///
    /// Raises:
    ///     ValueError: less than 0.
    ///     OSError: when it is waited for: the connection is broken, or the socket closed.
    fn recvfrom(slf: Bound<'_, Self>, bufsize: i64) -> PyResult<Operation> {
        let bytes = count(bufsize, "bufsize")?;
        Ok(operation(slf, Verb::RecvFrom(bytes)))
    }

    /// An operation that reads exactly so many bytes.
    ///
    /// Args:
    ///     n: how many.
    ///
    /// Raises:
    ///     ValueError: less than 0.
    ///     IncompleteReadError: when it is waited for: the stream ends before.
    ///     OSError: when it is waited for: the connection is broken, or the socket closed.
    fn readexactly(slf: Bound<'_, Self>, n: i64) -> PyResult<Operation> {
        let bytes = count(n, "n")?;
        Ok(operation(slf, Verb::Read(Buffered::exactly(bytes))))
    }

    /// An operation that reads up to and including a separator.
    ///
    /// Args:
    ///     separator: bytes.
    ///     limit: bytes within which it must come; the socket's, if None.
    ///
    /// Raises:
    ///     ValueError: the separator is empty, or the limit is none.
    ///     IncompleteReadError: when it is waited for: the stream ends before.
    ///     LimitOverrunError: when it is waited for: there is no separator within the limit; the bytes can still be read.
    ///     OSError: when it is waited for: the connection is broken, or the socket closed.
    #[pyo3(signature = (separator=b"\n".as_slice(), limit=None))]
    fn readuntil(slf: Bound<'_, Self>, separator: &[u8], limit: Option<i64>) -> PyResult<Operation> {
        if separator.is_empty() {
            return Err(errors::wrong_value("separator must not be empty"));
        }
        let limit = slf.get().limit_or(limit)?;
        Ok(operation(slf, Verb::Read(Buffered::until(separator, limit, false))))
    }

    /// An operation that reads a line with its end; what is left when the stream ends without one.
    ///
    /// Args:
    ///     limit: bytes that the line may have; the socket's, if None.
    ///
    /// Raises:
    ///     ValueError: the limit is none.
    ///     LimitOverrunError: when it is waited for: the line is longer; the bytes can still be read.
    ///     OSError: when it is waited for: the connection is broken, or the socket closed.
    #[pyo3(signature = (limit=None))]
    fn readline(slf: Bound<'_, Self>, limit: Option<i64>) -> PyResult<Operation> {
        let limit = slf.get().limit_or(limit)?;
        Ok(operation(slf, Verb::Read(Buffered::until(b"\n", limit, true))))
    }

    /// An operation: there is something to read, or the end.
    fn readable(slf: Bound<'_, Self>) -> Operation {
        Self::readiness(slf, Direction::Read)
    }

    /// An operation: there is room to send, or the connection is broken.
    fn writable(slf: Bound<'_, Self>) -> Operation {
        Self::readiness(slf, Direction::Write)
    }

    fn _handshake(slf: Bound<'_, Self>) -> Operation {
        operation(slf, Verb::Handshake)
    }

    /// Puts another Python socket over the same descriptor in its place, as TLS does.
    fn _replace(&self, sock: Py<PyAny>) -> PyResult<()> {
        if !self.incoming.lock().is_empty() {
            return Err(errors::misuse(
                "bytes have been read ahead of the TLS handshake: they would be lost",
            ));
        }
        self.plain.store(false, Ordering::Relaxed);
        let old = std::mem::replace(&mut *self.socket.lock(), sock);
        drop(old);
        Ok(())
    }

    /// Gives the descriptor up without closing it, and says its number. Whoever waits gets ``OSError`` (EBADF).
    fn detach(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let fd = self.fd.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            self.withdraw(py, fd)?;
        }
        self.python(py).call_method0(py, intern!(py, "detach"))
    }

    /// Closes it at once. Whoever waits for it gets ``OSError`` (EBADF). Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let fd = self.fd.swap(-1, Ordering::Relaxed);
        if fd < 0 {
            return Ok(());
        }
        self.withdraw(py, fd)?;
        self.python(py).call_method0(py, intern!(py, "close")).map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.socket.try_lock() {
            Some(socket) => visit.call(&*socket),
            None => Ok(()),
        }
    }
}

impl Socket {
    fn limit_or(&self, limit: Option<i64>) -> PyResult<usize> {
        limit.map_or(Ok(self.limit), |limit| count(limit, "limit"))
    }
}
