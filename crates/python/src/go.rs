//! `go`: this is a task.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use thistledown_kernel::Start;

use crate::body;
use crate::current::Current;
use crate::errors;
use crate::run;
use crate::scope::Scope;
use crate::task::Task;

/// Starts a task: an ``async def`` or generator function with its arguments, or what calling one gave.
///
/// The task is weightless and runs in the run of this thread, in its turn. The engine holds it: nothing depends on
/// keeping what this returns. A plain function is refused for now; see ``thread``.
///
/// Args:
///     body: a coroutine or generator function or object, or an object with ``__await__``.
///     args, kwargs: for the function.
///
/// Returns:
///     The task.
///
/// Raises:
///     TypeError: this is no task body; says what to write instead.
///     RuntimeError: no run in this thread, or the coroutine has run already.
#[pyfunction]
#[pyo3(signature = (body, /, *args, **kwargs))]
pub(crate) fn go(
    body: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    kwargs: Option<Bound<'_, PyDict>>,
) -> PyResult<Py<Task>> {
    let any = !args.is_empty() || kwargs.as_ref().is_some_and(|kwargs| !kwargs.is_empty());
    start(&body, any, || body.call(&args, kwargs.as_ref()), Start::InRun, None, None)
}

/// The same as the interpreter passes it, without a tuple and a dictionary between: the body, and how to call it.
pub(crate) fn go_with<'py>(
    body: &Bound<'py, PyAny>,
    any_arguments: bool,
    call: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Py<Task>> {
    start(body, any_arguments, call, Start::InRun, None, None)
}

/// The same with a name, in a group: what places with options and groups call.
#[pyfunction]
pub(crate) fn go_in(
    body: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    kwargs: Bound<'_, PyDict>,
    scope: Option<Bound<'_, Scope>>,
    group: Option<Py<PyAny>>,
    name: Option<Py<PyAny>>,
) -> PyResult<Py<Task>> {
    let start_in = match scope {
        Some(scope) => Start::InScope(scope.get().id()?),
        None => Start::InRun,
    };
    let any = !args.is_empty() || !kwargs.is_empty();
    start(&body, any, || body.call(&args, Some(&kwargs)), start_in, group, name)
}

fn start<'py>(
    body: &Bound<'py, PyAny>,
    any_arguments: bool,
    call: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    start: Start,
    group: Option<Py<PyAny>>,
    name: Option<Py<PyAny>>,
) -> PyResult<Py<Task>> {
    let Some(current) = Current::run() else {
        return Err(errors::misuse(
            "no weightless tasks run in this thread: start them with `td.run(main)`, and call `td.go` inside of it",
        ));
    };
    let iterator = body::iterator(body, any_arguments, call)?;
    let origin = body::origin(body, &iterator);
    run::spawn(body.py(), &current, iterator, origin, start, group, name)
}

/// The task that has its turn in this thread; None outside of one.
#[pyfunction]
pub(crate) fn current_task(py: Python<'_>) -> Option<Py<Task>> {
    Current::run().and_then(|run| run.task_object(py))
}
