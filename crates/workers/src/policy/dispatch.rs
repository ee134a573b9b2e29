//! Who gets what: the first of each queue goes to a worker, as long as there is one that may take it.

use super::deadlines::Due;
use super::ids::{JobId, WorkerId};
use super::job::State;
use super::machine::Policy;
use super::prefetch::LONG;
use super::queue::Rank;
use super::terms::{Floor, NEVER, Nanos};
use super::worker::Worker;

/// A worker that has nothing and yet no room is asked again after so long.
const ASK_AGAIN: Nanos = 1_000_000;

impl Policy {
    /// Gives away what can be given away. With a `hint`, that worker alone is looked at to lay plain jobs behind
    /// others: nothing has changed for the rest.
    pub(super) fn dispatch(&mut self, floor: &mut impl Floor, hint: Option<WorkerId>, now: Nanos) {
        self.house_actors(now);
        self.feed_needy(floor, now);
        self.retire_needless(now);
        loop {
            self.recall_lower(floor);
            if !self.place_next(floor, hint, now) && !self.recall_half(floor) {
                break;
            }
        }
        self.start_more(now);
        self.watch_spares(now);
        self.finish_closing(now);
    }

    /// Gives one job away. False: nobody can take one.
    fn place_next(&mut self, floor: &mut impl Floor, hint: Option<WorkerId>, now: Nanos) -> bool {
        let plain = self.plain.first(|job| self.jobs.contains_key(job));
        let weightless = self.weightless.first(|job| self.jobs.contains_key(job));
        match (plain, weightless) {
            (None, None) => false,
            (Some((_, job)), None) => self.place_plain(floor, job, hint, false, now),
            (None, Some((_, job))) => self.place_weightless(floor, job, now),
            (Some(plain), Some(weightless)) => self.place_either(floor, plain, weightless, hint, now),
        }
    }

    fn place_either(
        &mut self,
        floor: &mut impl Floor,
        (plain_rank, plain): (Rank, JobId),
        (weightless_rank, weightless): (Rank, JobId),
        hint: Option<WorkerId>,
        now: Nanos,
    ) -> bool {
        if plain_rank < weightless_rank {
            self.place_plain(floor, plain, hint, false, now) || self.place_weightless(floor, weightless, now)
        } else {
            self.place_weightless(floor, weightless, now) || self.place_plain(floor, plain, hint, true, now)
        }
    }

    /// `is_second`: a weightless job comes first and waits for a worker that has nothing.
    fn place_plain(
        &mut self,
        floor: &mut impl Floor,
        id: JobId,
        hint: Option<WorkerId>,
        is_second: bool,
        now: Nanos,
    ) -> bool {
        let Some(spec) = self.jobs.get(id).map(|job| job.spec) else { return false };
        let worker = match self.free_worker(spec.weightless, spec.key) {
            Some(worker) => Some(worker),
            None if spec.is_exclusive() || is_second => None,
            None => self.least_loaded(floor, hint, now),
        };
        worker.is_some_and(|worker| self.offer(floor, worker, id, now))
    }

    fn place_weightless(&mut self, floor: &mut impl Floor, id: JobId, now: Nanos) -> bool {
        let Some(spec) = self.jobs.get(id).map(|job| job.spec) else { return false };
        let worker = match self.free_worker(spec.weightless, spec.key) {
            Some(worker) => Some(worker),
            None if spec.is_exclusive() => None,
            None => self.fewest_weightless(),
        };
        worker.is_some_and(|worker| self.offer(floor, worker, id, now))
    }

    /// A worker that has nothing and may be given something, best the one that this key had last.
    fn free_worker(&self, weightless: bool, key: Option<u64>) -> Option<WorkerId> {
        if !self.has_free_worker(weightless) {
            return None;
        }
        let last = key.and_then(|key| self.keys.last_worker(key)).filter(|last| self.idle.contains(last));
        last.or_else(|| self.idle.last().copied())
    }

    /// Whether there is a worker that has nothing and may be given a job of this kind.
    pub(super) fn has_free_worker(&self, weightless: bool) -> bool {
        let has_slot = || self.busy() < self.config.size || (!weightless && self.is_full_of_weightless());
        !self.idle.is_empty() && has_slot()
    }

