//! Waits that can never end: jobs that wait for each other, and all workers that there may be waiting.
//!
//! A job that has begun waits for at most one job that it cannot go on without, as its worker says. A job that stands
//! behind another of its key waits for the first of that key. So from each job leads at most one way, and a wait is looked
//! at when it begins: it closes a cycle when its way leads back to it. One that does is not noted, so there never is any.
//!
//! What it is not: it knows nothing of waits with another way out (a timeout, the first of several), which bind nobody.

use super::ids::{JobId, WorkerId};
use super::job::State;
use super::machine::Policy;
use super::worker::Phase;

/// A wait that can never end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deadlock {
    /// Each of these jobs waits for the next, and the last for the first, which is the one whose wait would have closed the
    /// cycle.
    Cycle(Vec<JobId>),
    /// This job needs a worker, and all that there may be have jobs that wait.
    NoWorkerLeft(JobId),
}

impl Policy {
    /// A job that has begun in this worker cannot go on before another has ended. `holds`: it has the thread of its worker,
    /// so that nothing else in there goes on either.
    ///
    /// # Errors
    /// That can never be. The wait is not noted: the job is to be told, and goes on.
    pub fn blocked(&mut self, worker: WorkerId, id: JobId, on: JobId, holds: bool) -> Result<(), Deadlock> {
        let Some(job) = self.jobs.get_mut(id).filter(|job| job.worker() == Some(worker)) else {
            return Ok(());
        };
        job.blocked_on = Some(on);
        if let Some(host) = self.workers.get_mut(worker).and_then(|worker| worker.host.as_mut()) {
            host.held_by = holds.then_some(id).or(host.held_by);
        }
        let mut way = vec![id];
        let mut at = on;
        let deadlock = loop {
            if at == id {
                break Deadlock::Cycle(way);
            }
            way.push(at);
            if way.len() > self.jobs.len() {
                return Ok(());
            }
            match self.waits_for(at) {
                Some(next) => at = next,
                None if self.finds_no_worker(at) => break Deadlock::NoWorkerLeft(at),
                None => return Ok(()),
            }
        };
        self.unblocked(worker, id);
        Err(deadlock)
    }

    /// The job goes on, whatever it waited for.
    pub fn unblocked(&mut self, worker: WorkerId, id: JobId) {
        if let Some(job) = self.jobs.get_mut(id).filter(|job| job.worker() == Some(worker)) {
            job.blocked_on = None;
        }
        if let Some(host) = self.workers.get_mut(worker).and_then(|worker| worker.host.as_mut()) {
            host.held_by.take_if(|holder| *holder == id);
        }
    }

    /// The job that has to end before this one can go on, or begin.
    #[must_use]
    pub fn waits_for(&self, id: JobId) -> Option<JobId> {
        let job = self.jobs.get(id)?;
        let next = match job.state {
            // It is being stopped, and so waits for nothing any more.
            _ if job.stop.is_some() => None,
            _ if job.spec.actor.is_some() => self.call_waits_for(id, job),
            State::Held => self.keys.first(job.spec.key?),
            State::Queued => None,
            State::Offered(_) => job.blocked_on,
        };
        next.filter(|next| self.jobs.contains_key(*next))
    }

    /// The worker that a job has begun in. A call that stands behind another one of its actor has not, wherever it lies.
    #[must_use]
    pub fn begun_in(&self, id: JobId) -> Option<WorkerId> {
        let job = self.jobs.get(id)?;
        let actor = job.spec.actor.and_then(|actor| self.actors.get(actor));
        let first = actor.and_then(|actor| actor.laid.front());
        job.worker().filter(|_| first.is_none_or(|first| *first == id))
    }

    /// Whether the job needs a worker, and there will be none: there are as many as there may be, and all of them have
    /// jobs that wait for others which have not ended.
    fn finds_no_worker(&self, id: JobId) -> bool {
        let is_queued =
            self.jobs.get(id).is_some_and(|job| job.state == State::Queued && job.spec.actor.is_none());
        let is_stuck = |job: &JobId| self.waits_for(*job).is_some();
        is_queued
            && self.workers.len() - self.hosts >= self.config.max_workers
            && self.crew().all(|worker| {
                worker.phase == Phase::Ready
                    && worker.waiting
                    && !worker.killed
                    && !worker.jobs.is_empty()
                    && worker.jobs.iter().all(is_stuck)
            })
    }
}
