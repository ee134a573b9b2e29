//! Sockets: the system calls, and the operations that are made of them.
//!
//! A call is tried first; only one that would block is waited for. A source is registered with a run once, at its
//! first wait, and its readiness is remembered: after a read that came back short the next one waits without asking
//! again, so that a request costs one receive and one send. A socket of another kind (TLS) is driven through its own
//! Python methods by the same operations. The calls stand in `attempts`; what Python calls, in `face`.

mod attempts;
mod face;

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use rustix::io::Errno;
use rustix_futex_sync::Mutex;
use smallvec::SmallVec;
use thistledown_kernel::{Direction, Kernel, SourceId};

use crate::current::Current;
use crate::errors;
use crate::net::descriptor::Registration;
use crate::net::stream::Incoming;
use crate::net::verbs::{Verb, operation};
use crate::operation::Operation;
use crate::payload::{Snake, WORLD};

pub(crate) use attempts::Tried;

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

pub(crate) fn number(py: Python<'_>, count: usize) -> Py<PyAny> {
    count.into_pyobject(py).map_or_else(|never| match never {}, |number| number.into_any().unbind())
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

impl Drop for Socket {
    fn drop(&mut self) {
        let fd = self.fd();
        if fd >= 0 {
            Python::attach(|py| {
                let _pending = errors::Pending::set_aside(py);
                if let Err(error) = self.withdraw(py, fd) {
                    errors::put_off(py, error, None);
                }
            });
        }
    }
}
