//! Pledges: tasks that somebody ends by hand. What they stand for happens elsewhere, in another process or by a call.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::payload::{WORLD, Waker};
use crate::task::Task;

/// A task that is ended by ``_settle(value, error)``, in whichever thread.
///
/// With ``hopes`` that may happen though nothing else does, so no run that waits says that nothing can happen any more.
#[pyfunction]
pub(crate) fn pledge(py: Python<'_>, name: Py<PyString>, hopes: bool) -> PyResult<Py<Task>> {
    let task = Task::make(py, Some(name))?;
    task.get().set_id(WORLD.with(|kernel| match hopes {
        true => kernel.add_elsewhere(None),
        // Nobody's turn, and nobody's hope: others wait for its end, and it never waits.
        false => kernel.add_thread(Waker::Nobody),
    }));
    Ok(task.unbind())
}
