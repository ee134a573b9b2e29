//! Values whose live instances are counted, so that a test sees a leak, and where something was dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    dropped: AtomicUsize,
}

/// Makes values and counts them. Each test has its own.
#[derive(Debug, Default)]
pub struct Counter(Arc<Counts>);

/// A value that its [`Counter`] counts. It cannot be cloned: there is one of each.
#[derive(Debug)]
pub struct Counted {
    number: u64,
    counts: Arc<Counts>,
}

impl Counter {
    /// A value with this number.
    #[must_use]
    pub fn make(&self, number: u64) -> Counted {
        self.0.made.fetch_add(1, Ordering::SeqCst);
        Counted { number, counts: Arc::clone(&self.0) }
    }

    /// How many were made.
    #[must_use]
    pub fn made(&self) -> usize {
        self.0.made.load(Ordering::SeqCst)
    }

    /// How many were dropped.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::SeqCst)
    }

    /// How many live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.made() - self.dropped()
    }
}

impl Counted {
    /// The number it was made with.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_is_counted_for_each_counter() {
        let (counter, other) = (Counter::default(), Counter::default());
        let (one, two) = (counter.make(1), counter.make(2));
        assert_eq!((one.number(), two.number()), (1, 2));
        assert_eq!((counter.live(), other.live()), (2, 0));
        drop(one);
        assert_eq!((counter.made(), counter.dropped(), counter.live()), (2, 1, 1));
    }

    #[test]
    fn what_is_forgotten_is_seen() {
        let counter = Counter::default();
        std::mem::forget(counter.make(1));
        assert_eq!(counter.live(), 1);
    }
}
