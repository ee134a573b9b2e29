//! What the engine has to say when something is wrong. The words are Python's, in `thistledown._report`.

use pyo3::prelude::*;
use thistledown_kernel::{Cycle, Kernel, TaskId};

use crate::current::Run;
use crate::errors;
use crate::operation::Operation;
use crate::payload::{Body, Snake, WORLD};
use crate::task::Task;

/// Calls a function of the report module; what goes wrong there is not this thread's business.
pub(crate) fn report<'py>(
    py: Python<'py>,
    function: &str,
    args: impl pyo3::call::PyCallArgs<'py>,
) -> Option<Bound<'py, PyAny>> {
    match py.import("thistledown._report").and_then(|module| module.call_method1(function, args)) {
        Ok(value) => Some(value),
        Err(error) => {
            errors::put_off(py, error, None);
            None
        }
    }
}

/// The error for a wait that would close a cycle.
pub(crate) fn cycle_error(
    py: Python<'_>,
    run: &Run,
    cycle: &Cycle,
    iterator: &Py<PyAny>,
    operation: &Bound<'_, Operation>,
) -> PyErr {
    let closing = (run.task_object(py), iterator, operation.get().describe(py));
    let others: Vec<Waiting> = WORLD.with(|kernel| {
        let tasks = kernel.tasks(run.runner).filter(|(task, _)| cycle.0.contains(task));
        tasks.map(|(task, body)| waiting(py, kernel, task, body)).collect()
    });
    let told = report(py, "cycle", (closing, describe(py, others)));
    errors::deadlock(py, told.map_or_else(|| cycle.to_string(), |words| words.to_string()))
}

/// What a run says when nothing can happen any more.
pub(crate) fn nothing_can_happen(py: Python<'_>, run: &Run) -> PyErr {
    let attendant = run.attendant.borrow().as_ref().map(|(task, _)| *task);
    let waiting: Vec<Waiting> = WORLD.with(|kernel| {
        let others = kernel.tasks(run.runner).filter(|(task, _)| Some(*task) != attendant);
        others.map(|(task, body)| waiting(py, kernel, task, body)).collect()
    });
    let told = report(py, "nothing_can_happen", (describe(py, waiting),));
    errors::deadlock(py, told.map_or_else(|| "nothing can happen any more".into(), |words| words.to_string()))
}

/// A task that waits, as taken from the kernel under its lock.
struct Waiting {
    task: Py<Task>,
    iterator: Py<PyAny>,
    awaited: Option<Py<Operation>>,
    /// It waits for its key, and this one holds it, if that does not have its turn.
    behind: Option<Option<Py<Task>>>,
}

fn waiting(py: Python<'_>, kernel: &Kernel<Snake>, task: TaskId, body: &Body) -> Waiting {
    let holder = kernel.waits_behind(task);
    Waiting {
        behind: holder.map(|holder| kernel.body(holder).map(|body| body.task.clone_ref(py))),
        task: body.task.clone_ref(py),
        iterator: body.iterator.clone_ref(py),
        awaited: body.awaited.as_ref().map(|operation| operation.clone_ref(py)),
    }
}

/// The same for the report: task, body, and the operation in words.
fn describe(py: Python<'_>, waiting: Vec<Waiting>) -> Vec<(Py<Task>, Py<PyAny>, String)> {
    waiting
        .into_iter()
        .map(|Waiting { task, iterator, awaited, behind }| {
            let operation = match (awaited, behind) {
                (Some(operation), _) => operation.get().describe(py),
                (None, Some(Some(holder))) => format!("its key, which {} holds", holder.get().name(py)),
                (None, Some(None)) => "its key, which is held by the task that would wait".into(),
                (None, None) => "its turn".into(),
            };
            (task, iterator, operation)
        })
        .collect()
}
