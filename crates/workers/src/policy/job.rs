//! A job as the policy sees it: what was asked for, and where it is. What it computes is nobody's business here.

use super::ids::{ActorId, JobId, WorkerId};
use super::terms::{Ending, NEVER, Nanos};

/// What is asked for a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobSpec {
    /// It shares a worker with others of its kind. Otherwise it has the worker for itself while it runs.
    pub weightless: bool,
    /// Higher comes first.
    pub priority: i32,
    /// Jobs of one key never overlap and run in the order they were submitted, whatever their priorities.
    pub key: Option<u64>,
    /// It is stopped so long after it began.
    pub timeout: Option<Nanos>,
    /// It is tried so many times more when its worker dies or its reply asks for it.
    pub retries: u32,
    /// Never beside or before others in a worker, as for a limit of its memory.
    pub solo: bool,
    /// It is a call of this actor: it goes to the worker that has it, and to no other. Priority and key say nothing then.
    pub actor: Option<ActorId>,
    /// The actor takes no call after it, and ends with it.
    pub last: bool,
    /// The actor stands still after it, until [`Policy::resume_actor`](super::Policy::resume_actor).
    pub halts: bool,
}

impl JobSpec {
    /// It goes to a worker that has nothing, and nothing is laid behind it.
    ///
    /// A weightless job begins as soon as it is offered, also beside others, so a timeout or a key asks for no more.
    pub(super) fn is_exclusive(&self) -> bool {
        self.solo
            || (self.actor.is_none() && !self.weightless && (self.timeout.is_some() || self.key.is_some()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Behind another job of its key.
    Held,
    /// In the queue of its kind, or in the line of its actor.
    Queued,
    /// With a worker.
    Offered(WorkerId),
}

/// Why a job that has begun is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    TimedOut,
    /// Its actor is killed.
    Killed,
}

impl Stop {
    pub(super) fn ending(self) -> Ending {
        match self {
            Self::Cancelled => Ending::Cancelled,
            Self::TimedOut => Ending::TimedOut,
            Self::Killed => Ending::Killed,
        }
    }
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) spec: JobSpec,
    /// The place among its priority: grows with every submission.
    pub(super) sequence: u64,
    /// How many jobs wait above it: it was started by one that was started by one.
    pub(super) depth: u16,
    pub(super) state: State,
    /// Known to have begun, since it could not be taken back. Unknown otherwise.
    pub(super) begun: bool,
    pub(super) stop: Option<Stop>,
    /// When its time is up or, while it is being stopped, the patience with it.
    pub(super) deadline: Nanos,
    pub(super) retries_left: u32,
    /// It has begun, and cannot go on before this one has ended.
    pub(super) blocked_on: Option<JobId>,
}

impl Job {
    pub(super) fn new(spec: JobSpec, sequence: u64, depth: u16) -> Self {
        Self {
            spec,
            sequence,
            depth,
            state: State::Held,
            begun: false,
            stop: None,
            deadline: NEVER,
            retries_left: spec.retries,
            blocked_on: None,
        }
    }

    /// Its place among its priority: the deeper ones first, then the order of submission.
    pub(super) fn rank(&self) -> u64 {
        (u64::from(u16::MAX - self.depth) << 48) | (self.sequence & ((1 << 48) - 1))
    }

    /// The worker that it is with.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        match self.state {
            State::Offered(worker) => Some(worker),
            State::Held | State::Queued => None,
        }
    }
}
