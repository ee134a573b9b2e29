//! Tasks, as Python sees them: a `concurrent.futures.Future` whose work the engine holds.
//!
//! The outcome lives here, set once, before the kernel tells whoever waits for the end. What the standard library's
//! `wait` and `as_completed` look for inside a future (`_condition`, `_waiters`) is made when they ask for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString, PyType};
use thistledown_kernel::{ScopeId, TaskId};

use crate::awaiting::Wait;
use crate::current::{Current, seconds_or_none};
use crate::errors::{self, Quick};
use crate::herald;
use crate::loops;
use crate::objects;
use crate::operation::Kind;
use crate::payload::WORLD;
use crate::remote::Remote;
use crate::report::report;
use crate::root;
use crate::slots;
use crate::upstream::Blocked;

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
    /// The standard library's view: a condition, and who waits for several futures at once.
    condition: Option<(Py<PyAny>, Py<PyList>)>,
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
    serial: AtomicU64,
    /// Somebody has asked for the outcome, or waited for it.
    fetched: AtomicBool,
    /// Its body gave way by an operation, which ends at its next turn.
    gives_way: AtomicBool,
    state: Mutex<State>,
}

/// In place of the kernel's number: the body runs in another process. No task of the kernel has this number.
const REMOTE: u64 = u64::MAX;

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

