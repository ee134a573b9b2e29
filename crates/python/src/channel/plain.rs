//! `for` over a channel, or over a watch of a space, in plain code: each value is waited for in this thread.

use pyo3::intern;
use pyo3::prelude::*;

use crate::asyncio::loops;
use crate::current::Current;
use crate::errors;
use crate::operation::Operation;
use crate::thread_scope;

/// ``for`` over a channel, in a plain thread.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct PlainIterator {
    receive: Py<Operation>,
}

impl PlainIterator {
    /// Not for a weightless task, which would stop all others of its thread; nor where a loop runs that is to bring what is
    /// waited for. Others may bring the rest, so it is waited for there as by `wait()`.
    pub(crate) fn begin(receive: Bound<'_, Operation>, what: &str) -> PyResult<Self> {
        if Current::task().is_some() {
            return Err(errors::misuse(format!(
                "`for` over a {what} would stop the thread that runs the weightless tasks: write `async for`, or in a \
                 generator `yield from {what}.recv()` in a loop"
            )));
        }
        let py = receive.py();
        if receive.get().is_own() && loops::runs_here(py)? && !thread_scope::has_way_out() {
            return Err(errors::misuse(format!(
                "`for` over a {what} would stop the event loop that runs in this thread: write `async for`"
            )));
        }
        Ok(Self { receive: receive.unbind() })
    }
}

#[pymethods]
impl PlainIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// None ends the iteration: it is closed, and empty. One that is broken has not come to its end.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.receive.bind(py).call_method0(intern!(py, "wait")) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.get_type(py).is(errors::channel_closed(py, "").get_type(py)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
