//! Watches of a space that is elsewhere: what is seen comes by itself, and is kept here.

use std::collections::VecDeque;

use rustix_futex_sync::Mutex;
use thistledown_exchange::{Handle, Parcel, Told, Waiter};
use thistledown_kernel::SpotId;
use thistledown_space::{Missed, Tuple};

use crate::payload::WORLD;
use crate::space::hub::VERB;

/// What a watch has seen and not shown.
#[derive(Default)]
struct Seen {
    /// None: here the space has had no owner, or one who did not know of the watch.
    tuples: VecDeque<Option<Tuple>>,
    missed: u64,
}

/// What comes next.
pub(crate) enum Next {
    Tuple(Tuple),
    Nothing,
    Missed(Missed),
    /// The space's file has another owner now.
    Gap,
}

/// A watch of a space that is elsewhere.
pub(crate) struct FarWatch {
    pub(super) number: u64,
    pub(crate) spot: SpotId,
    capacity: usize,
    /// What is asked to begin it.
    body: Parcel,
    seen: Mutex<Seen>,
}

/// Who does not wait for an answer.
struct Nobody;

impl Waiter for Nobody {
    fn told(&self, _told: Told) {}
}

impl FarWatch {
    pub(super) fn new(number: u64, capacity: usize, body: Parcel) -> Self {
        let spot = WORLD.with(|kernel| kernel.open_outside_spot());
        Self { number, spot, capacity, body, seen: Mutex::default() }
    }

    /// Goes on with the next owner, who has not seen what came before.
    pub(super) fn resume(&self, handle: &Handle) {
        self.seen.lock().tuples.push_back(None);
        // What is asked is heard before it is withdrawn; and who is gone already is heard of.
        drop(handle.ask(VERB, &self.body, std::sync::Arc::new(Nobody)));
        self.call();
    }

    pub(super) fn see(&self, tuple: Tuple) {
        {
            let mut seen = self.seen.lock();
            if seen.tuples.len() >= self.capacity {
                let is_tuple = seen.tuples.pop_front().is_some_and(|first| first.is_some());
                seen.missed += u64::from(is_tuple);
            }
            seen.tuples.push_back(Some(tuple));
        }
        self.call();
    }

    pub(super) fn miss(&self, count: u64) {
        self.seen.lock().missed += count;
        self.call();
    }

    pub(super) fn next(&self) -> Next {
        let (next, is_more) = {
            let mut seen = self.seen.lock();
            let next = match std::mem::take(&mut seen.missed) {
                0 => match seen.tuples.pop_front() {
                    Some(Some(tuple)) => Next::Tuple(tuple),
                    Some(None) => Next::Gap,
                    None => Next::Nothing,
                },
                missed => Next::Missed(Missed(missed)),
            };
            (next, !seen.tuples.is_empty())
        };
        if is_more {
            WORLD.with(|kernel| kernel.call(self.spot));
        }
        next
    }

    /// All who wait look.
    pub(super) fn call(&self) {
        WORLD.with(|kernel| while kernel.call(self.spot) {});
    }
}
