//! A task's turn: its body is resumed in its context until it gives way, waits or ends.
#![allow(
    unsafe_code,
    reason = "generators are resumed and contexts entered by CPython's C interface; a turn is the hot path"
)]

use std::rc::Rc;

use pyo3::exceptions::{PyAttributeError, PyKeyboardInterrupt, PySystemExit};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use smallvec::SmallVec;
use thistledown_kernel::{Event, TaskId, Turn, Wake};
use thistledown_runtime::Rest;

use crate::actor::message::{Begun, Message};
use crate::asyncio::foreign;
use crate::current::{BUDGET, Current, Run};
use crate::errors;
use crate::operation::{Kind, Operation, Wants};
use crate::payload::{Body, Held, WORLD};
use crate::root::Root;
use crate::switch::Switch;
use crate::task::{Outcome, Task};

/// What goes into a body.
enum Input<'py> {
    Send(Bound<'py, PyAny>),
    Throw(PyErr),
}

/// What comes out of it.
enum Output<'py> {
    Yielded(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
    Raised(PyErr),
}

/// A run ends because of this error, whatever else happens in it.
pub(crate) fn ends_the_run(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py)
}

/// A reference to the task whose turn it is, from the pointer that is set while the turn lasts.
pub(crate) fn borrowed_task(py: Python<'_>, pointer: *mut ffi::PyObject) -> Option<Py<Task>> {
    // SAFETY: the pointer is null or the task of the present turn, which its body keeps alive; the turn cannot end
    // while another thread is attached to the interpreter, and it is cleared before the body is dropped.
    unsafe { Bound::from_borrowed_ptr_or_opt(py, pointer) }?.cast_into::<Task>().ok().map(Bound::unbind)
}

/// Gives a task its turn.
pub(crate) fn give(py: Python<'_>, run: &Rc<Run>, turn: Turn<Held, Py<PyAny>>) -> Rest<Held> {
    let Turn { task, mut body, wake } = turn;
    run.set_task_object(Some(&body.task));
    let context = body.context.as_ptr();
    // SAFETY: a context object that this task alone enters, and only for its turn, while its body holds it.
    unsafe { ffi::PyContext_Enter(context) };
    let has_wake = body.awaited.is_some();
    let input = begin(py, task, &mut body, wake);
    let ended = advance(py, run, task, &mut body, input);
    // SAFETY: as above; it was entered in this thread.
    unsafe { ffi::PyContext_Exit(context) };
    let rest = match ended {
        Ended::GaveWay => Rest::GaveWay(body),
        Ended::Waits => Rest::Waits(body),
        Ended::Done(outcome) => {
            crate::run::task_ended(py, run, task, &body, outcome);
            run.set_task_object(None);
            body.let_go(py);
            Rest::Ended
        }
    };
    run.set_task_object(None);
    Current::with(|current| {
        current.task.set(None);
        if has_wake {
            // A body that did not ask for what woke it has lost it; the next one must not find it.
            drop(current.wake.take());
        }
    });
    rest
}

/// How a turn ended.
enum Ended {
    GaveWay,
    Waits,
    Done(PyResult<Py<PyAny>>),
}

/// Says in this thread whose turn it is and why, and what goes into the body first.
#[inline]
fn begin<'py>(py: Python<'py>, task: TaskId, body: &mut Body, wake: Wake<Py<PyAny>>) -> Input<'py> {
    Current::with(|current| {
        current.task.set(Some(task));
        current.budget.set(BUDGET);
        match (body.awaited.take(), wake) {
            (Some(operation), wake) => {
                current.gives_way.set(false);
                current.wake.set(Some(wake));
                operation.drop_ref(py);
            }
            (None, Wake::Cancelled) => {
                current.gives_way.set(false);
                return Input::Throw(match foreign::raised(body) {
                    Some(error) => PyErr::from_value(error.into_bound(py)),
                    None => errors::cancelled(py, "the task is cancelled"),
                });
            }
            (None, _) => current.gives_way.set(body.task.get().gives_way()),
        }
        Input::Send(nothing(py))
    })
}

