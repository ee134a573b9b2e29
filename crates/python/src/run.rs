//! A run: its loop's host, how it ends, and what becomes of errors that nobody waited for.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use rustix_futex_sync::{Mutex, RwLock};
use thistledown_kernel::{RunnerId, Start, TaskId, Turn};
use thistledown_reactor::Reactor;
use thistledown_runtime::{Clock, Flow, Host, Rest, Stall, Watchdog, Watched};

use crate::context;
use crate::current::{Current, Run, Shared};
use crate::descriptor;
use crate::errors;
use crate::operation::Operation;
use crate::outside::outside;
use crate::payload::{Body, Held, Snake, WORLD, Waker};
use crate::report::{self, report};
use crate::root::Root;
use crate::task::{Outcome, Task};
use crate::turn;
use crate::window;

/// What the signals' descriptor is registered as; no source has this number.
const SIGNALS: u64 = u64::MAX - 1;

/// Failed tasks that a run remembers for its end; more are counted and logged.
const FAILED_LIMIT: usize = 1_000;

/// The watchdog of this process.
static WATCHDOG: RwLock<Option<&'static Watchdog>> = RwLock::new(None);

pub(crate) fn watchdog() -> &'static Watchdog {
    if let Some(watchdog) = *WATCHDOG.read() {
        return watchdog;
    }
    WATCHDOG.write().get_or_insert_with(|| Box::leak(Box::default()))
}

/// In a forked child the old one's thread does not exist.
pub(crate) fn replace_watchdog() {
    *WATCHDOG.write() = None;
}

/// The runs of this process that are not over.
static RUNS: Mutex<Vec<Arc<Shared>>> = Mutex::new(Vec::new());

/// Runs a weightless task, and every task it starts, in this thread.
///
/// The run is over when all of them have ended. See `thistledown.run` for the whole story.
#[pyfunction]
#[pyo3(signature = (main, args, stall_after, virtual_clock, signals))]
pub(crate) fn run(
    py: Python<'_>,
    main: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    stall_after: Option<f64>,
    virtual_clock: bool,
    signals: Option<RawFd>,
) -> PyResult<Py<PyAny>> {
    // In a child that was forked inside of a run, that run is the parent's.
    let outer = Current::run();
    if outer.as_ref().is_some_and(|run| !run.forked.get()) {
        return Err(errors::misuse(
            "`td.run` inside of a run: start a task with `td.go(...)` and wait for it with `await`",
        ));
    }
    let stall_after =
        stall_after.map(|value| crate::current::seconds(value, "stall_after")).transpose()?.flatten();
    if stall_after.is_some_and(|limit| limit.is_zero()) {
        return Err(errors::wrong_value("stall_after must be > 0; None turns the reports off"));
    }
    let iterator = crate::body::iterator(&main, &crate::body::Packed { args: &args, kwargs: None })?;
    let mut reactor = Reactor::new().map_err(|error| errors::system(&error))?;
    let registry = reactor.registry().map_err(|error| errors::system(&error))?;
    if let Some(signals) = signals {
        let registered = registry.register(descriptor::borrow(signals), SIGNALS);
        registered.map_err(|error| errors::system(&error))?;
    }
    let waker = Waker::Runner(reactor.waker());
    let (runner, root) = WORLD.with(|kernel| kernel.add_runner(waker));
    let clock = Arc::new(if virtual_clock { Clock::new_virtual() } else { Clock::System });
    let shared = Arc::new(Shared {
        runner,
        thread: crate::survey::this_thread(),
        clock: Arc::clone(&clock),
        waker: reactor.waker(),
        exit: AtomicBool::new(false),
        over: AtomicBool::new(false),
        task: AtomicPtr::new(std::ptr::null_mut()),
    });
    let watched = match stall_after {
        Some(limit) => watch(limit, &shared).map_err(|error| {
            WORLD.with(|kernel| kernel.remove_runner(runner));
            errors::system(&error)
        })?,
        None => Watched::by_nobody(),
    };
    let run = Rc::new(Run {
        runner,
        root,
        clock: Arc::clone(&clock),
        registry: Arc::new(registry),
        shared,
        failed: RefCell::default(),
        failed_unlisted: Cell::new(0),
        forked: Cell::new(false),
        attendant: RefCell::new(None),
        rooms: None,
    });
    RUNS.lock().push(Arc::clone(&run.shared));
    let window = window::User::new();
    Current::set_run(py, Some(Rc::clone(&run)));
    let origin = crate::body::origin(&main, &iterator);
    let task = spawn(py, &run, iterator, origin, Start::InRun, None, None);
    let mut ruler = Ruler { py, run: Rc::clone(&run), main: None, signals, ending: None, given_up: false };
    let looped = task.and_then(|task| {
        ruler.main = Some(task.clone_ref(py));
        thistledown_runtime::run(&WORLD, runner, &mut reactor, &clock, &watched, &mut ruler)
            .map_err(|error| errors::system(&error))
            .map(|_| task)
    });
    match run.forked.get() {
        // The parent's watchdog watches the parent.
        true => std::mem::forget(watched),
        false => drop(watched),
    }
    settle_left_over(py, &run);
    // A callback of what was left over may have raised one more, which is none of the next run's.
    let late = ENDING.take();
    let ending = ruler.ending.take().or(late);
    WORLD.with(|kernel| kernel.remove_runner(runner));
    Current::set_run(py, outer);
    let concluded = looped.and_then(|main| conclude(py, &run, ending, main));
    RUNS.lock().retain(|other| !Arc::ptr_eq(other, &run.shared));
    if !run.forked.get() {
        window.goes(py);
    }
    // From here on no Python code runs in here: a thread that the exiting interpreter stops in there takes the
    // process down, so whoever waits for the end of the run has to wait until now.
    run.shared.over.store(true, Ordering::Release);
    concluded
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
        Task::settle(task.bind(py), Outcome::Cancelled);
        close_fresh(iterator.bind(py));
    }
}

