//! The hot path between the interpreter and the engine: slots and methods in CPython's own calling convention.
//!
//! CPython 3.11 resumes an awaiter through `am_send`, which gives a result as such; later ones through `tp_iternext`,
//! which gives it inside `StopIteration`. PyO3 has no notation for the first, and around each method it counts how often
//! the thread is attached and sorts arguments that are in order already. So the few that a switch or a message goes
//! through are set here by hand, once, when the module is made; what they do is written where it belongs.
#![allow(
    unsafe_code,
    reason = "slots and methods are set by hand, with functions of CPython's calling convention"
)]

use std::sync::OnceLock;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::asyncio::awaiting::Wait;
use crate::body::Arguments;
use crate::channel::{Channel, ChannelIterator};
use crate::current::Current;
use crate::errors::{self, Quick, Thrown};
use crate::group::Group;
use crate::objects;
use crate::operation::{Kind, Operation, Step};
use crate::task::Task;
use crate::timers;

/// An awaiter: what makes a step, and what it yields when it has to wait.
trait Awaiter: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
    fn step(&self, py: Python<'_>) -> Step;
    /// The operation to enlist: a new reference.
    fn parked(&self, py: Python<'_>, own: *mut ffi::PyObject) -> *mut ffi::PyObject;
    /// Whether it only gives way, and if so whether that is over: the commonest step, and it needs no other.
    #[inline(always)]
    fn quick_step(&self) -> Option<bool> {
        None
    }
}

impl Awaiter for Operation {
    #[inline(always)]
    fn step(&self, py: Python<'_>) -> Step {
        Self::step(self, py)
    }

    #[inline]
    fn parked(&self, _py: Python<'_>, own: *mut ffi::PyObject) -> *mut ffi::PyObject {
        // SAFETY: `own` is this object, alive for the call.
        unsafe { ffi::Py_NewRef(own) }
    }

    #[inline(always)]
    fn quick_step(&self) -> Option<bool> {
        Self::quick_step(self)
    }
}

impl Awaiter for ChannelIterator {
    #[inline(always)]
    fn step(&self, py: Python<'_>) -> Step {
        Self::step(self, py)
    }

    #[inline]
    fn parked(&self, py: Python<'_>, _own: *mut ffi::PyObject) -> *mut ffi::PyObject {
        self.receive.clone_ref(py).into_ptr()
    }
}

impl Awaiter for Wait {
    #[inline]
    fn step(&self, py: Python<'_>) -> Step {
        Self::step(self, py)
    }

    #[inline]
    fn parked(&self, py: Python<'_>, _own: *mut ffi::PyObject) -> *mut ffi::PyObject {
        self.yielded(py).into_ptr()
    }
}

/// A step of an awaiter, as `am_send` gives it.
#[inline(always)]
unsafe fn step<T: Awaiter>(own: *mut ffi::PyObject, result: *mut *mut ffi::PyObject) -> ffi::PySendResult {
    // SAFETY: the slot is set on `T` alone, which cannot be subclassed; the caller holds a reference.
    let awaiter = unsafe { used_on::<T>(own) };
    let py = awaiter.py();
    let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| awaiter.get().step(py)));
    match stepped {
        Ok(Step::Return(value)) => {
            // SAFETY: the interpreter passes a place for the result.
            unsafe { *result = value.into_ptr() };
            ffi::PySendResult::PYGEN_RETURN
        }
        // SAFETY: as above.
        other => unsafe { pause(awaiter, other, result) },
    }
}

/// A step after which the task does not simply go on.
#[inline(never)]
unsafe fn pause<T: Awaiter>(
    awaiter: Borrowed<'_, '_, T>,
    stepped: std::thread::Result<Step>,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let py = awaiter.py();
    let (given, kind) = match stepped {
        Ok(Step::Return(value)) => (value.into_ptr(), ffi::PySendResult::PYGEN_RETURN),
        Ok(Step::Park) => (awaiter.get().parked(py, awaiter.as_ptr()), ffi::PySendResult::PYGEN_NEXT),
        Ok(Step::GiveWay) => (py.None().into_ptr(), ffi::PySendResult::PYGEN_NEXT),
        Ok(Step::Raise(thrown)) => raised(py, thrown.into()),
        Err(_panic) => raised(py, pyo3::panic::PanicException::new_err("the engine panicked")),
    };
    // SAFETY: a place for the result, by the caller's contract.
    unsafe { *result = given };
    kind
}

#[cold]
fn raised(py: Python<'_>, error: PyErr) -> (*mut ffi::PyObject, ffi::PySendResult) {
    not_an_end(py, error).restore(py);
    (std::ptr::null_mut(), ffi::PySendResult::PYGEN_ERROR)
}

