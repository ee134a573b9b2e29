//! The error map: what the engine reports becomes a Python exception here and nowhere else.

use pyo3::exceptions::{
    PyKeyboardInterrupt, PyOSError, PyRuntimeError, PyTimeoutError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyBytes, PyString, PyType};
use rustix::io::Errno;
use thistledown_exchange::Broken;
use thistledown_kernel::{JoinRefused, ScopeMisuse};
use thistledown_workers::{Cause, Death, Gone, Refusal};

/// A result on the hot path: it travels in registers, where a `PyErr` would be copied through each caller.
pub(crate) type Quick<T> = Result<T, Thrown>;

/// An error of the hot path, in a box.
pub(crate) struct Thrown(Box<PyErr>);

impl From<PyErr> for Thrown {
    #[cold]
    fn from(error: PyErr) -> Self {
        Self(Box::new(error))
    }
}

impl From<Thrown> for PyErr {
    fn from(thrown: Thrown) -> Self {
        *thrown.0
    }
}

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
    channel_broken = "ChannelBroken",
    channel_full = "ChannelFull",
    channel_empty = "ChannelEmpty",
    lease_expired = "LeaseExpired",
    space_damaged = "SpaceDamaged",
    space_broken = "SpaceBroken",
}

/// What is wrong with the file of a space.
pub(crate) fn of_ledger(error: &thistledown_ledger::Error) -> PyErr {
    use thistledown_ledger::Error;
    Python::attach(|py| match error {
        Error::Damaged { damage, .. } if damage == thistledown_ledger::NOTHING_WHOLE => {
            space_damaged(py, error.to_string())
        }
        Error::Damaged { .. } => space_damaged(
            py,
            format!(
                "{error}. `td.Space(path, repair=True)` keeps what is whole, and the damaged file beside it"
            ),
        ),
        Error::Foreign { .. } | Error::Named { .. } | Error::Version { .. } => wrong_value(error.to_string()),
        Error::System { path, source, .. } if source.raw_os_error().is_some() => {
            let number = source.raw_os_error().unwrap_or_default();
            pyo3::exceptions::PyOSError::new_err((
                number,
                std::io::Error::from_raw_os_error(number).to_string(),
                path.clone(),
            ))
        }
        _ => space_broken(py, error.to_string()),
    })
}

/// The class of the exception thrown into what is cancelled.
pub(crate) fn cancelled_class(py: Python<'_>) -> Option<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "thistledown._errors", "Cancelled").ok()
}

/// Whether this is the exception thrown into what is cancelled.
pub(crate) fn is_cancelled(py: Python<'_>, error: &Bound<'_, PyAny>) -> bool {
    cancelled_class(py).is_some_and(|class| error.is_instance(class).unwrap_or(false))
}

/// What runs elsewhere is not taken into a group.
pub(crate) fn join_refused(refused: JoinRefused) -> PyErr {
    misuse(match refused {
        JoinRefused::Taken => "the task belongs to another group already".into(),
        JoinRefused::NotOpen => "the group has ended: start tasks inside its block".into(),
        _ => refused.to_string(),
    })
}

/// `IncompleteReadError`, with what was read.
pub(crate) fn incomplete_read(py: Python<'_>, partial: &[u8], expected: Option<usize>) -> PyErr {
    made(py, "IncompleteReadError", (pyo3::types::PyBytes::new(py, partial), expected))
}

/// `LimitOverrunError`, with how many bytes were looked at and are still there.
pub(crate) fn limit_overrun(py: Python<'_>, words: &str, consumed: usize) -> PyErr {
    made(py, "LimitOverrunError", (words, consumed))
}

/// `WatchLagged`, with how many tuples were dropped.
pub(crate) fn watch_lagged(py: Python<'_>, words: &str, missed: u64) -> PyErr {
    made(py, "WatchLagged", (words, missed))
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
            "leave the inner block first; do not hold a block open across a generator's `yield`"
        }
        _ => "a scope is entered once, by `with`",
    };
    PyRuntimeError::new_err(format!("{misuse}: {advice}"))
}

/// An object for the eye of a person, or `otherwise` where its `repr` fails.
pub(crate) fn shown(object: &Bound<'_, PyAny>, otherwise: &str) -> String {
    match object.repr() {
        Ok(words) => words.to_string_lossy().into_owned(),
        Err(error) => {
            if error.is_instance_of::<PyKeyboardInterrupt>(object.py()) {
                put_off(object.py(), error, None);
            }
            otherwise.to_owned()
        }
    }
}

/// An error that struck where nobody can raise it. Ctrl-C strikes again, at the next place that can; of anything else
/// `sys.unraisablehook` is told, with the object it has to do with.
///
/// Python looks for signals wherever it likes, also inside of `str` and `repr`: what is dropped there is somebody's Ctrl-C.
pub(crate) fn put_off(py: Python<'_>, error: PyErr, object: Option<&Bound<'_, PyAny>>) {
    if error.is_instance_of::<PyKeyboardInterrupt>(py) {
        crate::interrupts::strike_again();
    } else {
        error.write_unraisable(py, object);
    }
}

/// The exception that is on its way while something is dropped because of it. It is on its way again when this is let go:
/// whoever asks Python for something in between would lose it, or be taken for its cause.
pub(crate) struct Pending<'py>(Python<'py>, Option<PyErr>);

impl<'py> Pending<'py> {
    pub(crate) fn set_aside(py: Python<'py>) -> Self {
        Self(py, PyErr::take(py))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(error) = self.1.take() {
            error.restore(self.0);
        }
    }
}

pub(crate) fn misuse(words: impl Into<String>) -> PyErr {
    PyRuntimeError::new_err(words.into())
}

pub(crate) fn wrong_type(words: impl Into<String>) -> PyErr {
    PyTypeError::new_err(words.into())
}