fn nothing(py: Python<'_>) -> Bound<'_, PyAny> {
    py.None().into_bound(py)
}

fn advance<'py>(py: Python<'py>, run: &Run, task: TaskId, body: &mut Body, mut input: Input<'py>) -> Ended {
    if let Ok(message) = body.iterator.bind(py).cast_exact::<Message>() {
        let message = message.clone().unbind();
        if let Some(answered) = answer(py, body, message, &input) {
            return Ended::Done(answered);
        }
    }
    loop {
        input = match resume(py, &body.iterator, input) {
            Output::Yielded(value) if value.is_none() => {
                body.task.get().set_gives_way(Current::with(|current| current.gives_way.take()));
                return Ended::GaveWay;
            }
            Output::Yielded(value) => match value.cast_into_exact::<Operation>() {
                // A waiter yields an operation that knows so; a bare `yield op` does not wait for anything.
                Ok(operation) if operation.get().is_idle() => Input::Throw(wrong_yield(operation.as_any())),
                Ok(operation) => match &operation.get().kind {
                    Kind::Switch(switch) => enter(py, body, switch),
                    _ => match enlist(py, run, task, body, &operation) {
                        Ok(()) => {
                            body.awaited = Some(operation.unbind());
                            return Ended::Waits;
                        }
                        Err(error) => {
                            operation.get().abandon();
                            Input::Throw(error)
                        }
                    },
                },
                Err(other) => {
                    let other = other.into_inner();
                    match foreign::wait_for(py, run, task, body, &other) {
                        Some(Ok(())) => return Ended::Waits,
                        Some(Err(error)) => Input::Throw(error),
                        None => Input::Throw(wrong_yield(&other)),
                    }
                }
            },
            Output::Returned(value) => match leave(body) {
                true => switched_in(py, value.unbind()),
                false => return Ended::Done(Ok(value.unbind())),
            },
            Output::Raised(error) => match leave(body) {
                true => Input::Throw(error),
                false => return Ended::Done(Err(error)),
            },
        };
    }
}

/// A message to an actor begins: what it is answered with, or nothing, because it has become another body. One that was
/// cancelled before never begins.
fn answer(
    py: Python<'_>,
    body: &mut Body,
    message: Py<Message>,
    input: &Input<'_>,
) -> Option<PyResult<Py<PyAny>>> {
    if let Input::Throw(error) = input {
        return Some(Err(error.clone_ref(py)));
    }
    match message.get().begin(py) {
        Ok(Begun::Value(value)) => Some(Ok(value)),
        Ok(Begun::Body(next)) => {
            body.iterator = Root::new(next);
            body.extra.get_or_insert_default().message = Some(message);
            None
        }
        Err(error) => Some(Err(error)),
    }
}

/// Control goes into another coroutine.
fn enter<'py>(py: Python<'py>, body: &mut Body, switch: &Switch) -> Input<'py> {
    let target = switch.target.bind(py);
    let state = crate::body::state(target).unwrap_or(crate::body::State::Ended);
    if let Err(error) = crate::body::check_switch(target, state, switch.value.is_none(py)) {
        return Input::Throw(error);
    }
    let suspended = body.extra.get_or_insert_default().switches.get_or_insert_default().go(
        py,
        &body.iterator,
        &switch.target,
    );
    body.iterator = Root::new(switch.target.clone_ref(py));
    let value = switch.value.clone_ref(py);
    if suspended { switched_in(py, value) } else { Input::Send(value.into_bound(py)) }
}

/// The coroutine that had control has ended: whether another of the task goes on.
fn leave(body: &mut Body) -> bool {
    let Some(switches) = body.extra.as_mut().and_then(|extra| extra.switches.as_mut()) else { return false };
    let Some(next) = switches.end(&body.iterator) else { return false };
    body.iterator = Root::new(next);
    true
}

