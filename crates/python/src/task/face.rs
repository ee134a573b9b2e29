//! What Python calls on a task.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{Outcome, Task, log_failed_callback, standard};
use crate::asyncio::awaiting::Wait;
use crate::current::{Current, seconds_or_none};
use crate::errors::{self, Quick};
use crate::objects;
use crate::operation::Kind;
use crate::payload::WORLD;
use crate::root;
use crate::tally;

#[pymethods]
impl Task {
    #[new]
    fn new() -> PyResult<Self> {
        Err(errors::wrong_type("tasks are made by `td.go(...)`"))
    }

    /// The task's number, unique in this process.
    #[getter(id)]
    fn number(&self) -> u64 {
        self.serial()
    }

    /// The task's name, for people. Can be set.
    #[getter(name)]
    fn get_name(&self, py: Python<'_>) -> String {
        self.name(py)
    }

    #[setter(name)]
    fn set_name(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = name.str()?.unbind();
        let old = self.state.lock().extra.get_or_insert_default().name.replace(name);
        drop(old);
        Ok(())
    }

    /// Whether it has ended: with a result, an exception, or cancelled.
    fn done(&self) -> bool {
        self.is_done()
    }

    /// Whether it was told to go and has not ended. In a worker process: whether it has begun, too.
    fn running(&self) -> bool {
        match self.remote() {
            Some(remote) => remote.is_running(),
            None => !self.is_done(),
        }
    }

