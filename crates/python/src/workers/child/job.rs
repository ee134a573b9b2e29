//! The jobs of a worker: what it takes out of its lane, one after the other, and how many weightless ones run.
//!
//! What it is not: it runs none (`run`, and `_worker` in Python), and knows no functions (`known`), which come between them.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_workers::{Errand, Given, Parcel};

use super::Child;
use crate::errors;

/// A task that was taken.
pub(super) struct Taken {
    pub(super) id: u64,
    pub(super) function: u32,
    pub(super) call: Parcel,
    /// It is asked of an actor.
    pub(super) errand: Option<Errand>,
}

/// A weightless task of this worker.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Job {
    pub(super) task: Taken,
    /// What came with it beside its arguments, once it has begun.
    pub(super) more: Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl Job {
    /// Its number.
    #[getter]
    fn id(&self) -> u64 {
        self.task.id
    }

    /// The actor that is asked; None: it is a task of the pool.
    #[getter]
    fn actor(&self) -> Option<u64> {
        self.task.errand.map(|errand| errand.actor)
    }
}

/// What there is to do.
pub(super) enum Next {
    Plain(Taken),
    Weightless(Taken),
    /// Something is asked of an actor.
    Call(Taken),
    Nothing,
}

impl Child {
    /// The next task that is there.
    pub(super) fn next(&self) -> PyResult<Next> {
        loop {
            let given = self.child.next_work().map_err(|error| errors::system(&error))?;
            match given {
                None => return Ok(Next::Nothing),
                Some(Given::Function { id, body }) => self.functions.learn(id, body),
                Some(Given::Forget { id }) => self.functions.forget(id),
                Some(Given::Task { id, function, weightless, call }) => {
                    let job = Taken { id, function, call, errand: None };
                    return Ok(if weightless { Next::Weightless(job) } else { Next::Plain(job) });
                }
                Some(Given::Call { id, function, errand, call }) => {
                    return Ok(Next::Call(Taken { id, function, call, errand: Some(errand) }));
                }
            }
        }
    }

    /// A weightless task that was taken.
    pub(super) fn take(&self, task: Taken) -> Job {
        self.count();
        self.take_call(task)
    }

    /// A call of an actor that was taken.
    pub(super) fn take_call(&self, task: Taken) -> Job {
        Job { task, more: Mutex::default() }
    }

    /// A weightless task begins.
    pub(super) fn count(&self) {
        if self.weightless.fetch_add(1, Ordering::Relaxed) == 0 {
            self.upstream.task_begins();
        }
    }

    /// A weightless task is over.
    pub(super) fn leave(&self) {
        if self.weightless.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.upstream.task_is_over();
        }
    }
}
