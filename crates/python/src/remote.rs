//! What a task of a worker process is on this side: an outcome that arrives as bytes, in a thread that knows no Python.
//!
//! Whoever asks for the outcome unpacks it. The kernel hears of the task only when somebody waits for its end, and a
//! thread that may call Python only when somebody has asked to be called.

use parking_lot::Mutex;
use pyo3::prelude::*;
use thistledown_kernel::TaskId;
use thistledown_workers::{Cancel, Customer, Death, Opened, Outcome, Parcel, Refusal};

use crate::errors;
use crate::freight;
use crate::herald;
use crate::payload::WORLD;
use crate::pool::Source;
use crate::task::{self, Task};

/// How it ended, with what is in a blob already mapped, so that no descriptor is held.
#[derive(Debug)]
pub(crate) enum Ended {
    Value(Opened),
    Error(Opened),
    Cancelled,
    TimedOut(std::time::Duration),
    Died(Death),
    Refused(Refusal),
    /// It cannot be read; why.
    Lost(String),
}

#[derive(Default)]
struct State {
    ended: Option<std::sync::Arc<Ended>>,
    /// Its source's name for it.
    job: Option<u64>,
    /// The kernel's name for it, once somebody has waited.
    party: Option<TaskId>,
    /// Whom to tell in Python, once somebody has asked.
    watched: Option<Py<Task>>,
}

/// A task in another process.
pub(crate) struct Remote {
    state: Mutex<State>,
    source: Source,
}

impl Remote {
    pub(crate) fn new(source: Source) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self { state: Mutex::default(), source })
    }

    /// Its source's name for it.
    pub(crate) fn set_job(&self, job: u64) {
        self.state.lock().job = Some(job);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state.lock().ended.is_some()
    }

    pub(crate) fn ended(&self) -> Option<std::sync::Arc<Ended>> {
        self.state.lock().ended.clone()
    }

    /// What it came to was read, and is kept elsewhere.
    pub(crate) fn forget_outcome(&self) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            state.ended = Some(std::sync::Arc::new(Ended::Cancelled));
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        let state = self.state.lock();
        let job = state.job.filter(|_| state.ended.is_none());
        drop(state);
        job.is_some_and(|job| self.source.is_running(job))
    }

    /// Stops it. False: it has ended.
    pub(crate) fn cancel(&self) -> bool {
        let state = self.state.lock();
        let job = state.job.filter(|_| state.ended.is_none());
        drop(state);
        job.is_some_and(|job| self.source.cancel(job) != Cancel::TooLate)
    }

    /// The kernel's name for it, for whoever waits for its end.
    pub(crate) fn party(&self) -> TaskId {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            // Nobody has this name: a wait for it is over at once.
            return TaskId::from_number(0);
        }
        *state.party.get_or_insert_with(|| WORLD.with(|kernel| kernel.add_elsewhere(None)))
    }

    /// Python is to be told of its end. False: it has ended.
    pub(crate) fn watch(&self, task: Py<Task>) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        state.watched = Some(task);
        let job = state.job;
        drop(state);
        if let (Source::Above(upstream), Some(job)) = (&self.source, job) {
            upstream.is_awaited(job);
        }
        true
    }

    /// Ends it. Gives whom to tell.
    fn end(&self, outcome: Outcome) -> (Option<TaskId>, Option<Py<Task>>) {
        let ended = read(outcome);
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return (None, None);
        }
        state.ended = Some(std::sync::Arc::new(ended));
        (state.party.take(), state.watched.take())
    }

    /// Ends many. Needs no interpreter.
    pub(crate) fn settle_all(ended: impl IntoIterator<Item = (std::sync::Arc<Self>, Outcome)>) {
        let mut parties = Vec::new();
        let mut watched = Vec::new();
        for (remote, outcome) in ended {
            let (party, task) = remote.end(outcome);
            parties.extend(party);
            watched.extend(task);
        }
        if !parties.is_empty() {
            WORLD.with(|kernel| parties.into_iter().for_each(|party| kernel.finish(party)));
        }
        if !watched.is_empty() {
            herald::tell(watched);
        }
    }
}

fn read(outcome: Outcome) -> Ended {
    let open = |parcel: Parcel, make: fn(Opened) -> Ended| match parcel.open() {
        Ok(opened) => make(opened),
        Err(error) => Ended::Lost(error.to_string()),
    };
    match outcome {
        Outcome::Value(parcel) => open(parcel, Ended::Value),
        Outcome::Error(parcel) => open(parcel, Ended::Error),
        Outcome::Cancelled => Ended::Cancelled,
        Outcome::TimedOut(after) => Ended::TimedOut(after),
        Outcome::Died(death) => Ended::Died(death),
        Outcome::Refused(refusal) => Ended::Refused(refusal),
    }
}

/// A customer of a pool of this process.
pub(crate) struct Ticket(pub(crate) std::sync::Arc<Remote>);

impl Customer for Ticket {
    fn settle(ended: Vec<(Self, Outcome)>) {
        Remote::settle_all(ended.into_iter().map(|(ticket, outcome)| (ticket.0, outcome)));
    }

    fn hear(said: Vec<Vec<u8>>) {
        herald::pass_on(said);
    }

    fn closed() {
        herald::pool_closed();
    }
}

impl Ended {
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    pub(crate) fn is_error(&self) -> bool {
        !matches!(self, Self::Cancelled | Self::Value(_))
    }

    /// What it came to, as Python objects.
    pub(crate) fn unpack(&self, py: Python<'_>, name: &str) -> task::Outcome {
        let unpacked = match self {
            Self::Value(opened) => match freight::unpack_value(py, opened) {
                Ok(value) => return task::Outcome::Value(value.unbind()),
                Err(error) => Err(error),
            },
            Self::Cancelled => return task::Outcome::Cancelled,
            Self::Error(opened) => errors::from_worker(py, opened.head()),
            Self::TimedOut(after) => Ok(errors::timed_out(py, name, after.as_secs_f64())),
            Self::Died(death) => errors::worker_died(py, name, death),
            Self::Refused(refusal) => errors::refused(py, name, refusal),
            Self::Lost(words) => {
                Err(errors::misuse(format!("what task {name} gave cannot be read: {words}")))
            }
        };
        let error = unpacked.unwrap_or_else(|error| error.into_value(py).into_any());
        task::Outcome::Error(error)
    }
}
