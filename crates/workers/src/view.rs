//! A pool as it stands, for whoever asks: its workers, what each runs, and what waits.

use crate::clock;
use crate::hall::Hall;
use crate::policy::{JobId, WorkerPhase};
use crate::worker::Worker;

/// A job as it stands.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Which, for [`crate::Engine::cancel`].
    pub id: JobId,
    /// What people call it.
    pub name: String,
    /// Nanoseconds since it began, if it is known to run.
    pub runs_for: Option<u64>,
    /// The job that has to end before it goes on, or begins.
    pub waits_for: Option<String>,
}

/// A worker as it stands.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// Its process, once it is known to be born.
    pub pid: Option<i32>,
    /// What it does.
    pub phase: WorkerPhase,
    /// Its descriptor from which its lines are to be read, if it was asked and can say.
    pub lines: Option<u32>,
    /// What it was given and has not ended, in that order.
    pub jobs: Vec<JobView>,
}

/// A pool as it stands.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// How many workers run at a time.
    pub size: usize,
    /// It takes no more jobs.
    pub is_closing: bool,
    /// Its workers.
    pub workers: Vec<WorkerView>,
    /// The first jobs that are with no worker.
    pub queued: Vec<JobView>,
    /// How many of these there are in all.
    pub queued_count: usize,
}

impl<C> Hall<C> {
    /// How it stands, with so many of the jobs that are with no worker. Workers that have jobs are asked for their lines.
    pub(crate) fn view(&self, size: usize, limit: usize) -> PoolView {
        let now = clock::now();
        let workers = self.policy.workers_seen().map(|(id, phase, jobs)| {
            let worker = self.desk.workers.get(id);
            let running = worker.and_then(|worker| worker.region.running());
            let began = |job: &JobId| running.filter(|(id, _)| *id == job.number()).map(|(_, since)| since);
            let job = |job: &JobId| self.job_view(*job, began(job).map(|since| now.saturating_sub(since)));
            let jobs: Vec<JobView> = jobs.iter().map(job).collect();
            let lines = worker.filter(|_| !jobs.is_empty()).and_then(Worker::ask_lines);
            WorkerView { pid: worker.and_then(|worker| worker.process.pid()), phase, lines, jobs }
        });
        let workers = workers.collect();
        let waiting = self.policy.unbegun();
        let queued = waiting.iter().take(limit).map(|&job| self.job_view(job, None)).collect();
        PoolView { size, is_closing: self.is_closing(), workers, queued, queued_count: waiting.len() }
    }

    fn job_view(&self, job: JobId, runs_for: Option<u64>) -> JobView {
        let name = |job| self.desk.jobs.get(job).map(|job| job.name.to_string());
        JobView {
            id: job,
            name: name(job).unwrap_or_else(|| "a task".to_owned()),
            runs_for,
            waits_for: self.policy.waits_for(job).and_then(name),
        }
    }
}
