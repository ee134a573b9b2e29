//! Operations of time.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyInt;
use thistledown_kernel::Moment;

use crate::asyncio::awaiting;
use crate::asyncio::visitor;
use crate::current::{Current, Run, number_of_seconds, seconds as checked};
use crate::errors;
use crate::objects;
use crate::operation::{Kind, Operation, Sleep};
use crate::payload::WORLD;
use crate::thread_scope;

/// An operation that is over so many seconds after it is first waited for.
///
/// ``await td.sleep(0)`` gives the other tasks their turn.
///
/// Args:
///     seconds: >= 0; ``math.inf`` is for ever.
///
/// Raises:
///     ValueError: seconds is negative or not a number.
#[pyfunction]
pub(crate) fn sleep(
    py: Python<'_>,
    #[pyo3(from_py_with = number_of_seconds)] seconds: f64,
) -> PyResult<Bound<'_, Operation>> {
    if seconds == 0.0 {
        return Ok(zero(py)?.sleep.bind(py).clone());
    }
    let sleep = Sleep::new(checked(seconds, "seconds")?);
    Ok(objects::operation(py, || Kind::Sleep(sleep))?)
}

/// The number zero, and what `sleep` makes of it: whoever only gives way needs no operation of its own.
struct Zero {
    number: Py<PyAny>,
    sleep: Py<Operation>,
}

static ZERO: PyOnceLock<Zero> = PyOnceLock::new();

fn zero(py: Python<'_>) -> PyResult<&Zero> {
    ZERO.get_or_try_init(py, || {
        let sleep = Py::new(py, Operation::new(Kind::Sleep(Sleep::new(Some(Duration::ZERO)))))?;
        Ok(Zero { number: PyInt::new(py, 0).into_any().unbind(), sleep })
    })
}

/// Makes what `sleep(0)` gives.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    zero(py).map(|_| ())
}

/// What `sleep` gives for the number zero, as a program writes it: CPython keeps one object for each small number.
#[inline(always)]
pub(crate) fn sleep_of_zero<'py>(object: &Borrowed<'_, 'py, PyAny>) -> Option<&'py Bound<'py, Operation>> {
    let zero = ZERO.get(object.py())?;
    object.is(&zero.number).then(|| zero.sleep.bind(object.py()))
}

/// An operation that is over so many seconds after it was made.
///
/// One ``after`` in several selects is a deadline for all of them.
///
/// Args:
///     seconds: >= 0; ``math.inf`` is for ever.
///
/// Raises:
///     ValueError: seconds is negative or not a number.
#[pyfunction]
pub(crate) fn after(#[pyo3(from_py_with = number_of_seconds)] seconds: f64) -> PyResult<Operation> {
    let moment = checked(seconds, "seconds")?.map_or(Moment::NEVER, |duration| Run::now().after(duration));
    Ok(Operation::new(Kind::After(moment)))
}

/// Whether an error is what is raised in who is cancelled: ours, or asyncio's in a task of asyncio's.
#[pyfunction]
pub(crate) fn is_cancellation(error: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = error.py();
    if errors::is_cancelled(py, error) {
        return Ok(true);
    }
    // Where nobody has imported asyncio, nobody raises its errors.
    let known = py.import("sys")?.getattr("modules")?.contains("asyncio.exceptions")?;
    Ok(known && error.is_instance(&awaiting::cancelled(py).get_type(py))?)
}

/// Whether a wait of the present task would be refused, or of this thread.
#[pyfunction]
pub(crate) fn is_cancelled(py: Python<'_>) -> PyResult<bool> {
    if Current::task().is_none()
        && let Some(visitor) = visitor::here(py)?
    {
        return Ok(visitor.is_cancelled());
    }
    Ok(thread_scope::owner().is_some_and(|owner| WORLD.with(|kernel| kernel.is_cancelled(owner))))
}

/// Raises if a wait of the present task would be refused, or of this thread: what is raised in who is cancelled.
#[pyfunction]
pub(crate) fn check_cancelled(py: Python<'_>) -> PyResult<()> {
    if Current::task().is_none()
        && let Some(visitor) = visitor::here(py)?
    {
        return visitor.check(py);
    }
    match is_cancelled(py)? {
        true => Err(errors::cancelled(py, "the block around the group is cancelled")),
        false => Ok(()),
    }
}
