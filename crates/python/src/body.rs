//! Bodies: what can be a task's work, and what to say about everything else.
#![allow(
    unsafe_code,
    reason = "a generator's state and a function's flags are read from CPython's own structures"
)]

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::errors;
use crate::operation::Operation;
use crate::root;
use crate::task::Task;

const CO_GENERATOR: i32 = 0x20;
const CO_COROUTINE: i32 = 0x80;
const CO_ITERABLE_COROUTINE: i32 = 0x100;
const CO_ASYNC_GENERATOR: i32 = 0x200;

/// Where a generator or coroutine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Fresh,
    Suspended,
    Running,
    Ended,
}

/// The state of a generator or coroutine object; nothing for anything else.
pub(crate) fn state(object: &Bound<'_, PyAny>) -> Option<State> {
    let pointer = object.as_ptr();
    // SAFETY: `pointer` is a live object; both checks only read its type.
    let known = unsafe { ffi::PyGen_CheckExact(pointer) != 0 || ffi::PyCoro_CheckExact(pointer) != 0 };
    known.then(|| frame_state(object))
}

/// The number of a frame that was made and not started, which versions of CPython disagree on.
#[cfg(not(Py_3_14))]
static FRESH: std::sync::atomic::AtomicI8 = std::sync::atomic::AtomicI8::new(i8::MIN);

/// Learns from a fresh generator what one looks like.
pub(crate) fn learn_states(py: Python<'_>) -> PyResult<()> {
    #[cfg(not(Py_3_14))]
    FRESH
        .store(state_number(&py.eval(c"(_ for _ in ())", None, None)?), std::sync::atomic::Ordering::Relaxed);
    let _ = py;
    Ok(())
}

#[cfg(not(Py_3_14))]
fn state_number(generator: &Bound<'_, PyAny>) -> i8 {
    // SAFETY: the object is exactly a generator or a coroutine, whose structures begin alike (CPython's
    // `_PyGenObject_HEAD`); the state is one byte that is read while attached to the interpreter.
    unsafe { (*generator.as_ptr().cast::<ffi::PyGenObject>()).gi_frame_state }
}

/// Zero is running in every version; what is suspended lies below, what has ended above.
#[cfg(not(Py_3_14))]
fn frame_state(object: &Bound<'_, PyAny>) -> State {
    match state_number(object) {
        state if state == FRESH.load(std::sync::atomic::Ordering::Relaxed) => State::Fresh,
        0 => State::Running,
        state if state < 0 => State::Suspended,
        _ => State::Ended,
    }
}

#[cfg(Py_3_14)]
fn frame_state(object: &Bound<'_, PyAny>) -> State {
    let inspect = object
        .py()
        .import("thistledown._report")
        .and_then(|report| report.call_method1("body_state", (object,))?.extract::<String>());
    match inspect.as_deref() {
        Ok("fresh") => State::Fresh,
        Ok("suspended") => State::Suspended,
        Ok("running") => State::Running,
        _ => State::Ended,
    }
}

/// Whether control can go into this one.
pub(crate) fn check_switch(other: &Bound<'_, PyAny>, state: State, is_none: bool) -> PyResult<()> {
    match state {
        _ if state != State::Running && root::is_held(other) => {
            Err(errors::misuse(format!("cannot switch into {}: another task runs it", other.repr()?)))
        }
        State::Fresh if !is_none => Err(errors::wrong_type(
            "a generator that has not started can only be given None: make it with a function decorated by \
             `td.primed`, which runs it to its first yield",
        )),
        State::Ended => Err(errors::misuse(format!("cannot switch into {}: it has ended", other.repr()?))),
        State::Running => Err(errors::misuse(format!("cannot switch into {}: it is running", other.repr()?))),
        State::Fresh | State::Suspended => Ok(()),
    }
}

/// What a call would make of a function.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Makes {
    Body,
    AsyncGenerator,
    Nothing,
}

fn makes(callable: &Bound<'_, PyAny>) -> PyResult<Makes> {
    let py = callable.py();
    let mut function = callable.clone();
    // Methods and partials stand for the function inside.
    for _ in 0..16 {
        // SAFETY: `function` is a live object; the checks only read its type.
        if unsafe { ffi::PyFunction_Check(function.as_ptr()) } != 0 {
            let flags: i32 =
                function.getattr(intern!(py, "__code__"))?.getattr(intern!(py, "co_flags"))?.extract()?;
            if flags & CO_ASYNC_GENERATOR != 0 {
                return Ok(Makes::AsyncGenerator);
            }
            let body = flags & (CO_GENERATOR | CO_COROUTINE | CO_ITERABLE_COROUTINE) != 0;
            let marked = || function.hasattr(intern!(py, "_is_coroutine_mark")).unwrap_or(false);
            return Ok(if body || marked() { Makes::Body } else { Makes::Nothing });
        }
        let inner = if let Ok(inner) = function.getattr(intern!(py, "__func__")) {
            inner
        } else if let Ok(inner) = function.getattr(intern!(py, "func")) {
            inner
        } else if let Ok(inner) = function.get_type().getattr(intern!(py, "__call__"))
            && !inner.is(&function)
        {
            inner
        } else {
            break;
        };
        function = inner;
    }
    Ok(Makes::Nothing)
}

