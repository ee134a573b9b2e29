//! `go`: this is a task.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use thistledown_kernel::Start;

use crate::asyncio::guest;
use crate::asyncio::loops;
use crate::body::{self, Arguments, Packed};
use crate::current::Current;
use crate::errors;
use crate::group::Group;
use crate::keys;
use crate::operation::{Kind, Operation};
use crate::payload::WORLD;
use crate::run::{self, Given};
use crate::scope::Scope;
use crate::task::Task;

/// Starts a task: "this is a task, go".
///
/// An ``async def`` or generator function, or what calling one gave, is a weightless task and runs in the run of this
/// thread, in its turn; in asyncio it is a guest of the loop. A plain function runs in a worker process of the default pool, from anywhere. The engine holds
/// the task: nothing depends on keeping what this returns.
///
/// Args:
///     body: a coroutine or generator function or object, an object with ``__await__``, a plain function, or the name of
///         one as ``"package.module:function"``.
///     *args: for the function.
///     **kwargs: for the function.
///
/// Returns:
///     The task.
///
/// Raises:
///     TypeError: this is no task body; says what to write instead.
///     RuntimeError: no run in this thread for a weightless task, or the coroutine has run already.
///     NotPicklable: an argument cannot be sent to a worker process.
#[pyfunction]
#[pyo3(signature = (body, /, *args, **kwargs))]
pub(crate) fn go(
    body: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    kwargs: Option<Bound<'_, PyDict>>,
) -> PyResult<Py<Task>> {
    let packed = Packed { args: &args, kwargs: kwargs.as_ref() };
    start(&body, &packed, Start::InRun, Given::default())
}

/// The same as the interpreter passes it, without a tuple and a dictionary between.
pub(crate) fn go_with<'py>(body: &Bound<'py, PyAny>, arguments: &impl Arguments<'py>) -> PyResult<Py<Task>> {
    start(body, arguments, Start::InRun, Given::default())
}

/// The same in a group, which answers for it.
pub(crate) fn go_in_group<'py>(
    group: &Bound<'py, Group>,
    body: &Bound<'py, PyAny>,
    arguments: &impl Arguments<'py>,
) -> PyResult<Py<Task>> {
    let scope = group.get().scope.get().id()?;
    let given = Given { group: Some(group.clone().into_any().unbind()), ..Given::default() };
    start(body, arguments, Start::InScope(scope), given)
}

/// The same with a name and a key, in a group: what places with options and groups call.
#[pyfunction]
#[pyo3(signature = (body, args, kwargs, scope, group, name, key=None))]
pub(crate) fn go_in(
    body: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    kwargs: Bound<'_, PyDict>,
    scope: Option<Bound<'_, Scope>>,
    group: Option<Py<PyAny>>,
    name: Option<Py<PyAny>>,
    key: Option<Bound<'_, PyAny>>,
) -> PyResult<Py<Task>> {
    let line = key.as_ref().map(keys::line).transpose()?;
    let start_in = match scope {
        Some(scope) => Start::InScope(scope.get().id()?),
        None => Start::InRun,
    };
    let packed = Packed { args: &args, kwargs: Some(&kwargs) };
    start(&body, &packed, start_in, Given { group, name, line: line.as_deref() })
}

fn start<'py>(
    body: &Bound<'py, PyAny>,
    arguments: &impl Arguments<'py>,
    start: Start,
    given: Given<'_>,
) -> PyResult<Py<Task>> {
    if let (Some(group), Start::InScope(scope)) = (&given.group, start)
        && let Ok(operation) = body.cast_exact::<Operation>()
        && let Kind::Thread(call) = &operation.get().kind
    {
        let task = call.go(body.py(), scope)?;
        group.bind(body.py()).call_method1(intern!(body.py(), "_hold"), (&task,))?;
        return Ok(task);
    }
    let Some(current) = Current::run() else {
        if body::goes_elsewhere(body)? {
            return elsewhere(body, arguments, given.group, given.name);
        }
        if let Some(guest) = loops::here(body.py())? {
            return guest::go(&guest, body, arguments, start, given);
        }
        body::check_is_one(body)?;
        if let Start::InScope(scope) = start
            && WORLD.with(|kernel| kernel.runner_of_scope(scope)).is_some()
        {
            return Err(errors::misuse(
                "this group belongs to a run in another thread, in which alone its weightless tasks are started: call \
                 `td.current_runner()` there, and here `runner.go(body, *args)`, which starts it in that run, and not \
                 in the group",
            ));
        }
        if given.group.is_some() {
            return Err(errors::misuse(
                "no weightless tasks run in this thread: this group holds tasks of worker processes and thread calls; \
                 for weightless ones use `async with td.TaskGroup()` inside of `td.run(main)`, or in an asyncio \
                 task",
            ));
        }
        return Err(errors::misuse(
            "no weightless tasks run in this thread: start them with `td.run(main)`, and call `td.go` inside of it, or in \
             an asyncio task",
        ));
    };
    let iterator = match body::weightless(body, arguments)? {
        Some(iterator) => iterator,
        None => return elsewhere(body, arguments, given.group, given.name),
    };
    let origin = body::origin(body, &iterator);
    run::spawn(body.py(), &current, iterator, origin, start, given)
}

/// Starts a task in the default pool of worker processes; a group takes it in.
pub(crate) fn elsewhere<'py>(
    body: &Bound<'py, PyAny>,
    arguments: &impl Arguments<'py>,
    group: Option<Py<PyAny>>,
    name: Option<Py<PyAny>>,
) -> PyResult<Py<Task>> {
    let py = body.py();
    body::check_goes_elsewhere(body)?;
    let workers = py.import(intern!(py, "thistledown._workers"))?;
    let (args, kwargs) = arguments.pack(py)?;
    let task = match group {
        Some(group) => group.bind(py).call_method1(intern!(py, "_go_elsewhere"), (body, args, kwargs))?,
        None => workers.call_method1(intern!(py, "go"), (body, args, kwargs))?,
    };
    if let Some(name) = name {
        task.setattr(intern!(py, "name"), name)?;
    }
    Ok(task.extract()?)
}

/// The task that has its turn in this thread; None outside of one.
#[pyfunction]
pub(crate) fn current_task(py: Python<'_>) -> Option<Py<Task>> {
    Current::run().and_then(|run| run.task_object(py))
}