/// `async with`, where the block does not wait; what it is comes first.
pub(crate) fn plain_block(what: &str) -> PyErr {
    wrong_type(format!("{what}, also in an `async def`: write `with`, not `async with`"))
}

pub(crate) fn wrong_value(words: impl Into<String>) -> PyErr {
    PyValueError::new_err(words.into())
}

/// In front of an error that is not packed, but written down.
pub(crate) const ONLY_WORDS: &[u8] = b"\0";

/// What a worker's task raised, as it was packed there.
pub(crate) fn from_worker(py: Python<'_>, packed: &[u8]) -> PyResult<Py<PyAny>> {
    if let Some(words) = packed.strip_prefix(ONLY_WORDS) {
        return Ok(misuse(String::from_utf8_lossy(words)).into_value(py).into_any());
    }
    let packed = PyBytes::new(py, packed);
    Ok(py.import("thistledown._pickling")?.call_method1("unpack_error", (packed,))?.unbind())
}

/// `TimeoutError`, for a task that took too long.
pub(crate) fn timed_out(py: Python<'_>, name: &str, seconds: f64) -> Py<PyAny> {
    let words = format!("task {name} was ended after {seconds} s, its option `timeout`");
    PyTimeoutError::new_err(words).into_value(py).into_any()
}

/// `WorkerDied`, with what is known of it.
pub(crate) fn worker_died(py: Python<'_>, name: &str, death: &Death) -> PyResult<Py<PyAny>> {
    let (cause, limit) = match death.cause {
        Cause::Memory(limit) => ("", Some(limit)),
        Cause::Stubborn => ("it was killed because a task in it did not stop when it was told to", None),
        Cause::HungUp => ("it closed its connection to the program, and was killed", None),
        Cause::Garbled => ("it sent what nobody understands, and was killed", None),
        Cause::Killed => ("it was killed with its pool", None),
        Cause::Dismissed => ("it was killed, with the actor that lived in it", None),
        Cause::Unknown => ("", None),
    };
    let named = [("memory", limit.into_pyobject(py)?), ("cause", PyString::new(py, cause).into_any())];
    let args = (name, death.pid.unwrap_or(0), death.status, PyBytes::new(py, death.stderr.as_bytes()));
    let made = py
        .import("thistledown._deaths")?
        .getattr("worker_died")?
        .call(args, Some(&named.into_py_dict(py)?))?;
    Ok(made.unbind())
}

/// There are no workers, and why.
pub(crate) fn refused(py: Python<'_>, name: &str, refusal: &Refusal) -> PyResult<Py<PyAny>> {
    let (words, cause) = match refusal {
        Refusal::Initializer(packed) => {
            let opened = packed.open().map_err(|error| system(&error))?;
            let error = from_worker(py, opened.head())?;
            ("the initializer of the workers failed, so they run no task".to_owned(), Some(error))
        }
        Refusal::Start(words) => (format!("the workers run no task: {words}"), None),
        Refusal::Stillborn(death) => {
            let died = worker_died(py, name, death)?;
            let words = format!(
                "the workers run no task, because they die before they are ready: {}",
                died.bind(py).str()?
            );
            (words, Some(died))
        }
        Refusal::Forked => {
            return Ok(misuse(format!(
                "task {name} belongs to the process that this one was forked from: it ends there, ask for it there"
            ))
            .into_value(py)
            .into_any());
        }
    };
    Ok(py.import("thistledown._deaths")?.call_method1("workers_broken", (words, cause))?.unbind())
}

/// Why an actor takes no calls: `ActorStopped` or `ActorDied`.
pub(crate) fn actor_gone(py: Python<'_>, actor: &str, gone: &Gone) -> PyResult<Py<PyAny>> {
    let (word, cause) = how_gone(py, actor, gone)?;
    let args = (actor, word, cause);
    Ok(py.import("thistledown._boxes_ends")?.call_method1("gone", args)?.unbind())
}

/// `ActorDied`: the process in which an actor lived is gone, or has it no more.
pub(crate) fn home_gone(py: Python<'_>, actor: &str, why: Broken) -> Py<PyAny> {
    let made = py
        .import("thistledown._boxes_far")
        .and_then(|boxes| boxes.call_method1("home_gone", (actor, why.to_string())));
    made.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any()).unbind()
}

/// How an actor has ended: a word, and the error.
pub(crate) fn actor_ending(py: Python<'_>, actor: &str, gone: &Gone) -> PyResult<Py<PyAny>> {
    Ok(how_gone(py, actor, gone)?.into_pyobject(py)?.into_any().unbind())
}

fn how_gone(py: Python<'_>, actor: &str, gone: &Gone) -> PyResult<(&'static str, Option<Py<PyAny>>)> {
    Ok(match gone {
        Gone::Stopped => ("stopped", None),
        Gone::Closed => ("closed", None),
        Gone::Killed => ("killed", None),
        Gone::Unknown => ("unknown", None),
        Gone::Unmade(error) => {
            let opened = error.open().map_err(|error| system(&error))?;
            ("unmade", Some(from_worker(py, opened.head())?))
        }
        Gone::Died(death) => {
            let word = if death.cause == Cause::Dismissed { "killed" } else { "died" };
            (word, Some(worker_died(py, actor, death)?))
        }
        Gone::NoWorkers(refusal) => ("unstarted", Some(refused(py, actor, refusal)?)),
    })
}

/// `MailboxFull`.
pub(crate) fn mailbox_full(py: Python<'_>, actor: &str) -> PyErr {
    let words = format!(
        "{actor} has as many unanswered messages as its mailbox takes: wait for some of them, or give it more room by the \
         option `mailbox`"
    );
    made(py, "MailboxFull", (words,))
}