/// An error that is raised at a wait; `StopIteration` would be taken for the awaiter's own end.
fn not_an_end(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let wrapped = PyRuntimeError::new_err("what was waited for raised StopIteration");
    wrapped.set_cause(py, Some(error));
    wrapped
}

unsafe extern "C" fn send<T: Awaiter>(
    own: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: the slot is set on `T` alone; the interpreter passes a place for the result, and the object.
    unsafe {
        let awaiter = used_on::<T>(own);
        let Some(over) = awaiter.get().quick_step() else { return step::<T>(own, result) };
        *result = awaiter.py().None().into_ptr();
        if over { ffi::PySendResult::PYGEN_RETURN } else { ffi::PySendResult::PYGEN_NEXT }
    }
}

unsafe extern "C" fn next<T: Awaiter>(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let mut result = std::ptr::null_mut();
    // SAFETY: the interpreter passes the object.
    match unsafe { send::<T>(own, std::ptr::null_mut(), &raw mut result) } {
        ffi::PySendResult::PYGEN_NEXT => result,
        ffi::PySendResult::PYGEN_RETURN => {
            // SAFETY: `result` is a new reference, given up here; the interpreter is attached.
            unsafe { stop_iteration(result) };
            std::ptr::null_mut()
        }
        _ => std::ptr::null_mut(),
    }
}

/// Sets `StopIteration` with a value; None needs no exception at all.
unsafe fn stop_iteration(value: *mut ffi::PyObject) {
    // SAFETY: the caller gives a reference and is attached.
    unsafe {
        if value != ffi::Py_None() {
            let plain = ffi::PyTuple_Check(value) == 0 && ffi::PyExceptionInstance_Check(value) == 0;
            if plain {
                ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value);
            } else {
                let py = Python::assume_attached();
                let held = Bound::from_borrowed_ptr(py, value);
                match PyTuple::new(py, [held]) {
                    Ok(args) => ffi::PyErr_SetObject(ffi::PyExc_StopIteration, args.as_ptr()),
                    Err(error) => error.restore(py),
                }
            }
        }
        ffi::Py_DECREF(value);
    }
}

/// What a function gives, as the interpreter wants it: a new reference, or null with the error set.
#[inline(always)]
fn given<'py, T>(py: Python<'py>, work: impl FnOnce() -> Quick<Bound<'py, T>>) -> *mut ffi::PyObject {
    let error = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(object)) => return object.into_ptr(),
        Ok(Err(thrown)) => PyErr::from(thrown),
        Err(_panic) => pyo3::panic::PanicException::new_err("the engine panicked"),
    };
    error.restore(py);
    std::ptr::null_mut()
}

/// The object a slot or method is called on.
///
/// # Safety
/// The interpreter calls it with an object of this very type, while it is attached.
#[inline]
unsafe fn called_on<'py, T>(own: *mut ffi::PyObject) -> Bound<'py, T> {
    // SAFETY: by the contract above.
    unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), own).cast_into_unchecked::<T>() }
}

/// The same, borrowed for the call.
///
/// # Safety
/// As for [`called_on`].
#[inline(always)]
unsafe fn used_on<'a, 'py, T>(own: *mut ffi::PyObject) -> Borrowed<'a, 'py, T> {
    // SAFETY: by the contract; the interpreter passes no null.
    unsafe {
        std::hint::assert_unchecked(!own.is_null());
        Borrowed::from_ptr(Python::assume_attached(), own).cast_unchecked::<T>()
    }
}

/// `__await__` and `__iter__` of an operation: itself, unless it is being waited for.
unsafe extern "C" fn operation_awaiter(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the slot is set on operations alone.
    let operation = unsafe { used_on::<Operation>(own) };
    if Current::task().is_some() && operation.get().is_idle() {
        return operation.to_owned().into_ptr();
    }
    given(operation.py(), || Operation::awaiter_here(operation.to_owned()))
}

unsafe extern "C" fn channel_send(own: *mut ffi::PyObject, value: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the method is set on channels alone, and takes one argument.
    let (channel, value) = unsafe { (used_on::<Channel>(own), used_on::<PyAny>(value)) };
    let kind = || Kind::Send(channel.to_owned().unbind(), value.to_owned().unbind());
    match objects::again(channel.py(), kind) {
        made if made.is_null() => first(channel.py(), kind),
        made => made,
    }
}

unsafe extern "C" fn channel_recv(
    own: *mut ffi::PyObject,
    _nothing: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the method is set on channels alone.
    let channel = unsafe { used_on::<Channel>(own) };
    let kind = || Kind::Receive(channel.to_owned().unbind());
    match objects::again(channel.py(), kind) {
        made if made.is_null() => first(channel.py(), kind),
        made => made,
    }
}

