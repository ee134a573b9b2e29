//! Watches: each tuple that is written to a space, for who only looks.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use thistledown_kernel::SpotId;
use thistledown_space::{Template, WatchId};

use crate::channel::ChannelIterator;
use crate::errors;
use crate::operation::Operation;
use crate::payload::WORLD;
use crate::space::Space;
use crate::space::fields;
use crate::space::wait::{Act, SpaceOperation};

/// The tuples that are written to a space, as they come. ``space.watch(template)`` begins one.
///
/// ``async for tuple in watch`` waits for each, and ends when the watch is closed; ``recv`` waits for the next. A watch
/// takes nothing out of the space. Source: ``notify`` of JavaSpaces and Rinda.
#[pyclass(frozen, module = "thistledown")]
pub(crate) struct Watch {
    space: Py<Space>,
    id: WatchId,
    /// Where those are called who wait for the next.
    pub(crate) spot: SpotId,
    template: String,
}

impl Watch {
    pub(crate) fn begin(space: Py<Space>, template: Template, capacity: usize) -> PyResult<Self> {
        space.get().check()?;
        let spot = WORLD.with(|kernel| kernel.open_spot());
        let words = template.to_string();
        let id = space.get().act(|space, _| space.watch(template, capacity, spot));
        Ok(Self { space, id, spot, template: words })
    }

    pub(crate) fn describe(&self, _py: Python<'_>) -> String {
        format!("watch {} of {}", self.template, self.space.get().name())
    }

    /// The next tuple, if there is one.
    pub(crate) fn next(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (seen, goes_on) = self
            .space
            .get()
            .act(|space, outside| (space.next_seen(self.id, outside), space.is_watched(self.id)));
        match seen {
            Ok(Some(tuple)) => Ok(Some(fields::to_python(py, &tuple)?.into_any().unbind())),
            Ok(None) if goes_on => Ok(None),
            Ok(None) => Err(errors::channel_closed(py, "the watch is closed")),
            Err(missed) => Err(errors::watch_lagged(py, &missed.to_string(), missed.0)),
        }
    }

    fn end(&self) {
        if self.space.get().is_of_parent() {
            return;
        }
        if let Some(spot) = self.space.get().act(|space, _| space.unwatch(self.id)) {
            WORLD.with(|kernel| kernel.drop_spot(spot));
        }
    }
}

#[pymethods]
impl Watch {
    /// An operation that gives the next tuple that was written.
    ///
    /// Raises ``WatchLagged`` when some were dropped, and then goes on with the oldest that is left; ``ChannelClosed`` when
    /// the watch is closed.
    fn recv(slf: Bound<'_, Self>) -> Operation {
        let space = slf.get().space.clone_ref(slf.py());
        SpaceOperation::make(space, Act::Receive(slf.unbind()))
    }

    /// Ends the watch; whoever waits for the next gets ``ChannelClosed``. What was not looked at is dropped.
    fn close(&self) {
        self.end();
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (_kind, _error, _trace, /))]
    fn __exit__(&self, _kind: &Bound<'_, PyAny>, _error: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.end();
    }

    fn __aiter__(slf: Bound<'_, Self>) -> PyResult<ChannelIterator> {
        let py = slf.py();
        Ok(ChannelIterator { receive: Py::new(py, Self::recv(slf))? })
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<thistledown.Watch: {}>", self.describe(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.space)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}
