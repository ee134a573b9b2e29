//! Keys: of the jobs of one key only the first is in the queue or with a worker; the others stand in line behind it.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;

use super::ids::{JobId, WorkerId};
use super::line::{Entry, Line};

/// So many keys without jobs are remembered, for the sake of their last workers; then all of these are forgotten.
const REMEMBERED: usize = 4_096;

#[derive(Debug, Default)]
struct Key {
    first: Option<JobId>,
    line: Line,
    last_worker: WorkerId,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Hashed without a random seed: what the policy does must come out the same each time.
    keys: HashMap<u64, Key, BuildHasherDefault<DefaultHasher>>,
    /// How many of them have no job.
    idle: usize,
}

impl Keys {
    /// A new job of this key. True: it is the first and can go to the queue.
    pub(super) fn join(&mut self, key: u64, entry: Entry) -> bool {
        let known = self.keys.len();
        let state = self.keys.entry(key).or_default();
        if state.first.is_some() {
            state.line.insert(entry);
            return false;
        }
        state.first = Some(entry.job);
        if self.keys.len() == known {
            self.idle -= 1;
        }
        true
    }

    /// A job of this key is gone. The one that is first now, when that has changed.
    pub(super) fn leave(&mut self, key: u64, job: JobId, is_live: impl Fn(JobId) -> bool) -> Option<JobId> {
        let state = self.keys.get_mut(&key)?;
        if state.first != Some(job) {
            state.line.forget(is_live);
            return None;
        }
        state.first = state.line.first(is_live).map(|entry| entry.job);
        if state.first.is_some() {
            state.line.remove_first();
        } else {
            self.idle += 1;
            self.forget_idle();
        }
        self.keys.get(&key).and_then(|state| state.first)
    }

    fn forget_idle(&mut self) {
        if self.idle > REMEMBERED {
            self.keys.retain(|_, key| key.first.is_some());
            self.idle = 0;
        }
    }

    /// The one job of this key that does not stand behind another.
    pub(super) fn first(&self, key: u64) -> Option<JobId> {
        self.keys.get(&key).and_then(|state| state.first)
    }

    /// A job of this key went to this worker.
    pub(super) fn went_to(&mut self, key: u64, worker: WorkerId) {
        if let Some(state) = self.keys.get_mut(&key) {
            state.last_worker = worker;
        }
    }

    /// Where the last job of this key went.
    pub(super) fn last_worker(&self, key: u64) -> Option<WorkerId> {
        self.keys.get(&key).map(|state| state.last_worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry { sequence: number, job: JobId::from_number(number) }
    }

    #[test]
    fn the_next_of_a_key_goes_when_the_first_has_gone() {
        let mut keys = Keys::default();
        assert!(keys.join(7, entry(1)));
        assert!(!keys.join(7, entry(2)) && !keys.join(7, entry(3)));
        assert!(keys.join(8, entry(4)), "another key");
        assert_eq!(keys.leave(7, entry(2).job, |job| job != entry(2).job), None, "who stood in line");
        assert_eq!(keys.leave(7, entry(1).job, |job| job == entry(3).job), Some(entry(3).job));
        assert_eq!(keys.leave(7, entry(3).job, |_| false), None);
        assert!(keys.join(7, entry(5)));
    }

    #[test]
    fn keys_without_jobs_are_not_remembered_for_ever() {
        let mut keys = Keys::default();
        assert!(keys.join(0, entry(0)));
        for number in 1..100_000 {
            assert!(keys.join(number, entry(number)));
            keys.leave(number, entry(number).job, |_| false);
        }
        assert!(keys.keys.len() <= REMEMBERED + 1, "{} keys", keys.keys.len());
        assert!(!keys.join(0, entry(1)), "one with a job is");
    }
}
