//! Moments at which something is due: a heap whose dead entries are skipped when they come up, and swept out when
//! they are the majority.
//!
//! An entry is live when what it names still says that it is due at that moment. So undoing one costs nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::ids::{JobId, WorkerId};
use super::terms::Nanos;

/// Below this many entries a sweep is not worth its while.
const SWEEP_FLOOR: usize = 64;

/// Whom a moment concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Job(JobId),
    Worker(WorkerId),
}

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Nanos, Due)>>,
    stale: usize,
}

impl Deadlines {
    pub(super) fn set(&mut self, at: Nanos, due: Due) {
        self.heap.push(Reverse((at, due)));
    }

    /// An entry has gone stale.
    pub(super) fn forget(&mut self, is_live: impl Fn(Nanos, Due) -> bool) {
        self.stale += 1;
        if self.stale > SWEEP_FLOOR && self.stale * 2 > self.heap.len() {
            self.heap.retain(|&Reverse((at, due))| is_live(at, due));
            self.heap.shrink_to(self.heap.len() * 2 + SWEEP_FLOOR);
            self.stale = 0;
        }
    }

    /// The next live entry, left where it is.
    pub(super) fn first(&mut self, is_live: impl Fn(Nanos, Due) -> bool) -> Option<(Nanos, Due)> {
        while let Some(&Reverse((at, due))) = self.heap.peek() {
            if is_live(at, due) {
                return Some((at, due));
            }
            self.heap.pop();
            self.stale = self.stale.saturating_sub(1);
        }
        None
    }

    /// Takes the entry out that [`Self::first`] found.
    pub(super) fn remove_first(&mut self) {
        self.heap.pop();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Config, Floor, JobSpec, Policy, Verdict};

    fn job(number: u64) -> Due {
        Due::Job(JobId::from_number(number))
    }

    #[test]
    fn equal_moments_come_up_in_the_order_of_their_names() {
        let mut deadlines = Deadlines::default();
        for number in [3, 1, 2] {
            deadlines.set(7, job(number));
        }
        let mut order = Vec::new();
        while let Some((_, due)) = deadlines.first(|_, _| true) {
            deadlines.remove_first();
            order.push(due);
        }
        assert_eq!(order, [job(1), job(2), job(3)]);
    }

    #[test]
    fn stale_entries_do_not_pile_up() {
        let mut deadlines = Deadlines::default();
        for at in 0..100_000 {
            deadlines.set(at, job(1));
            deadlines.forget(|other, _| other > at);
        }
        assert!(deadlines.len() <= 2 * SWEEP_FLOOR, "{} entries left", deadlines.len());
    }

    #[test]
    fn a_stale_entry_is_skipped() {
        let mut deadlines = Deadlines::default();
        deadlines.set(1, job(1));
        deadlines.set(2, job(2));
        assert_eq!(deadlines.first(|at, _| at != 1), Some((2, job(2))));
    }

    /// Takes every offer, and what is offered begins at once.
    struct Eager;

    impl Floor for Eager {
        fn offer(&mut self, _: WorkerId, _: JobId) -> bool {
            true
        }

        fn take_back(&mut self, _: WorkerId, _: JobId) -> bool {
            false
        }

        fn busy_since(&self, _: WorkerId) -> Option<Nanos> {
            None
        }
    }

    #[test]
    fn deadlines_of_jobs_that_have_ended_do_not_pile_up() {
        let mut policy = Policy::new(Config::of_size(1));
        let spec = JobSpec { timeout: Some(u64::MAX / 2), ..JobSpec::default() };
        let first = policy.submit(&mut Eager, spec, 0).unwrap();
        let worker = policy.workers.keys().next().unwrap();
        policy.ready(&mut Eager, worker, 0);
        assert_eq!(policy.replied(&mut Eager, worker, first, 1, false, 0), Verdict::Final);
        for now in 1..10_000 {
            let job = policy.submit(&mut Eager, spec, now).unwrap();
            assert_eq!(policy.replied(&mut Eager, worker, job, 1, false, now), Verdict::Final);
        }
        assert!(policy.deadlines.len() <= 2 * SWEEP_FLOOR, "{} entries left", policy.deadlines.len());
    }
}
