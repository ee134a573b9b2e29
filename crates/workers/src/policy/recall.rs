//! Taking back what was offered and has not begun. It goes to its old place in the queue.

use super::ids::WorkerId;
use super::job::Job;
use super::machine::Policy;
use super::terms::{Floor, NEVER};
use super::worker::Worker;

impl Policy {
    /// Takes up to `limit` jobs back, the newest first, of those that are `wanted`. How many it were.
    fn recall(
        &mut self,
        floor: &mut impl Floor,
        worker_id: WorkerId,
        limit: usize,
        wanted: impl Fn(&Job) -> bool,
    ) -> usize {
        // What a worker has for its actors goes nowhere else.
        let fits = |worker: &&mut Worker| worker.host.is_none();
        let Some(worker) = self.workers.get_mut(worker_id).filter(fits) else { return 0 };
        let mut taken = Vec::new();
        for place in (0..worker.jobs.len()).rev() {
            let id = worker.jobs[place];
            let Some(job) = self.jobs.get_mut(id).filter(|job| !job.begun && wanted(job)) else { continue };
            if taken.len() == limit {
                break;
            }
            if floor.take_back(worker_id, id) {
                taken.push(id);
                worker.jobs.remove(place);
            } else {
                job.begun = true;
            }
        }
        if taken.is_empty() {
            return 0;
        }
        self.behind -= taken.len() - usize::from(worker.jobs.is_empty());
        for &id in &taken {
            self.set_deadline(id, NEVER);
            self.enqueue(id);
        }
        self.settle(worker_id);
        taken.len()
    }

    /// Takes everything back that has not begun.
    pub(super) fn recall_all(&mut self, floor: &mut impl Floor, worker: WorkerId) {
        self.recall(floor, worker, usize::MAX, |_| true);
    }

    /// A plain job finds no worker that has nothing: jobs of lower priority that have not begun make room for it.
    pub(super) fn recall_lower(&mut self, floor: &mut impl Floor) {
        let Some(priority) = self.plain.top_priority() else { return };
        if priority <= self.lowest_offered || self.has_free_worker(false) {
            return;
        }
        let lower: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, worker)| !worker.weightless && !worker.jobs.is_empty())
            .map(|(id, _)| id)
            .collect();
        for worker in lower {
            self.recall(floor, worker, usize::MAX, |job| job.spec.priority < priority);
        }
        self.lowest_offered = priority;
    }

    /// A worker has nothing, and there is nothing for it: it gets half of what lies before the fullest.
    pub(super) fn recall_half(&mut self, floor: &mut impl Floor) -> bool {
        if self.behind == 0 || !self.plain.is_empty() || !self.has_free_worker(false) {
            return false;
        }
        let fullest = self
            .workers
            .iter()
            .filter(|(_, worker)| !worker.weightless && worker.jobs.len() > 1)
            .max_by_key(|(_, worker)| worker.jobs.len())
            .map(|(id, worker)| (id, worker.jobs.len()));
        fullest.is_some_and(|(id, jobs)| self.recall(floor, id, jobs / 2, |_| true) > 0)
    }
}
