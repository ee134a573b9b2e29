//! How a task of another process has ended: what came as bytes, and what that is in Python.
//!
//! What is in a blob is mapped in the thread that has read the reply, which knows no Python and keeps no descriptor; it is
//! unpacked by whoever asks, once, in a thread that may call Python.
//!
//! What it is not: it does not know who waits (`remote`), nor whom to tell (`settle`).

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use thistledown_exchange::Broken;
use thistledown_workers::{Death, Gone, Opened, Outcome, Parcel, Refusal};

use crate::errors;
use crate::fork;
use crate::stop;
use crate::task;
use crate::workers::freight;

/// How it ended, with what is in a blob already mapped, so that no descriptor is held.
#[derive(Debug)]
pub(crate) enum Ended {
    Value(Returned),
    Error(Opened),
    Cancelled,
    TimedOut(std::time::Duration),
    Died(Death),
    Refused(Refusal),
    /// Its actor is no more.
    Gone(Gone),
    /// Its actor has as many calls as it may have.
    Full,
    /// How the actor has ended, for who wanted to know; or that it has, for who wanted just that.
    Over(Gone),
    /// The process in which its actor lived is gone, or has it no more.
    HomeGone(Broken),
    /// It did not get through: the system's number for why.
    Lost(Option<i32>),
    /// It was read, and is kept by its task.
    Read {
        is_error: bool,
        is_cancelled: bool,
    },
}

/// What a task has returned. If nobody unpacks it, what keeps the handles in it is let go.
#[derive(Debug)]
pub(crate) struct Returned {
    opened: Opened,
    is_read: AtomicBool,
    /// Who got it. A forked child has a copy, which keeps nothing.
    process: u32,
}

impl Returned {
    fn new(opened: Opened) -> Self {
        Self { opened, is_read: AtomicBool::new(false), process: fork::process() }
    }

    fn unpack(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let value = freight::unpack_value(py, &self.opened)?;
        self.is_read.store(true, Ordering::Relaxed);
        Ok(value.unbind())
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if !self.is_read.load(Ordering::Relaxed) && self.process == fork::process() {
            stop::let_go(freight::kept_by(self.opened.head()));
        }
    }
}

/// What a pool says of an end, opened.
pub(super) fn read(outcome: Outcome) -> Ended {
    let open = |parcel: Parcel, make: fn(Opened) -> Ended| match parcel.open() {
        Ok(opened) => make(opened),
        Err(error) => Ended::Lost(error.raw_os_error()),
    };
    match outcome {
        Outcome::Value(parcel) => open(parcel, |opened| Ended::Value(Returned::new(opened))),
        Outcome::Error(parcel) => open(parcel, Ended::Error),
        Outcome::Cancelled => Ended::Cancelled,
        Outcome::TimedOut(after) => Ended::TimedOut(after),
        Outcome::Unsent(number) => Ended::Lost(number),
        Outcome::Died(death) => Ended::Died(death),
        Outcome::Refused(refusal) => Ended::Refused(refusal),
        Outcome::Gone(gone) => Ended::Gone(gone),
        Outcome::Full => Ended::Full,
    }
}

impl Ended {
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Read { is_cancelled: true, .. })
    }

    pub(crate) fn is_error(&self) -> bool {
        match self {
            Self::Cancelled | Self::Value(_) | Self::Over(_) => false,
            Self::Read { is_error, .. } => *is_error,
            _ => true,
        }
    }

    /// Whether whoever started it should hear of it, though nobody asks. What goes on in the process that this one was forked
    /// from is told there.
    pub(crate) fn is_loss(&self) -> bool {
        self.is_error() && !matches!(self, Self::Refused(Refusal::Forked))
    }

    /// What it came to, as Python objects.
    pub(crate) fn unpack(&self, py: Python<'_>, name: &str) -> Option<task::Outcome> {
        let unpacked = match self {
            Self::Read { .. } => return None,
            // Of these, and how to say them, knows who has asked.
            Self::Gone(gone) | Self::Over(gone) => errors::actor_gone(py, name, gone),
            Self::Full => Ok(errors::mailbox_full(py, name).into_value(py).into_any()),
            Self::HomeGone(why) => Ok(errors::home_gone(py, name, *why)),
            Self::Value(returned) => match returned.unpack(py) {
                Ok(value) => return Some(task::Outcome::Value(value)),
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
