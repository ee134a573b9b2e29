//! The calls of actors in other processes that somebody waits for, and the waits of a worker's own thread.
//!
//! Whoever changes them has the interpreter's lock, so no fork finds a lock of theirs taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_kernel::TaskId;
use thistledown_workers::now;

use super::written::Trail;
use crate::workers::herald;
use crate::workers::remote::{Remote, Way};

/// A call that is not answered for so long is asked about; then after twice that, and so on.
const FIRST_PAUSE: u64 = 100_000_000;
const LONGEST_PAUSE: u64 = 1_600_000_000;

/// With so many it is first looked which of them are answered.
const FIRST_SWEEP: usize = 64;

/// Calls that somebody waits for, and some that are answered: never many more than are waited for.
static AWAITED: Mutex<List> = Mutex::new(List { calls: Vec::new(), sweep_at: FIRST_SWEEP });

struct List {
    calls: Vec<Awaited>,
    /// With so many those that are answered are taken out: twice as many as were left the last time.
    sweep_at: usize,
}

struct Awaited {
    call: Weak<Remote>,
    due: u64,
    pause: u64,
}

impl Awaited {
    /// The call, while it is not answered.
    fn open(&self) -> Option<Arc<Remote>> {
        self.call.upgrade().filter(|call| !call.is_done())
    }
}

impl List {
    fn push(&mut self, one: Awaited) {
        if self.calls.len() >= self.sweep_at {
            self.calls.retain(|one| one.open().is_some());
            self.sweep_at = FIRST_SWEEP.max(2 * self.calls.len());
        }
        self.calls.push(one);
    }
}

/// Somebody waits for this call, for the first time.
pub(crate) fn note(call: &Arc<Remote>) {
    let due = now() + FIRST_PAUSE;
    AWAITED.lock().push(Awaited { call: Arc::downgrade(call), due, pause: FIRST_PAUSE });
    herald::look_at_times();
}

/// Asks about the calls that have not been answered for long. False: nobody waits for any.
pub(crate) fn look() -> bool {
    let now = now();
    let mut due = Vec::new();
    let are_any = {
        let mut awaited = AWAITED.lock();
        awaited.calls.retain_mut(|one| {
            let Some(call) = one.open() else { return false };
            if one.due <= now {
                one.pause = (2 * one.pause).min(LONGEST_PAUSE);
                one.due = now + one.pause;
                due.push(call);
            }
            true
        });
        !awaited.calls.is_empty()
    };
    for remote in due {
        if let Some(Way::Home(call)) = remote.way()
            && let Some(origin) = call.origin()
        {
            call.ask_about(&Trail::new(origin));
        }
    }
    are_any
}

/// In a forked child: they are the parent's.
pub(crate) fn forget() {
    let awaited = std::mem::take(&mut AWAITED.lock().calls);
    let held = std::mem::take(&mut *HELD.lock());
    // Dropping one may take locks that nobody releases here.
    std::mem::forget((awaited, held));
}

/// What the thread that takes a worker's tasks waits for, the innermost last.
static HELD: Mutex<Vec<(u64, Hold)>> = Mutex::new(Vec::new());
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// What such a thread waits for.
#[derive(Clone)]
pub(crate) enum Hold {
    /// The end of a task in another process.
    End(Arc<Remote>),
    /// Whatever this party of the kernel waits for: the main task of a run in plain code, or, at the end of a group, the
    /// thread itself.
    Party(TaskId),
}

/// While it lives the worker's own thread waits, and has no other way out.
pub(crate) struct Held(u64);

impl Held {
    pub(crate) fn new(_py: Python<'_>, hold: Hold) -> Self {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        HELD.lock().push((number, hold));
        Self(number)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = HELD.lock();
        let place = held.iter().position(|(number, _)| *number == self.0);
        let over = place.map(|place| held.remove(place));
        drop(held);
        drop(over);
    }
}

/// What the worker's own thread waits for, if it does.
pub(super) fn held() -> Option<Hold> {
    HELD.lock().last().map(|(_, hold)| hold.clone())
}
