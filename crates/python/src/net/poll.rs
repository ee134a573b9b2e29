//! Readiness of any descriptor: a pipe, a device, another library's socket.
//!
//! The descriptor stays its owner's, who may close it or register it elsewhere; so each wait registers a duplicate of
//! its own, and gives it up when it is over.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::PyAnyMethods;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{Direction, Moment, Want};

use crate::errors;
use crate::net::descriptor::{self, Registration};
use crate::net::socket::Socket;
use crate::operation::{Kind, Operation, Wants};

/// Readiness of one descriptor.
pub(crate) struct RawPoll {
    fd: RawFd,
    direction: Direction,
    /// While it is waited for; the registration goes first.
    registered: Mutex<Option<(Registration, OwnedFd)>>,
}

fn operation(file: &Bound<'_, PyAny>, direction: Direction) -> PyResult<Operation> {
    if let Ok(socket) = file.cast::<Socket>() {
        return Ok(Socket::readiness(socket.clone(), direction));
    }
    let fd: RawFd = match file.extract() {
        Ok(fd) => fd,
        Err(_) => file
            .call_method0("fileno")
            .and_then(|fd| fd.extract())
            .map_err(|_| errors::wrong_type("give a descriptor's number or an object with `fileno()`"))?,
    };
    if fd < 0 {
        return Err(errors::wrong_value(format!("{fd} is no descriptor: the file is closed")));
    }
    Ok(Operation::new(Kind::Poll(Box::new(RawPoll { fd, direction, registered: Mutex::new(None) }))))
}

/// An operation: the descriptor is readable, or at its end.
///
/// Args:
///     file: a descriptor's number, or an object with ``fileno()``. Not a regular file, which is always ready.
#[pyfunction]
pub(crate) fn readable(file: &Bound<'_, PyAny>) -> PyResult<Operation> {
    operation(file, Direction::Read)
}

/// An operation: the descriptor is writable, or broken.
///
/// Args:
///     file: a descriptor's number, or an object with ``fileno()``. Not a regular file, which is always ready.
#[pyfunction]
pub(crate) fn writable(file: &Bound<'_, PyAny>) -> PyResult<Operation> {
    operation(file, Direction::Write)
}

impl RawPoll {
    pub(crate) fn attempt(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if descriptor::is_ready(self.fd, self.direction)? {
            return Ok(Some(py.None()));
        }
        if let Some((registration, _)) = &*self.registered.lock() {
            let (source, direction) = (registration.source, self.direction);
            crate::payload::WORLD.with(|kernel| kernel.source_is_dry(source, direction));
        }
        Ok(None)
    }

    pub(crate) fn want(&self, wants: &mut Wants<'_>) -> PyResult<()> {
        let Some(run) = wants.run else {
            wants.watch(self.fd, self.direction, Want::Until(Moment::NEVER));
            return Ok(());
        };
        let mut registered = self.registered.lock();
        if registered.is_none() {
            let own =
                rustix::io::fcntl_dupfd_cloexec(descriptor::borrow(self.fd), 0).map_err(errors::errno)?;
            *registered = Some((Registration::new(run, own.as_raw_fd(), self.direction)?, own));
        }
        if let Some((registration, _)) = &*registered {
            wants.push(match self.direction {
                Direction::Read => Want::Readable(registration.source),
                Direction::Write => Want::Writable(registration.source),
            });
        }
        Ok(())
    }

    pub(crate) fn release(&self) {
        let registered = self.registered.lock().take();
        drop(registered);
    }

    pub(crate) fn copy(&self, _py: Python<'_>) -> Self {
        Self { fd: self.fd, direction: self.direction, registered: Mutex::new(None) }
    }

    pub(crate) fn describe(&self) -> String {
        match self.direction {
            Direction::Read => format!("readable(fd {})", self.fd),
            Direction::Write => format!("writable(fd {})", self.fd),
        }
    }
}
