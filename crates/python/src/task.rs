//! Tasks, as Python sees them: a `concurrent.futures.Future` whose work the engine holds.
//!
//! The outcome lives here, set once, before the kernel tells whoever waits for the end. What the standard library's
//! `wait` and `as_completed` look for inside a future stands in `standard`; what is known of a body in another process, in
//! `elsewhere`; what Python calls, in `face`.

mod elsewhere;
mod face;
mod standard;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use rustix_futex_sync::Mutex;
use thistledown_kernel::TaskId;

use crate::asyncio::loops;
use crate::current::Current;
use crate::errors;
use crate::objects;
use crate::root;
use crate::slots;
use crate::workers::remote::Remote;

/// How a task ended.
pub(crate) enum Outcome {
    Value(Py<PyAny>),
    Error(Py<PyAny>),
    Cancelled,
}

/// What few tasks have.
#[derive(Default)]
struct Extra {
    callbacks: Vec<Py<PyAny>>,
    name: Option<Py<PyString>>,
    view: Option<standard::View>,
    /// What it is when its body runs in another process.
    remote: Option<Arc<Remote>>,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    extra: Option<Box<Extra>>,
    /// What it was made from, for its name.
    origin: Option<Py<PyString>>,
}

/// A task: work that was told to go. A real ``concurrent.futures.Future``, which can also be awaited.
#[pyclass(frozen, subclass, generic, module = "thistledown._core")]
pub(crate) struct Task {
    id: AtomicU64,
    /// Its number, and in the highest bits its marks: a million of tasks are smaller without a field for each.
    serial: AtomicU64,
    state: Mutex<State>,
}

/// In place of the kernel's number: the body runs in another process. No task of the kernel has this number.
const REMOTE: u64 = u64::MAX;

/// Somebody has asked for the outcome, or waited for it.
const FETCHED: u64 = 1 << 63;

/// Its body gave way by an operation, which ends at its next turn.
const GIVES_WAY: u64 = 1 << 62;

/// It is ended by hand, and forgotten when nobody has it any more.
const PLEDGED: u64 = 1 << 61;

static SERIAL: AtomicU64 = AtomicU64::new(1);
static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The class that tasks are made of; the Python face registers its own.
#[pyfunction]
#[pyo3(signature = (class, /))]
pub(crate) fn set_task_class(py: Python<'_>, class: Bound<'_, PyType>) -> PyResult<()> {
    if !class.is_subclass_of::<Task>()? {
        return Err(errors::wrong_type("the class of tasks is made of the engine's"));
    }
    slots::install_task(&class);
    let _ = CLASS.set(py, class.unbind());
    Ok(())
}

/// The class that tasks are made of. Its module is imported with the first task.
fn class(py: Python<'_>) -> PyResult<&Py<PyType>> {
    if let Some(class) = CLASS.get(py) {
        return Ok(class);
    }
    py.import("thistledown._task")?;
    CLASS.get(py).ok_or_else(|| errors::misuse("thistledown._task registers no class of tasks"))
}

