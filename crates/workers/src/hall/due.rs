//! What is due: when the pool's thread has to look, whether somebody says something or not, and what it does then.

use std::sync::Arc;
use std::time::Duration;

use super::{HANG_UP, Hall};
use crate::bell::Bell;
use crate::clock;
use crate::outcome::Cause;

/// How often the thread looks while tiny tasks stream.
const STREAM: Duration = Duration::from_millis(1);

/// How often it looks at the memory of tasks that have a limit.
const MEMORY: Duration = Duration::from_millis(20);

/// How often a task is told to stop.
const STOPPING: Duration = Duration::from_millis(50);

impl<C> Hall<C> {
    /// The bell to ring, if the thread is to look at once.
    pub(crate) fn take_wish(&mut self) -> Option<Arc<Bell>> {
        let is_late = self.sleeps_until > 0 && self.next_due().is_some_and(|due| due < self.sleeps_until);
        let wakes = std::mem::take(&mut self.wish) || is_late;
        if wakes {
            // Once is enough.
            self.sleeps_until = 0;
        }
        wakes.then(|| self.bell.clone()).flatten()
    }

    /// When the thread has to look again, whoever says something or not.
    pub(crate) fn next_due(&mut self) -> Option<u64> {
        let mut soon: Option<Duration> = None;
        let mut at_most = |pace: Duration| soon = Some(soon.map_or(pace, |soon| soon.min(pace)));
        for worker in self.desk.workers.values() {
            if worker.streams() || worker.has_unsent() {
                at_most(STREAM);
            }
            if worker.hung_up.is_some() {
                at_most(HANG_UP);
            }
        }
        if self.desk.watches_memory() {
            at_most(MEMORY);
        }
        if self.leaving.is_some() {
            at_most(HANG_UP);
        }
        if !self.stopping.is_empty() {
            at_most(STOPPING);
        }
        let soon = soon.map(|soon| clock::now() + u64::try_from(soon.as_nanos()).unwrap_or(u64::MAX));
        [soon, self.policy.next_deadline()].into_iter().flatten().min()
    }

    /// Tells those again that were told to stop and run on: a signal that comes between two things is heard by neither.
    fn tell_again(&mut self) {
        let Self { desk, stopping, .. } = self;
        stopping.retain(|(worker, job)| {
            let Some(worker) = desk.workers.get_mut(*worker).filter(|_| desk.jobs.contains_key(*job)) else {
                return false;
            };
            if worker.region.running().is_some_and(|(running, _)| running == job.number()) {
                worker.interrupt(*job);
            }
            true
        });
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: u64) {
        self.tell_again();
        self.policy.tick(&mut self.desk, now);
        self.act();
        for (worker, limit) in self.desk.grown() {
            if let Some(worker) = self.desk.workers.get_mut(worker) {
                worker.cause = Some(Cause::Memory(limit));
                worker.kill();
            }
        }
    }
}
