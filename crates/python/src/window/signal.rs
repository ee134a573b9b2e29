//! Signals: `SIGQUIT`, by which the tree is asked for too, unless the program takes it itself; and which of them the
//! window's threads take.
#![allow(unsafe_code, reason = "a signal's handler, and a thread's mask of signals")]

use std::sync::atomic::{AtomicBool, Ordering};

use thistledown_workers::LINES_SIGNAL;

use super::{BELL, OPEN};

/// `SIGQUIT` has come, and was not answered yet.
static QUIT: AtomicBool = AtomicBool::new(false);

/// Whether it has come, and was not answered yet.
pub(super) fn has_quit() -> bool {
    QUIT.load(Ordering::Acquire)
}

/// The same, by whoever answers it.
pub(super) fn take_quit() -> bool {
    QUIT.swap(false, Ordering::AcqRel)
}

/// `SIGQUIT`: the thread is to print the tree.
extern "C" fn on_quit(_number: libc::c_int) {
    QUIT.store(true, Ordering::Release);
    let bell = OPEN[BELL].load(Ordering::Acquire);
    if bell >= 0 {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the bell is an eventfd that is open, or was a moment ago; whatever else has its number by then gets no more
        // than a write that fails or eight bytes; `errno` is put back for whoever was interrupted.
        unsafe {
            let errno = libc::__errno_location();
            let known = *errno;
            libc::write(bell, one.as_ptr().cast(), one.len());
            *errno = known;
        }
    }
}

/// Takes `SIGQUIT`, if nobody has it, or gives it back.
pub(super) fn quit_signal(take: bool) {
    let ours: extern "C" fn(libc::c_int) = on_quit;
    let ours = ours as libc::sighandler_t;
    let (from, to) = if take { (libc::SIG_DFL, ours) } else { (ours, libc::SIG_DFL) };
    // SAFETY: the actions are on the stack; the handler writes to a descriptor and does nothing else.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGQUIT, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == from
        {
            action.sa_sigaction = to;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGQUIT, &raw const action, std::ptr::null_mut());
        }
    }
}

/// No signal is taken by this thread that is meant for another, but the one that it sends to itself.
pub(super) fn block_signals() {
    let _ = keep_signals_out();
}

/// The mask that a thread had before it was to see no signals.
pub(crate) struct Mask(libc::sigset_t);

impl Mask {
    /// The thread sees signals as before.
    pub(crate) fn restore(self) {
        // SAFETY: this thread's own mask, as it was.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// This thread, and those that it starts, see no signals from now on.
pub(crate) fn keep_signals_out() -> Mask {
    // SAFETY: a set of signals on the stack, and this thread's own mask.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigdelset(&raw mut all, LINES_SIGNAL);
        let mut before = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        Mask(before)
    }
}
