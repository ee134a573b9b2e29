//! Switch: control goes straight into another coroutine, with data, and no queue between.
//!
//! Inside one task several generators or coroutines pass control among themselves; the task is parked, cancelled and
//! ended as one. Who ends gives its value, or its exception, to whoever first switched into it, as greenlet's parents
//! do, so that nothing is lost. Source: Mertz's hypothetical `switch to routine2 send "a"`.

use std::collections::{HashMap, HashSet};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::errors;
use crate::operation::{Kind, Operation};

/// One transfer.
pub(crate) struct Switch {
    pub(crate) target: Py<PyAny>,
    pub(crate) value: Py<PyAny>,
}

impl Switch {
    pub(crate) fn copy(&self, py: Python<'_>) -> Self {
        Self { target: self.target.clone_ref(py), value: self.value.clone_ref(py) }
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.target)?;
        visit.call(&self.value)
    }
}

/// Where control has gone within a task.
#[derive(Default)]
pub(crate) struct Switches {
    /// Who switched into it first.
    parents: HashMap<usize, Py<PyAny>>,
    /// Who is suspended in a `switch`, and gets its value from there.
    suspended: HashSet<usize>,
}

fn key(object: &Py<PyAny>) -> usize {
    object.as_ptr() as usize
}

impl Switches {
    /// Control leaves `from` for `target`. Says whether `target` is suspended in a switch of its own.
    pub(crate) fn go(&mut self, py: Python<'_>, from: &Py<PyAny>, target: &Py<PyAny>) -> bool {
        self.suspended.insert(key(from));
        let known = self.suspended.remove(&key(target));
        if !known {
            self.parents.entry(key(target)).or_insert_with(|| from.clone_ref(py));
        }
        known
    }

    /// `ended` is done: who goes on. Nothing when the task is done with it.
    pub(crate) fn end(&mut self, ended: &Py<PyAny>) -> Option<Py<PyAny>> {
        let mut next = self.parents.remove(&key(ended))?;
        while !self.suspended.remove(&key(&next)) {
            next = self.parents.remove(&key(&next))?;
        }
        Some(next)
    }
}

/// Goes straight into another coroutine of this task, with a value.
///
/// ``answer = yield from td.switch(other, value)``, or with ``await``. ``other`` gets the value where it is suspended;
/// whoever switches back gives the answer. When ``other`` ends, what it returned or raised comes back to whoever
/// switched into it first. A cancel point like any other, of the task as a whole.
///
/// Args:
///     other: a generator or coroutine object that no other task runs. A generator that has not started can only be
///         given None: start it with ``primed``.
///     value: anything.
///
/// Raises:
///     TypeError: other is neither, or has not started and the value is not None.
///     RuntimeError: other has ended, or is running.
#[pyfunction]
#[pyo3(signature = (other, value=None))]
pub(crate) fn switch(
    py: Python<'_>,
    other: Bound<'_, PyAny>,
    value: Option<Py<PyAny>>,
) -> PyResult<Operation> {
    let value = value.unwrap_or_else(|| py.None());
    match crate::body::state(&other) {
        Some(state) => crate::body::check_switch(&other, state, value.is_none(py))?,
        None => {
            let kind = other.get_type().name()?;
            return Err(errors::wrong_type(format!(
                "switch goes into a generator or coroutine object, not into a {kind}: call the function first; to a \
                 task send a message through a Channel"
            )));
        }
    }
    Ok(Operation::new(Kind::Switch(Box::new(Switch { target: other.unbind(), value }))))
}
