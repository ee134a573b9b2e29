//! The lifeline: a process ends when its parent is gone, whatever it does at that time.
//!
//! The zygote sees to its workers, and mostly does it first. Should it be gone too, or hang, the system does: the parent
//! holds one end of a pipe that nobody writes to, and when that is closed, however it comes, the system sends `SIGKILL`
//! to whoever holds on to the other. That ends also what blocks all signals, hangs in C code or is stopped, and takes no
//! thread and no handler. Source: `F_SETSIG` in fcntl(2).
//!
//! What is not covered: C code may fork the parent. Then its end is closed when that child has ended, too.
#![allow(unsafe_code, reason = "rustix has no names for the signals of descriptors")]

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};

/// The end to let go of, and the end to hold on to; closed on exec.
pub(crate) fn new() -> io::Result<(OwnedFd, OwnedFd)> {
    let (hold, let_go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((let_go, hold))
}

/// From now on this process is killed when the other end is closed.
pub(crate) fn hold(line: OwnedFd) -> io::Result<()> {
    // Held to the end of the process. One that it forks gets a copy, of which it is not the owner.
    let fd = line.into_raw_fd();
    let mut watched = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: the descriptor is open, and the other argument of `poll` is on the stack.
    unsafe {
        check(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()))?;
        check(libc::fcntl(fd, F_SETSIG, libc::SIGKILL))?;
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC))?;
        // It may have been closed before.
        if check(libc::poll(&raw mut watched, 1, 0))? == 1 {
            libc::_exit(1);
        }
    }
    Ok(())
}

/// Linux's number, which the C library's crate does not have.
const F_SETSIG: i32 = 10;

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
