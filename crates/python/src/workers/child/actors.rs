//! The actors that live in a worker, and what is asked of one: its end, the instance to be moved, an attribute, a call.
//!
//! The instance of an actor is here from its making until it is stopped or killed.
//!
//! What it is not: it keeps no calls and no order, which are the parent's, and runs no method (`run`, `_worker_actors`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use rustix_futex_sync::Mutex;
use thistledown_workers::{Errand, Verb};

use super::Child;
use super::job::Taken;
use super::known::Asked;
use crate::body;
use crate::errors;

/// Those that live here.
#[derive(Default)]
pub(super) struct Actors {
    instances: Mutex<HashMap<u64, Py<PyAny>>>,
    /// Some do, or did.
    are_here: AtomicBool,
}

impl Actors {
    /// Whether some live here, or did.
    pub(super) fn are_here(&self) -> bool {
        self.are_here.load(Ordering::Relaxed)
    }

    pub(super) fn get<'py>(&self, py: Python<'py>, actor: u64) -> Option<Bound<'py, PyAny>> {
        self.instances.lock().get(&actor).map(|instance| instance.bind(py).clone())
    }

    /// This one lives here from now on.
    pub(super) fn settle(&self, actor: u64, instance: Py<PyAny>) {
        self.instances.lock().insert(actor, instance);
    }

    pub(super) fn let_go(&self, py: Python<'_>, actor: u64) {
        let instance = self.instances.lock().remove(&actor);
        // Dropping it may run foreign code, so no lock is held.
        instance.into_iter().for_each(|instance| drop(instance.into_bound(py)));
    }
}

/// A call of a method: of which instance, and what the method is called.
pub(super) struct Called<'py> {
    pub(super) instance: Bound<'py, PyAny>,
    pub(super) name: Bound<'py, PyString>,
}

impl Called<'_> {
    /// Whether it is a coroutine or generator function of its class.
    pub(super) fn waits(&self) -> bool {
        let found = self.instance.get_type().getattr(&self.name);
        found.is_ok_and(|method| body::makes_body(&method).unwrap_or(false))
    }
}

impl Child {
    /// From now on actors live here: their calls can be cancelled by an answer, as weightless tasks are.
    pub(super) fn take_actors(&self, py: Python<'_>) -> PyResult<()> {
        if !self.actors.are_here.swap(true, Ordering::Relaxed) {
            self.upstream.take_actors();
            self.upstream.listen(py)?;
        }
        Ok(())
    }

    /// The method that is called, when this is a call of an actor that lives here.
    pub(super) fn called<'py>(&self, py: Python<'py>, job: &Taken) -> Option<Called<'py>> {
        let errand = job.errand.filter(|errand| errand.verb == Verb::Call)?;
        let Ok(Asked::Method(name)) = self.functions.asked(py, job.function) else { return None };
        Some(Called { instance: self.actors.get(py, errand.actor)?, name })
    }

    /// Does what is asked of an actor, if it is no call.
    pub(super) fn attend<'py>(
        &self,
        py: Python<'py>,
        job: &Taken,
        errand: Errand,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if errand.verb == Verb::Stop {
            self.actors.let_go(py, errand.actor);
            return Ok(Some(py.None().into_bound(py)));
        }
        let instance = || {
            self.actors
                .get(py, errand.actor)
                .ok_or_else(|| errors::misuse("the actor does not live here any more"))
        };
        if errand.verb == Verb::Give {
            let moves = py.import(intern!(py, "thistledown._moves"))?;
            return moves.call_method1(intern!(py, "pickled"), (instance()?,)).map(Some);
        }
        match self.functions.asked(py, job.function)? {
            Asked::Attribute(name) => instance()?.getattr(name).map(Some),
            // With arguments it is a call, as any other.
            Asked::Method(_) | Asked::Function => Ok(None),
        }
    }

    /// Why there is nothing that a call of an actor calls.
    pub(super) fn no_method(&self, py: Python<'_>, actor: u64) -> PyErr {
        errors::misuse(match self.actors.get(py, actor) {
            Some(_) => "no method is asked for",
            None => "the actor does not live here any more",
        })
    }
}
