//! The words that the policy and its caller share: what goes in besides events, and what comes out.

use super::ids::{ActorId, JobId, WorkerId};

/// Nanoseconds: a moment (since an epoch that the caller chose) or a length of time.
pub type Nanos = u64;

/// A moment that never comes.
pub(super) const NEVER: Nanos = Nanos::MAX;

/// What can be done at once, with an answer: the lanes that jobs are laid in, as the policy sees them.
pub trait Floor {
    /// Lays a job in the lane of a worker. False: there is no room in it now, and nothing was done.
    fn offer(&mut self, worker: WorkerId, job: JobId) -> bool;

    /// Takes a job out of the lane of a worker. True: it has not begun there and never will. False: it has begun.
    /// Works for a worker that is dead, too, and says then what had become of the job.
    fn take_back(&mut self, worker: WorkerId, job: JobId) -> bool;

    /// When what the worker runs now began; nothing when it runs nothing, or it is not known.
    fn busy_since(&self, worker: WorkerId) -> Option<Nanos>;
}

/// The limits that a policy keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// So many workers run jobs at the same time. A worker that waits for a nested job does not count.
    pub size: usize,
    /// So many workers exist at most, those that wait included. When they are reached, jobs wait in the queue. As many more
    /// may have actors.
    pub max_workers: usize,
    /// Between asking a job to stop and killing its worker.
    pub grace: Nanos,
    /// So many weightless jobs share a worker.
    pub concurrency: usize,
    /// After so many jobs a worker is retired.
    pub max_tasks_per_child: Option<u64>,
    /// So much work, by the mean of what jobs took, is laid in a worker's lane at the same time.
    pub prefetch_budget: Nanos,
}

impl Config {
    /// The documented defaults, for so many workers.
    #[must_use]
    pub fn of_size(size: usize) -> Self {
        Self {
            size,
            max_workers: 1_000,
            grace: 1_000_000_000,
            concurrency: 100,
            max_tasks_per_child: None,
            prefetch_budget: 200_000,
        }
    }
}

/// What has to be done outside. Taken from [`Policy::take_actions`](super::Policy::take_actions), in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fork this worker. It is answered by `ready`, `start_failed` or `died`.
    Start(WorkerId),
    /// Tell this worker to leave. It has no job; it may still be starting. It is answered by `died`.
    Retire(WorkerId),
    /// Stop this job, which has begun in this worker, between two of its bytecodes.
    Interrupt(WorkerId, JobId),
    /// Kill this worker. It is answered by `died`.
    Kill(WorkerId),
    /// The job has ended so. It is not known to the policy any more.
    End(JobId, Ending),
    /// The actor has ended so, after all of its calls. It is not known to the policy any more.
    Over(ActorId, Ending),
    /// This worker has to let go of the actor, which was killed, and goes on with its others.
    Discard(WorkerId, ActorId),
}

/// How a job ended that did not end by its own reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It had begun in this worker, which died.
    Died(WorkerId),
    /// Its time was up.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// No worker could be started for it.
    NoWorkers,
    /// Its actor was killed.
    Killed,
    /// Its actor could not be made.
    Unmade,
    /// Of an actor alone: it was stopped, and its last call has ended.
    Stopped,
    /// Of an actor alone: the whole came to its end.
    Closed,
}

/// What a reply is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The reply is the job's outcome. The job is not known any more, and no [`Action::End`] follows.
    Final,
    /// The reply is dropped: the job is tried again.
    Again,
    /// The reply is dropped: the job was stopped before it came. An [`Action::End`] with this ending follows.
    Overruled(Ending),
    /// The reply is dropped: this worker has no such job.
    Stray,
}

/// What became of the wish to cancel a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Cancel {
    /// It had not begun and never will. This is its end: no [`Action::End`] follows.
    Removed,
    /// It runs and is being stopped. An [`Action::End`] follows.
    Asked,
    /// It has ended, or is being stopped because its time is over, and will end so.
    TooLate,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// In the queue, or behind another job of its key.
    Queued,
    /// With a worker, where it may have begun.
    Offered(WorkerId),
}

/// A job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// After `close` or `kill_all`.
    #[error("the workers take no more jobs: they are closed")]
    Closed,
    /// After `broken`.
    #[error("the workers take no more jobs: none of them can be made ready")]
    Broken,
    /// The actor is stopped, or has ended.
    #[error("the actor takes no more calls")]
    Over,
    /// The actor has as many calls as it may.
    #[error("the actor has as many calls as it may have")]
    Full,
    /// There are as many workers with actors as there may be.
    #[error("there are as many workers with actors as there may be")]
    TooMany,
}

/// How much there is of each thing, and how much there has been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Jobs in the queue, those behind their key included.
    pub queued: usize,
    /// Jobs with a worker.
    pub offered: usize,
    /// Workers that were asked for and have not reported.
    pub starting: usize,
    /// Workers that have nothing.
    pub idle: usize,
    /// Workers that have jobs and do not wait.
    pub busy: usize,
    /// Workers that wait for nested jobs.
    pub waiting: usize,
    /// Workers that were told to leave.
    pub leaving: usize,
    /// Workers that have actors, whatever they do: they are among none of the others.
    pub hosts: usize,
    /// Actors.
    pub actors: usize,
    /// Calls of actors that have not ended.
    pub calls: usize,
    /// How many jobs would be laid in the lane of one worker now.
    pub depth: usize,
    /// Jobs accepted, ever.
    pub submitted: u64,
    /// Replies that counted, ever.
    pub replied: u64,
    /// Jobs queued again for another try, ever.
    pub retried: u64,
    /// Workers that became ready, ever.
    pub started: u64,
    /// Workers that died without having been told to leave, ever.
    pub died: u64,
}
