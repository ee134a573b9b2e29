//! What a group of tasks stands on: its scope, and the one verb that is on the hot path. The rest of it, how its block
//! begins and ends and who answers for errors, is Python's `TaskGroup`, which is made of this class.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::body::Packed;
use crate::go;
use crate::scope::{Scope, group_scope};
use crate::task::Task;

/// The engine's part of a group.
#[pyclass(frozen, subclass, module = "thistledown._core")]
pub(crate) struct Group {
    pub(crate) scope: Py<Scope>,
}

#[pymethods]
impl Group {
    /// What a class made of this one is given is for its `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Ok(Self { scope: Py::new(py, group_scope())? })
    }

    #[getter]
    fn _scope(&self, py: Python<'_>) -> Py<Scope> {
        self.scope.clone_ref(py)
    }

    /// Starts a task in the group, as ``td.go`` does.
    ///
    /// Args:
    ///     body: for a weightless task a coroutine or generator function or object; for one of the default pool a plain
    ///         function, or its name as ``"package.module:function"``; for a thread call a ``td.thread(...)``.
    ///     *args: for the function.
    ///     **kwargs: for the function.
    ///
    /// Returns:
    ///     The task.
    ///
    /// Raises:
    ///     TypeError: no task body.
    ///     RuntimeError: the group's block has not been entered, or has been left; a weightless body where no run is.
    ///     NotPicklable: an argument cannot be sent to a worker process.
    #[pyo3(signature = (body, /, *args, **kwargs))]
    fn go(
        slf: &Bound<'_, Self>,
        body: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        kwargs: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Py<Task>> {
        go::go_in_group(slf, &body, &Packed { args: &args, kwargs: kwargs.as_ref() })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.scope)
    }
}
