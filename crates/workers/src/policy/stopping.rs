//! Stopping jobs, and whatever else is due at a moment.

use super::deadlines::Due;
use super::ids::{JobId, WorkerId};
use super::job::{State, Stop};
use super::machine::{Policy, is_due};
use super::prefetch::LONG;
use super::terms::{Action, Cancel, Ending, Floor, NEVER, Nanos};
use super::worker::Phase;

impl Policy {
    /// A job is not wanted any more.
    pub fn cancel(&mut self, floor: &mut impl Floor, id: JobId, now: Nanos) -> Cancel {
        let Some(job) = self.jobs.get(id) else { return Cancel::TooLate };
        let worker = match job.state {
            _ if matches!(job.stop, Some(Stop::TimedOut | Stop::Killed)) => return Cancel::TooLate,
            _ if job.stop.is_some() => return Cancel::Asked,
            State::Offered(worker) => worker,
            State::Queued | State::Held => {
                self.remove_queued(id);
                self.dispatch(floor, None, now);
                return Cancel::Removed;
            }
        };
        let answer = if self.withdraw(floor, worker, id) {
            self.remove(id);
            Cancel::Removed
        } else {
            self.stop(floor, worker, id, Stop::Cancelled, now);
            Cancel::Asked
        };
        self.dispatch(floor, None, now);
        answer
    }

    /// A call of an actor for which nobody can ever wait, as it waits for who does: if it has not begun it never does. One
    /// that has begun goes on. Nothing: it is no call, or has begun.
    pub fn take_back(&mut self, floor: &mut impl Floor, id: JobId, now: Nanos) -> Option<Cancel> {
        let job = self.jobs.get(id)?;
        let is_first = self.actors.get(job.spec.actor?)?.is_first(id);
        let State::Offered(worker) = job.state else { return Some(self.cancel(floor, id, now)) };
        if !is_first {
            return Some(self.cancel(floor, id, now));
        }
        self.withdraw(floor, worker, id).then(|| {
            self.remove(id);
            self.dispatch(floor, None, now);
            Cancel::Removed
        })
    }

    /// Takes a job away that is with no worker.
    fn remove_queued(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        let (queued, spec) = (job.state == State::Queued, job.spec);
        self.remove(id);
        if queued && spec.actor.is_none() {
            let queue = if spec.weightless { &mut self.weightless } else { &mut self.plain };
            queue.forget(spec.priority, |job| self.jobs.contains_key(job));
        }
    }

    /// Takes a job off its worker, if it has not begun. It is in no queue then.
    pub(super) fn withdraw(&mut self, floor: &mut impl Floor, worker_id: WorkerId, id: JobId) -> bool {
        let (Some(worker), Some(job)) = (self.workers.get_mut(worker_id), self.jobs.get_mut(id)) else {
            return false;
        };
        if job.begun || !floor.take_back(worker_id, id) {
            job.begun = true;
            return false;
        }
        worker.jobs.retain(|&other| other != id);
        if worker.host.is_none() {
            self.behind -= usize::from(!worker.jobs.is_empty());
        }
        self.settle(worker_id);
        true
    }

    /// Asks a job that has begun to stop. A plain one holds its worker up: what lies behind it goes elsewhere.
    pub(super) fn stop(
        &mut self,
        floor: &mut impl Floor,
        worker_id: WorkerId,
        id: JobId,
        stop: Stop,
        now: Nanos,
    ) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.stop = Some(stop);
        }
        self.actions.push(Action::Interrupt(worker_id, id));
        self.set_deadline(id, now.saturating_add(self.config.grace));
        if let Some(worker) = self.workers.get_mut(worker_id).filter(|worker| !worker.weightless) {
            worker.exclusive = true;
            self.recall_all(floor, worker_id);
        }
    }

    /// Time has passed: does what is due.
    pub fn tick(&mut self, floor: &mut impl Floor, now: Nanos) {
        while let Some((at, due)) = self.deadlines.first(|at, due| is_due(&self.jobs, &self.workers, at, due))
        {
            if at > now {
                break;
            }
            self.deadlines.remove_first();
            match due {
                Due::Job(id) => self.time_is_up(floor, id, now),
                Due::Worker(id) => self.check(floor, id, now),
            }
        }
        if self.offer_at <= now {
            self.offer_at = NEVER;
            self.feed_hungry(floor, now);
        }
        if self.start_at <= now {
            self.start_at = 0;
        }
        if self.spare_at <= now {
            self.spare_at = NEVER;
            self.retire_spares(now);
        }
        self.dispatch(floor, None, now);
    }

    /// When `tick` has something to do.
    #[must_use]
    pub fn next_deadline(&mut self) -> Option<Nanos> {
        let first = self.deadlines.first(|at, due| is_due(&self.jobs, &self.workers, at, due));
        let starts = if self.start_at == 0 { NEVER } else { self.start_at };
        let wants_worker = self.workload() > 0 || !self.homeless.is_empty();
        let tries = if wants_worker { starts } else { NEVER };
        let offers = if self.workload() > 0 || self.has_hungry() { self.offer_at } else { NEVER };
        let tries = tries.min(offers);
        let next = first.map_or(NEVER, |(at, _)| at).min(tries).min(self.spare_at);
        (next != NEVER).then_some(next)
    }

    fn time_is_up(&mut self, floor: &mut impl Floor, id: JobId, now: Nanos) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.deadline = NEVER;
        let Some(worker) = job.worker() else { return };
        if job.stop.is_some() {
            self.kill(floor, worker);
        } else if self.withdraw(floor, worker, id) {
            self.out_of_time(floor, id, now);
        } else {
            self.stop(floor, worker, id, Stop::TimedOut, now);
        }
    }

    /// The time of a job is over, and it has not begun. A call of an actor has done nothing wrong: its worker was at
    /// another one's.
    fn out_of_time(&mut self, floor: &mut impl Floor, id: JobId, now: Nanos) {
        match self.jobs.get(id).and_then(|job| job.spec.actor) {
            Some(actor) => self.lay_again(floor, actor, id, now),
            None => self.end(id, Ending::TimedOut),
        }
    }

    pub(super) fn kill(&mut self, floor: &mut impl Floor, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(id).filter(|worker| !worker.killed) else { return };
        worker.killed = true;
        self.actions.push(Action::Kill(id));
        self.recall_all(floor, id);
    }

    /// Looks after a worker: what lies behind a job that runs for long is taken back, and who does not leave is killed.
    fn check(&mut self, floor: &mut impl Floor, id: WorkerId, now: Nanos) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        worker.check_at = NEVER;
        if worker.phase == Phase::Leaving {
            return self.kill(floor, id);
        }
        if worker.weightless || worker.jobs.len() < 2 {
            return;
        }
        let patient_until = floor.busy_since(id).unwrap_or(now).saturating_add(LONG);
        if patient_until <= now {
            return self.recall_all(floor, id);
        }
        worker.check_at = patient_until;
        self.deadlines.set(patient_until, Due::Worker(id));
    }
}
