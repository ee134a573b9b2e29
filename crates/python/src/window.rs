//! A window into this process: whoever asks from outside, as the same user, is shown the tree.
//!
//! Asked through an abstract Unix socket that is named after the process, or by `SIGQUIT`, it answers from inside, in a
//! thread of its own that needs no run: Python makes the words, in a second thread. When that does not get the
//! interpreter's lock in time, because a call in C holds it, the answer is the stacks of all threads as `faulthandler`
//! writes them, which needs no lock.
//!
//! It is there while a run or a pool is, but for the first moments, so that a short run pays nothing for it: the thread
//! comes with the first of them, lingers a while for the next, and opens the socket when one has lasted. What it
//! has opened is closed before the last of them is over.
//!
//! Invariants: whoever asks is checked by the system's word for who he is; a forked child does not answer for its parent;
//! nothing is answered once the interpreter is about to end.
#![allow(unsafe_code, reason = "what is kept for ever, and descriptors that a fork has copied")]

mod answer;
pub(crate) mod signal;
mod thread;

use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use rustix_futex_sync::{Condvar, Mutex};
use thistledown_workers::Bell;

use crate::outside::outside;
use crate::workers::upstream;
use signal::quit_signal;

/// How long Python has for its answer; then there is one without it.
const ANSWER: Duration = Duration::from_secs(2);

#[derive(Default)]
struct State {
    /// Runs and pools.
    users: usize,
    /// Counts the times that there was a first of them.
    generation: u64,
    has_thread: bool,
    /// From when it is decided to open it until all is closed.
    is_open: bool,
    /// Rung when the last one is over; there while the window is open.
    bell: Option<std::sync::Arc<Bell>>,
    /// The interpreter is about to end.
    is_silent: bool,
}

struct Window {
    state: Mutex<State>,
    /// The window was closed.
    closed: Condvar,
    /// Somebody is in Python.
    is_telling: Mutex<bool>,
    /// He has come out.
    told: Condvar,
}

/// Made when it is needed first, and kept for ever. A forked child has one of its own: the parent's may be locked there.
static WINDOW: AtomicPtr<Window> = AtomicPtr::new(std::ptr::null_mut());

/// What the window has open, for a forked child to close: the socket, the bell, and the memory for stacks.
static OPEN: [AtomicI32; 3] = [const { AtomicI32::new(-1) }; 3];
const SOCKET: usize = 0;
const BELL: usize = 1;
const LINES: usize = 2;

fn window() -> &'static Window {
    // SAFETY: null, or what `replace` has leaked.
    match unsafe { WINDOW.load(Ordering::Acquire).as_ref() } {
        Some(window) => window,
        None => replace(std::ptr::null_mut()),
    }
}

fn replace(old: *mut Window) -> &'static Window {
    let fresh = Window {
        state: Mutex::default(),
        closed: Condvar::new(),
        is_telling: Mutex::default(),
        told: Condvar::new(),
    };
    let fresh = Box::into_raw(Box::new(fresh));
    let there = match WINDOW.compare_exchange(old, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => fresh,
        Err(there) => {
            // SAFETY: made above, and nobody has seen it.
            drop(unsafe { Box::from_raw(fresh) });
            there
        }
    };
    // SAFETY: leaked, here or by whoever was faster.
    unsafe { &*there }
}

/// In a forked child: the window is the parent's.
pub(crate) fn forget() {
    let old = WINDOW.load(Ordering::Acquire);
    if old.is_null() {
        return;
    }
    for open in &OPEN {
        let descriptor = open.swap(-1, Ordering::Relaxed);
        if descriptor >= 0 {
            // SAFETY: a copy of the parent's, which nobody here uses: its thread does not exist.
            unsafe { libc::close(descriptor) };
        }
    }
    replace(old);
    quit_signal(false);
}

/// A run or a pool begins.
pub(crate) fn user_comes() {
    // A worker is in the tree of its program, and a program can ask not to be looked at.
    if upstream::get().is_some() || is_switched_off() {
        return;
    }
    let window = window();
    let mut state = window.state.lock();
    state.users += 1;
    if state.users > 1 || state.is_silent {
        return;
    }
    state.generation += 1;
    quit_signal(true);
    if !state.has_thread {
        let thread = std::thread::Builder::new().name("thistledown-tree".into());
        // Without a thread there is no window; the program runs all the same.
        state.has_thread = thread.spawn(thread::watch).is_ok();
    }
}

/// It is over. Does not wait; see [`settle`].
pub(crate) fn user_goes() {
    let window = WINDOW.load(Ordering::Acquire);
    // SAFETY: as in `window`.
    let Some(window) = (unsafe { window.as_ref() }) else { return };
    let mut state = window.state.lock();
    if state.users == 0 {
        return;
    }
    state.users -= 1;
    if state.users == 0 {
        quit_signal(false);
        if let Some(bell) = &state.bell {
            bell.ring();
        }
    }
}

/// Waits until the window is closed, if nobody needs it any more.
pub(crate) fn settle(py: Python<'_>) {
    // SAFETY: as in `window`.
    let Some(window) = (unsafe { WINDOW.load(Ordering::Acquire).as_ref() }) else { return };
    let is_closing = |state: &mut State| state.users == 0 && state.is_open && !state.is_silent;
    if is_closing(&mut window.state.lock()) {
        outside(py, || {
            drop(window.closed.wait_timeout_while(window.state.lock(), ANSWER, is_closing));
        });
    }
}

/// Nothing is answered any more, and nobody is in Python because of it: the interpreter is about to end.
pub(crate) fn fall_silent() {
    // SAFETY: as in `window`.
    let Some(window) = (unsafe { WINDOW.load(Ordering::Acquire).as_ref() }) else { return };
    window.state.lock().is_silent = true;
    drop(window.told.wait_while(window.is_telling.lock(), |is_telling| *is_telling));
}

/// A run, as a user of the window.
pub(crate) struct User;

impl User {
    pub(crate) fn new() -> Self {
        user_comes();
        Self
    }

    pub(crate) fn goes(self, py: Python<'_>) {
        user_goes();
        settle(py);
    }
}

fn is_switched_off() -> bool {
    std::env::var_os("THISTLEDOWN_TREE").is_some_and(|value| value == "0")
}