/// An operation, when none was kept to be used again.
#[cold]
fn first(py: Python<'_>, kind: impl FnOnce() -> Kind) -> *mut ffi::PyObject {
    given(py, || objects::operation(py, kind))
}

unsafe extern "C" fn channel_next(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the slot is set on iterators of channels alone.
    let iterator = unsafe { used_on::<ChannelIterator>(own) };
    if Current::task().is_some() && iterator.get().receive.get().is_idle() {
        return iterator.to_owned().into_ptr();
    }
    other_next(iterator)
}

#[cold]
fn other_next(iterator: Borrowed<'_, '_, ChannelIterator>) -> *mut ffi::PyObject {
    given(iterator.py(), || ChannelIterator::__anext__(iterator.to_owned()))
}

/// `__await__` and `__iter__` of a task.
unsafe extern "C" fn task_awaiter(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the slot is set on the class of tasks alone.
    let task = unsafe { called_on::<Task>(own) };
    given(task.py(), || Task::__await__(task))
}

/// `td.go`: the body and its arguments as they stand on the interpreter's stack.
unsafe extern "C" fn go(
    _module: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes `count` arguments and those with names behind, and calls while it is attached.
    let (py, passed) = unsafe { (Python::assume_attached(), OnTheStack::split(args, count, names)) };
    given(py, || {
        let (body, arguments) = passed.ok_or_else(|| missing("go"))?;
        Ok(crate::go::go_with(&body, &arguments)?.into_bound(py))
    })
}

/// `go` of a group, the same way.
unsafe extern "C" fn group_go(
    own: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the method is set on groups alone, and called with arguments as above.
    let (group, passed) = unsafe { (called_on::<Group>(own), OnTheStack::split(args, count, names)) };
    given(group.py(), || {
        let (body, arguments) = passed.ok_or_else(|| missing("TaskGroup.go"))?;
        Ok(crate::go::go_in_group(&group, &body, &arguments)?.into_bound(group.py()))
    })
}

#[cold]
fn missing(name: &str) -> Thrown {
    errors::wrong_type(format!("{name}() missing 1 required positional argument: 'body'")).into()
}

/// Arguments as they stand on the interpreter's stack, those with names behind.
struct OnTheStack {
    args: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
}

impl OnTheStack {
    /// The first argument, and the others; nothing when there is none.
    ///
    /// # Safety
    /// The interpreter passes `count` arguments and those with names behind, while it is attached.
    #[inline(always)]
    unsafe fn split<'py>(
        args: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Option<(Bound<'py, PyAny>, Self)> {
        let rest = usize::try_from(count).unwrap_or_default().checked_sub(1)?;
        // SAFETY: by the contract there is a first one.
        let (first, args) =
            unsafe { (Bound::from_borrowed_ptr(Python::assume_attached(), *args), args.add(1)) };
        Some((first, Self { args, count: rest, names }))
    }
}

impl<'py> Arguments<'py> for OnTheStack {
    #[inline]
    fn are_any(&self) -> bool {
        self.count > 0 || !self.names.is_null()
    }

    #[inline]
    fn call(&self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: what the interpreter passed, while it waits for the answer.
        unsafe {
            let made = ffi::PyObject_Vectorcall(function.as_ptr(), self.args, self.count, self.names);
            Bound::from_owned_ptr_or_err(function.py(), made)
        }
    }

    fn pack(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        // SAFETY: as above; behind the arguments without a name stand as many as there are names.
        let at = |place: usize| unsafe { Bound::from_borrowed_ptr(py, *self.args.add(place)) };
        let named = PyDict::new(py);
        // SAFETY: null, or a tuple of the interpreter's.
        if let Some(names) = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.names) } {
            for (place, name) in names.cast_into::<PyTuple>()?.iter().enumerate() {
                named.set_item(name, at(self.count + place))?;
            }
        }
        Ok((PyTuple::new(py, (0..self.count).map(at))?, named))
    }
}

/// `td.sleep`: a zero is the same object each time, and gives the same operation; the rest goes PyO3's way.
unsafe extern "C" fn sleep(
    module: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes `count` arguments and those with names behind, and calls while it is attached.
    unsafe {
        if count == 1
            && names.is_null()
            && let Some(operation) = timers::sleep_of_zero(&used_on(*args))
        {
            return operation.to_owned().into_ptr();
        }
        usual_sleep(module, args, count, names)
    }
}

/// # Safety
/// As the interpreter calls a function.
#[inline(never)]
unsafe fn usual_sleep(
    module: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: by the contract; what PyO3 made has the same one.
    unsafe {
        match SLEEP.get() {
            Some(usual) => usual(module, args, count, names),
            None => given::<Operation>(Python::assume_attached(), || {
                Err(errors::misuse("the module is not made yet").into())
            }),
        }
    }
}

