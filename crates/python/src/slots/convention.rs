//! CPython's calling convention: objects and arguments as the interpreter passes them, and what it wants back.
//!
//! It passes objects that live for the call, in a thread that is attached, and of the class that a slot or method was set
//! on; all that is unsafe in these files rests on that. What it gets is a new reference, or null with an error set.
#![allow(unsafe_code, reason = "what the interpreter passes are bare pointers")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::body::Arguments;
use crate::errors::Quick;

/// How the interpreter passes arguments as they stand on its stack.
pub(super) const ON_THE_STACK: i32 = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

/// What a function gives, as the interpreter wants it: a new reference, or null with the error set.
#[inline(always)]
pub(super) fn given<'py, T>(
    py: Python<'py>,
    work: impl FnOnce() -> Quick<Bound<'py, T>>,
) -> *mut ffi::PyObject {
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
pub(super) unsafe fn called_on<'py, T>(own: *mut ffi::PyObject) -> Bound<'py, T> {
    // SAFETY: by the contract above.
    unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), own).cast_into_unchecked::<T>() }
}

/// The same, borrowed for the call.
///
/// # Safety
/// As for [`called_on`].
#[inline(always)]
pub(super) unsafe fn used_on<'a, 'py, T>(own: *mut ffi::PyObject) -> Borrowed<'a, 'py, T> {
    // SAFETY: by the contract; the interpreter passes no null.
    unsafe {
        std::hint::assert_unchecked(!own.is_null());
        Borrowed::from_ptr(Python::assume_attached(), own).cast_unchecked::<T>()
    }
}

/// Arguments as they stand on the interpreter's stack, those with names behind.
pub(super) struct OnTheStack {
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
    pub(super) unsafe fn split<'py>(
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
