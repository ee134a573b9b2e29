//! Timers: a binary heap whose dead entries are skipped when they come up and swept when they are the majority.
//!
//! Undoing a timer costs nothing at that moment: its owner's wait number has moved on, so the entry is stale. The
//! sweep keeps the heap below twice its live entries, so that a `timeout` on every request cannot make it grow.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::moment::Moment;

/// Below this many entries a sweep is not worth its while.
const SWEEP_FLOOR: usize = 64;

/// Whom an entry concerns. `owner` and `tag` mean nothing here; the kernel gives and reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) at: Moment,
    /// Grows with every entry, so that equal moments come up in the order they were set.
    pub(crate) tag: u64,
    pub(crate) owner: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    stale: usize,
}

impl Timers {
    pub(crate) fn set(&mut self, entry: Entry) {
        self.heap.push(Reverse(entry));
    }

    /// `count` entries have gone stale.
    pub(crate) fn forget(&mut self, count: usize, is_live: impl Fn(&Entry) -> bool) {
        self.stale += count;
        if self.stale > SWEEP_FLOOR && self.stale * 2 > self.heap.len() {
            self.heap.retain(|Reverse(entry)| is_live(entry));
            self.stale = 0;
        }
    }

    /// The next live entry that is due.
    pub(crate) fn pop_due(&mut self, now: Moment, is_live: impl Fn(&Entry) -> bool) -> Option<Entry> {
        self.skip_stale(is_live);
        if self.heap.peek()?.0.at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// When the next live entry is due.
    pub(crate) fn next(&mut self, is_live: impl Fn(&Entry) -> bool) -> Option<Moment> {
        self.skip_stale(is_live);
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    fn skip_stale(&mut self, is_live: impl Fn(&Entry) -> bool) {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if is_live(entry) {
                return;
            }
            self.heap.pop();
            self.stale = self.stale.saturating_sub(1);
        }
    }

    /// How many entries are not stale.
    pub(crate) fn live(&self) -> usize {
        self.heap.len() - self.stale
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn entry(seconds: u64, tag: u64) -> Entry {
        Entry { at: Moment::after_epoch(Duration::from_secs(seconds)), tag, owner: tag }
    }

    #[test]
    fn equal_moments_come_up_in_the_order_they_were_set() {
        let mut timers = Timers::default();
        for tag in [3, 1, 2] {
            timers.set(entry(1, tag));
        }
        let now = entry(1, 0).at;
        let order: Vec<u64> = std::iter::from_fn(|| timers.pop_due(now, |_| true)).map(|e| e.tag).collect();
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn stale_entries_do_not_pile_up() {
        let mut timers = Timers::default();
        for tag in 0..100_000 {
            timers.set(entry(60, tag));
            timers.forget(1, |entry| entry.tag > tag);
        }
        assert!(timers.len() <= 2 * SWEEP_FLOOR, "{} entries left", timers.len());
    }

    #[test]
    fn nothing_is_due_before_its_moment() {
        let mut timers = Timers::default();
        timers.set(entry(2, 1));
        assert_eq!(timers.pop_due(entry(1, 0).at, |_| true), None);
        assert_eq!(timers.next(|_| true), Some(entry(2, 0).at));
    }
}