/// A value for a coroutine that is suspended in a `switch`: its awaiter takes it from there.
fn switched_in(py: Python<'_>, value: Py<PyAny>) -> Input<'_> {
    let event = Event::Received(value);
    Current::with(|current| current.wake.set(Some(Wake::Event { branch: 0, event })));
    Input::Send(nothing(py))
}

fn enlist(
    py: Python<'_>,
    run: &Run,
    task: TaskId,
    body: &Body,
    operation: &Bound<'_, Operation>,
) -> PyResult<()> {
    let mut wants = Wants::new(Some(run));
    operation.get().want(py, &mut wants)?;
    let list: SmallVec<_> = wants.list;
    match WORLD.with(|kernel| kernel.wait(task, list)) {
        Ok(()) => {
            if let Kind::Join(target) = &operation.get().kind
                && target.get().is_remote()
            {
                target.get().binds(py, task);
            }
            Ok(())
        }
        Err(cycle) => {
            let error = crate::report::cycle_error(py, run, &cycle, (task, body), operation);
            crate::actor::message::take_back_joined(py, operation.get());
            Err(error)
        }
    }
}

fn wrong_yield(value: &Bound<'_, PyAny>) -> PyErr {
    if value.hasattr(intern!(value.py(), "_asyncio_future_blocking")).unwrap_or(false) {
        return errors::wrong_type(
            "this awaits something of asyncio's, and no asyncio loop runs here: use thistledown's own operations, \
             or run it in a thread with `td.thread(asyncio.run, ...)`",
        );
    }
    let shown = errors::shown(value, "an object");
    errors::wrong_type(format!(
        "a task yielded {shown}: a bare `yield` gives way to the other tasks, and an operation is waited for with \
         `yield from op` (in an `async def` with `await op`)"
    ))
}

/// Resumes a body.
#[inline]
fn resume<'py>(py: Python<'py>, iterator: &Py<PyAny>, input: Input<'py>) -> Output<'py> {
    match input {
        Input::Send(value) => {
            let mut result = std::ptr::null_mut();
            // SAFETY: `iterator` and `value` are live objects; on `NEXT` and `RETURN` the result is a new reference.
            let sent = unsafe { ffi::PyIter_Send(iterator.as_ptr(), value.as_ptr(), &raw mut result) };
            match sent {
                // SAFETY: as above.
                ffi::PySendResult::PYGEN_NEXT => {
                    Output::Yielded(unsafe { Bound::from_owned_ptr(py, result) })
                }
                // SAFETY: as above.
                ffi::PySendResult::PYGEN_RETURN => {
                    Output::Returned(unsafe { Bound::from_owned_ptr(py, result) })
                }
                _ => Output::Raised(PyErr::fetch(py)),
            }
        }
        Input::Throw(error) => match iterator.call_method1(py, intern!(py, "throw"), (error.value(py),)) {
            Ok(value) => Output::Yielded(value.into_bound(py)),
            Err(raised) if raised.is_instance_of::<pyo3::exceptions::PyStopIteration>(py) => {
                let value = raised.value(py).getattr(intern!(py, "value"));
                Output::Returned(value.unwrap_or_else(|_| nothing(py)))
            }
            Err(raised) if raised.is_instance_of::<PyAttributeError>(py) && !has_throw(py, iterator) => {
                Output::Raised(error)
            }
            Err(raised) => Output::Raised(raised),
        },
    }
}

fn has_throw(py: Python<'_>, iterator: &Py<PyAny>) -> bool {
    iterator.bind(py).hasattr(intern!(py, "throw")).unwrap_or(true)
}

/// Whether nobody holds the task but its body.
pub(crate) fn is_unseen(task: &Py<Task>) -> bool {
    // SAFETY: a live object; reading its count has no other requirement.
    unsafe { ffi::Py_REFCNT(task.as_ptr()) <= 1 }
}

/// The outcome of a task, of what its body returned or raised.
pub(crate) fn outcome(py: Python<'_>, ended: PyResult<Py<PyAny>>) -> Outcome {
    match ended {
        Ok(value) => Outcome::Value(value),
        Err(error) => {
            let value = error.into_value(py).into_any();
            if errors::is_cancelled(py, value.bind(py)) { Outcome::Cancelled } else { Outcome::Error(value) }
        }
    }
}