    /// All workers that may run jobs run weightless ones. These can live for long, and can wait for nested jobs without
    /// their workers waiting. So that plain jobs come to their turn, there may be one worker more, for these alone.
    pub(super) fn is_full_of_weightless(&self) -> bool {
        let is_plain = |worker: &Worker| worker.is_active() && !worker.jobs.is_empty() && !worker.weightless;
        self.busy() >= self.config.size && !self.workers.values().any(is_plain)
    }

    /// The worker behind whose plain jobs one more may be laid.
    fn least_loaded(&self, floor: &impl Floor, hint: Option<WorkerId>, now: Nanos) -> Option<WorkerId> {
        let (depth, lifetime) = (self.depth(), self.config.max_tasks_per_child);
        if depth < 2 || self.busy() > self.config.size {
            return None;
        }
        let may_take = |id: WorkerId| {
            let worker = self.workers.get(id)?;
            let is_long = || floor.busy_since(id).is_some_and(|since| now.saturating_sub(since) >= LONG);
            (worker.takes_more(false, depth, lifetime) && !is_long()).then_some((worker.jobs.len(), id))
        };
        match hint {
            Some(id) => may_take(id),
            None => self.workers.keys().filter_map(may_take).min_by_key(|&(jobs, _)| jobs),
        }
        .map(|(_, id)| id)
    }

    /// The weightless worker with the fewest jobs that takes more. One more takes no slot.
    fn fewest_weightless(&self) -> Option<WorkerId> {
        let (limit, lifetime) = (self.config.concurrency, self.config.max_tasks_per_child);
        self.workers
            .iter()
            .filter(|(_, worker)| worker.takes_more(true, limit, lifetime))
            .min_by_key(|(_, worker)| worker.jobs.len())
            .map(|(id, _)| id)
    }

    /// Lays the first job of its queue in a worker's lane. False: there is no room.
    fn offer(&mut self, floor: &mut impl Floor, worker_id: WorkerId, id: JobId, now: Nanos) -> bool {
        if !floor.offer(worker_id, id) {
            self.refused(worker_id, now);
            return false;
        }
        let (Some(worker), Some(job)) = (self.workers.get_mut(worker_id), self.jobs.get_mut(id)) else {
            return false;
        };
        let spec = job.spec;
        job.state = State::Offered(worker_id);
        worker.jobs.push_back(id);
        let is_first = worker.jobs.len() == 1;
        if is_first {
            worker.weightless = spec.weightless;
            worker.exclusive = spec.is_exclusive();
        } else if !spec.weightless && worker.check_at == NEVER {
            worker.check_at = now.saturating_add(LONG);
            self.deadlines.set(worker.check_at, Due::Worker(worker_id));
        }
        if spec.weightless {
            self.weightless.remove_first();
        } else {
            self.plain.remove_first();
            self.lowest_offered = self.lowest_offered.min(spec.priority);
        }
        if is_first {
            self.not_idle(worker_id);
        } else {
            self.behind += 1;
        }
        if let Some(key) = spec.key {
            self.keys.went_to(key, worker_id);
        }
        if let Some(timeout) = spec.timeout {
            self.set_deadline(id, now.saturating_add(timeout));
        }
        true
    }

    /// A worker has no room. If it has nothing, no reply of its will come to bring it up again: it is asked later,
    /// and after the others.
    fn refused(&mut self, worker: WorkerId, now: Nanos) {
        if let Some(place) = self.idle.iter().position(|&idle| idle == worker) {
            self.idle[..=place].rotate_right(1);
            self.offer_at = now.saturating_add(ASK_AGAIN);
        }
    }

    pub(super) fn not_idle(&mut self, worker: WorkerId) {
        if self.idle.last() == Some(&worker) {
            self.idle.pop();
        } else {
            self.idle.retain(|&idle| idle != worker);
        }
    }

    /// How many plain jobs may be with one worker now.
    pub(super) fn depth(&self) -> usize {
        if self.plain.is_mixed() { 1 } else { self.pace.depth() }
    }

    /// How many workers have jobs and do not wait.
    pub(super) fn busy(&self) -> usize {
        self.active - self.idle.len()
    }
}
