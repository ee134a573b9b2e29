//! Iterators over channels, for ``async for``. The one for plain code is in `plain`.

use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::asyncio::awaiting::Wait;
use crate::current::Current;
use crate::errors::{self, Quick, Thrown};
use crate::operation::{Operation, Step};

/// ``async for`` over a channel. It is its own awaiter, so that a value costs no object.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct ChannelIterator {
    pub(crate) receive: Py<Operation>,
}

impl ChannelIterator {
    #[inline(always)]
    pub(crate) fn step(&self, py: Python<'_>) -> Step {
        match self.receive.get().step(py) {
            Step::Raise(thrown) => Self::at_the_end(py, thrown),
            step => step,
        }
    }

    /// A channel that is closed and empty ends the iteration.
    #[cold]
    fn at_the_end(py: Python<'_>, thrown: Thrown) -> Step {
        let error = PyErr::from(thrown);
        let closed = errors::channel_closed(py, "").get_type(py);
        // One that is broken has not come to its end.
        if error.get_type(py).is(&closed) { PyStopAsyncIteration::new_err(()) } else { error }.into()
    }
}

#[pymethods]
impl ChannelIterator {
    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    pub(crate) fn __anext__(slf: Bound<'_, Self>) -> Quick<Bound<'_, PyAny>> {
        if Current::task().is_none() {
            return Wait::for_next(slf);
        }
        if slf.get().receive.get().is_idle() {
            return Ok(slf.into_any());
        }
        Err(errors::misuse(
            "this iterator is being waited for by another task: give each its own `async for`",
        )
        .into())
    }

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(slf: Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        match slf.get().step(py) {
            Step::Return(value) => Err(pyo3::exceptions::PyStopIteration::new_err((value,))),
            Step::Park => Ok(Some(slf.get().receive.clone_ref(py).into_any())),
            Step::GiveWay => Ok(Some(py.None())),
            Step::Raise(thrown) => Err(thrown.into()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.receive)
    }
}
