//! The common way of pickling: the C pickler of the standard library, called without a detour through Python code.
//!
//! For nearly all that tasks are given and give back this is enough. It says so when it is not: what the C pickler
//! refuses, what may have to go by value, and what has buffers that travel beside the pickle, `_pickling` sends in its
//! own way. So nothing is decided here that `_pickling` does not decide in the same way.

use pyo3::exceptions::{PyAttributeError, PyBufferError, PyException, PyImportError, PyMemoryError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PySet};

use crate::workers::freight::pickling;

/// What is looked up once.
struct Pickler {
    dumps: Py<PyAny>,
    loads: Py<PyAny>,
    protocol: Py<PyAny>,
    /// The arguments of `dumps` that have names.
    keywords: Py<PyDict>,
    /// Buffers from this size on travel beside the pickle.
    large_bytes: usize,
    system: Py<PyModule>,
}

static PICKLER: PyOnceLock<Pickler> = PyOnceLock::new();

fn pickler(py: Python<'_>) -> PyResult<&Pickler> {
    PICKLER.get_or_try_init(py, || {
        let (module, ours) = (py.import("_pickle")?, pickling(py)?);
        let keywords = PyDict::new(py);
        keywords.set_item("buffer_callback", wrap_pyfunction!(is_small, py)?)?;
        Ok(Pickler {
            dumps: module.getattr("dumps")?.unbind(),
            loads: module.getattr("loads")?.unbind(),
            protocol: ours.getattr("PROTOCOL")?.unbind(),
            keywords: keywords.unbind(),
            large_bytes: ours.getattr("LARGE_BYTES")?.extract()?,
            system: py.import("sys")?.unbind(),
        })
    })
}

/// The pickle of a value. None: this way is not for it.
///
/// # Errors
/// There is no memory, or something that is no `Exception` came between.
pub(crate) fn dumps<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = value.py();
    let pickler = pickler(py)?;
    let dumps = pickler.dumps.bind(py);
    let data = match dumps.call((value, &pickler.protocol), Some(pickler.keywords.bind(py))) {
        Ok(data) => data.cast_into::<PyBytes>()?,
        Err(error) if is_refusal(py, &error) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok((!may_go_by_value(&data, pickler)?).then_some(data))
}

fn is_refusal(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyException>(py) && !error.is_instance_of::<PyMemoryError>(py)
}

/// Whether a pickle may name something that no worker can import, or that is registered to go by value.
fn may_go_by_value(data: &Bound<'_, PyBytes>, pickler: &Pickler) -> PyResult<bool> {
    let py = data.py();
    if data.contains(MAIN.get_or_init(py, || PyBytes::new(py, b"__main__").unbind()))? {
        return Ok(true);
    }
    let modules = pickler.system.bind(py).getattr(intern!(py, "modules"))?;
    let Some(cloudpickle) = modules.cast::<PyDict>()?.get_item(intern!(py, "cloudpickle"))? else {
        return Ok(false);
    };
    // Another thread may be importing it just now.
    let Some(registry) = cloudpickle.getattr_opt(intern!(py, "list_registry_pickle_by_value"))? else {
        return Ok(false);
    };
    Ok(!registry.call0()?.cast::<PySet>()?.is_empty())
}

static MAIN: PyOnceLock<Py<PyBytes>> = PyOnceLock::new();

/// Whether these are bytes that a pickle would take in by itself, and that travel beside it.
pub(crate) fn is_large(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let length = if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        bytes.as_bytes().len()
    } else if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
        bytes.len()
    } else {
        return Ok(false);
    };
    Ok(length >= pickler(value.py())?.large_bytes)
}

/// The pickler asks about each buffer, and takes it in when the answer is true. A large one ends the attempt.
#[pyfunction]
fn is_small(buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = buffer.py();
    let view = match buffer.call_method0(intern!(py, "raw")) {
        Ok(view) => view,
        Err(error) if error.is_instance_of::<PyBufferError>(py) => return Ok(true),
        Err(error) => return Err(error),
    };
    match view.getattr(intern!(py, "nbytes"))?.extract::<usize>()? < pickler(py)?.large_bytes {
        true => Ok(true),
        false => Err(PyBufferError::new_err("a large buffer travels beside the pickle")),
    }
}

/// What a pickle without buffers was made of.
///
/// # Errors
/// What unpickling raises; of what is missing it says in which process.
pub(crate) fn loads<'py>(data: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    let py = data.py();
    pickler(py)?.loads.bind(py).call1((data,)).map_err(|error| {
        let is_missing = |error: &PyErr| {
            error.is_instance_of::<PyImportError>(py) || error.is_instance_of::<PyAttributeError>(py)
        };
        if is_missing(&error) { explained(py, error) } else { error }
    })
}

fn explained(py: Python<'_>, error: PyErr) -> PyErr {
    let explain = || pickling(py)?.call_method1(intern!(py, "explained"), (error.value(py),));
    match explain() {
        Ok(words) if words.is(error.value(py)) => error,
        Ok(words) => {
            let explained = PyErr::from_value(words);
            explained.set_cause(py, Some(error));
            explained
        }
        Err(failure) => failure,
    }
}
