//! Roots: what the engine holds for a live task is alive, so the garbage collector need not look at it.
//!
//! A body, its context and its task object are taken off the collector's lists while the task lives, and put back
//! before they are let go. What they refer to counts as referred to from outside, which is true. So a million parked
//! tasks cost a collection nothing; otherwise each full collection would walk through all of them.
#![allow(unsafe_code, reason = "the collector's lists are kept through CPython's C interface")]

use std::mem::ManuallyDrop;
use std::ops::Deref;

use pyo3::ffi;
use pyo3::prelude::*;

/// Takes an object off the collector's lists.
pub(crate) fn untrack(object: *mut ffi::PyObject) {
    // SAFETY: a live object, with the interpreter attached; one that the collector does not know answers "no".
    unsafe {
        if ffi::PyObject_GC_IsTracked(object) != 0 {
            ffi::PyObject_GC_UnTrack(object.cast());
        }
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
pub(crate) struct Root(Py<PyAny>);

impl Root {
    pub(crate) fn new(object: Py<PyAny>) -> Self {
        untrack(object.as_ptr());
        Self(object)
    }

    /// Lets go of it, which a drop does too, without asking first whether the thread is attached.
    #[inline]
    pub(crate) fn let_go(self, py: Python<'_>) {
        let object = ManuallyDrop::new(self);
        // Also one that was on no list before: it may be on one, and its own end may expect it there.
        if can_be_tracked(object.as_ptr()) {
            track(object.as_ptr());
        }
        // SAFETY: it is read once, and not dropped.
        unsafe { std::ptr::read(&raw const object.0) }.drop_ref(py);
    }
}

impl Deref for Root {
    type Target = Py<PyAny>;

    fn deref(&self) -> &Py<PyAny> {
        &self.0
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // As in `let_go`.
        if can_be_tracked(self.0.as_ptr()) {
            Python::attach(|_| track(self.0.as_ptr()));
        }
    }
}
