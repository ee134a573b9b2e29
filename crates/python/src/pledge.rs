//! Pledges: tasks that somebody ends by hand. What they stand for happens elsewhere, in another process or by a call.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::payload::WORLD;
use crate::task::Task;

/// A task that is ended by ``_settle(value, error)``, in whichever thread. Until then every run has something to hope for.
#[pyfunction]
pub(crate) fn pledge(py: Python<'_>, name: Py<PyString>) -> PyResult<Py<Task>> {
    let task = Task::make(py, Some(name))?;
    task.get().set_id(WORLD.with(|kernel| kernel.add_elsewhere(None)));
    Ok(task.unbind())
}
