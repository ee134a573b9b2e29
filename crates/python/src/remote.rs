//! What a task of a worker process is on this side: an outcome that arrives as bytes, in a thread that knows no Python.
//!
//! Whoever asks for the outcome unpacks it. The kernel hears of the task only when somebody waits for its end, and a
//! thread that may call Python only when somebody has asked to be called.

use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use thistledown_kernel::TaskId;
use thistledown_runtime::{Guard, Lock};
use thistledown_workers::{Cancel, Customer, Death, Opened, Outcome, Parcel, Refusal};

use crate::errors;
use crate::freight;
use crate::herald::{self, Lost};
use crate::outside::outside;
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
    /// It did not get through: the system's number for why.
    Lost(Option<i32>),
    /// It was read, and is kept by its task.
    Read {
        is_error: bool,
        is_cancelled: bool,
    },
}

#[derive(Default)]
struct State {
    ended: Option<Arc<Ended>>,
    /// Its source's name for it.
    job: Option<u64>,
    /// The kernel's name for it, once somebody has waited.
    party: Option<TaskId>,
    /// Whom to tell in Python, once somebody has asked.
    watched: Option<Py<Task>>,
    /// The name of its task, which nobody holds any more.
    unheld: Option<String>,
}

/// Held while tasks are ended, so that no fork finds one half ended.
static SETTLING: LazyLock<Lock<()>> = LazyLock::new(|| Lock::new(()));

/// Held by whoever ends tasks.
pub(crate) fn settling() -> Guard<'static, ()> {
    SETTLING.lock()
}

/// Waits until nobody ends tasks, and lets nobody do it.
pub(crate) fn lock_for_fork() {
    std::mem::forget(SETTLING.lock());
}

/// Ends what [`lock_for_fork`] has begun, in the parent and in the child.
///
/// # Safety
/// Only after [`lock_for_fork`] in this thread, and once in each process.
#[allow(unsafe_code, reason = "the guard cannot live across a fork, so the lock is released by hand")]
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: the caller holds the lock, by the contract above.
    unsafe { SETTLING.force_unlock() };
}

/// A task in another process.
pub(crate) struct Remote {
    state: Mutex<State>,
    source: Source,
}

impl Remote {
    pub(crate) fn new(source: Source) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), source })
    }

    /// Its source's name for it.
    pub(crate) fn set_job(&self, job: u64) {
        self.state.lock().job = Some(job);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state.lock().ended.is_some()
    }

    pub(crate) fn ended(&self) -> Option<Arc<Ended>> {
        self.state.lock().ended.clone()
    }

    /// What it came to was read, and is kept elsewhere.
    pub(crate) fn forget_outcome(&self) {
        let mut state = self.state.lock();
        let read = state
            .ended
            .as_ref()
            .map(|ended| Ended::Read { is_error: ended.is_error(), is_cancelled: ended.is_cancelled() });
        let old = state.ended.take();
        state.ended = read.map(Arc::new);
        drop(state);
        drop(old);
    }

    pub(crate) fn is_running(&self) -> bool {
        let state = self.state.lock();
        let job = state.job.filter(|_| state.ended.is_none());
        drop(state);
        job.is_some_and(|job| self.source.is_running(job))
    }

    /// Stops it. False: it has ended.
    pub(crate) fn cancel(&self, py: Python<'_>) -> bool {
        let state = self.state.lock();
        let job = state.job.filter(|_| state.ended.is_none());
        drop(state);
        job.is_some_and(|job| outside(py, || self.source.cancel(job)) != Cancel::TooLate)
    }

    /// Nobody holds its task any more. False: it has ended.
    pub(crate) fn let_go(&self, name: String) -> bool {
        let mut state = self.state.lock();
        let lives = state.ended.is_none();
        state.unheld = lives.then_some(name);
        lives
    }

    /// The kernel's name for it, for whoever waits for its end.
    pub(crate) fn party(&self) -> TaskId {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            // Nobody has this name: a wait for it is over at once.
            return TaskId::from_number(0);
        }
        let party = *state.party.get_or_insert_with(|| WORLD.with(|kernel| kernel.add_elsewhere(None)));
        drop(state);
        self.is_awaited();
        party
    }

    /// In a worker: whoever waits gives up his place, so that what he waits for finds one.
    fn is_awaited(&self) {
        let job = self.state.lock().job;
        if let (Source::Above(upstream), Some(job)) = (&self.source, job) {
            upstream.is_awaited(job);
        }
    }

    /// Python is to be told of its end. False: it has ended.
    pub(crate) fn watch(&self, task: Py<Task>) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        state.watched = Some(task);
        drop(state);
        self.is_awaited();
        true
    }

    /// Ends it. Gives whom to tell.
    fn end(&self, outcome: Outcome) -> (Option<TaskId>, Option<Py<Task>>, Option<Lost>) {
        let ended = Arc::new(read(outcome));
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return (None, None, None);
        }
        state.ended = Some(Arc::clone(&ended));
        let lost = state.unheld.take().filter(|_| ended.is_error()).map(|name| (name, ended));
        (state.party.take(), state.watched.take(), lost)
    }

    /// Ends many. Needs no interpreter. Who calls this holds [`settling`].
    pub(crate) fn settle_all(ended: impl IntoIterator<Item = (Arc<Self>, Outcome)>) {
        let mut parties = Vec::new();
        let (mut watched, mut lost) = (Vec::new(), Vec::new());
        for (remote, outcome) in ended {
            let (party, task, unheld) = remote.end(outcome);
            parties.extend(party);
            watched.extend(task);
            lost.extend(unheld);
        }
        if !parties.is_empty() {
            WORLD.with(|kernel| parties.into_iter().for_each(|party| kernel.finish(party)));
        }
        if !watched.is_empty() {
            herald::tell(watched);
        }
        if !lost.is_empty() {
            herald::mourn(lost);
        }
    }
}