/// Closes a body that will never begin, so that nobody is told that it was forgotten.
pub(crate) fn close_fresh(body: &Bound<'_, PyAny>) {
    if crate::body::state(body) == Some(crate::body::State::Fresh)
        && let Err(error) = body.call_method0(pyo3::intern!(body.py(), "close"))
    {
        error.write_unraisable(body.py(), Some(body));
    }
}

/// What a run gives: the main task's result, or the errors that are left.
fn conclude(py: Python<'_>, run: &Run, ending: Option<PyErr>, main: Py<Task>) -> PyResult<Py<PyAny>> {
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

/// Lets the watchdog watch this thread.
fn watch(limit: Duration, shared: &Arc<Shared>) -> io::Result<Watched> {
    let thread = shared.thread;
    let shared = Arc::clone(shared);
    let progress = Arc::new(std::sync::OnceLock::<Arc<thistledown_runtime::Progress>>::new());
    let known = Arc::clone(&progress);
    let watched = watchdog().watch(limit, move |stall: Stall| {
        Python::try_attach(|py| {
            let turn = known.get().and_then(|progress| progress.turn());
            let lasts = turn == Some(stall.turn);
            let task =
                if lasts { turn::borrowed_task(py, shared.task.load(Ordering::Relaxed)) } else { None };
            report(py, "stalled", (task, thread, stall.lasted.as_secs_f64(), lasts));
        });
    })?;
    let _ = progress.set(Arc::clone(watched.progress()));
    Ok(watched)
}

/// Ctrl-C since the main thread's run began, wherever it struck: one that is raised inside of a task is otherwise not
/// seen before that task has cleaned up.
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// Counts a Ctrl-C; zero begins to count.
#[pyfunction]
pub(crate) fn count_interrupts(more: u32) {
    match more {
        0 => INTERRUPTS.store(0, Ordering::Relaxed),
        more => drop(INTERRUPTS.fetch_add(more, Ordering::Relaxed)),
    }
}

/// A Ctrl-C that was raised where nobody can raise it comes once more, and counts once.
#[allow(unsafe_code, reason = "pyo3 has no word for it")]
pub(crate) fn strike_again() {
    let _ = INTERRUPTS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    // SAFETY: sets a flag, from any thread.
    unsafe { pyo3::ffi::PyErr_SetInterrupt() };
}

/// The runs of this process that are not over.
pub(crate) fn runs() -> Vec<Arc<Shared>> {
    RUNS.lock().clone()
}

/// Asks every run of another thread to end, because the interpreter is about to. True when all are over.
#[pyfunction]
pub(crate) fn stop_runs(py: Python<'_>) -> bool {
    // The watchdog's thread must not be inside of the interpreter when that ends.
    outside(py, || {
        watchdog().fall_silent();
        window::fall_silent();
    });
    let runs = runs();
    for run in &runs {
        run.exit.store(true, Ordering::Release);
        run.waker.wake();
    }
    runs.iter().all(|run| run.over.load(Ordering::Acquire))
}

/// The task of this turn attends to the outside for the run: it takes in further tasks. When nothing can happen any more
/// for the others, ``stuck(error)`` is called, and sees to it that something happens; False asks to be called again.
#[pyfunction]
pub(crate) fn attend(stuck: Py<PyAny>) -> PyResult<()> {
    let task = Current::need_task("td's own attending")?;
    let run = Current::run().ok_or_else(|| errors::misuse("no run in this thread"))?;
    WORLD.with(|kernel| kernel.attend(task));
    let old = run.attendant.replace(Some((task, stuck)));
    drop(old);
    Ok(())
}

/// In a forked child: the parent's runs are not here.
pub(crate) fn forget_runs() {
    if let Some(mut runs) = RUNS.try_lock() {
        runs.clear();
    }
}

/// Makes a task of an iterator and puts it in the ready queue.
pub(crate) fn spawn(
    py: Python<'_>,
    run: &Run,
    iterator: Bound<'_, PyAny>,
    origin: Bound<'_, PyString>,
    start: Start,
    group: Option<Py<PyAny>>,
    name: Option<Py<PyAny>>,
) -> PyResult<Py<Task>> {
    if let Some(rooms) = &run.rooms
        && start == Start::InRun
    {
        let starting = rooms.start(py, run)?;
        return spawn_in(py, run.runner, iterator, origin, starting.start, group, name);
    }
    spawn_in(py, run.runner, iterator, origin, start, group, name)
}

/// The same in whichever run, from any thread.
pub(crate) fn spawn_in(
    py: Python<'_>,
    runner: RunnerId,
    iterator: Bound<'_, PyAny>,
    origin: Bound<'_, PyString>,
    start: Start,
    group: Option<Py<PyAny>>,
    name: Option<Py<PyAny>>,
) -> PyResult<Py<Task>> {
    let task = Task::make(py, Some(origin.unbind()))?;
    if let Some(name) = name {
        task.setattr("name", name)?;
    }
    let body = Body {
        iterator: Root::new(iterator.unbind()),
        task: task.clone().unbind(),
        context: Root::new(context::copy(py)?.unbind()),
        awaited: None,
        group,
        extra: None,
    };
    match WORLD.with(|kernel| kernel.spawn(runner, start, Held::new(py, body))) {
        Ok(id) => {
            task.get().set_id(id);
            Ok(task.unbind())
        }
        Err(_body) => Err(errors::misuse("the group has ended: start tasks inside its block")),
    }
}

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
    let error = match &outcome {
        Outcome::Error(error) => Some(error.clone_ref(py)),
        _ => None,
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
    // Nobody can ever ask for it: it is told at once.
    let unseen = turn::is_unseen(&body.task);
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

/// Rules a run's loop.
struct Ruler<'py> {
    py: Python<'py>,
    run: Rc<Run>,
    main: Option<Py<Task>>,
    /// Becomes readable with each signal.
    signals: Option<RawFd>,
    /// Why the run ends, once it does.
    ending: Option<PyErr>,
    given_up: bool,
}

impl Ruler<'_> {
    /// The run ends with this error: everything in it is cancelled. The first error stays.
    fn end(&mut self, error: PyErr) {
        if self.ending.is_none() {
            self.ending = Some(error);
        }
        let root = self.run.root;
        WORLD.with(|kernel| kernel.cancel_scope(root));
    }

    fn end_on_error(&mut self, error: PyErr) {
        let again =
            INTERRUPTS.load(Ordering::Relaxed) > 1 && error.is_instance_of::<PyKeyboardInterrupt>(self.py);
        if self.ending.is_some() || again {
            self.given_up = true;
        }
        self.end(error);
    }
}

