//! How a task of a worker is to run: its options, which are read once and kept for many tasks.

use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};

use crate::current::seconds;
use crate::workers::freight::pickling;

/// What goes with a task, besides its function's own arguments.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Options {
    pub(crate) timeout: Option<Duration>,
    pub(crate) memory: Option<u64>,
    pub(crate) retries: u32,
    pub(crate) retry_on: Option<Py<PyTuple>>,
    pub(crate) priority: i32,
    pub(crate) name: Option<Py<PyString>>,
    /// A number made of the key, the same in every process.
    pub(crate) key: Option<u64>,
}

#[pymethods]
impl Options {
    #[new]
    #[pyo3(signature = (*, timeout=None, memory=None, retries=0, retry_on=None, priority=0, name=None, key=None))]
    fn new(
        timeout: Option<f64>,
        memory: Option<u64>,
        retries: u32,
        retry_on: Option<Bound<'_, PyTuple>>,
        priority: i32,
        name: Option<Py<PyString>>,
        key: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let timeout = timeout.map(|timeout| seconds(timeout, "timeout")).transpose()?.flatten();
        let retry_on = retry_on.filter(|classes| !classes.is_empty()).map(Bound::unbind);
        let key = key.map(|key| key_number(&key)).transpose()?;
        Ok(Self { timeout, memory, retries, retry_on, priority, name, key })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.retry_on)
    }
}

/// The number that stands for a key: of what it is made of, so that it is the same in every process.
fn key_number(key: &Bound<'_, PyAny>) -> PyResult<u64> {
    let number = pickling(key.py())?.call_method1(intern!(key.py(), "key_number"), (key,))?;
    number.extract()
}

/// Whether a class is among those upon which a task is tried again.
pub(crate) fn is_retried(more: Option<&Bound<'_, PyAny>>, error: &Bound<'_, PyAny>) -> bool {
    let classes = more.and_then(|more| more.get_item("retry_on").ok());
    classes.is_some_and(|classes| {
        classes.try_iter().is_ok_and(|mut classes| {
            classes.any(|class| {
                class.is_ok_and(|class| {
                    class.cast::<PyType>().is_ok_and(|class| error.is_instance(class).unwrap_or(false))
                })
            })
        })
    })
}
