//! The calls of actors in other processes that somebody waits for, and the waits of a worker's own thread.
//!
//! Whoever changes them has the interpreter's lock, so no fork finds a lock of theirs taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_workers::now;

use super::written::Trail;
use crate::workers::herald;
use crate::workers::remote::{Remote, Way};

/// A call that is not answered for so long is asked about; then after twice that, and so on.
const FIRST_PAUSE: u64 = 100_000_000;
const LONGEST_PAUSE: u64 = 1_600_000_000;

/// Calls that somebody waits for, and some that are answered.
static AWAITED: Mutex<Vec<Awaited>> = Mutex::new(Vec::new());

struct Awaited {
    call: Weak<Remote>,
    due: u64,
    pause: u64,
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
        awaited.retain_mut(|one| {
            let Some(call) = one.call.upgrade().filter(|call| !call.is_done()) else { return false };
            if one.due <= now {
                one.pause = (2 * one.pause).min(LONGEST_PAUSE);
                one.due = now + one.pause;
                due.push(call);
            }
            true
        });
        !awaited.is_empty()
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
    let awaited = std::mem::take(&mut *AWAITED.lock());
    let held = std::mem::take(&mut *HELD.lock());
    // Dropping one may take locks that nobody releases here.
    std::mem::forget((awaited, held));
}

/// What the thread that takes a worker's tasks waits for, the innermost last.
static HELD: Mutex<Vec<(u64, Arc<Remote>)>> = Mutex::new(Vec::new());
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// While it lives the worker's own thread waits for the end of a task, and has no other way out.
pub(crate) struct Held(u64);

impl Held {
    pub(crate) fn new(_py: Python<'_>, remote: Arc<Remote>) -> Self {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        HELD.lock().push((number, remote));
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
pub(super) fn held() -> Option<Arc<Remote>> {
    HELD.lock().last().map(|(_, remote)| Arc::clone(remote))
}
