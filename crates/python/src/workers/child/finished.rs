//! What a task gave, and how that is said to the parent.
//!
//! Each task is answered once, with a value, an error, or that it was cancelled; what cannot be packed is an error. In a
//! process that a task has forked nothing is said at all.

use pyo3::prelude::*;
use thistledown_workers::{End, Parcel, Reply};

use super::Child;
use crate::channel::tickets;
use crate::errors;
use crate::outside::outside;
use crate::workers::freight;
use crate::workers::options::is_retried;
use crate::workers::pool::UPSTREAM;

/// What a task gave.
pub(super) struct Finished {
    end: End,
    parcel: Parcel,
    retry: bool,
}

impl Finished {
    /// It was told to stop.
    pub(super) fn cancelled() -> Self {
        Self { end: End::Cancelled, parcel: Parcel::empty(), retry: false }
    }

    /// What a task returned.
    pub(super) fn value(py: Python<'_>, value: &Bound<'_, PyAny>) -> Self {
        match tickets::bound_for(UPSTREAM, || freight::pack_result(value)) {
            Ok(parcel) => Self { end: End::Value, parcel, retry: false },
            Err(error) => Self::error(py, &error, None),
        }
    }

    /// What a task raised.
    pub(super) fn error(py: Python<'_>, error: &PyErr, more: Option<&Bound<'_, PyAny>>) -> Self {
        // With its traceback, which the other side is to see.
        let value = error.clone_ref(py).into_value(py).into_bound(py).into_any();
        if errors::is_cancelled(py, &value) {
            return Self::cancelled();
        }
        let parcel = freight::pack_error(&value);
        Self { end: End::Error, parcel, retry: is_retried(more, &value) }
    }
}

impl Child {
    /// A task has forked, and this is the child, which has come here instead of ending: it must not answer.
    pub(super) fn end_if_forked(&self) {
        if self.upstream.is_forked() {
            std::process::exit(0);
        }
    }

    /// Says what came of a task, which has taken so long.
    pub(super) fn finish(&self, py: Python<'_>, id: u64, nanos: u64, finished: Finished) -> PyResult<()> {
        self.end_if_forked();
        // A blob is made now, so that the task fails, and not the worker, when there is nothing to make it of.
        let finished = match finished.parcel.passable() {
            Ok(parcel) => Finished { parcel, ..finished },
            Err(error) => Finished::error(py, &errors::system(&error), None),
        };
        let Finished { end, parcel, retry } = finished;
        let reply = Reply::Done { id, end, retry, nanos, blob: parcel.head_in_blob() };
        let said = match self.child.try_reply(&reply, id, &[], Some(&parcel)) {
            Ok(true) => Ok(()),
            Ok(false) => outside(py, || self.child.reply(&reply, id, &[], Some(&parcel))),
            Err(error) => Err(error),
        };
        said.map_err(|error| errors::system(&error))
    }

    /// Says something that is of no task.
    pub(super) fn reply(&self, py: Python<'_>, reply: &Reply, body: &[u8]) -> PyResult<()> {
        if self.upstream.is_forked() {
            return Ok(());
        }
        outside(py, || self.child.reply(reply, 0, body, None)).map_err(|error| errors::system(&error))
    }
}