    /// Whether it ended because it was cancelled.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.unpack(py);
        matches!(self.state.lock().outcome, Some(Outcome::Cancelled))
    }

    /// Asks it to end: ``Cancelled`` is raised at its wait, now and at each later one.
    ///
    /// Returns:
    ///     False when it has already ended, else True.
    fn cancel(&self, py: Python<'_>) -> bool {
        if let Some(remote) = self.remote() {
            return remote.cancel(py);
        }
        let id = self.id();
        !self.is_done() && WORLD.with(|kernel| kernel.cancel_task(id))
    }

    /// The result, waited for in a plain thread. In a weightless task write ``await task``.
    ///
    /// Args:
    ///     timeout: seconds; ``None`` waits for as long as it takes.
    ///
    /// Raises:
    ///     TimeoutError: it has not ended in time; it goes on.
    ///     TaskCancelled: it was cancelled.
    ///     RuntimeError: it has not ended and runs in this very thread.
    ///     Exception: what it failed with.
    #[pyo3(signature = (timeout=None))]
    fn result(
        slf: Bound<'_, Self>,
        #[pyo3(from_py_with = seconds_or_none)] timeout: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        Self::wait_done(&slf, timeout)?;
        slf.get().outcome(slf.py()).unwrap_or_else(|| Err(errors::misuse("the task has no outcome")))
    }

    /// The exception it failed with, or None; waited for as by ``result``.
    ///
    /// Args:
    ///     timeout: seconds; ``None`` waits for as long as it takes.
    ///
    /// Raises:
    ///     TimeoutError, TaskCancelled, RuntimeError: as ``result``.
    #[pyo3(signature = (timeout=None))]
    fn exception(
        slf: Bound<'_, Self>,
        #[pyo3(from_py_with = seconds_or_none)] timeout: Option<f64>,
    ) -> PyResult<Option<Py<PyAny>>> {
        Self::wait_done(&slf, timeout)?;
        let py = slf.py();
        slf.get().mark_fetched();
        if slf.get().cancelled(py) {
            return Err(errors::task_cancelled(py, format!("task {} was cancelled", slf.get().name(py))));
        }
        Ok(slf.get().failure(py))
    }

    /// Waits for the end in a plain thread and returns the result, as ``result`` does.
    ///
    /// Args:
    ///     timeout: seconds; ``None`` waits for as long as it takes.
    ///
    /// Raises:
    ///     TimeoutError, TaskCancelled, RuntimeError, Exception: as ``result``.
    #[pyo3(signature = (timeout=None))]
    fn wait(
        slf: Bound<'_, Self>,
        #[pyo3(from_py_with = seconds_or_none)] timeout: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        Self::result(slf, timeout)
    }

    /// Calls ``fn(task)`` when it has ended; at once, when it already has. What ``fn`` raises is logged.
    ///
    /// Raises:
    ///     KeyboardInterrupt, SystemExit: ``fn`` was called at once and raised it; later it ends the task's run.
    #[pyo3(signature = (r#fn))]
    fn add_done_callback(slf: Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        root::track(slf.as_ptr());
        {
            let mut state = slf.get().state.lock();
            if state.outcome.is_none() {
                let remote = state.extra.as_ref().and_then(|extra| extra.remote.clone());
                let callbacks = &mut state.extra.get_or_insert_default().callbacks;
                let Some(remote) = remote else {
                    callbacks.push(r#fn.unbind());
                    return Ok(());
                };
                callbacks.push(r#fn.clone().unbind());
                drop(state);
                if remote.watch(slf.clone().unbind()) || slf.get().forget_callback(&r#fn).is_none() {
                    return Ok(());
                }
            }
        }
        match r#fn.call1((&slf,)) {
            // Whoever called this is the one to be ended: no turn ends here that the run would look behind.
            Err(error) if crate::turn::ends_the_run(slf.py(), &error) => Err(error),
            Err(error) => {
                log_failed_callback(&slf, error);
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Takes a callback back, this very object, if it was not called yet.
    fn _forget_callback(&self, r#fn: &Bound<'_, PyAny>) {
        drop(self.forget_callback(r#fn));
    }

    pub(crate) fn __await__(slf: Bound<'_, Self>) -> Quick<Bound<'_, PyAny>> {
        let py = slf.py();
        if Current::task().is_none() {
            return Wait::elsewhere(objects::operation(py, || Kind::Join(slf.unbind()))?);
        }
        Ok(objects::operation(py, || Kind::Join(slf.unbind()))?.into_any())
    }

    fn __iter__(slf: Bound<'_, Self>) -> Quick<Bound<'_, PyAny>> {
        Self::__await__(slf)
    }

    /// Ends a task whose body ran elsewhere.
    fn _settle(slf: Bound<'_, Self>, value: Py<PyAny>, error: Option<Py<PyAny>>) {
        let outcome = match error {
            None => Outcome::Value(value),
            Some(error) if errors::is_cancelled(slf.py(), error.bind(slf.py())) => Outcome::Cancelled,
            Some(error) => Outcome::Error(error),
        };
        let (is_error, is_cancelled) =
            (matches!(outcome, Outcome::Error(_)), matches!(outcome, Outcome::Cancelled));
        // A pledge is no call in a thread, and was counted where it stands for something.
        if !slf.get().is_pledged() {
            tally::THREADS.end(1, is_error.into(), is_cancelled.into());
            if let Outcome::Error(error) = &outcome {
                tally::failed(slf.py(), || slf.get().name(slf.py()), "threads", error);
            }
        }
        Self::settle(&slf, outcome);
        let id = slf.get().id();
        WORLD.with(|kernel| if is_error { kernel.fail(id) } else { kernel.finish(id) });
    }

    /// Whether it has failed. Unpacks nothing.
    fn _has_failed(&self) -> bool {
        let known = self.state.lock().outcome.as_ref().map(|outcome| matches!(outcome, Outcome::Error(_)));
        known.unwrap_or_else(|| {
            self.remote().and_then(|remote| remote.ended()).is_some_and(|ended| ended.is_error())
        })
    }

    /// What it failed with; whoever asks answers for it.
    fn _take_failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.mark_fetched();
        self.failure(py)
    }

    /// The error it has failed with, for who looks and does not ask: it still has to reach somebody.
    fn _failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.failure(py)
    }

    /// Somebody is about to wait for a group that it is in: in a worker, somebody else may have the place until then.
    fn _is_awaited(&self) {
        if let Some(remote) = self.remote() {
            remote.is_awaited();
        }
    }

    /// Whether its body runs in another process.
    #[getter]
    fn _in_process(&self) -> bool {
        self.is_remote()
    }

    /// What the standard library's `wait` and `as_completed` look for: the condition and the list of waiters.
    fn _standard_view(slf: &Bound<'_, Self>, is_to_wait: bool) -> PyResult<(Py<PyAny>, Py<PyList>)> {
        Ok(standard::look(slf, is_to_wait)?.into_parts())
    }

    /// Lets the collector look at it: somebody has given it more to hold.
    fn _track(slf: &Bound<'_, Self>) {
        root::track(slf.as_ptr());
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.unpack(py);
        let state = match &self.state.lock().outcome {
            None => "running",
            Some(Outcome::Value(_)) => "finished",
            Some(Outcome::Error(_)) => "failed",
            Some(Outcome::Cancelled) => "cancelled",
        };
        format!("<thistledown.Task {} {state}>", self.name(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        match &state.outcome {
            Some(Outcome::Value(held) | Outcome::Error(held)) => visit.call(held)?,
            Some(Outcome::Cancelled) | None => {}
        }
        if let Some(extra) = &state.extra {
            extra.callbacks.iter().try_for_each(|callback| visit.call(callback))?;
            if let Some(view) = &extra.view {
                view.traverse(&visit)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let mut state = self.state.lock();
        // Nobody can reach it any more; it stays one that has ended.
        let outcome = state.outcome.as_mut().map(|outcome| std::mem::replace(outcome, Outcome::Cancelled));
        // What stands for it in another process stays: it tells of an error that nobody has asked for.
        let extra =
            state.extra.as_mut().map(|extra| (std::mem::take(&mut extra.callbacks), extra.view.take()));
        drop(state);
        drop((outcome, extra));
    }
}