/// Whether no deadline ends the waits of a weightless task.
fn is_bound(task: TaskId) -> bool {
    WORLD.with(|kernel| !kernel.has_way_out(task))
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
            fetched: AtomicBool::new(false),
            gives_way: AtomicBool::new(false),
            state: Mutex::new(State { outcome: None, extra: None, origin }),
        }
    }

    /// Its number, unique in this process.
    pub(crate) fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
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

    /// Its body runs in another process.
    pub(crate) fn set_remote(slf: &Bound<'_, Self>, remote: Arc<Remote>) {
        remote.set_task(slf.as_ptr());
        slf.get().state.lock().extra.get_or_insert_default().remote = Some(remote);
        slf.get().id.store(REMOTE, Ordering::Release);
    }

    /// Makes it a member of a scope, if it runs in another process.
    pub(crate) fn join(&self, scope: ScopeId) -> PyResult<()> {
        match self.remote() {
            Some(remote) => remote.join(scope).map_err(errors::join_refused),
            None => Err(errors::wrong_type(
                "a group takes in tasks of worker processes: start a weightless one with `tg.go(body, *args)`",
            )),
        }
    }

    fn remote(&self) -> Option<Arc<Remote>> {
        if self.id.load(Ordering::Relaxed) != REMOTE {
            return None;
        }
        self.state.lock().extra.as_ref().and_then(|extra| extra.remote.clone())
    }

    /// In a worker, if it is one that was started here and runs elsewhere: who waits for it cannot go on before it has
    /// ended. `task` is the weightless one that waits; without, it is what runs in this thread.
    pub(crate) fn blocks(&self, task: Option<TaskId>) -> Option<Blocked> {
        self.remote()?.blocks(task)
    }

    /// In a worker, if it is one that was started here: a weightless task waits for it, and for nothing else.
    pub(crate) fn binds(&self, task: TaskId) {
        if let Some(blocked) = self.remote().filter(|_| is_bound(task)).and_then(|it| it.blocks(Some(task))) {
            // Said to be over by whoever ends the wait.
            blocked.lasts();
        }
    }

    /// The wait of a weightless task for it is over. What it is to be told, if it could never have ended.
    pub(crate) fn unbinds(&self, task: TaskId) -> Option<String> {
        let remote = self.remote()?;
        remote.bound(task).and_then(|_| remote.take_deadlock())
    }

    /// Why the wait for it can never end, for the one whose wait it is.
    pub(crate) fn take_deadlock(&self) -> Option<String> {
        self.remote()?.take_deadlock()
    }

    /// Whether its body runs in another process.
    pub(crate) fn is_remote(&self) -> bool {
        self.id.load(Ordering::Relaxed) == REMOTE
    }

    /// What has arrived from the other process, made Python's.
    fn unpack(&self, py: Python<'_>) {
        if self.state.lock().outcome.is_some() {
            return;
        }
        let Some(remote) = self.remote() else { return };
        let Some(ended) = remote.ended() else { return };
        herald::hear_out(py);
        // Unpacking runs foreign code, so nothing is held; who else does it meanwhile gets another copy, and one stays.
        let Some(outcome) = ended.unpack(py, &self.name(py)) else { return };
        let mut state = self.state.lock();
        let spare = match state.outcome {
            Some(_) => Some(outcome),
            None => {
                state.outcome = Some(outcome);
                None
            }
        };
        drop(state);
        drop(spare);
        remote.forget_outcome();
    }

    /// Tells whoever has asked to be told that its body, which ran in another process, has ended.
    pub(crate) fn tell(slf: &Bound<'_, Self>) {
        let this = slf.get();
        let Some(ended) = this.remote().and_then(|remote| remote.ended()) else { return };
        let tell = match (ended.is_cancelled(), ended.is_error()) {
            (true, _) => "add_cancelled",
            (_, true) => "add_exception",
            _ => "add_result",
        };
        drop(ended);
        if let Some((condition, waiters)) = this.view(slf.py()) {
            tell_waiters(slf, condition.bind(slf.py()), waiters.bind(slf.py()), tell, || {});
        }
        let callbacks = this.state.lock().extra.as_mut().map(|extra| std::mem::take(&mut extra.callbacks));
        for callback in callbacks.into_iter().flatten() {
            if let Err(error) = callback.call1(slf.py(), (slf,)) {
                log_failed_callback(slf, error);
            }
        }
    }

    /// What the standard library has asked for.
    fn view(&self, py: Python<'_>) -> Option<(Py<PyAny>, Py<PyList>)> {
        let state = self.state.lock();
        let view = state.extra.as_ref().and_then(|extra| extra.condition.as_ref());
        view.map(|(condition, waiters)| (condition.clone_ref(py), waiters.clone_ref(py)))
    }

    pub(crate) fn is_done(&self) -> bool {
        let state = self.state.lock();
        let remote = state.extra.as_ref().and_then(|extra| extra.remote.as_ref());
        state.outcome.is_some() || remote.is_some_and(|remote| remote.is_done())
    }

    #[inline]
    pub(crate) fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_gives_way(&self, gives_way: bool) {
        self.gives_way.store(gives_way, Ordering::Relaxed);
    }

    pub(crate) fn is_fetched(&self) -> bool {
        self.fetched.load(Ordering::Relaxed)
    }

    pub(crate) fn mark_fetched(&self) {
        self.fetched.store(true, Ordering::Relaxed);
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
            let view = state.extra.as_ref().and_then(|extra| extra.condition.as_ref());
            let view = view.map(|(condition, waiters)| (condition.clone_ref(py), waiters.clone_ref(py)));
            if let Some((condition, waiters)) = view {
                drop(state);
                this.settle_watched(slf, outcome, condition.bind(py), waiters.bind(py));
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

    /// The same while the standard library looks: the outcome appears under the condition it holds.
    fn settle_watched(
        &self,
        slf: &Bound<'_, Self>,
        outcome: Outcome,
        condition: &Bound<'_, PyAny>,
        waiters: &Bound<'_, PyList>,
    ) {
        let tell = match &outcome {
            Outcome::Value(_) => "add_result",
            Outcome::Error(_) => "add_exception",
            Outcome::Cancelled => "add_cancelled",
        };
        tell_waiters(slf, condition, waiters, tell, || self.state.lock().outcome = Some(outcome));
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
            format!("{origin}-{}", self.serial.load(Ordering::Relaxed))
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

/// Tells the standard library's waiters; `settle` is done under the condition that they hold.
fn tell_waiters(
    task: &Bound<'_, Task>,
    condition: &Bound<'_, PyAny>,
    waiters: &Bound<'_, PyList>,
    tell: &str,
    settle: impl FnOnce(),
) {
    let told = condition.call_method0("acquire").and_then(|_| {
        settle();
        let told = waiters.iter().try_for_each(|waiter| waiter.call_method1(tell, (task,)).map(drop));
        condition.call_method0("notify_all")?;
        condition.call_method0("release")?;
        told
    });
    if let Err(error) = told {
        error.write_unraisable(task.py(), Some(task.as_any()));
    }
}

#[allow(unsafe_code, reason = "the interpreter is asked whether it is there")]
impl Drop for Task {
    /// An error in another process that nobody has asked for is told, so that it is not lost.
    fn drop(&mut self) {
        if *self.id.get_mut() != REMOTE {
            return;
        }
        let Some(remote) = self.remote() else { return };
        remote.set_task(std::ptr::null_mut());
        if *self.fetched.get_mut() {
            return;
        }
        // SAFETY: a question that can be asked at any time. When the interpreter is ending nobody can be told.
        if unsafe { ffi::Py_IsInitialized() } == 0 {
            return;
        }
        Python::try_attach(|py| {
            // One that runs on is told of when it ends, if it fails.
            if !remote.let_go(self.name(py))
                && remote.ended().is_some_and(|ended| ended.is_error())
                && let Some(error) = self.failure(py)
            {
                report(py, "failed_elsewhere", (self.name(py), error));
            }
        });
    }
}

fn log_failed_callback(task: &Bound<'_, Task>, error: PyErr) {
    let told = task
        .py()
        .import("thistledown._report")
        .and_then(|report| report.call_method1("callback_failed", (task, error.into_value(task.py()))));
    if let Err(error) = told {
        error.write_unraisable(task.py(), Some(task.as_any()));
    }
}

#[pymethods]
impl Task {
    #[new]
    fn new() -> PyResult<Self> {
        Err(errors::wrong_type("tasks are made by `td.go(...)`"))
    }

    /// The task's number, unique in this process.
    #[getter(id)]
    fn number(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
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
        let is_error = matches!(outcome, Outcome::Error(_));
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

    /// Somebody is about to wait for a group that it is in: in a worker, somebody else may have the place until then.
    fn _is_awaited(&self) {
        if let Some(remote) = self.remote() {
            remote.is_awaited();
        }
    }

    /// What the standard library's `wait` and `as_completed` look for: the condition and the list of waiters.
    ///
    /// Only the list is refused, where waiting would stop a loop: they ask for it under the conditions of all of their
    /// futures, which they then release; a condition that is refused would leave those before it taken for ever.
    fn _standard_view(slf: &Bound<'_, Self>, is_to_wait: bool) -> PyResult<(Py<PyAny>, Py<PyList>)> {
        let (py, this) = (slf.py(), slf.get());
        let is_to_wait = is_to_wait && !this.is_done();
        if is_to_wait && (Current::run().is_some() || loops::runs_one(py, [slf.clone()])?) {
            return Err(errors::misuse(
                "waiting for tasks here would stop the thread that runs the weightless tasks: write `await task`, \
                 `td.select(...)` for the first of several, or `await td.thread(td.wait, tasks)`",
            ));
        }
        let fresh = (py.import("threading")?.call_method0("Condition")?.unbind(), PyList::empty(py).unbind());
        let view = {
            let mut state = this.state.lock();
            let view = state.extra.get_or_insert_default().condition.get_or_insert(fresh);
            (view.0.clone_ref(py), view.1.clone_ref(py))
        };
        if let Some(remote) = this.remote() {
            // Whoever looks takes the condition, and then asks whether it is done; so nobody misses its end.
            remote.watch(slf.clone().unbind());
        }
        Ok(view)
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
            if let Some((condition, waiters)) = &extra.condition {
                visit.call(condition)?;
                visit.call(waiters)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let mut state = self.state.lock();
        // Nobody can reach it any more; it stays one that has ended.
        let outcome = state.outcome.as_mut().map(|outcome| std::mem::replace(outcome, Outcome::Cancelled));
        let extra = state.extra.take();
        drop(state);
        drop((outcome, extra));
    }
}