fn read(outcome: Outcome) -> Ended {
    let open = |parcel: Parcel, make: fn(Opened) -> Ended| match parcel.open() {
        Ok(opened) => make(opened),
        Err(error) => Ended::Lost(error.raw_os_error()),
    };
    match outcome {
        Outcome::Value(parcel) => open(parcel, Ended::Value),
        Outcome::Error(parcel) => open(parcel, Ended::Error),
        Outcome::Cancelled => Ended::Cancelled,
        Outcome::TimedOut(after) => Ended::TimedOut(after),
        Outcome::Unsent(number) => Ended::Lost(number),
        Outcome::Died(death) => Ended::Died(death),
        Outcome::Refused(refusal) => Ended::Refused(refusal),
    }
}

/// A customer of a pool of this process.
pub(crate) struct Ticket(pub(crate) Arc<Remote>);

impl Customer for Ticket {
    type Settling = Guard<'static, ()>;

    fn settling() -> Self::Settling {
        settling()
    }

    fn settle(ended: Vec<(Self, Outcome)>) {
        Remote::settle_all(ended.into_iter().map(|(ticket, outcome)| (ticket.0, outcome)));
    }

    fn hear(said: Vec<Vec<u8>>) {
        herald::pass_on(said);
    }

    fn opened() {
        herald::pool_opened();
    }

    fn closed() {
        herald::pool_closed();
    }
}

impl Ended {
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Read { is_cancelled: true, .. })
    }

    pub(crate) fn is_error(&self) -> bool {
        match self {
            Self::Cancelled | Self::Value(_) => false,
            Self::Read { is_error, .. } => *is_error,
            _ => true,
        }
    }

    /// What it came to, as Python objects.
    pub(crate) fn unpack(&self, py: Python<'_>, name: &str) -> Option<task::Outcome> {
        let unpacked = match self {
            Self::Read { .. } => return None,
            Self::Value(opened) => match freight::unpack_value(py, opened) {
                Ok(value) => return Some(task::Outcome::Value(value.unbind())),
                Err(error) => Err(error),
            },
            Self::Cancelled => return Some(task::Outcome::Cancelled),
            Self::Error(opened) => errors::from_worker(py, opened.head()),
            Self::TimedOut(after) => Ok(errors::timed_out(py, name, after.as_secs_f64())),
            Self::Died(death) => errors::worker_died(py, name, death),
            Self::Refused(refusal) => errors::refused(py, name, refusal),
            Self::Lost(number) => {
                let why = number
                    .map_or_else(String::new, |number| std::io::Error::from_raw_os_error(number).to_string());
                let words = format!("task {name} or its result did not get through: {why}");
                Err(PyOSError::new_err((*number, words)))
            }
        };
        let error = unpacked.unwrap_or_else(|error| error.into_value(py).into_any());
        Some(task::Outcome::Error(error))
    }
}
