//! The standard library's view of a task: `concurrent.futures.wait` and `as_completed` look for a condition and a list of
//! waiters inside a future. Both are made when they are asked for.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{Outcome, Task};
use crate::asyncio::loops;
use crate::current::Current;
use crate::errors;

/// A condition, and who waits for several futures at once.
pub(super) struct View {
    condition: Py<PyAny>,
    waiters: Py<PyList>,
}

impl View {
    fn new(py: Python<'_>) -> PyResult<Self> {
        let condition = py.import("threading")?.call_method0("Condition")?.unbind();
        Ok(Self { condition, waiters: PyList::empty(py).unbind() })
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { condition: self.condition.clone_ref(py), waiters: self.waiters.clone_ref(py) }
    }

    pub(super) fn into_parts(self) -> (Py<PyAny>, Py<PyList>) {
        (self.condition, self.waiters)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.condition)?;
        visit.call(&self.waiters)
    }

    /// Tells the waiters by this method of theirs; `settle` is done under the condition that they hold.
    pub(super) fn tell(&self, task: &Bound<'_, Task>, method: &str, settle: impl FnOnce()) {
        let py = task.py();
        let condition = self.condition.bind(py);
        // Ctrl-C may end any of these calls. It waits: what is not told here is never told.
        let mut failed = Vec::new();
        let acquired = loop {
            match condition.call_method0("acquire") {
                Ok(_) => break true,
                Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => failed.push(error),
                Err(error) => {
                    failed.push(error);
                    break false;
                }
            }
        };
        settle();
        let told = self.waiters.bind(py).iter().map(|waiter| waiter.call_method1(method, (task,)));
        failed.extend(told.filter_map(Result::err));
        if acquired {
            let freed = ["notify_all", "release"].map(|method| condition.call_method0(method));
            failed.extend(freed.into_iter().filter_map(Result::err));
        }
        for error in failed {
            errors::put_off(py, error, Some(task.as_any()));
        }
    }
}

/// Ends a task while the standard library looks: the outcome appears under the condition that it holds.
pub(super) fn settle(task: &Bound<'_, Task>, outcome: Outcome, view: &View) {
    let method = match &outcome {
        Outcome::Value(_) => "add_result",
        Outcome::Error(_) => "add_exception",
        Outcome::Cancelled => "add_cancelled",
    };
    view.tell(task, method, || task.get().state.lock().outcome = Some(outcome));
}

/// Makes the view, or gives the one that is there.
///
/// Only the list is refused, where waiting would stop a loop: they ask for it under the conditions of all of their
/// futures, which they then release; a condition that is refused would leave those before it taken for ever.
pub(super) fn look(task: &Bound<'_, Task>, is_to_wait: bool) -> PyResult<View> {
    let (py, this) = (task.py(), task.get());
    let is_to_wait = is_to_wait && !this.is_done();
    if is_to_wait && (Current::run().is_some() || loops::runs_one(py, [task.clone()])?) {
        return Err(errors::misuse(
            "waiting for tasks here would stop the thread that runs the weightless tasks: write `await task`, \
             `td.select(...)` for the first of several, or `await td.thread(td.wait, tasks)`",
        ));
    }
    let fresh = View::new(py)?;
    let view = this.state.lock().extra.get_or_insert_default().view.get_or_insert(fresh).clone_ref(py);
    if let Some(remote) = this.remote() {
        // Whoever looks takes the condition, and then asks whether it is done; so nobody misses its end.
        remote.watch(task.clone().unbind());
    }
    Ok(view)
}

impl Task {
    /// The view, if the standard library has asked for it.
    pub(super) fn known_view(&self, py: Python<'_>) -> Option<View> {
        let state = self.state.lock();
        state.extra.as_ref()?.view.as_ref().map(|view| view.clone_ref(py))
    }
}
