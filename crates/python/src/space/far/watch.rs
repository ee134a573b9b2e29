//! Watches of a space that is elsewhere: what is seen comes by itself, and is kept here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_exchange::{Handle, Parcel, Told, Waiter};
use thistledown_kernel::SpotId;
use thistledown_space::{Act, Missed, Template, Tuple};

use crate::payload::WORLD;
use crate::space::far::line::Owner;
use crate::space::far::{FarSpace, NUMBERS, refusal};
use crate::space::hub::VERB;

/// What a watch has seen and not shown. A gap takes none of its room, and is not lost with a tuple for which there is none.
#[derive(Default)]
struct Seen {
    /// Each with whether there is a gap before it.
    tuples: VecDeque<(bool, Tuple)>,
    /// Whether there is one behind them all: the space has had no owner, or one who did not know of the watch.
    has_gap: bool,
    missed: u64,
    /// How many have come that the owner does not know of yet.
    unsaid: u64,
}

impl Seen {
    fn push(&mut self, tuple: Tuple, capacity: usize) {
        if self.tuples.len() >= capacity
            && let Some((is_after_gap, _)) = self.tuples.pop_front()
        {
            self.missed += 1;
            let next = self.tuples.front_mut().map_or(&mut self.has_gap, |(is_after_gap, _)| is_after_gap);
            *next |= is_after_gap;
        }
        self.tuples.push_back((std::mem::take(&mut self.has_gap), tuple));
    }

    fn next(&mut self) -> Next {
        let missed = std::mem::take(&mut self.missed);
        if missed > 0 {
            return Next::Missed(Missed(missed));
        }
        let gap = self.tuples.front_mut().map_or(&mut self.has_gap, |(is_after_gap, _)| is_after_gap);
        if std::mem::take(gap) {
            return Next::Gap;
        }
        self.tuples.pop_front().map_or(Next::Nothing, |(_, tuple)| Next::Tuple(tuple))
    }

    fn is_empty(&self) -> bool {
        self.tuples.is_empty() && !self.has_gap
    }
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
        Self { number, spot, capacity: capacity.max(1), body, seen: Mutex::default() }
    }

    /// Goes on with the next owner, who has not seen what came before.
    pub(super) fn resume(&self, handle: &Handle) {
        {
            let mut seen = self.seen.lock();
            (seen.unsaid, seen.has_gap) = (0, true);
        }
        // What is asked is heard before it is withdrawn; and who is gone already is heard of.
        drop(handle.ask(VERB, &self.body, Arc::new(Nobody)));
        self.call();
    }

    /// Notes that something has come. How many the owner is to be told of now: not of each by itself.
    pub(super) fn count(&self) -> Option<u64> {
        let mut seen = self.seen.lock();
        seen.unsaid += 1;
        (seen.unsaid >= (self.capacity as u64).div_ceil(2)).then(|| std::mem::take(&mut seen.unsaid))
    }

    pub(super) fn see(&self, tuple: Tuple) {
        self.seen.lock().push(tuple, self.capacity);
        self.call();
    }

    pub(super) fn miss(&self, count: u64) {
        self.seen.lock().missed += count;
        self.call();
    }

    pub(super) fn next(&self) -> Next {
        let (next, is_more) = {
            let mut seen = self.seen.lock();
            let next = seen.next();
            (next, !seen.is_empty())
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

impl FarSpace {
    /// Something of a watch has come: its owner, who has so many on their way at most, is told now and then.
    pub(super) fn heard_of(&self, watch: &FarWatch) {
        if let Some(count) = watch.count() {
            self.tell(Act::Heard(watch.number, count));
        }
    }

    pub(crate) fn watch(
        &self,
        py: Python<'_>,
        template: Template,
        capacity: usize,
    ) -> PyResult<Arc<FarWatch>> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let body = Self::body(None, Act::Watch(template, number, capacity as u64))?;
        let watch = Arc::new(FarWatch::new(number, capacity, body.clone()));
        self.watches.lock().insert(number, Arc::clone(&watch));
        match self.ask_and_hear(py, &body) {
            Ok((_, Told::Refusal { code, body })) => {
                self.unwatch(&watch);
                Err(refusal(code, &body))
            }
            Ok(_) => Ok(watch),
            Err(error) => {
                self.unwatch(&watch);
                Err(error)
            }
        }
    }

    /// Ends a watch. False: it had ended before.
    pub(crate) fn unwatch(&self, watch: &FarWatch) -> bool {
        let was_there = self.watches.lock().remove(&watch.number).is_some();
        if was_there {
            self.tell(Act::Unwatch(watch.number));
            WORLD.with(|kernel| kernel.drop_spot(watch.spot));
        }
        was_there
    }

    /// What a watch saw next.
    pub(crate) fn next_seen(&self, watch: &FarWatch) -> PyResult<Next> {
        match (watch.next(), self.owner().1) {
            (Next::Nothing | Next::Gap, Owner::Gone(gone) | Owner::Missed(gone)) => {
                self.look_again();
                Err(gone.error())
            }
            (next, _) => Ok(next),
        }
    }

    pub(crate) fn is_watched(&self, watch: &FarWatch) -> bool {
        self.watches.lock().contains_key(&watch.number)
    }
}
