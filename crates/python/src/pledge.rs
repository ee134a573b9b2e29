//! Pledges: tasks that somebody ends by hand. What they stand for happens elsewhere, in another process or by a call.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::operation::{Kind, Operation};
use crate::payload::{WORLD, Waker};
use crate::task::Task;

/// A task that is ended by ``_settle(value, error)``, in whichever thread.
///
/// With ``hopes`` that may happen though nothing else does, so no run that waits says that nothing can happen any more.
/// When nobody has it any more it is forgotten.
#[pyfunction]
pub(crate) fn pledge(py: Python<'_>, name: Py<PyString>, hopes: bool) -> PyResult<Py<Task>> {
    let task = Task::make(py, None)?;
    task.setattr(intern!(py, "name"), name)?;
    task.get().set_id(WORLD.with(|kernel| match hopes {
        true => kernel.add_elsewhere(None),
        // Nobody's turn, and nobody's hope: others wait for its end, and it never waits.
        false => kernel.add_thread(Waker::Nobody),
    }));
    task.get().set_pledged();
    Ok(task.unbind())
}

/// The wait for a pledge, which tells of the end of a task: that one's error has then reached somebody.
pub(crate) struct Heard {
    pub(crate) pledge: Py<Task>,
    pub(crate) of: Option<Py<Task>>,
}

/// An operation that gives what a pledge gives. ``of`` is the task of which that tells.
#[pyfunction]
pub(crate) fn heard(pledge: Py<Task>, of: Option<Py<Task>>) -> Operation {
    Operation::new(Kind::Heard(Box::new(Heard { pledge, of })))
}

impl Heard {
    pub(crate) fn attempt(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(outcome) = self.pledge.get().outcome(py) else { return Ok(None) };
        if let Some(of) = &self.of {
            of.get().mark_fetched();
        }
        outcome.map(Some)
    }

    pub(crate) fn copy(&self, py: Python<'_>) -> Self {
        Self { pledge: self.pledge.clone_ref(py), of: self.of.as_ref().map(|of| of.clone_ref(py)) }
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pledge)?;
        visit.call(&self.of)
    }
}
