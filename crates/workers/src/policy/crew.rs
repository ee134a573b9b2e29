//! The workers: started on demand, ready, waiting, retired, dead.

use super::deadlines::Due;
use super::ids::{JobId, WorkerId};
use super::machine::{Door, Policy};
use super::terms::{Action, Ending, Floor, NEVER, Nanos};
use super::worker::{Phase, Worker};

/// After so many failed starts in a row, and without any worker, jobs are not kept waiting.
pub const MAX_FAILED_STARTS: u32 = 5;

/// The same for workers that could not be forked at all: some ten seconds.
pub const MAX_SCARCE_STARTS: u32 = 16;

/// The pause after the first failed start; it doubles with each, up to the longest.
const FIRST_PAUSE: Nanos = 10_000_000;
const LONGEST_PAUSE: Nanos = 1_000_000_000;

/// Workers too many are kept for so long: jobs that wait for nested ones, one after the other, need them again.
const LINGER: Nanos = 1_000_000_000;

/// A worker that was told to leave is killed after so long, or after the grace for jobs if that is longer.
const FAREWELL: Nanos = 5_000_000_000;

impl Policy {
    /// Asks for as many workers as there is work for, within the limits.
    pub(super) fn start_more(&mut self, now: Nanos) {
        while self.starting < self.workload()
            && self.may_start()
            && !self.has_free_worker(self.plain.is_empty())
            && self.door != Door::Broken
            && self.start_at <= now
            && (self.failures == 0 || self.starting == 0)
        {
            self.starting += 1;
            let worker = self.workers.insert(Worker::starting());
            self.actions.push(Action::Start(worker));
        }
    }

    /// How many jobs one more worker could be for.
    pub(super) fn workload(&self) -> usize {
        self.plain.len() + self.weightless.len() + self.behind
    }

    /// Whether the limits allow one more worker.
    pub(super) fn may_start(&self) -> bool {
        let is_one_more = || !self.plain.is_empty() && self.is_full_of_weightless();
        let slots = self.active + self.starting;
        let has_slot = slots < self.config.size || (slots == self.config.size && is_one_more());
        has_slot && self.workers.len() - self.hosts < self.config.max_workers
    }

    /// A worker could not be started. It is not known any more.
    pub fn start_failed(&mut self, floor: &mut impl Floor, worker: WorkerId, now: Nanos) {
        // What the system is short of now it will have again.
        self.patience = MAX_SCARCE_STARTS;
        self.died(floor, worker, now);
        self.patience = MAX_FAILED_STARTS;
    }

    /// A worker takes jobs from now on.
    pub fn ready(&mut self, floor: &mut impl Floor, id: WorkerId, now: Nanos) {
        let Some(worker) = self.workers.get_mut(id).filter(|worker| worker.phase == Phase::Starting) else {
            return;
        };
        worker.phase = Phase::Ready;
        if worker.host.is_some() {
            self.counted.started += 1;
            return self.host_ready(floor, id, now);
        }
        self.starting -= 1;
        self.active += 1;
        self.counted.started += 1;
        self.idle.push(id);
        self.dispatch(floor, None, now);
    }

    /// The job of a worker waits for a nested one: the worker gives up its slot.
    pub fn waiting(&mut self, floor: &mut impl Floor, id: WorkerId, now: Nanos) {
        let Some(worker) = self.workers.get_mut(id).filter(|worker| worker.is_active()) else { return };
        if worker.host.is_some() {
            return;
        }
        worker.waiting = true;
        self.active -= 1;
        self.not_idle(id);
        self.recall_all(floor, id);
        self.dispatch(floor, None, now);
    }

    /// The job of a worker goes on after its wait.
    pub fn resumed(&mut self, floor: &mut impl Floor, id: WorkerId, now: Nanos) {
        self.end_wait(id);
        self.dispatch(floor, None, now);
    }

    fn end_wait(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(id).filter(|worker| worker.waiting) {
            worker.waiting = false;
            self.active += usize::from(worker.phase == Phase::Ready);
            self.settle(id);
        }
    }

    /// A worker has a job less by its own reply.
    pub(super) fn after_reply(&mut self, id: WorkerId, now: Nanos) {
        let Some(worker) = self.workers.get(id) else { return };
        // Who waits has one job that does: if it has replied, it does not wait.
        if worker.waiting && worker.jobs.is_empty() {
            self.end_wait(id);
        } else {
            self.settle(id);
        }
        let Some(worker) = self.workers.get(id) else { return };
        if worker.host.is_some() {
            return;
        }
        let is_used_up = self.config.max_tasks_per_child.is_some_and(|lifetime| worker.done >= lifetime);
        if is_used_up && worker.jobs.is_empty() {
            self.retire(id, now);
        }
    }

