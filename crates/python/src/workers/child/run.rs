//! The run of a plain task, from opening its parcel to saying what came of it.
//!
//! It has a context of its own, and what it leaves behind to trace others with is taken away before any other Python code
//! runs. What the parent is to know of it, that it runs and when it is over, stands in the region meanwhile.
//!
//! What it is not: no run of weightless tasks, which is `_worker`'s; but these open their parcels here too.

use pyo3::intern;
use pyo3::prelude::*;
use thistledown_workers::{Errand, Opened, Verb, now};

use super::Child;
use super::actors::Called;
use super::finished::Finished;
use super::job::Taken;
use crate::context;
use crate::errors;
use crate::workers::freight::{self, Call};
use crate::workers::imports::Importing;

/// What is left of a call that is over.
#[derive(Default)]
struct Left<'py> {
    /// What came with it beside its arguments.
    more: Option<Bound<'py, PyAny>>,
    /// Where its arguments came from.
    memory: Option<Opened>,
}

impl Child {
    /// Runs a plain task; `called` is what it calls, if that is a method of an actor.
    pub(super) fn run(&self, py: Python<'_>, job: &Taken, called: Option<Called<'_>>) -> PyResult<()> {
        let began = now();
        self.upstream.task_begins();
        self.child.region().begin(job.id, began);
        if self.child.region().is_interrupted() {
            // It was to be stopped before it began: the signal has come already, and found nothing that ran.
            self.child.region().end();
            self.upstream.task_is_over();
            return self.finish(py, job.id, 0, Finished::cancelled());
        }
        let mut left = Left::default();
        // In a context of its own: what a task sets there, no later one sees.
        let ended =
            context::copy(py).and_then(|own| context::inside(&own, || self.call(py, job, called, &mut left)));
        self.end_if_forked();
        // Before any Python code runs that is not the task's.
        self.untrace(py);
        self.child.region().end();
        self.upstream.task_is_over();
        let finished = match &ended {
            Ok(value) => Finished::value(py, value),
            Err(error) => Finished::error(py, error, left.more.as_ref()),
        };
        self.finish(py, job.id, now().saturating_sub(began), finished)?;
        // Its arguments are gone; the memory of large ones is given back when nobody waits for it any more.
        drop(left.memory);
        Ok(())
    }

    /// Calls what a plain task calls, or does what is asked of an actor.
    fn call<'py>(
        &self,
        py: Python<'py>,
        job: &Taken,
        called: Option<Called<'py>>,
        left: &mut Left<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if called.is_none()
            && let Some(errand) = job.errand
            && let Some(value) = self.attend(py, job, errand)?
        {
            return Ok(value);
        }
        let (function, call, opened) = self.open(py, job, called)?;
        left.memory = Some(opened);
        if let Some(with) = &call.more {
            let carried = py.import(intern!(py, "thistledown._carried"))?;
            carried.call_method1(intern!(py, "enter"), (with,))?;
        }
        left.more = call.more;
        let value = function.call(call.args, Some(&call.kwargs).filter(|kwargs| !kwargs.is_empty()))?;
        match job.errand {
            Some(Errand { actor, verb: Verb::Make { .. } }) => {
                self.actors.settle(actor, value.unbind());
                Ok(py.None().into_bound(py))
            }
            _ => Ok(value),
        }
    }

    /// Takes away what a task has left to trace others with.
    pub(super) fn untrace(&self, py: Python<'_>) {
        if let Some(Err(error)) = self.traces.get().map(|traces| traces.restore(py)) {
            error.write_unraisable(py, None);
        }
    }

    /// What a task calls, with what, and where that came from.
    pub(super) fn open<'py>(
        &self,
        py: Python<'py>,
        job: &Taken,
        called: Option<Called<'py>>,
    ) -> PyResult<(Bound<'py, PyAny>, Call<'py>, Opened)> {
        let _importing = Importing::begin();
        let function = match (called, job.errand) {
            (Some(Called { instance, name }), _) => instance.getattr(name)?,
            (None, Some(Errand { actor, verb: Verb::Call })) => return Err(self.no_method(py, actor)),
            (None, _) => self.functions.function(py, job.function)?,
        };
        let opened = job.call.open().map_err(|error| errors::system(&error))?;
        let call = freight::unpack_call(py, &opened)?;
        Ok((function, call, opened))
    }
}