impl Task {
    /// A new task object, which the collector does not look at. `origin` is what its name is taken from.
    pub(crate) fn make(py: Python<'_>, origin: Option<Py<PyString>>) -> PyResult<Bound<'_, Self>> {
        objects::task(py, class(py)?.bind(py), || Self::fresh(origin))
    }

    pub(crate) fn fresh(origin: Option<Py<PyString>>) -> Self {
        Self {
            id: AtomicU64::new(0),
            serial: AtomicU64::new(SERIAL.fetch_add(1, Ordering::Relaxed)),
            state: Mutex::new(State { outcome: None, extra: None, origin }),
        }
    }

    /// Its number, unique in this process.
    pub(crate) fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed) & !(FETCHED | GIVES_WAY | PLEDGED)
    }

    #[inline]
    fn is_marked(&self, mark: u64) -> bool {
        self.serial.load(Ordering::Relaxed) & mark != 0
    }

    /// Whoever marks it is attached to the interpreter, one at a time.
    #[inline]
    fn mark(&self, mark: u64, on: bool) {
        let known = self.serial.load(Ordering::Relaxed);
        self.serial.store(if on { known | mark } else { known & !mark }, Ordering::Relaxed);
    }

    pub(crate) fn set_id(&self, id: TaskId) {
        self.id.store(id.number(), Ordering::Release);
    }

    /// The kernel's name for it, for whoever waits for its end.
    pub(crate) fn id(&self) -> TaskId {
        match self.id.load(Ordering::Acquire) {
            REMOTE => self.remote().map_or_else(|| TaskId::from_number(0), |remote| remote.party()),
            number => TaskId::from_number(number),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        let state = self.state.lock();
        let remote = state.extra.as_ref().and_then(|extra| extra.remote.as_ref());
        state.outcome.is_some() || remote.is_some_and(|remote| remote.is_done())
    }

    #[inline]
    pub(crate) fn gives_way(&self) -> bool {
        self.is_marked(GIVES_WAY)
    }

    #[inline]
    pub(crate) fn set_gives_way(&self, gives_way: bool) {
        self.mark(GIVES_WAY, gives_way);
    }

    pub(crate) fn is_pledged(&self) -> bool {
        self.is_marked(PLEDGED)
    }

    pub(crate) fn set_pledged(&self) {
        self.mark(PLEDGED, true);
    }

    pub(crate) fn is_fetched(&self) -> bool {
        self.is_marked(FETCHED)
    }

    pub(crate) fn mark_fetched(&self) {
        self.mark(FETCHED, true);
    }

    /// The exception it failed with.
    pub(crate) fn failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.unpack(py);
        match &self.state.lock().outcome {
            Some(Outcome::Error(error)) => Some(error.clone_ref(py)),
            _ => None,
        }
    }

    /// Its result, or the error to raise; nothing while it is not done.
    pub(crate) fn outcome(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        self.unpack(py);
        let outcome = match self.state.lock().outcome.as_ref()? {
            Outcome::Value(value) => return Some(Ok(value.clone_ref(py))),
            Outcome::Error(error) => Some(error.clone_ref(py)),
            Outcome::Cancelled => None,
        };
        self.mark_fetched();
        Some(Err(match outcome {
            Some(error) => PyErr::from_value(error.into_bound(py)),
            None => errors::task_cancelled(py, format!("task {} was cancelled", self.name(py))),
        }))
    }

    /// Ends it. Callbacks are called, waiters of the standard library told; the kernel's waiters come after.
    pub(crate) fn settle(slf: &Bound<'_, Self>, outcome: Outcome) {
        let py = slf.py();
        let this = slf.get();
        if let Outcome::Value(held) | Outcome::Error(held) = &outcome
            && root::can_be_tracked(held.as_ptr())
        {
            root::track(slf.as_ptr());
        }
        let callbacks = {
            let mut state = this.state.lock();
            if state.outcome.is_some() {
                return;
            }
            let view = state.extra.as_ref().and_then(|extra| extra.view.as_ref());
            if let Some(view) = view.map(|view| view.clone_ref(py)) {
                drop(state);
                standard::settle(slf, outcome, &view);
                state = this.state.lock();
            } else {
                state.outcome = Some(outcome);
            }
            state.extra.as_mut().map(|extra| std::mem::take(&mut extra.callbacks))
        };
        for callback in callbacks.into_iter().flatten() {
            if let Err(error) = callback.bind(py).call1((slf,))
                && let Err(error) = crate::run::end_run(py, error)
            {
                log_failed_callback(slf, error);
            }
        }
    }

    /// Its name: the one it was given, or what it runs and a number.
    pub(crate) fn name(&self, py: Python<'_>) -> String {
        let state = self.state.lock();
        let given = state.extra.as_ref().and_then(|extra| extra.name.as_ref()).map(|name| name.clone_ref(py));
        let origin = state.origin.as_ref().map(|origin| origin.clone_ref(py));
        drop(state);
        let words = |text: Py<PyString>| text.bind(py).to_string_lossy().into_owned();
        given.map(words).unwrap_or_else(|| {
            let origin = origin.map_or_else(|| "task".into(), words);
            format!("{origin}-{}", self.serial())
        })
    }

    /// Takes a callback back. Nothing: it is being called.
    fn forget_callback(&self, callback: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
        let mut state = self.state.lock();
        let callbacks = &mut state.extra.as_mut()?.callbacks;
        let at = callbacks.iter().position(|known| known.is(callback))?;
        Some(callbacks.remove(at))
    }

    /// The outcome, waited for in a plain thread.
    fn wait_done(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<()> {
        if slf.get().is_done() {
            return Ok(());
        }
        if Current::run().is_some() {
            return Err(errors::misuse(
                "the task is not done, and waiting here would stop the thread that runs the weightless tasks: write \
                 `await task` (in a generator task `yield from task`)",
            ));
        }
        if loops::runs_one(slf.py(), [slf.clone()])? {
            return Err(errors::misuse(
                "the task is not done, and waiting here would stop the event loop that runs it: write `await task`",
            ));
        }
        crate::thread_wait::wait_for_end(slf, timeout)
    }
}

fn log_failed_callback(task: &Bound<'_, Task>, error: PyErr) {
    let told = task
        .py()
        .import("thistledown._report")
        .and_then(|report| report.call_method1("callback_failed", (task, error.into_value(task.py()))));
    if let Err(error) = told {
        errors::put_off(task.py(), error, Some(task.as_any()));
    }
}
