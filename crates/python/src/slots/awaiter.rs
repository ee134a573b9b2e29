//! The awaiters of the hot path, as the interpreter resumes them: `am_send`, `tp_iternext`, and how it comes by one.
//!
//! A step is the same through both. What it raises is never taken for its end, and a panic of the engine's is an error.
//!
//! What it is not: it knows nothing of what is waited for, which is a step's own (`operation`, `channel`, `awaiting`).
#![allow(unsafe_code, reason = "functions of CPython's calling convention for slots")]

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::convention::{called_on, given, used_on};
use crate::asyncio::awaiting::Wait;
use crate::channel::ChannelIterator;
use crate::current::Current;
use crate::operation::{Operation, Step};
use crate::task::Task;

/// An awaiter: what makes a step, and what it yields when it has to wait.
pub(super) trait Awaiter: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
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

/// `am_send`.
pub(super) unsafe extern "C" fn send<T: Awaiter>(
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

/// `tp_iternext`.
pub(super) unsafe extern "C" fn next<T: Awaiter>(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
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

/// `__await__` and `__iter__` of an operation: itself, unless it is being waited for.
pub(super) unsafe extern "C" fn operation_awaiter(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the slot is set on operations alone.
    let operation = unsafe { used_on::<Operation>(own) };
    if Current::task().is_some() && operation.get().is_idle() {
        return operation.to_owned().into_ptr();
    }
    given(operation.py(), || Operation::awaiter_here(operation.to_owned()))
}

/// `__await__` and `__iter__` of a task.
pub(super) unsafe extern "C" fn task_awaiter(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the slot is set on the class of tasks alone.
    let task = unsafe { called_on::<Task>(own) };
    given(task.py(), || Task::__await__(task))
}

/// `__await__` of what is its own awaiter.
pub(super) unsafe extern "C" fn itself(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a live object, passed by the interpreter.
    unsafe { ffi::Py_NewRef(own) }
}
