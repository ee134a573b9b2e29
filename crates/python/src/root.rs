//! Roots: what the engine holds for a live task is alive, so the garbage collector need not look at it.
//!
//! A body, its context and its task object are taken off the collector's lists while the task lives, and put back
//! before they are let go. What they refer to counts as referred to from outside, which is true. So a million parked
//! tasks cost a collection nothing; otherwise each full collection would walk through all of them.
#![allow(unsafe_code, reason = "the collector's lists are kept through CPython's C interface")]

use std::ops::Deref;

use pyo3::ffi;
use pyo3::prelude::*;

/// Takes an object off the collector's lists. False: it was on none.
pub(crate) fn untrack(object: *mut ffi::PyObject) -> bool {
    // SAFETY: a live object, with the interpreter attached; one that the collector does not know answers "no".
    unsafe {
        let tracked = ffi::PyObject_GC_IsTracked(object) != 0;
        if tracked {
            ffi::PyObject_GC_UnTrack(object.cast());
        }
        tracked
    }
}

/// Puts an object back.
pub(crate) fn track(object: *mut ffi::PyObject) {
    // SAFETY: a live and complete object that the collector can know, as `untrack` or `can_be_tracked` has found.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object) == 0 {
            ffi::PyObject_GC_Track(object.cast());
        }
    }
}

/// Whether the collector may have to look at it.
pub(crate) fn can_be_tracked(object: *mut ffi::PyObject) -> bool {
    // SAFETY: a live object; only its type and flags are read.
    unsafe { ffi::PyObject_IS_GC(object) != 0 }
}

/// Whether the engine holds this generator or coroutine for a live task: it is the only one that untracks them.
pub(crate) fn is_held(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object; only its header is read.
    unsafe { ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 }
}

/// A reference of the engine, off the collector's lists until it is dropped.
pub(crate) struct Root {
    object: Py<PyAny>,
    tracked: bool,
}

impl Root {
    pub(crate) fn new(object: Py<PyAny>) -> Self {
        let tracked = untrack(object.as_ptr());
        Self { object, tracked }
    }
}

impl Deref for Root {
    type Target = Py<PyAny>;

    fn deref(&self) -> &Py<PyAny> {
        &self.object
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.tracked {
            Python::attach(|_| track(self.object.as_ptr()));
        }
    }
}
