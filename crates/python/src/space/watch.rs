//! Watches: each tuple that is written to a space, for who only looks.

use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use thistledown_kernel::SpotId;
use thistledown_runtime::Name;
use thistledown_space::{Template, WatchId};

use crate::channel::ChannelIterator;
use crate::channel::plain::PlainIterator;
use crate::errors;
use crate::operation::Operation;
use crate::payload::WORLD;
use crate::space::far::watch::{FarWatch, Next};
use crate::space::far::{FarSpace, Seat};
use crate::space::fields;
use crate::space::home::Home;
use crate::space::wait::{Act, SpaceOperation};
use crate::space::{Space, act};

/// The tuples that are written to a space, as they come. ``space.watch(template)`` begins one.
///
/// ``async for tuple in watch`` waits for each, and ends when the watch is closed; ``recv`` waits for the next. A watch
/// takes nothing out of the space. Source: ``notify`` of JavaSpaces and Rinda.
#[pyclass(frozen, module = "thistledown")]
pub(crate) struct Watch {
    space: Py<Space>,
    at: At,
    /// Where those are called who wait for the next.
    pub(crate) spot: SpotId,
    template: String,
}

/// Where what is seen is kept.
enum At {
    Here(Arc<Home>, WatchId),
    Far(Arc<FarSpace>, Arc<FarWatch>),
}

impl Watch {
    pub(crate) fn begin(
        py: Python<'_>,
        space: Py<Space>,
        template: Template,
        capacity: usize,
    ) -> PyResult<Self> {
        space.get().check()?;
        let words = template.to_string();
        let (at, spot) = match space.get().seat() {
            Seat::Here(home) => {
                let spot = WORLD.with(|kernel| kernel.open_spot());
                let name = Name::Here(spot);
                let id = act(&home.shared, |space, _| space.watch(template, capacity, name));
                (At::Here(home, id), spot)
            }
            Seat::Far(far) => {
                let watch = far.watch(py, template, capacity)?;
                let spot = watch.spot;
                (At::Far(far, watch), spot)
            }
        };
        Ok(Self { space, at, spot, template: words })
    }

    pub(crate) fn describe(&self, _py: Python<'_>) -> String {
        format!("watch {} of {}", self.template, self.space.get().name())
    }

    /// The space that it watches, if that is in this process.
    pub(crate) fn home(&self) -> Option<&Home> {
        match &self.at {
            At::Here(home, _) => Some(home),
            At::Far(..) => None,
        }
    }

    /// The next tuple, if there is one.
    pub(crate) fn next(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (seen, goes_on) = match &self.at {
            At::Here(home, id) => {
                let (seen, goes_on) = act(&home.shared, |space, outside| {
                    (space.next_seen(*id, outside), space.is_watched(*id))
                });
                let seen = match seen {
                    Ok(Some(tuple)) => Next::Tuple(tuple),
                    Ok(None) => Next::Nothing,
                    Err(missed) => Next::Missed(missed),
                };
                (seen, goes_on)
            }
            At::Far(far, watch) => (far.next_seen(watch)?, far.is_watched(watch)),
        };
        match seen {
            Next::Tuple(tuple) => Ok(Some(fields::to_python(py, &tuple)?.into_any().unbind())),
            Next::Nothing | Next::Gap if !goes_on => Err(errors::channel_closed(py, "the watch is closed")),
            Next::Nothing => Ok(None),
            Next::Missed(missed) => Err(errors::watch_lagged(py, &missed.to_string(), missed.0)),
            Next::Gap => {
                let words = "the process that had the space's file has ended, and what was written until the next one had it \
                             may be missing";
                Err(errors::watch_lagged(py, words, 0))
            }
        }
    }

    fn end(&self) {
        if self.space.get().is_of_parent() {
            return;
        }
        match &self.at {
            At::Here(home, id) => {
                if act(&home.shared, |space, _| space.unwatch(*id)).is_some() {
                    WORLD.with(|kernel| kernel.drop_spot(self.spot));
                }
            }
            At::Far(far, watch) => drop(far.unwatch(watch)),
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

    fn __iter__(slf: Bound<'_, Self>) -> PyResult<PlainIterator> {
        let py = slf.py();
        PlainIterator::begin(Bound::new(py, Self::recv(slf))?, "watch")
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
        Python::try_attach(|py| {
            let _pending = errors::Pending::set_aside(py);
            self.end();
        });
    }
}
