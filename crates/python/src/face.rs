//! The attributes of the package's own module, found where they were found before.
//!
//! CPython has a cache at each place of a program where a module's attribute is asked for, but not for a module that has
//! a `__getattr__`, as the package has to import what takes long when it is asked for. There each `td.sleep` would be
//! looked up in the class, in vain, and then in the module's dictionary, which takes longer than what is called by it.
//! So the package's module is of a class of its own, whose slot for attributes looks into one small table first.
//!
//! What is in the table was in the dictionary at this version of it; CPython gives a dictionary another version, used
//! nowhere else, with each change. So whoever replaces an attribute, in whatever way, is obeyed at once.
#![allow(
    unsafe_code,
    reason = "a slot is set by hand, and a dictionary's version is read from CPython's structure"
)]

use std::cell::Cell;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyType};

use crate::errors;

/// One attribute.
struct Known {
    /// The name as it was asked for; the table's own reference, so that no other string comes to lie there.
    name: Cell<*mut ffi::PyObject>,
    /// Borrowed of the dictionary, which holds it as long as it has this version.
    value: Cell<*mut ffi::PyObject>,
    version: Cell<u64>,
}

struct Table([Known; Table::SIZE]);

// SAFETY: it is only touched by who is attached to the interpreter, which is one thread at a time: the module asks for
// the interpreter's lock.
unsafe impl Sync for Table {}

static TABLE: Table = Table(
    [const { Known { name: Cell::new(ptr::null_mut()), value: Cell::new(ptr::null_mut()), version: Cell::new(0) } };
        Table::SIZE],
);

impl Table {
    const SIZE: usize = 64;

    /// Where a name stands, if it does: strings lie 16 bytes apart or more.
    #[inline(always)]
    fn at(&self, name: *mut ffi::PyObject) -> &Known {
        let Self(places) = self;
        &places[(name as usize >> 4) % Self::SIZE]
    }
}

/// The version of a dictionary. CPython 3.14 has none; there nothing is ever known.
#[inline(always)]
#[allow(deprecated, reason = "the field is there in each version that this is compiled for")]
unsafe fn version(dictionary: *mut ffi::PyObject) -> Option<u64> {
    #[cfg(not(Py_3_14))]
    // SAFETY: a live dictionary, by the caller.
    return Some(unsafe { (*dictionary.cast::<ffi::PyDictObject>()).ma_version_tag });
    #[cfg(Py_3_14)]
    {
        let _ = dictionary;
        None
    }
}

/// The slot for attributes of the package's module.
unsafe extern "C" fn attribute(own: *mut ffi::PyObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the slot while it is attached, with a module and a string. What the table has at the
    // dictionary's present version is held by the dictionary.
    unsafe {
        let dictionary = ffi::PyModule_GetDict(own);
        let known = TABLE.at(name);
        if known.name.get() == name && version(dictionary) == Some(known.version.get()) {
            return ffi::Py_NewRef(known.value.get());
        }
        look(own, name, dictionary)
    }
}

#[cold]
unsafe fn look(
    own: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    dictionary: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `attribute`; a reference that the table no longer needs is given up last, when the table is whole.
    unsafe {
        let class = &raw mut ffi::PyModule_Type;
        let Some(usual) = (*class).tp_getattro else { return ptr::null_mut() };
        let found = usual(own, name);
        if found.is_null() || ffi::PyUnicode_CheckExact(name) == 0 {
            return found;
        }
        // What came from elsewhere, or was replaced at once, is not for the table.
        let held = ffi::PyDict_GetItemWithError(dictionary, name);
        if held != found {
            if held.is_null() && !ffi::PyErr_Occurred().is_null() {
                ffi::PyErr_Clear();
            }
            return found;
        }
        let Some(version) = version(dictionary) else { return found };
        let known = TABLE.at(name);
        let old = known.name.replace(ffi::Py_NewRef(name));
        known.value.set(held);
        known.version.set(version);
        ffi::Py_XDECREF(old);
        found
    }
}

/// Lets the modules of this class, which is one of modules, find their attributes so.
#[pyfunction]
#[pyo3(signature = (class, /))]
pub(crate) fn set_module_class(class: &Bound<'_, PyType>) -> PyResult<()> {
    if !class.is_subclass_of::<PyModule>()? {
        return Err(errors::wrong_type("the class of the package's module is made of the standard one"));
    }
    let class = class.as_type_ptr();
    // SAFETY: a heap type whose objects are modules; the function has the slot's signature.
    unsafe {
        (*class).tp_getattro = Some(attribute);
        ffi::PyType_Modified(class);
    }
    Ok(())
}