impl Host<Snake> for Ruler<'_> {
    #[inline]
    fn turn(&mut self, turn: Turn<Held, Py<PyAny>>) -> Rest<Held> {
        let task = turn.task;
        let rest = turn::give(self.py, &self.run, turn);
        if let Rest::Ended = rest
            && let Some(error) = ENDING.take()
        {
            self.end_on_error(error);
        }
        if let Rest::Ended = rest
            && self.ending.is_none()
            && let Some(main) = self.main.take_if(|main| main.get().id() == task)
            && let Some(error) = main.get().failure(self.py)
        {
            main.get().mark_fetched();
            self.end(PyErr::from_value(error.into_bound(self.py)));
        }
        rest
    }

    fn idle(&mut self, sleep: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
        outside(self.py, sleep)
    }

    fn reported(&mut self, token: u64) -> bool {
        if let Some(signals) = self.signals.filter(|_| token == SIGNALS) {
            let mut bytes = [0; 64];
            while rustix::io::read(descriptor::borrow(signals), &mut bytes)
                .is_ok_and(|count| count == bytes.len())
            {}
        }
        token == SIGNALS
    }

    fn pulse(&mut self) -> Flow {
        if let Err(error) = self.py.check_signals() {
            self.end_on_error(error);
        }
        if self.run.shared.exit.swap(false, Ordering::Acquire) {
            self.end(PySystemExit::new_err("the interpreter exits"));
        }
        self.flow()
    }

    fn flow(&mut self) -> Flow {
        if self.run.forked.get() {
            self.given_up = true;
            self.ending = Some(errors::misuse(
                "this process was forked inside of a run, which goes on in the parent: leave the child with \
                 `os._exit`, or fork outside of `td.run`",
            ));
        }
        if self.given_up { Flow::Abandon } else { Flow::GoOn }
    }

    fn stuck(&mut self) -> Option<Duration> {
        let others = report(self.py, "somebody_else_may_act", ());
        if others.is_none_or(|others| others.is_truthy().unwrap_or(true)) {
            return Some(Duration::from_secs(1));
        }
        if self.ending.is_some() {
            self.given_up = true;
            return None;
        }
        let error = report::nothing_can_happen(self.py, &self.run);
        let stuck = self.run.attendant.borrow().as_ref().map(|(_, stuck)| stuck.clone_ref(self.py));
        let Some(stuck) = stuck else {
            self.end(error);
            return None;
        };
        let answered = stuck.call1(self.py, (error.into_value(self.py),));
        match answered.and_then(|answered| answered.is_truthy(self.py)) {
            Ok(true) => None,
            Ok(false) => Some(Duration::from_secs(1)),
            Err(error) => {
                self.end_on_error(error);
                None
            }
        }
    }
}
