//! The lifeline: a worker ends when its parent is gone, whatever it does at that time.
//!
//! The zygote sees to that, and mostly does it first. Should it be gone too, the closed socket itself sends a signal, and
//! the handler ends the process, also when it hangs in C code or in a wait that never ends. No thread is needed for it.
#![allow(unsafe_code, reason = "a signal handler is installed, and descriptors are asked by number")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// What the socket sends: a real-time signal, next to the one that stops a task.
const SIGNAL: i32 = crate::INTERRUPT_SIGNAL + 1;

static SOCKET: AtomicI32 = AtomicI32::new(-1);

/// From now on the process ends when the other end of this socket is closed.
pub(crate) fn hold(socket: BorrowedFd<'_>) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    SOCKET.store(fd, Ordering::Relaxed);
    // SAFETY: the handler does only what a signal handler may; the descriptor is open.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = look as extern "C" fn(i32) as usize;
        // Calls of the system that it interrupts go on: blobs come through this socket too.
        action.sa_flags = libc::SA_RESTART;
        check(libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()))?;
        check(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()))?;
        check(libc::fcntl(fd, F_SETSIG, SIGNAL))?;
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC))?;
    }
    // It may have been closed before.
    look(SIGNAL);
    Ok(())
}

/// Linux's number, which the C library's crate does not have.
const F_SETSIG: i32 = 10;

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Something has happened to the socket.
extern "C" fn look(_signal: i32) {
    let mut watched = libc::pollfd { fd: SOCKET.load(Ordering::Relaxed), events: 0, revents: 0 };
    // SAFETY: both calls are allowed in a signal handler.
    unsafe {
        if libc::poll(&raw mut watched, 1, 0) == 1 && watched.revents & libc::POLLHUP != 0 {
            libc::_exit(1);
        }
    }
}
