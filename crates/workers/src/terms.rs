//! The words that an engine and its customers share: how a pool works, what is ordered, and who is told.

use std::sync::Arc;
use std::time::Duration;

use thistledown_wire::Errand;

use crate::desk::{Job, Limits, Owner};
use crate::function::Function;
use crate::name::Name;
use crate::outcome::Outcome;
use crate::parcel::Parcel;
use crate::policy;
use crate::policy::JobSpec;

/// Whoever gives jobs, and wants to know what comes of them.
pub trait Customer: Send + Sized + 'static {
    /// What is held from before the lock of the pool is released until [`Self::settle`] has returned, so that a fork finds
    /// each job either with the pool or settled.
    type Settling;

    /// Jobs are about to be settled. Called with the lock of the pool held.
    fn settling() -> Self::Settling;

    /// Jobs have ended. Called in any thread, with no lock of the pool held; must not block for long.
    fn settle(ended: Vec<(Self, Outcome)>);

    /// Jobs have failed that nobody asks for: tasks of workers had started them, and those workers have died. With the
    /// process id of each, if it is known. Called as [`Self::settle`] is.
    fn orphaned(failed: Vec<(Option<i32>, Outcome)>);

    /// What jobs have returned that nobody will read: they were stopped, or nobody asks for them. Called as [`Self::settle`] is.
    fn unread(values: Vec<Parcel>);

    /// A worker says something to its parent's program.
    fn hear(said: Vec<Vec<u8>>);

    /// A pool begins. Called with its lock held, once for each [`Self::closed`].
    fn opened();

    /// A pool that had begun is over. Called as [`Self::settle`] is.
    fn closed();
}

/// How a pool works.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many workers run at a time.
    pub size: usize,
    /// Between asking a task to stop and killing its worker.
    pub grace: Duration,
    /// How many weightless tasks a worker runs at a time.
    pub concurrency: usize,
    /// How many tasks a worker runs in its life.
    pub max_tasks_per_child: Option<u64>,
}

impl Config {
    pub(crate) fn policy(&self) -> policy::Config {
        let grace = u64::try_from(self.grace.as_nanos()).unwrap_or(u64::MAX);
        let Self { size, concurrency, max_tasks_per_child, .. } = *self;
        policy::Config { grace, concurrency, max_tasks_per_child, ..policy::Config::of_size(size) }
    }
}

/// A job that is ordered.
#[derive(Debug)]
pub struct Order {
    /// What people call it.
    pub name: Name,
    /// What to call.
    pub function: Arc<Function>,
    /// With what.
    pub call: Parcel,
    /// Higher ones go first.
    pub priority: i32,
    /// Those of one key never overlap.
    pub key: Option<u64>,
    /// From its beginning.
    pub timeout: Option<Duration>,
    /// Bytes that its worker may grow by.
    pub memory: Option<u64>,
    /// How often it is tried again.
    pub retries: u32,
    /// It is asked of an actor.
    pub errand: Option<Errand>,
}

impl Order {
    /// One without any wish.
    #[must_use]
    pub fn new(name: Name, function: Arc<Function>, call: Parcel) -> Self {
        Self {
            name,
            function,
            call,
            priority: 0,
            key: None,
            timeout: None,
            memory: None,
            retries: 0,
            errand: None,
        }
    }

    pub(crate) fn spec(&self) -> JobSpec {
        JobSpec {
            weightless: self.function.weightless,
            priority: self.priority,
            key: self.key,
            timeout: self.timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)),
            retries: self.retries,
            solo: self.memory.is_some(),
            actor: None,
            last: false,
            halts: false,
        }
    }

    pub(crate) fn into_job<C>(self, owner: Owner<C>) -> Job<C> {
        let limits = Limits { timeout: self.timeout, memory: self.memory, is_for_life: false };
        let limits = (limits.timeout.is_some() || limits.memory.is_some()).then(|| Box::new(limits));
        Job { owner, name: self.name, function: self.function, call: self.call, errand: None, limits }
    }
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The pool was shut down.
    ShutDown,
    /// This process is a fork of the pool's.
    Forked,
    /// The actor has as many calls as it may have.
    Full,
}