/// `td.sleep` as PyO3 made it.
static SLEEP: OnceLock<ffi::PyCFunctionFastWithKeywords> = OnceLock::new();

/// How the interpreter passes arguments as they stand on its stack.
const ON_THE_STACK: i32 = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

/// Puts a function of CPython's convention in place of one that PyO3 made; its documentation stays. The replaced one
/// comes back when it is called in the same way.
fn set_function(
    module: &Bound<'_, PyModule>,
    name: &str,
    function: ffi::PyCFunctionFastWithKeywords,
) -> PyResult<Option<ffi::PyCFunctionFastWithKeywords>> {
    let made = module.getattr(name)?;
    // SAFETY: what PyO3 makes of a function is a built-in one, whose flags say how it is called. The definition has to
    // live as long as the module, which is for ever.
    let (function, usual) = unsafe {
        let made = &*made.as_ptr().cast::<ffi::PyCFunctionObject>();
        let known = &*made.m_ml;
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: known.ml_name,
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
            ml_flags: ON_THE_STACK,
            ml_doc: known.ml_doc,
        }));
        let function = ffi::PyCFunction_NewEx(definition, made.m_self, made.m_module);
        let usual = (known.ml_flags == ON_THE_STACK).then_some(known.ml_meth.PyCFunctionFastWithKeywords);
        (Bound::from_owned_ptr_or_err(module.py(), function)?, usual)
    };
    module.setattr(name, function)?;
    Ok(usual)
}

/// `__await__` of what is its own awaiter.
unsafe extern "C" fn itself(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a live object, passed by the interpreter.
    unsafe { ffi::Py_NewRef(own) }
}

fn set<T: Awaiter>(class: &Bound<'_, PyType>, awaiter: ffi::unaryfunc) {
    let class = class.as_type_ptr();
    // SAFETY: a heap type that this module has just made and nobody has used; CPython gives every heap type its own
    // `tp_as_async`. The functions have the slots' signatures.
    unsafe {
        (*class).tp_iternext = Some(next::<T>);
        (*class).tp_iter = Some(awaiter);
        let methods = (*class).tp_as_async;
        if !methods.is_null() {
            (*methods).am_send = Some(send::<T>);
            (*methods).am_await = Some(awaiter);
        }
        ffi::PyType_Modified(class);
    }
}

/// Puts a function of CPython's convention in place of a method that PyO3 made; its documentation stays.
fn set_method(
    class: &Bound<'_, PyType>,
    name: &str,
    flags: i32,
    function: ffi::PyMethodDefPointer,
) -> PyResult<()> {
    let made = class.getattr(name)?;
    // SAFETY: what PyO3 makes of a method of a class is a method descriptor. The definition has to live as long as the
    // class, which is for ever.
    let method = unsafe {
        let known = &*(*made.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method;
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: known.ml_name,
            ml_meth: function,
            ml_flags: flags,
            ml_doc: known.ml_doc,
        }));
        Bound::from_owned_ptr_or_err(class.py(), ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))?
    };
    class.setattr(name, method)
}

/// Sets the slots and methods of the hot path.
pub(crate) fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    objects::install(py)?;
    timers::install(py)?;
    set_function(module, "go", go)?;
    if let Some(usual) = set_function(module, "sleep", sleep)? {
        let _ = SLEEP.set(usual);
    }
    let (channel, iterator) = (py.get_type::<Channel>(), py.get_type::<ChannelIterator>());
    set::<Operation>(&py.get_type::<Operation>(), operation_awaiter);
    set::<ChannelIterator>(&iterator, itself);
    set::<Wait>(&py.get_type::<Wait>(), itself);
    // SAFETY: as in `set`.
    unsafe {
        let methods = (*iterator.as_type_ptr()).tp_as_async;
        if !methods.is_null() {
            (*methods).am_anext = Some(channel_next);
        }
    }
    let plain = |function| ffi::PyMethodDefPointer { PyCFunction: function };
    set_method(&channel, "send", ffi::METH_O, plain(channel_send))?;
    set_method(&channel, "recv", ffi::METH_NOARGS, plain(channel_recv))?;
    let group_go = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: group_go };
    set_method(&py.get_type::<Group>(), "go", ON_THE_STACK, group_go)
}

/// The same for the class of tasks, which Python makes.
pub(crate) fn install_task(class: &Bound<'_, PyType>) {
    let class = class.as_type_ptr();
    // SAFETY: a heap type with the engine's tasks as its base; the functions have the slots' signatures.
    unsafe {
        (*class).tp_iter = Some(task_awaiter);
        let methods = (*class).tp_as_async;
        if !methods.is_null() {
            (*methods).am_await = Some(task_awaiter);
        }
        ffi::PyType_Modified(class);
    }
}
