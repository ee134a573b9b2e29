//! Handles of actors, as far as they are the same each time: methods, and messages that are sent without a question.
//!
//! For each class of actors `thistledown._actors` makes a class of handles. On that a [`Route`] stands for each method that
//! somebody has asked for. Through a handle it becomes a [`Method`], as a function does through an instance. When it is
//! called with as many arguments as the method takes, it is a message to the box at once. Whatever else there may be to it
//! is Python's: other arguments are looked at by `thistledown._messages`, and other boxes are called by their own way.
//!
//! Not in here: which methods there are. A route keeps neither the class nor a function of it alive.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::HereBox;
use crate::task::Task;

/// What the handle of an actor is to the engine: it knows a box.
#[pyclass(frozen, subclass, module = "thistledown._core")]
pub(crate) struct Handle {
    to_box: Py<PyAny>,
}

#[pymethods]
impl Handle {
    #[new]
    fn new(to_box: Py<PyAny>) -> Self {
        Self { to_box }
    }

    #[getter]
    fn _box(&self, py: Python<'_>) -> Py<PyAny> {
        self.to_box.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.to_box)
    }
}

/// A method of a class of actors.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Route {
    name: Py<PyString>,
    /// What its messages are called after.
    origin: Py<PyString>,
    /// How many arguments it takes by position, when none is given by name.
    least: usize,
    most: usize,
}

#[pymethods]
impl Route {
    #[new]
    fn new(name: Py<PyString>, origin: Py<PyString>, least: usize, most: usize) -> Self {
        Self { name, origin, least, most }
    }

    fn __get__(
        slf: Bound<'_, Self>,
        handle: Option<&Bound<'_, PyAny>>,
        _owner: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let Some(handle) = handle.and_then(|handle| handle.cast::<Handle>().ok()) else {
            return Ok(slf.into_any().unbind());
        };
        let to_box = handle.get().to_box.clone_ref(py);
        Ok(Py::new(py, Method { to_box, route: slf.unbind() })?.into_any())
    }
}

/// A method of an actor, to be called.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Method {
    to_box: Py<PyAny>,
    route: Py<Route>,
}

#[pymethods]
impl Method {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        let (to_box, route) = (self.to_box.bind(py), self.route.get());
        let is_plain = kwargs.is_none() && (route.least..=route.most).contains(&args.len());
        if is_plain && let Some(task) = self.call_at_once(args) {
            return Ok(task.into_bound(py).into_any());
        }
        let kwargs = kwargs.map_or_else(|| PyDict::new(py), Clone::clone);
        if !is_plain {
            let messages = py.import(intern!(py, "thistledown._messages"))?;
            let owner = to_box.getattr(intern!(py, "owner"))?;
            messages.call_method1(intern!(py, "check"), (owner, &route.name, args, &kwargs))?;
        }
        to_box.call_method1(intern!(py, "call"), (&route.name, args, kwargs))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.to_box)?;
        visit.call(&self.route)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = self.to_box.getattr(py, intern!(py, "name"))?;
        Ok(format!("<method {} of {}>", self.route.get().origin, name))
    }
}

impl Method {
    /// What people write to call it.
    pub(crate) fn name(&self, py: Python<'_>) -> String {
        self.route.get().name.bind(py).to_string()
    }

    fn call_at_once(&self, args: &Bound<'_, PyTuple>) -> Option<Py<Task>> {
        let route = self.route.get();
        let to_box = self.to_box.bind(args.py()).cast::<HereBox>().ok()?;
        HereBox::call_at_once(to_box, &route.name, &route.origin, args)
    }
}
