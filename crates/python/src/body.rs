//! Bodies: what can be a task's work, and what to say about everything else.
#![allow(
    unsafe_code,
    reason = "a generator's state and a function's flags are read from CPython's own structures"
)]

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyString, PyTuple};

use crate::actor::handle::Method;
use crate::channel::Channel;
use crate::errors;
use crate::net::socket::Socket;
use crate::operation::Operation;
use crate::root;
use crate::task::Task;

pub(crate) const CO_GENERATOR: i32 = 0x20;
pub(crate) const CO_COROUTINE: i32 = 0x80;
pub(crate) const CO_ITERABLE_COROUTINE: i32 = 0x100;
pub(crate) const CO_ASYNC_GENERATOR: i32 = 0x200;

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

/// The qualified name of a generator or coroutine, as its function had it.
fn generator_name<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyString>> {
    #[cfg(not(Py_3_14))]
    if state(object).is_some() {
        // SAFETY: exactly a generator or a coroutine, as for `state_number`; its name is a string or not there.
        let name = unsafe {
            let name = (*object.as_ptr().cast::<ffi::PyGenObject>()).gi_qualname;
            Bound::from_borrowed_ptr_or_opt(object.py(), name)
        };
        return name?.cast_into().ok();
    }
    let _ = object;
    None
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

/// How a code object begins in CPython 3.11 and later.
#[repr(C)]
struct CodeHead {
    head: ffi::PyVarObject,
    fields: [*mut ffi::PyObject; 3],
    flags: std::ffi::c_int,
}

/// Code objects were found to begin like that.
static CODE_HEAD_KNOWN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The flags of a function's code, which say what it makes when it is called.
fn code_flags(function: &Bound<'_, PyAny>) -> PyResult<i32> {
    if CODE_HEAD_KNOWN.load(std::sync::atomic::Ordering::Relaxed) {
        // SAFETY: a function, whose code is always there; and the flags stand where `learn_code` has found them.
        return Ok(unsafe { (*ffi::PyFunction_GetCode(function.as_ptr()).cast::<CodeHead>()).flags });
    }
    let code = function.getattr(intern!(function.py(), "__code__"))?;
    code.getattr(intern!(function.py(), "co_flags"))?.extract()
}

/// Learns from functions whose flags differ whether code objects begin as this module believes.
pub(crate) fn learn_code(py: Python<'_>) -> PyResult<()> {
    let samples =
        [c"lambda: None", c"lambda: (yield)", c"lambda *args, **kwargs: [lambda: args for _ in args]"];
    let mut known = true;
    for sample in samples {
        let function = py.eval(sample, None, None)?;
        let said: i32 = code_flags(&function)?;
        // SAFETY: a function, whose code is larger than what is read of it.
        known &= unsafe { (*ffi::PyFunction_GetCode(function.as_ptr()).cast::<CodeHead>()).flags } == said;
    }
    CODE_HEAD_KNOWN.store(known, std::sync::atomic::Ordering::Relaxed);
    Ok(())
}

fn makes(callable: &Bound<'_, PyAny>) -> PyResult<Makes> {
    let py = callable.py();
    let mut function = callable.clone();
    // Methods and partials stand for the function inside.
    for _ in 0..16 {
        // SAFETY: `function` is a live object; the checks only read its type.
        if unsafe { ffi::PyFunction_Check(function.as_ptr()) } != 0 {
            let flags = code_flags(&function)?;
            if flags & CO_ASYNC_GENERATOR != 0 {
                return Ok(Makes::AsyncGenerator);
            }
            let body = flags & (CO_GENERATOR | CO_COROUTINE | CO_ITERABLE_COROUTINE) != 0;
            return Ok(if body || is_marked(&function) { Makes::Body } else { Makes::Nothing });
        }
        let inner = if let Some(inner) = function.getattr_opt(intern!(py, "__func__"))? {
            inner
        } else if let Some(inner) = function.getattr_opt(intern!(py, "func"))? {
            inner
        } else if let Some(inner) = function.get_type().getattr_opt(intern!(py, "__call__"))?
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

/// Whether a function has in its dictionary, if it has one, that it makes coroutines: as
/// `inspect.markcoroutinefunction` puts it there. To ask it for the attribute would make an error of each "no".
fn is_marked(function: &Bound<'_, PyAny>) -> bool {
    let py = function.py();
    // SAFETY: a function; its dictionary is null, or an object that it holds.
    let own = unsafe {
        let own = (*function.as_ptr().cast::<ffi::PyFunctionObject>()).func_dict;
        Bound::from_borrowed_ptr_or_opt(py, own)
    };
    let own = own.and_then(|own| own.cast_into::<PyDict>().ok());
    own.is_some_and(|own| own.contains(intern!(py, "_is_coroutine_mark")).unwrap_or(false))
}

/// Whether calling a function makes a task's body.
#[pyfunction]
pub(crate) fn makes_body(callable: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(makes(callable)? == Makes::Body)
}

/// The arguments that came with a body, however they came.
pub(crate) trait Arguments<'py> {
    /// Whether there are any.
    fn are_any(&self) -> bool;

    /// Calls a function with them.
    fn call(&self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;

    /// As a tuple and a dictionary.
    fn pack(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)>;
}

/// As a tuple and a dictionary already.
pub(crate) struct Packed<'a, 'py> {
    pub(crate) args: &'a Bound<'py, PyTuple>,
    pub(crate) kwargs: Option<&'a Bound<'py, PyDict>>,
}

impl<'py> Arguments<'py> for Packed<'_, 'py> {
    fn are_any(&self) -> bool {
        !self.args.is_empty() || self.kwargs.is_some_and(|kwargs| !kwargs.is_empty())
    }

    fn call(&self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        function.call(self.args, self.kwargs)
    }

    fn pack(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        Ok((self.args.clone(), self.kwargs.map_or_else(|| PyDict::new(py), Clone::clone)))
    }
}

/// The iterator that a weightless task runs, made of whatever was told to go.
pub(crate) fn iterator<'py>(
    body: &Bound<'py, PyAny>,
    arguments: &impl Arguments<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    weightless(body, arguments)?.ok_or_else(|| {
        if let Some(refused) = message_of(body) {
            return refused;
        }
        if let Some(example) = operation_of(body) {
            return operation_wanted(body, &format!("td.run({example})"));
        }
        errors::wrong_type(format!(
            "{} is a plain function, which runs in a worker process: write `td.go(fn, *args)`, or make it a body with \
             `async def` or `yield`",
            name(body)
        ))
    })
}

/// What to write for one of this package's functions and methods that make operations; nothing for any other.
fn operation_of(body: &Bound<'_, PyAny>) -> Option<&'static str> {
    if !body.is_instance_of::<PyCFunction>() {
        return None;
    }
    let py = body.py();
    let is_own = |module: Bound<'_, PyAny>| {
        module.extract::<String>().is_ok_and(|module| module.split('.').next() == Some("thistledown"))
    };
    if body.getattr(intern!(py, "__module__")).is_ok_and(is_own) {
        return Some("td.sleep(1)");
    }
    let owner = body.getattr(intern!(py, "__self__")).ok()?;
    let method: String = body.getattr(intern!(py, "__name__")).ok()?.extract().ok()?;
    let example = match (owner.is_instance_of::<Channel>(), owner.is_instance_of::<Socket>()) {
        (true, _) => match method.as_str() {
            "send" => "channel.send(value)",
            "recv" => "channel.recv()",
            _ => return None,
        },
        (_, true) => match method.as_str() {
            "accept" => "sock.accept()",
            "connect" => "sock.connect(address)",
            "send" => "sock.send(data)",
            "sendall" => "sock.sendall(data)",
            "sendto" => "sock.sendto(data, address)",
            "recv" => "sock.recv(4096)",
            "recvfrom" => "sock.recvfrom(4096)",
            "recv_into" => "sock.recv_into(buffer)",
            "readexactly" => "sock.readexactly(n)",
            "readuntil" => "sock.readuntil()",
            "readline" => "sock.readline()",
            "readable" => "sock.readable()",
            "writable" => "sock.writable()",
            _ => return None,
        },
        _ => return None,
    };
    Some(example)
}

fn operation_wanted(body: &Bound<'_, PyAny>, instead: &str) -> PyErr {
    errors::wrong_type(format!(
        "{} makes an operation when it is called: give what it makes, as in `{instead}`",
        name(body)
    ))
}

/// A method of an actor needs nobody to start it; nothing for anything else.
fn message_of(body: &Bound<'_, PyAny>) -> Option<PyErr> {
    let method = body.cast::<Method>().ok()?.get().name(body.py());
    Some(errors::wrong_type(format!(
        "{} is a message to an actor, and a task as soon as it is called: write `handle.{method}(...)`, without anything \
         around it",
        name(body)
    )))
}

/// Refuses what would go to a worker process, and could do nothing there: what makes an operation, which cannot come back,
/// and what sends a message to an actor, wherever that is.
pub(crate) fn check_goes_elsewhere(body: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(refused) = message_of(body) {
        return Err(refused);
    }
    match operation_of(body) {
        Some(example) => Err(operation_wanted(body, &format!("td.go({example})"))),
        None => Ok(()),
    }
}

/// Refuses what can be nobody's body, without calling anything of it.
pub(crate) fn check_is_one(body: &Bound<'_, PyAny>) -> PyResult<()> {
    if body.is_callable() || state(body).is_some() || body.hasattr(intern!(body.py(), "__await__"))? {
        return Ok(());
    }
    of_awaitable(body).map(drop)
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
    arguments: &impl Arguments<'py>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Some(state) = state(body) {
        no_arguments(body, arguments.are_any())?;
        return check_fresh(body, state).map(|()| Some(body.clone()));
    }
    if body.is_instance_of::<PyString>() {
        return Ok(None);
    }
    if body.is_instance_of::<Task>() {
        return Err(errors::wrong_type("this is a task: it goes already; wait for it with `await task`"));
    }
    if !body.is_callable() {
        no_arguments(body, arguments.are_any())?;
        return of_awaitable(body).map(Some);
    }
    match makes(body)? {
        Makes::Body => {
            let made = arguments.call(body)?;
            match state(&made) {
                Some(_) => Ok(Some(made)),
                None => of_awaitable(&made).map(Some),
            }
        }
        Makes::AsyncGenerator => Err(async_generator(body)),
        Makes::Nothing if body.hasattr("__await__")? && !arguments.are_any() => of_awaitable(body).map(Some),
        Makes::Nothing => Ok(None),
    }
}

/// What a task is named after: its function, or the class of what was told to go.
pub(crate) fn origin<'py>(body: &Bound<'py, PyAny>, iterator: &Bound<'py, PyAny>) -> Bound<'py, PyString> {
    let py = body.py();
    if let Some(name) = generator_name(iterator)
        && (iterator.is(body) || body.is_callable())
    {
        return name;
    }
    if let Ok(operation) = body.cast::<Operation>() {
        return PyString::new(py, &operation.get().describe(py));
    }
    let source =
        if iterator.is(body) || body.is_callable() { iterator.clone() } else { body.get_type().into_any() };
    let name = source.getattr(intern!(py, "__qualname__")).and_then(|name| Ok(name.cast_into::<PyString>()?));
    name.or_else(|_| source.get_type().qualname()).unwrap_or_else(|_| PyString::new(py, "task"))
}

fn no_arguments(body: &Bound<'_, PyAny>, any_arguments: bool) -> PyResult<()> {
    if !any_arguments {
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
    if let Ok(operation) = object.cast::<Operation>() {
        return Ok(Operation::awaiter(operation.clone())?.into_any());
    }
    if let Ok(method) = object.get_type().getattr(intern!(py, "__await__")) {
        let iterator = method.call1((object,))?;
        if iterator.get_type().getattr(intern!(py, "__next__")).is_ok() {
            return Ok(iterator);
        }
        return Err(errors::wrong_type(format!("{}.__await__() gave no iterator", name(object))));
    }
    if object.hasattr("asend")? {
        return Err(async_generator(object));
    }
    if object.hasattr("__aiter__")? {
        return Err(errors::wrong_type(format!(
            "{} is no body of a task: iterate over it by `async for` in an `async def`, and give that",
            name(object)
        )));
    }
    Err(errors::wrong_type(format!(
        "a task's body is an `async def` or generator function, what calling one gives, or an object with \
         `__await__`; got {}{}",
        name(object),
        if object.is_callable() {
            ""
        } else {
            ": write the function and its arguments, `td.go(function, 3)` and not `td.go(function(3))`"
        }
    )))
}

fn async_generator(object: &Bound<'_, PyAny>) -> PyErr {
    errors::wrong_type(format!(
        "{} is an async generator, which produces values for an `async for`: iterate over it in an `async def`",
        name(object)
    ))
}

fn name(object: &Bound<'_, PyAny>) -> String {
    errors::shown(object, "this object")
}
