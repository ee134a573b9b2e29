//! A thread that imports modules for somebody else: a worker that unpacks a call, a zygote that preloads.
//!
//! A module that starts a task while it is imported would have it imported again, by a worker that starts one in turn,
//! and so on without end. Who imports by himself may start tasks meanwhile, unless they are of that very module.

use std::cell::Cell;

use pyo3::intern;
use pyo3::prelude::*;

thread_local! {
    static IMPORTING: Cell<bool> = const { Cell::new(false) };
}

/// While it lives modules are imported in this thread for the sake of a task.
pub(crate) struct Importing(bool);

impl Importing {
    pub(crate) fn begin() -> Self {
        Self(IMPORTING.replace(true))
    }
}

impl Drop for Importing {
    fn drop(&mut self) {
        IMPORTING.set(self.0);
    }
}

/// Whether modules are imported in this thread for the sake of tasks, from now on.
#[pyfunction]
pub(crate) fn set_importing(importing: bool) {
    IMPORTING.set(importing);
}

/// Refuses a task that a module starts while it is imported so.
#[inline]
pub(crate) fn check(py: Python<'_>) -> PyResult<()> {
    if !IMPORTING.get() {
        return Ok(());
    }
    let imports = py.import(intern!(py, "thistledown._imports"))?;
    imports.call_method0(intern!(py, "refuse_while_importing")).map(drop)
}