    /// A worker may have nothing now.
    pub(super) fn settle(&mut self, id: WorkerId) {
        let is_free = |worker: &&mut Worker| worker.jobs.is_empty() && worker.host.is_none();
        let Some(worker) = self.workers.get_mut(id).filter(is_free) else { return };
        worker.exclusive = false;
        if worker.is_active() && !worker.killed && !self.idle.contains(&id) {
            self.idle.push(id);
        }
        if self.busy() == 0 {
            self.lowest_offered = i32::MAX;
        }
    }

    /// A worker is dead. What it replied before has to be reported first.
    ///
    /// What it had begun is tried again or ends; what it had not begun goes back to its place in the queue.
    pub fn died(&mut self, floor: &mut impl Floor, id: WorkerId, now: Nanos) {
        let Some(worker) = self.workers.remove(id) else { return };
        if worker.check_at != NEVER {
            let (jobs, workers) = (&self.jobs, &self.workers);
            self.deadlines.forget(|at, due| super::machine::is_due(jobs, workers, at, due));
        }
        if worker.host.is_some() {
            return self.host_died(floor, id, worker, now);
        }
        match worker.phase {
            Phase::Starting => self.starting -= 1,
            Phase::Ready => self.active -= usize::from(!worker.waiting),
            Phase::Leaving => {}
        }
        self.not_idle(id);
        self.behind -= worker.jobs.len().saturating_sub(1);
        let mut begun = false;
        for &job in &worker.jobs {
            begun |= self.bereave(floor, id, job);
        }
        if worker.phase != Phase::Leaving && !worker.killed {
            self.counted.died += 1;
            if begun || worker.done > 0 {
                self.forget_failures();
            } else {
                self.start_failed_once_more(now);
            }
        }
        self.dispatch(floor, None, now);
    }

    /// The worker of a job has died. True: the job had begun.
    fn bereave(&mut self, floor: &mut impl Floor, worker: WorkerId, id: JobId) -> bool {
        let Some(job) = self.jobs.get(id) else { return false };
        let (stop, retries_left) = (job.stop, job.retries_left);
        if !job.begun && floor.take_back(worker, id) {
            self.set_deadline(id, NEVER);
            self.enqueue(id);
            return false;
        }
        match stop {
            Some(stop) => self.end(id, stop.ending()),
            None if retries_left > 0 && self.door != Door::Broken => self.try_again(id),
            None => self.end(id, Ending::Died(worker)),
        }
        true
    }

    /// A worker that never did anything is gone: the next try has to wait, and the jobs may have to go.
    pub(super) fn start_failed_once_more(&mut self, now: Nanos) {
        let pause = FIRST_PAUSE << self.failures.min(20);
        self.failures = self.failures.saturating_add(1);
        self.start_at = now.saturating_add(pause.min(LONGEST_PAUSE));
        if self.failures >= self.patience {
            if self.workers.len() == self.hosts {
                self.end_queued(Ending::NoWorkers);
            }
            self.end_homeless(Ending::NoWorkers);
        }
    }

    /// A worker did something, so workers can be started.
    pub(super) fn forget_failures(&mut self) {
        self.failures = 0;
        self.start_at = 0;
    }

    /// Tells a worker without jobs to leave. One that is being killed needs no telling, and keeps its slot until then.
    pub(super) fn retire(&mut self, id: WorkerId, now: Nanos) {
        let Some(worker) = self.workers.get_mut(id).filter(|worker| !worker.killed) else { return };
        match worker.phase {
            Phase::Leaving => return,
            _ if worker.host.is_some() => {}
            Phase::Starting => self.starting -= 1,
            Phase::Ready => self.active -= usize::from(!worker.waiting),
        }
        worker.phase = Phase::Leaving;
        let had_check = worker.check_at != NEVER;
        worker.check_at = now.saturating_add(FAREWELL.max(self.config.grace));
        self.deadlines.set(worker.check_at, Due::Worker(id));
        if had_check {
            let (jobs, workers) = (&self.jobs, &self.workers);
            self.deadlines.forget(|at, due| super::machine::is_due(jobs, workers, at, due));
        }
        self.not_idle(id);
        self.actions.push(Action::Retire(id));
    }

    /// Sets or lifts the moment at which workers too many are retired.
    pub(super) fn watch_spares(&mut self, now: Nanos) {
        if self.active <= self.config.size || self.idle.is_empty() {
            self.spare_at = NEVER;
        } else if self.spare_at == NEVER {
            self.spare_at = now.saturating_add(LINGER);
        }
    }

    /// Retires the workers too many that have nothing, those first that had nothing for longest.
    pub(super) fn retire_spares(&mut self, now: Nanos) {
        let spares = self.active.saturating_sub(self.config.size).min(self.idle.len());
        let spare: Vec<WorkerId> = self.idle.drain(..spares).collect();
        spare.into_iter().for_each(|worker| self.retire(worker, now));
    }
}
