//! The system calls of a socket, each tried once: what came of it, or the direction to wait for.

use std::sync::atomic::Ordering;

use pyo3::exceptions::PyBlockingIOError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use thistledown_kernel::Direction;

use super::{Socket, number};
use crate::errors;
use crate::net::buffer::{self, Target, with_bytes};
use crate::net::descriptor;
use crate::net::scratch;
use crate::net::verbs::Sent;

/// Bytes received in one call, at the most: `recv(n)` may always give fewer.
const WINDOW: usize = 256 * 1024;

/// What came of a system call: a value, or the direction to wait for.
pub(crate) type Tried<T> = Result<T, Direction>;

/// A system call that is tried again when a signal interrupts it.
fn retry<T>(call: impl FnMut() -> Result<T, Errno>, direction: Direction) -> PyResult<Tried<T>> {
    match rustix::io::retry_on_intr(call) {
        Ok(value) => Ok(Ok(value)),
        Err(Errno::AGAIN) => Ok(Err(direction)),
        Err(error) => Err(errors::errno(error)),
    }
}

impl Socket {
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
