//! Descriptors of the operating system: borrowed by number, registered with a run.
#![allow(unsafe_code, reason = "Python hands descriptors over as numbers")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use thistledown_kernel::{Direction, SourceId};
use thistledown_reactor::Registry;

use crate::current::Run;
use crate::errors;
use crate::payload::WORLD;

/// A descriptor by its number, for one call.
pub(crate) fn borrow<'fd>(fd: RawFd) -> BorrowedFd<'fd> {
    // A closed one is no descriptor at all; this number fails with EBADF wherever it is used.
    let number = if fd < 0 { RawFd::MAX } else { fd };
    // SAFETY: the number is used for one system call that fails with EBADF when it is not open; it is not -1, which
    // `BorrowedFd` excludes. Nothing here closes it.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Whether it is ready now.
pub(crate) fn is_ready(fd: RawFd, direction: Direction) -> PyResult<bool> {
    let flags = match direction {
        Direction::Read => PollFlags::IN,
        Direction::Write => PollFlags::OUT,
    };
    let descriptor = borrow(fd);
    let mut fds = [PollFd::from_borrowed_fd(descriptor, flags)];
    let ready = loop {
        match rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Err(Errno::INTR) => {}
            polled => break polled.map_err(errors::errno)?,
        }
    };
    if fds[0].revents().contains(PollFlags::NVAL) {
        return Err(errors::errno(Errno::BADF));
    }
    Ok(ready > 0)
}

/// A source of a run, registered until it is dropped.
pub(crate) struct Registration {
    fd: RawFd,
    /// Gone with its run; a socket that outlives the run keeps nothing of it open.
    registry: Weak<Registry>,
    process: u32,
    /// A duplicate, when the run knows the descriptor already from somebody else.
    own: Option<OwnedFd>,
    pub(crate) run: thistledown_kernel::RunnerId,
    pub(crate) source: SourceId,
}

impl Registration {
    /// Registers a descriptor that an attempt has just found dry in this direction.
    pub(crate) fn new(run: &Run, fd: RawFd, dry: Direction) -> PyResult<Self> {
        let source = WORLD.with(|kernel| {
            let source = kernel.add_source(run.runner);
            kernel.source_is_dry(source, dry);
            source
        });
        let mut registration = Self {
            fd,
            registry: Arc::downgrade(&run.registry),
            process: std::process::id(),
            own: None,
            run: run.runner,
            source,
        };
        let mut registered = run.registry.register(borrow(fd), source.number());
        if registered.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
            let own = rustix::io::fcntl_dupfd_cloexec(borrow(fd), 0).map_err(errors::errno)?;
            registration.fd = own.as_raw_fd();
            registered = run.registry.register(borrow(registration.fd), source.number());
            registration.own = Some(own);
        }
        if let Err(error) = registered {
            return Err(match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::PERM) => errors::wrong_value(format!(
                    "descriptor {fd} is a regular file or directory, which is always ready: read it with `td.thread`"
                )),
                _ => errors::system(&error),
            });
        }
        Ok(registration)
    }

    /// It was closed by somebody else: there is nothing to deregister, and the number may be another's.
    pub(crate) fn forget(mut self) {
        self.fd = -1;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // In a forked child the registration is the parent's.
        if self.fd >= 0
            && self.process == std::process::id()
            && let Some(registry) = self.registry.upgrade()
        {
            // A descriptor that is closed already is deregistered already.
            let _ = registry.deregister(borrow(self.fd));
        }
        WORLD.with(|kernel| kernel.remove_source(self.source));
    }
}
