//! Sockets: the system calls, and the operations that are made of them.
//!
//! A call is tried first; only one that would block is waited for. A source is registered with a run once, at its
//! first wait, and its readiness is remembered: after a read that came back short the next one waits without asking
//! again, so that a request costs one receive and one send. A socket of another kind (TLS) is driven through its own
//! Python methods by the same operations.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::PyBlockingIOError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use smallvec::SmallVec;
use thistledown_kernel::{Direction, Kernel, SourceId};

use crate::buffer::{self, Target, with_bytes};
use crate::current::Current;
use crate::descriptor::{self, Registration};
use crate::errors;
use crate::operation::Operation;
use crate::payload::{Snake, WORLD};
use crate::scratch;
use crate::stream::{Buffered, Incoming};
use crate::verbs::{Sent, Verb, operation};

const AF_INET: i32 = rustix::net::AddressFamily::INET.as_raw() as i32;
const AF_INET6: i32 = rustix::net::AddressFamily::INET6.as_raw() as i32;

/// Bytes received in one call, at the most: `recv(n)` may always give fewer.
const WINDOW: usize = 256 * 1024;

/// A socket of the operating system under the engine's care.
#[pyclass(frozen, subclass, weakref, module = "thistledown._core")]
pub(crate) struct Socket {
    socket: Mutex<Py<PyAny>>,
    fd: AtomicI32,
    /// System calls do; otherwise the Python object's own methods have to be called.
    plain: AtomicBool,
    /// TCP, where a short read means that nothing is left. A Unix socket's read also stops at passed descriptors.
    stream: bool,
    pub(crate) limit: usize,
    /// With each run whose tasks have waited for it.
    pub(crate) registrations: Mutex<SmallVec<[Registration; 1]>>,
    /// What threads wait for that watch it themselves.
    pub(crate) watched: Mutex<Option<SourceId>>,
    pub(crate) incoming: Mutex<Incoming>,
}

/// What came of a system call: a value, or the direction to wait for.
pub(crate) type Tried<T> = Result<T, Direction>;

pub(crate) fn number(py: Python<'_>, count: usize) -> Py<PyAny> {
    count.into_pyobject(py).map_or_else(|never| match never {}, |number| number.into_any().unbind())
}

/// A system call that is tried again when a signal interrupts it.
fn retry<T>(call: impl FnMut() -> Result<T, Errno>, direction: Direction) -> PyResult<Tried<T>> {
    match rustix::io::retry_on_intr(call) {
        Ok(value) => Ok(Ok(value)),
        Err(Errno::AGAIN) => Ok(Err(direction)),
        Err(error) => Err(errors::errno(error)),
    }
}

impl Socket {
    pub(crate) fn fd(&self) -> RawFd {
        self.fd.load(Ordering::Relaxed)
    }

    fn python(&self, py: Python<'_>) -> Py<PyAny> {
        self.socket.lock().clone_ref(py)
    }

