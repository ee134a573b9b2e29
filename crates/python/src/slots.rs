//! The awaiters' hot path: `send` without an exception, which PyO3 has no notation for.
//!
//! CPython 3.11 resumes an awaiter through `am_send`, which gives a result as such; later ones through `tp_iternext`,
//! which gives it inside `StopIteration`. Both slots are set here once, when the module is made.
#![allow(
    unsafe_code,
    reason = "two slots of two types are set by hand, with functions of CPython's calling convention"
)]

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::channel::ChannelIterator;
use crate::operation::{Operation, Step};

/// An awaiter: what makes a step, and what it yields when it has to wait.
trait Awaiter: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
    fn step(&self, py: Python<'_>) -> PyResult<Step>;
    /// The operation to enlist: a new reference.
    fn parked(&self, py: Python<'_>, own: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

impl Awaiter for Operation {
    #[inline]
    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        Self::step(self, py)
    }

    #[inline]
    fn parked(&self, _py: Python<'_>, own: *mut ffi::PyObject) -> *mut ffi::PyObject {
        // SAFETY: `own` is this object, alive for the call.
        unsafe { ffi::Py_NewRef(own) }
    }
}

impl Awaiter for ChannelIterator {
    #[inline]
    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        Self::step(self, py)
    }

    #[inline]
    fn parked(&self, py: Python<'_>, _own: *mut ffi::PyObject) -> *mut ffi::PyObject {
        self.receive.clone_ref(py).into_ptr()
    }
}

#[inline]
unsafe fn step<T: Awaiter>(own: *mut ffi::PyObject, result: &mut *mut ffi::PyObject) -> ffi::PySendResult {
    // SAFETY: the interpreter calls a slot while it is attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the slot is set on `T` alone, which cannot be subclassed; the caller holds a reference.
    let awaiter = unsafe { Bound::from_borrowed_ptr(py, own).cast_into_unchecked::<T>() };
    let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| awaiter.get().step(py)));
    match stepped {
        Ok(Ok(Step::Return(value))) => {
            *result = value.into_ptr();
            ffi::PySendResult::PYGEN_RETURN
        }
        Ok(Ok(Step::Park)) => {
            *result = awaiter.get().parked(py, own);
            ffi::PySendResult::PYGEN_NEXT
        }
        Ok(Ok(Step::GiveWay)) => {
            *result = py.None().into_ptr();
            ffi::PySendResult::PYGEN_NEXT
        }
        Ok(Err(error)) => {
            not_an_end(py, error).restore(py);
            ffi::PySendResult::PYGEN_ERROR
        }
        Err(_panic) => {
            pyo3::panic::PanicException::new_err("the engine panicked").restore(py);
            ffi::PySendResult::PYGEN_ERROR
        }
    }
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
    // SAFETY: the interpreter passes a place for the result, and the object.
    unsafe {
        *result = std::ptr::null_mut();
        step::<T>(own, &mut *result)
    }
}

unsafe extern "C" fn next<T: Awaiter>(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let mut result = std::ptr::null_mut();
    // SAFETY: the interpreter passes the object.
    match unsafe { step::<T>(own, &mut result) } {
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

fn set<T: Awaiter>(class: &Bound<'_, PyType>) {
    let class = class.as_type_ptr();
    // SAFETY: a heap type that this module has just made and nobody has used; CPython gives every heap type its own
    // `tp_as_async`. The functions have the slots' signatures.
    unsafe {
        (*class).tp_iternext = Some(next::<T>);
        let methods = (*class).tp_as_async;
        if !methods.is_null() {
            (*methods).am_send = Some(send::<T>);
        }
        ffi::PyType_Modified(class);
    }
}

/// Sets the slots of the awaiters.
pub(crate) fn install(py: Python<'_>) {
    set::<Operation>(&py.get_type::<Operation>());
    set::<ChannelIterator>(&py.get_type::<ChannelIterator>());
}
