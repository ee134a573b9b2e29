//! The policy as it stands, for whoever asks.

use std::collections::VecDeque;

use super::ids::{JobId, WorkerId};
use super::machine::Policy;
use super::worker::Phase;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerPhase {
    /// It was asked for, and has not reported.
    Starting,
    /// It has nothing.
    Idle,
    /// It has jobs.
    Busy,
    /// Its job waits for another one, and it has given up its slot.
    Waiting,
    /// It was told to leave, or is being killed.
    Leaving,
}

impl Policy {
    /// Every worker, what it does, and the jobs that it was given.
    pub fn workers_seen(&self) -> impl Iterator<Item = (WorkerId, WorkerPhase, &VecDeque<JobId>)> {
        self.workers.iter().map(|(id, worker)| {
            let phase = match worker.phase {
                _ if worker.killed => WorkerPhase::Leaving,
                Phase::Leaving => WorkerPhase::Leaving,
                Phase::Starting => WorkerPhase::Starting,
                Phase::Ready if worker.waiting => WorkerPhase::Waiting,
                Phase::Ready if worker.jobs.is_empty() => WorkerPhase::Idle,
                Phase::Ready => WorkerPhase::Busy,
            };
            (id, phase, &worker.jobs)
        })
    }

    /// The jobs that are with no worker, in the order of submission.
    #[must_use]
    pub fn unbegun(&self) -> Vec<JobId> {
        let mut unbegun: Vec<(u64, JobId)> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.worker().is_none())
            .map(|(id, job)| (job.sequence, id))
            .collect();
        unbegun.sort_unstable();
        unbegun.into_iter().map(|(_, id)| id).collect()
    }
}
