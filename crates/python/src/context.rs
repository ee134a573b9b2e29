//! The context of the caller (`contextvars`), and one without variables.
#![allow(unsafe_code, reason = "CPython's C interface makes the copy")]

use pyo3::ffi;
use pyo3::prelude::*;

/// A copy of this thread's present context.
pub(crate) fn copy(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// A context in which no variable is set.
pub(crate) fn empty(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) }
}

/// Whether any variable is set in it.
pub(crate) fn has_variables(py: Python<'_>) -> PyResult<bool> {
    Ok(copy(py)?.len()? > 0)
}

/// Does something in a context.
pub(crate) fn inside<R>(context: &Bound<'_, PyAny>, work: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    let py = context.py();
    // SAFETY: a live context object.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let done = work();
    // SAFETY: entered above, in this thread.
    match unsafe { ffi::PyContext_Exit(context.as_ptr()) } {
        0 => done,
        _ => Err(PyErr::fetch(py)),
    }
}