    /// Whether the Python socket still has the descriptor: closed behind our back, the number may be another's.
    pub(crate) fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        let fd = self.fd();
        if fd >= 0 {
            let now: RawFd = self.python(py).call_method0(py, intern!(py, "fileno"))?.extract(py)?;
            if now == fd {
                return Ok(());
            }
            self.fd.store(-1, Ordering::Relaxed);
            self.withdraw(py, fd)?;
        }
        Err(errors::errno(Errno::BADF))
    }

    fn is_plain(&self) -> bool {
        self.plain.load(Ordering::Relaxed)
    }

    /// Does something with its source in the run of this thread, if it has one.
    fn with_source<T>(&self, work: impl FnOnce(&mut Kernel<Snake>, SourceId) -> T) -> Option<T> {
        let run = Current::run()?;
        let registrations = self.registrations.lock();
        let registration = registrations.iter().find(|registration| registration.run == run.runner)?;
        Some(WORLD.with(|kernel| work(kernel, registration.source)))
    }

    /// An attempt found nothing: the next one waits for the system's report.
    pub(crate) fn mark_dry(&self, direction: Direction) {
        self.with_source(|kernel, source| kernel.source_is_dry(source, direction));
    }

    /// Whether the socket is known to be dry, so that a call would be in vain.
    fn is_dry(&self, direction: Direction) -> bool {
        self.is_plain()
            && self.with_source(|kernel, source| !kernel.source_is_ready(source, direction)) == Some(true)
    }

    /// Receives into a buffer. Nothing received is the end of the stream.
    pub(crate) fn receive(&self, py: Python<'_>, buffer: &mut [u8]) -> PyResult<Tried<usize>> {
        if self.is_dry(Direction::Read) {
            return Ok(Err(Direction::Read));
        }
        if !self.is_plain() {
            let received = self.through_python(py, Direction::Read, intern!(py, "recv"), (buffer.len(),))?;
            return received.map_or_else(
                |direction| Ok(Err(direction)),
                |bytes| {
                    with_bytes(bytes.bind(py), 0, |bytes| match buffer.get_mut(..bytes.len()) {
                        Some(target) => {
                            target.copy_from_slice(bytes);
                            Ok(Ok(bytes.len()))
                        }
                        None => {
                            Err(errors::misuse("the socket's recv gave more bytes than it was asked for"))
                        }
                    })
                },
            );
        }
        let fd = descriptor::borrow(self.fd());
        let received = retry(|| rustix::net::recv(fd, &mut *buffer, RecvFlags::empty()), Direction::Read)?;
        let received = received.map(|(count, _)| count);
        if self.stream
            && let Ok(count) = received
            && count > 0
            && count < buffer.len()
        {
            self.with_source(|kernel, source| kernel.source_ran_short(source));
        }
        Ok(received)
    }

    pub(crate) fn try_recv(&self, py: Python<'_>, count: usize) -> PyResult<Tried<Py<PyAny>>> {
        if count == 0 {
            return Ok(Ok(PyBytes::new(py, b"").into_any().unbind()));
        }
        if let Some(bytes) = self.incoming.lock().take_up_to(py, count) {
            return Ok(Ok(bytes));
        }
        if !self.is_plain() {
            return self.through_python(py, Direction::Read, intern!(py, "recv"), (count,));
        }
        if self.is_dry(Direction::Read) {
            return Ok(Err(Direction::Read));
        }
        scratch::with(count.min(WINDOW), |buffer| {
            let received = self.receive(py, buffer)?;
            Ok(received.map(|count| PyBytes::new(py, &buffer[..count]).into_any().unbind()))
        })
    }

    pub(crate) fn try_recv_into(
        &self,
        py: Python<'_>,
        buffer: &Py<PyAny>,
        count: usize,
    ) -> PyResult<Tried<Py<PyAny>>> {
        let target = Target::new(buffer.bind(py))?;
        let count = if count == 0 { target.len() } else { count };
        if count > target.len() {
            return Err(errors::wrong_value("nbytes is greater than the length of the buffer"));
        }
        scratch::with(count.min(WINDOW), |bytes| {
            let had = self.incoming.lock().take_into(bytes);
            let received = if had == 0 && count > 0 { self.receive(py, bytes)? } else { Ok(had) };
            Ok(received.map(|received| {
                target.fill(&bytes[..received]);
                number(py, received)
            }))
        })
    }

    /// Sends what it can of the bytes from `start` on.
    pub(crate) fn try_send(&self, py: Python<'_>, data: &Py<PyAny>, start: usize) -> PyResult<Tried<usize>> {
        if !self.is_plain() {
            let view =
                py.import(intern!(py, "builtins"))?.getattr(intern!(py, "memoryview"))?.call1((data,))?;
            let view = view.call_method1(intern!(py, "cast"), ("B",))?;
            let rest =
                view.get_item(pyo3::types::PySlice::new(py, isize::try_from(start)?, isize::MAX, 1))?;
            let sent = self.through_python(py, Direction::Write, intern!(py, "send"), (rest,))?;
            return sent.map_or_else(|direction| Ok(Err(direction)), |count| Ok(Ok(count.extract(py)?)));
        }
        let fd = descriptor::borrow(self.fd());
        with_bytes(data.bind(py), start, |rest| {
            retry(|| rustix::net::send(fd, rest, SendFlags::NOSIGNAL), Direction::Write)
        })
    }

    pub(crate) fn try_send_all(
        &self,
        py: Python<'_>,
        data: &Py<PyAny>,
        sent: &Sent,
    ) -> PyResult<Tried<Py<PyAny>>> {
        let length = buffer::length(data.bind(py))?;
        loop {
            let start = sent.bytes.load(Ordering::Relaxed);
            if start >= length {
                sent.reset();
                return Ok(Ok(py.None()));
            }
            match self.try_send(py, data, start)? {
                Ok(count) => sent.bytes.store(start + count, Ordering::Relaxed),
                Err(direction) => {
                    sent.hold(data.bind(py))?;
                    return Ok(Err(direction));
                }
            }
        }
    }

    pub(crate) fn try_connect(&self, py: Python<'_>, address: &Py<PyAny>) -> PyResult<Tried<Py<PyAny>>> {
        let result: i32 =
            self.python(py).call_method1(py, intern!(py, "connect_ex"), (address,))?.extract(py)?;
        if result == 0 {
            return Ok(Ok(py.None()));
        }
        match Errno::from_raw_os_error(result) {
            Errno::ISCONN => Ok(Ok(py.None())),
            Errno::INPROGRESS | Errno::ALREADY => Ok(Err(Direction::Write)),
            error => Err(errors::errno(error)),
        }
    }

    pub(crate) fn try_ready(&self, py: Python<'_>, direction: Direction) -> PyResult<Tried<Py<PyAny>>> {
        let reading = direction == Direction::Read;
        let buffered =
            reading && (!self.incoming.lock().is_empty() || (!self.is_plain() && self.has_decrypted(py)?));
        let ready = buffered || descriptor::is_ready(self.fd(), direction)?;
        Ok(if ready { Ok(py.None()) } else { Err(direction) })
    }

    /// Whether TLS holds bytes that the system does not know of.
    fn has_decrypted(&self, py: Python<'_>) -> PyResult<bool> {
        let pending: usize = self.python(py).call_method0(py, intern!(py, "pending"))?.extract(py)?;
        Ok(pending > 0)
    }

    /// Calls a method of the Python socket, which says by an exception that it would block.
    pub(crate) fn through_python<'py>(
        &self,
        py: Python<'py>,
        direction: Direction,
        method: &Bound<'py, PyString>,
        args: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Tried<Py<PyAny>>> {
        let called = self.python(py).into_bound(py).call_method1(method, args);
        match called {
            Ok(value) => Ok(Ok(value.unbind())),
            Err(error) if error.is_instance_of::<PyBlockingIOError>(py) => Ok(Err(direction)),
            Err(error) if !self.is_plain() => match wanted(py, &error)? {
                Some(direction) => Ok(Err(direction)),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Ends its registrations and tells whoever waits. Closed behind our back, the number may be another's by now.
    fn withdraw(&self, py: Python<'_>, fd: RawFd) -> PyResult<()> {
        let registrations = std::mem::take(&mut *self.registrations.lock());
        let still: RawFd = self.python(py).call_method0(py, intern!(py, "fileno"))?.extract(py)?;
        for registration in registrations {
            if still == fd {
                drop(registration);
            } else {
                registration.forget();
            }
        }
        if let Some(source) = self.watched.lock().take() {
            WORLD.with(|kernel| kernel.remove_source(source));
        }
        Ok(())
    }

    pub(crate) fn readiness(slf: Bound<'_, Self>, direction: Direction) -> Operation {
        operation(slf, Verb::Ready(direction))
    }
}

/// What a TLS socket waits for, by the exception it raised.
fn wanted(py: Python<'_>, error: &PyErr) -> PyResult<Option<Direction>> {
    let ssl = py.import(intern!(py, "ssl"))?;
    let is = |class: &str| Ok::<bool, PyErr>(error.is_instance(py, &ssl.getattr(class)?));
    Ok(match () {
        () if is("SSLWantReadError")? => Some(Direction::Read),
        () if is("SSLWantWriteError")? => Some(Direction::Write),
        () => None,
    })
}

fn count(bytes: i64, name: &str) -> PyResult<usize> {
    usize::try_from(bytes).map_err(|_| errors::wrong_value(format!("{name} must be >= 0, got {bytes}")))
}

impl Drop for Socket {
    fn drop(&mut self) {
        let fd = self.fd();
        if fd >= 0 {
            Python::attach(|py| {
                // It may be dropped because of an exception that is on its way.
                let pending = PyErr::take(py);
                if let Err(error) = self.withdraw(py, fd) {
                    errors::put_off(py, error, None);
                }
                if let Some(pending) = pending {
                    pending.restore(py);
                }
            });
        }
    }
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

    /// An operation that connects to an address, of the form that the socket's family has.
    fn connect(slf: Bound<'_, Self>, address: Py<PyAny>) -> Operation {
        operation(slf, Verb::Connect(address))
    }

    /// An operation that receives up to so many bytes; ``b""`` is the end of the stream.
    fn recv(slf: Bound<'_, Self>, bufsize: i64) -> PyResult<Operation> {
        let bytes = count(bufsize, "bufsize")?;
        Ok(operation(slf, Verb::Recv(bytes)))
    }

    /// An operation that receives into a writable buffer and gives how many bytes; 0 is the end of the stream.
    #[pyo3(signature = (buffer, nbytes=0))]
    fn recv_into(slf: Bound<'_, Self>, buffer: Py<PyAny>, nbytes: i64) -> PyResult<Operation> {
        let bytes = count(nbytes, "nbytes")?;
        Ok(operation(slf, Verb::RecvInto(buffer, bytes)))
    }

    /// An operation that sends what there is room for and gives how many bytes that were.
    fn send(slf: Bound<'_, Self>, data: Py<PyAny>) -> PyResult<Operation> {
        buffer::length(data.bind(slf.py()))?;
        Ok(operation(slf, Verb::Send(data)))
    }

    /// An operation that sends all of it. Cancelled in the middle, it has sent a part that nobody knows.
    fn sendall(slf: Bound<'_, Self>, data: Py<PyAny>) -> PyResult<Operation> {
        buffer::length(data.bind(slf.py()))?;
        Ok(operation(slf, Verb::SendAll(data, Sent::default())))
    }

    /// An operation that sends a datagram to an address and gives its length.
    fn sendto(slf: Bound<'_, Self>, data: Py<PyAny>, address: Py<PyAny>) -> PyResult<Operation> {
        buffer::length(data.bind(slf.py()))?;
        Ok(operation(slf, Verb::SendTo(data, address)))
    }

    /// An operation that receives a datagram of up to so many bytes and gives ``(bytes, address)``.
    fn recvfrom(slf: Bound<'_, Self>, bufsize: i64) -> PyResult<Operation> {
        let bytes = count(bufsize, "bufsize")?;
        Ok(operation(slf, Verb::RecvFrom(bytes)))
    }

    /// An operation that reads exactly so many bytes.
    ///
    /// Raises ``IncompleteReadError`` when the stream ends before.
    fn readexactly(slf: Bound<'_, Self>, n: i64) -> PyResult<Operation> {
        let bytes = count(n, "n")?;
        Ok(operation(slf, Verb::Read(Buffered::exactly(bytes))))
    }

    /// An operation that reads up to and including a separator.
    ///
    /// Raises ``IncompleteReadError`` when the stream ends before, ``LimitOverrunError`` when there is no separator
    /// within ``limit`` bytes (the socket's, if None); the bytes can still be read.
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
    /// Raises ``LimitOverrunError`` when the line is longer than ``limit`` bytes (the socket's, if None).
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
