//! Who has a space that this process uses from outside, now: a process, or, of a file, one after the other.
//!
//! A turn is the time of one owner. What is asked in a turn is over with it, and is asked again in the next one, by the same
//! operation id.

use std::sync::Arc;

use pyo3::PyErr;
use thistledown_exchange::{Broken, Handle, Listener, ObjectId};
use thistledown_ledger::Error;

use crate::errors;
use crate::space::far;

/// Why a space cannot be used any more.
#[derive(Clone, Debug)]
pub(crate) enum Gone {
    Broken(Broken),
    /// Its file cannot be opened, now that nobody has it.
    File(Error),
    Words(String),
}

impl Gone {
    pub(crate) fn error(&self) -> PyErr {
        match self {
            Self::Broken(why) => far::broken(*why),
            Self::File(error) => errors::of_ledger(error),
            Self::Words(words) => pyo3::Python::attach(|py| errors::space_broken(py, words)),
        }
    }
}

/// Where the owner is.
#[derive(Clone)]
pub(crate) enum Owner {
    Known(Arc<Handle>),
    /// The last one is gone, and the next is being looked for.
    Between,
    /// There is none, and there will be none.
    Gone(Gone),
    /// There is none, and none could be had: for now.
    Missed(Gone),
}

pub(crate) struct Line {
    pub(crate) turn: u64,
    pub(crate) id: ObjectId,
    pub(crate) owner: Owner,
    /// Hears the owner of this turn.
    pub(crate) listener: Option<Arc<dyn Listener>>,
}
