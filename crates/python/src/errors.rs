//! The error map: what the engine reports becomes a Python exception here and nowhere else.

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use rustix::io::Errno;
use thistledown_kernel::ScopeMisuse;
use thistledown_workers::{Cause, Death, Refusal};

macro_rules! python_errors {
    ($($function:ident = $class:literal),* $(,)?) => {$(
        #[doc = concat!("`thistledown.", $class, "`.")]
        pub(crate) fn $function(py: Python<'_>, words: impl Into<String>) -> PyErr {
            static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            match CLASS.import(py, "thistledown._errors", $class) {
                Ok(class) => PyErr::from_type(class.clone(), (words.into(),)),
                Err(error) => error,
            }
        }
    )*};
}

python_errors! {
    cancelled = "Cancelled",
    task_cancelled = "TaskCancelled",
    deadlock = "DeadlockError",
    channel_closed = "ChannelClosed",
    channel_full = "ChannelFull",
    channel_empty = "ChannelEmpty",
}

/// Whether this is the exception thrown into what is cancelled.
pub(crate) fn is_cancelled(py: Python<'_>, error: &Bound<'_, PyAny>) -> bool {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS
        .import(py, "thistledown._errors", "Cancelled")
        .is_ok_and(|class| error.is_instance(class).unwrap_or(false))
}

/// `IncompleteReadError`, with what was read.
pub(crate) fn incomplete_read(py: Python<'_>, partial: &[u8], expected: Option<usize>) -> PyErr {
    made(py, "IncompleteReadError", (pyo3::types::PyBytes::new(py, partial), expected))
}

/// `LimitOverrunError`, with how many bytes were looked at and are still there.
pub(crate) fn limit_overrun(py: Python<'_>, words: &str, consumed: usize) -> PyErr {
    made(py, "LimitOverrunError", (words, consumed))
}

fn made<'py>(py: Python<'py>, class: &str, args: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    let error = py.import("thistledown._errors").and_then(|errors| errors.getattr(class)?.call1(args));
    error.map_or_else(|error| error, PyErr::from_value)
}

/// An error of the operating system.
pub(crate) fn system(error: &std::io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => errno(Errno::from_raw_os_error(number)),
        None => PyOSError::new_err(error.to_string()),
    }
}

/// An error number of the operating system; `OSError` picks its own subclass.
pub(crate) fn errno(error: Errno) -> PyErr {
    let words = std::io::Error::from(error).to_string();
    let words = words.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((error.raw_os_error(), words))
}

/// A scope that is not closed where it was opened.
pub(crate) fn scope_misuse(misuse: ScopeMisuse) -> PyErr {
    let advice = match misuse {
        ScopeMisuse::OtherTask => "leave the block in the task that entered it",
        ScopeMisuse::NotInnermost => {
            "leave the inner block first; do not hold a block open across a generator's yield"
        }
        _ => "a scope is entered once, by `with`",
    };
    PyRuntimeError::new_err(format!("{misuse}: {advice}"))
}

pub(crate) fn misuse(words: impl Into<String>) -> PyErr {
    PyRuntimeError::new_err(words.into())
}

pub(crate) fn wrong_type(words: impl Into<String>) -> PyErr {
    PyTypeError::new_err(words.into())
}

pub(crate) fn wrong_value(words: impl Into<String>) -> PyErr {
    PyValueError::new_err(words.into())
}

/// What a worker's task raised, as it was packed there.
pub(crate) fn from_worker(py: Python<'_>, packed: &[u8]) -> PyResult<Py<PyAny>> {
    let packed = pyo3::types::PyBytes::new(py, packed);
    Ok(py.import("thistledown._pickling")?.call_method1("unpack_error", (packed,))?.unbind())
}

/// `TimeoutError`, for a task that took too long.
pub(crate) fn timed_out(py: Python<'_>, name: &str, seconds: f64) -> PyResult<Py<PyAny>> {
    Ok(py.import("thistledown._deaths")?.call_method1("timed_out", (name, seconds))?.unbind())
}

/// `WorkerDied`, with what is known of it.
pub(crate) fn worker_died(py: Python<'_>, name: &str, death: &Death) -> PyResult<Py<PyAny>> {
    let (cause, limit) = match death.cause {
        Cause::Memory(limit) => ("memory", Some(limit)),
        Cause::Stubborn => ("stubborn", None),
        Cause::HungUp => ("hung up", None),
        Cause::Garbled => ("garbled", None),
        Cause::Killed => ("killed", None),
        Cause::Unknown => ("unknown", None),
    };
    let args = (name, death.pid, death.status, cause, limit, &death.stderr);
    Ok(py.import("thistledown._deaths")?.call_method1("worker_died", args)?.unbind())
}

/// There are no workers, and why.
pub(crate) fn refused(py: Python<'_>, name: &str, refusal: &Refusal) -> PyResult<Py<PyAny>> {
    let (words, cause) = match refusal {
        Refusal::Initializer(packed) => {
            let opened = packed.open().map_err(|error| system(&error))?;
            (String::new(), Some(from_worker(py, opened.head())?))
        }
        Refusal::Start(words) => (words.clone(), None),
        Refusal::Forked => {
            return Ok(misuse(format!(
                "task {name} belongs to the process that this one was forked from: it ends there, ask for it there"
            ))
            .into_value(py)
            .into_any());
        }
    };
    Ok(py.import("thistledown._deaths")?.call_method1("refused", (name, words, cause))?.unbind())
}
