//! The end of the whole: no more jobs, no jobs left, no workers left.

use super::ids::{JobId, WorkerId};
use super::job::State;
use super::machine::{Door, Policy};
use super::terms::{Action, Ending, Floor, NEVER, Nanos};
use super::worker::Phase;

impl Policy {
    /// No more jobs are taken, but nested ones of those that are here. When the last has ended, all workers are told
    /// to leave.
    pub fn close(&mut self, floor: &mut impl Floor, now: Nanos) {
        if self.door == Door::Open {
            self.door = Door::Closed;
        }
        self.dispatch(floor, None, now);
    }

    /// Every job that has not begun ends as cancelled.
    pub fn cancel_all(&mut self, floor: &mut impl Floor, now: Nanos) {
        self.recall_everywhere(floor);
        self.end_unbegun(Ending::Cancelled);
        self.dispatch(floor, None, now);
    }

    /// No worker can be made ready: every job that has not begun ends, and no more are taken.
    pub fn broken(&mut self, floor: &mut impl Floor, now: Nanos) {
        self.door = Door::Broken;
        self.recall_everywhere(floor);
        self.end_unbegun(Ending::NoWorkers);
        self.end_homeless(Ending::NoWorkers);
        let starting: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.phase == Phase::Starting)
            .map(|(id, _)| id)
            .collect();
        for worker in starting {
            self.end_actors_of(worker, Ending::NoWorkers);
            self.retire(worker, now);
        }
        self.dispatch(floor, None, now);
    }

    /// Every job ends now as cancelled, and every worker is killed. No more jobs are taken.
    pub fn kill_all(&mut self) {
        if self.door == Door::Open {
            self.door = Door::Closed;
        }
        self.end_actors(Ending::Cancelled, Ending::Killed);
        for worker in self.workers.values_mut() {
            worker.jobs.clear();
            worker.phase = Phase::Leaving;
            worker.waiting = false;
            worker.check_at = NEVER;
        }
        let alive = self.workers.iter_mut().filter(|(_, worker)| !worker.killed);
        for (id, worker) in alive {
            worker.killed = true;
            self.actions.push(Action::Kill(id));
        }
        self.homeless.clear();
        (self.active, self.starting, self.behind) = (0, 0, 0);
        self.idle.clear();
        self.offer_at = NEVER;
        self.start_at = 0;
        self.spare_at = NEVER;
        for job in self.jobs.values_mut() {
            job.state = State::Held;
        }
        self.end_unbegun(Ending::Cancelled);
    }

    fn recall_everywhere(&mut self, floor: &mut impl Floor) {
        let workers: Vec<WorkerId> = self.workers.keys().collect();
        workers.into_iter().for_each(|worker| self.recall_all(floor, worker));
    }

    /// Ends every job that is with no worker, in the order of submission.
    pub(super) fn end_unbegun(&mut self, ending: Ending) {
        let unbegun = self.unbegun();
        self.end_these(unbegun, ending);
    }

    /// The same for those that are no calls of actors.
    pub(super) fn end_queued(&mut self, ending: Ending) {
        let is_call = |job: &JobId| self.jobs.get(*job).is_some_and(|job| job.spec.actor.is_some());
        let queued = self.unbegun().into_iter().filter(|job| !is_call(job)).collect();
        self.end_these(queued, ending);
    }

    fn end_these(&mut self, unbegun: Vec<JobId>, ending: Ending) {
        self.plain = super::queue::Queue::default();
        self.weightless = super::queue::Queue::default();
        for &id in unbegun.iter().rev() {
            self.remove(id);
        }
        self.actions.extend(unbegun.into_iter().map(|id| Action::End(id, ending)));
    }

    /// When no job can come any more, nobody is needed.
    pub(super) fn finish_closing(&mut self, now: Nanos) {
        if self.door == Door::Open || !self.jobs.is_empty() {
            return;
        }
        self.end_actors(Ending::Closed, Ending::Closed);
        let needless: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.phase != Phase::Leaving)
            .map(|(id, _)| id)
            .collect();
        needless.into_iter().for_each(|worker| self.retire(worker, now));
    }
}