/// Whether calling a function makes a task's body.
#[pyfunction]
pub(crate) fn makes_body(callable: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(makes(callable)? == Makes::Body)
}

/// The iterator that a weightless task runs, made of whatever was told to go.
pub(crate) fn iterator<'py>(
    body: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    weightless(body, args, kwargs)?.ok_or_else(|| {
        errors::wrong_type(format!(
            "{} is a plain function, which runs in a worker process: write `td.go(fn, *args)`, or make it a body with \
             `async def` or `yield`",
            name(body)
        ))
    })
}

/// Whether it runs in a worker process, when it is told to go: a plain function, or the name of one.
pub(crate) fn goes_elsewhere(body: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !body.is_callable() || state(body).is_some() {
        return Ok(body.is_instance_of::<PyString>());
    }
    Ok(makes(body)? == Makes::Nothing && !body.hasattr("__await__")?)
}

/// The iterator that a weightless task runs. Nothing: it is for a worker process.
pub(crate) fn weightless<'py>(
    body: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Some(state) = state(body) {
        no_arguments(body, args, kwargs)?;
        return check_fresh(body, state).map(|()| Some(body.clone()));
    }
    if body.is_instance_of::<PyString>() {
        return Ok(None);
    }
    if body.is_instance_of::<Task>() {
        return Err(errors::wrong_type("this is a task: it goes already; wait for it with `await task`"));
    }
    if !body.is_callable() {
        no_arguments(body, args, kwargs)?;
        return of_awaitable(body).map(Some);
    }
    match makes(body)? {
        Makes::Body => {
            let made = body.call(args, kwargs)?;
            match state(&made) {
                Some(_) => Ok(Some(made)),
                None => of_awaitable(&made).map(Some),
            }
        }
        Makes::AsyncGenerator => Err(async_generator(body)),
        Makes::Nothing if body.hasattr("__await__")? && args.is_empty() => of_awaitable(body).map(Some),
        Makes::Nothing => Ok(None),
    }
}

/// What a task is named after: its function, or the class of what was told to go.
pub(crate) fn origin<'py>(body: &Bound<'py, PyAny>, iterator: &Bound<'py, PyAny>) -> Bound<'py, PyString> {
    let py = body.py();
    if let Ok(operation) = body.cast::<Operation>() {
        return PyString::new(py, &operation.get().describe(py));
    }
    let source =
        if iterator.is(body) || body.is_callable() { iterator.clone() } else { body.get_type().into_any() };
    let name = source.getattr(intern!(py, "__qualname__")).and_then(|name| Ok(name.cast_into::<PyString>()?));
    name.or_else(|_| source.get_type().qualname()).unwrap_or_else(|_| PyString::new(py, "task"))
}

fn no_arguments(
    body: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    if args.is_empty() && kwargs.is_none_or(|kwargs| kwargs.is_empty()) {
        return Ok(());
    }
    Err(errors::wrong_type(format!(
        "{} is no function, so it takes no arguments: give the function and the arguments, or the object alone",
        name(body)
    )))
}

fn check_fresh(body: &Bound<'_, PyAny>, state: State) -> PyResult<()> {
    let advice = match state {
        State::Fresh | State::Suspended if root::is_held(body) => "is a task already",
        State::Fresh => return Ok(()),
        // A generator may have been advanced to its first yield by hand.
        // SAFETY: a live object; the check only reads its type.
        State::Suspended if unsafe { ffi::PyGen_CheckExact(body.as_ptr()) } != 0 => return Ok(()),
        State::Suspended => "has been started elsewhere",
        State::Running => "is running",
        State::Ended => "has already been awaited or run to its end",
    };
    Err(errors::misuse(format!("{} {advice}: call its function again for a new one", name(body))))
}

fn of_awaitable<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    if let Ok(method) = object.get_type().getattr(intern!(py, "__await__")) {
        let iterator = method.call1((object,))?;
        if iterator.get_type().getattr(intern!(py, "__next__")).is_ok() {
            return Ok(iterator);
        }
        return Err(errors::wrong_type(format!("{}.__await__() gave no iterator", name(object))));
    }
    if object.hasattr("__aiter__")? {
        return Err(async_generator(object));
    }
    Err(errors::wrong_type(format!(
        "a task's body is an `async def` or generator function, what calling one gives, or an object with \
         `__await__`; got {}",
        name(object)
    )))
}

fn async_generator(object: &Bound<'_, PyAny>) -> PyErr {
    errors::wrong_type(format!(
        "{} is an async generator, which produces values for an `async for`: iterate over it in an `async def`",
        name(object)
    ))
}

fn name(object: &Bound<'_, PyAny>) -> String {
    object.repr().map_or_else(|_| "this object".into(), |repr| repr.to_string())
}
