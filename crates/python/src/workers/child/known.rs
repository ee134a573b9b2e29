//! The functions that a worker knows, by the numbers that the parent has given them; and the names of methods and
//! attributes of actors, which travel in place of a function.
//!
//! A function is made with the first task that calls it. Neither that nor the dropping of one happens under the lock, as
//! both may run foreign code.

use std::collections::HashMap;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rustix_futex_sync::Mutex;
use thistledown_workers::Parcel;

use crate::errors;
use crate::workers::freight::pickling;

/// What stands in front of the name of a method, or of an attribute, instead of a pickle.
pub(crate) const METHOD: u8 = 0xff;
pub(crate) const ATTRIBUTE: u8 = 0xfe;

/// A function that the parent has sent.
enum Known {
    Packed(Parcel),
    Made(Py<PyAny>),
    /// No function, but the name of a method of actors.
    Method(Py<PyString>),
    /// The same, of an attribute.
    Attribute(Py<PyString>),
}

/// What a function's number means to an actor.
pub(super) enum Asked<'py> {
    Method(Bound<'py, PyString>),
    Attribute(Bound<'py, PyString>),
    /// What makes it.
    Function,
}

/// All of them.
#[derive(Default)]
pub(super) struct Functions(Mutex<HashMap<u32, Known>>);

impl Functions {
    /// The parent has sent one.
    pub(super) fn learn(&self, id: u32, body: Parcel) {
        self.keep(id, Known::Packed(body));
    }

    /// The parent will not use it any more.
    pub(super) fn forget(&self, id: u32) {
        let old = self.0.lock().remove(&id);
        drop(old);
    }

    fn keep(&self, id: u32, known: Known) {
        let old = self.0.lock().insert(id, known);
        drop(old);
    }

    /// What a function's number means to an actor.
    pub(super) fn asked<'py>(&self, py: Python<'py>, id: u32) -> PyResult<Asked<'py>> {
        let packed = match self.0.lock().get(&id) {
            Some(Known::Method(name)) => return Ok(Asked::Method(name.bind(py).clone())),
            Some(Known::Attribute(name)) => return Ok(Asked::Attribute(name.bind(py).clone())),
            Some(Known::Packed(parcel)) => parcel.clone(),
            Some(Known::Made(_)) | None => return Ok(Asked::Function),
        };
        let Some((&kind @ (METHOD | ATTRIBUTE), name)) = packed.inline().split_first() else {
            return Ok(Asked::Function);
        };
        let name = PyString::from_bytes(py, name)?;
        let (known, asked) = match kind {
            METHOD => (Known::Method(name.clone().unbind()), Asked::Method(name)),
            _ => (Known::Attribute(name.clone().unbind()), Asked::Attribute(name)),
        };
        self.keep(id, known);
        Ok(asked)
    }

    /// The function of this number.
    pub(super) fn function<'py>(&self, py: Python<'py>, id: u32) -> PyResult<Bound<'py, PyAny>> {
        let packed = match self.0.lock().get(&id) {
            Some(Known::Made(function)) => return Ok(function.bind(py).clone()),
            Some(Known::Packed(parcel)) => parcel.clone(),
            Some(Known::Method(_) | Known::Attribute(_)) => {
                return Err(errors::misuse("a method is no function"));
            }
            None => return Err(errors::misuse(format!("the worker does not know function {id}"))),
        };
        let opened = packed.open().map_err(|error| errors::system(&error))?;
        let body = PyBytes::new(py, opened.head());
        // One that cannot be made is tried again with the next task: its module may be there by then.
        let function = pickling(py)?.call_method1(intern!(py, "unpack_function"), (body,))?;
        self.keep(id, Known::Made(function.clone().unbind()));
        Ok(function)
    }
}
