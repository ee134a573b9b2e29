//! How tasks and runs end, and what becomes of errors that nobody waited for.

use std::cell::RefCell;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyList;
use thistledown_kernel::TaskId;

use crate::actor::message;
use crate::current::{Current, Run};
use crate::errors;
use crate::operation::Operation;
use crate::payload::{Body, WORLD};
use crate::report::report;
use crate::tally;
use crate::task::{Outcome, Task};
use crate::turn;

/// Failed tasks that a run remembers for its end; more are counted and logged.
const FAILED_LIMIT: usize = 1_000;

/// A task's body has ended: its outcome is set, and its error goes to whoever answers for it.
pub(crate) fn task_ended(py: Python<'_>, run: &Run, id: TaskId, body: &Body, ended: PyResult<Py<PyAny>>) {
    let task = body.task.bind(py);
    let ends_run =
        ended.as_ref().err().filter(|error| turn::ends_the_run(py, error)).map(|error| error.clone_ref(py));
    let mut outcome = turn::outcome(py, ended);
    if let Outcome::Error(error) = &outcome
        && run.rooms.is_some()
        && crate::timers::is_cancellation(error.bind(py)).unwrap_or(false)
    {
        outcome = Outcome::Cancelled;
    }
    if let Outcome::Cancelled = outcome
        && let Some(outcome) = message::died(py, body)
    {
        // As a cancellation is, it is for who asks, and nobody else is told.
        Task::settle(task, outcome);
        return task.get().mark_fetched();
    }
    let error = match &outcome {
        Outcome::Error(error) => {
            tally::HERE.end(0, 1, 0);
            tally::failed(py, || task.get().name(py), "here", error);
            Some(error.clone_ref(py))
        }
        Outcome::Cancelled => {
            tally::HERE.end(0, 0, 1);
            None
        }
        Outcome::Value(_) => None,
    };
    Task::settle(task, outcome);
    if let Some(error) = ends_run {
        task.get().mark_fetched();
        ENDING.set(ENDING.take().or(Some(error)));
        return;
    }
    let Some(error) = error else { return };
    if let Some(group) = &body.group {
        let answered = group.call_method1(py, pyo3::intern!(py, "_failed"), (&error,));
        match answered.and_then(|answered| answered.is_truthy(py)) {
            Ok(true) => return task.get().mark_fetched(),
            Ok(false) => {}
            Err(error) => {
                if let Err(error) = end_run(py, error) {
                    errors::put_off(py, error, Some(task.as_any()));
                }
            }
        }
    }
    if WORLD.with(|kernel| kernel.is_awaited(id)) {
        return task.get().mark_fetched();
    }
    // Nobody can ever ask for it, nor has a callback done so: it is told at once.
    let unseen = !task.get().is_fetched() && turn::is_unseen(&body.task);
    if unseen {
        report(py, "failed_unseen", (task, error.clone_ref(py)));
    }
    let mut failed = run.failed.borrow_mut();
    if failed.len() >= FAILED_LIMIT {
        failed.retain(|task| !task.get().is_fetched());
    }
    if failed.len() < FAILED_LIMIT {
        failed.push(task.clone().unbind());
    } else {
        drop(failed);
        run.failed_unlisted.set(run.failed_unlisted.get() + 1);
        if !unseen {
            report(py, "failed_unseen", (task, error));
        }
    }
}

/// Ends the run of this thread, if that is what the error means; otherwise it comes back.
pub(crate) fn end_run(py: Python<'_>, error: PyErr) -> Result<(), PyErr> {
    if Current::run().is_none() || !turn::ends_the_run(py, &error) {
        return Err(error);
    }
    ENDING.set(ENDING.take().or(Some(error)));
    Ok(())
}

/// Takes the error that ends the run of this thread, if there is one.
pub(crate) fn take_ending() -> Option<PyErr> {
    ENDING.take()
}

thread_local! {
    /// An error that ends the run of this thread, on its way to the ruler.
    static ENDING: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// A run that was given up: what still lives in it ends as cancelled, for whoever waits elsewhere.
pub(crate) fn settle_left_over(py: Python<'_>, run: &Run) {
    type Left = (Py<Task>, Option<Py<Operation>>, Py<PyAny>);
    let left: Vec<Left> = WORLD.with(|kernel| {
        let bodies = kernel.tasks(run.runner).map(|(_, body)| body);
        bodies
            .map(|body| {
                let awaited = body.awaited.as_ref().map(|held| held.clone_ref(py));
                (body.task.clone_ref(py), awaited, body.iterator.clone_ref(py))
            })
            .collect()
    });
    for (task, awaited, iterator) in left {
        if let Some(operation) = awaited {
            operation.get().abandon();
        }
        tally::HERE.end(0, 0, 1);
        Task::settle(task.bind(py), Outcome::Cancelled);
        super::close_fresh(iterator.bind(py));
    }
}

/// What a run gives: the main task's result, or the errors that are left.
pub(crate) fn conclude(
    py: Python<'_>,
    run: &Run,
    ending: Option<PyErr>,
    main: Py<Task>,
) -> PyResult<Py<PyAny>> {
    let failed = run.failed.take();
    let left = failed.iter().filter(|task| !task.get().is_fetched());
    let left: Vec<Py<PyAny>> = left.filter_map(|task| task.get().failure(py)).collect();
    if let Some(error) = &ending
        && !error.is_instance_of::<PyException>(py)
    {
        report(py, "failed_in_ending_run", (PyList::new(py, left)?,));
        return Err(ending.unwrap_or_else(|| unreachable!("just seen")));
    }
    let mut errors: Vec<Py<PyAny>> =
        ending.into_iter().map(|error| error.into_value(py).into_any()).collect();
    for error in left {
        if !errors.iter().any(|other| other.is(&error)) {
            errors.push(error);
        }
    }
    if errors.len() <= 1 && (errors.is_empty() || run.failed_unlisted.get() == 0) {
        return match errors.pop() {
            Some(error) => Err(PyErr::from_value(error.into_bound(py))),
            None => main.get().outcome(py).unwrap_or_else(|| Err(errors::misuse("the run was given up"))),
        };
    }
    let group = py
        .import("thistledown._report")?
        .call_method1("group_of_failed", (PyList::new(py, errors)?, run.failed_unlisted.get()))?;
    Err(PyErr::from_value(group))
}
