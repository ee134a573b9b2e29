//! Filters of warnings: what workers are told of the program's, when these are not those that they began with.
//!
//! In the program they are looked at with each call, which costs a comparison of a few addresses, and go in front of the
//! call (`freight`) once they have changed. A worker hands on what it has heard last.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList};
use rustix_futex_sync::Mutex;

/// The filters when they were looked at last, and what to send with each call since.
struct Seen {
    filters: Vec<Py<PyAny>>,
    news: Option<Arc<[u8]>>,
}

static SEEN: Mutex<Option<Seen>> = Mutex::new(None);

/// In a worker: what came last.
static HEARD: Mutex<Option<Arc<[u8]>>> = Mutex::new(None);

/// What a call is to bring along. Nothing: the filters are those that each worker began with.
pub(crate) fn news(py: Python<'_>) -> PyResult<Option<Arc<[u8]>>> {
    let heard = HEARD.lock().clone();
    if heard.is_some() {
        return Ok(heard);
    }
    let filters = present(py)?;
    if let Some(seen) = SEEN.lock().as_ref().filter(|seen| are_same(&seen.filters, &filters)) {
        return Ok(seen.news.clone());
    }
    let held = filters.iter().map(Bound::unbind).collect();
    let carried = py.import(intern!(py, "thistledown._warned"))?;
    let news = carried.call_method0(intern!(py, "changed"))?.extract::<Option<Vec<u8>>>()?;
    let news = news.map(Arc::from);
    let old = SEEN.lock().replace(Seen { filters: held, news: news.clone() });
    drop(old);
    Ok(news)
}

/// In a worker: this came with a call. The last that came holds.
pub(crate) fn heard(py: Python<'_>, news: &[u8]) -> PyResult<()> {
    if HEARD.lock().as_deref() == Some(news) {
        return Ok(());
    }
    *HEARD.lock() = Some(Arc::from(news));
    let carried = py.import(intern!(py, "thistledown._warned"))?;
    carried.call_method1(intern!(py, "hear_filters"), (PyBytes::new(py, news),)).map(drop)
}

fn present(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("warnings").map(Bound::unbind))?;
    Ok(module.bind(py).getattr(intern!(py, "filters"))?.cast_into::<PyList>()?)
}

/// Whether these are the very same: blocks of `warnings.catch_warnings` copy the list, and not what is in it.
fn are_same(seen: &[Py<PyAny>], filters: &Bound<'_, PyList>) -> bool {
    seen.len() == filters.len() && seen.iter().zip(filters.iter()).all(|(one, other)| other.is(one))
}
