//! A run: its tasks are started here, and its loop's host gives them their turns.

mod endings;
mod inner;
pub(crate) mod runs;

use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use thistledown_kernel::{RunnerId, Start, Turn};
use thistledown_reactor::Reactor;
use thistledown_runtime::{Clock, Flow, Host, Rest, Watched};

use crate::context;
use crate::current::{Current, Run};
use crate::errors;
use crate::interrupts;
use crate::keys::Line;
use crate::net::descriptor;
use crate::outside::outside;
use crate::payload::{Body, Held, Snake, WORLD, Waker};
use crate::report::{self, report};
use crate::root::Root;
use crate::tally;
use crate::task::Task;
use crate::turn;
use crate::window;

pub(crate) use endings::{conclude, end_run, settle_left_over, take_ending, task_ended};
pub(crate) use runs::{forget_runs, replace_watchdog, runs, watchdog};

/// What the signals' descriptor is registered as; no source has this number.
const SIGNALS: u64 = u64::MAX - 1;

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
    let clock = if virtual_clock { Clock::new_virtual() } else { Clock::System };
    let run = Rc::new(Run::new((runner, root), clock, registry, reactor.waker(), None));
    let watched = match stall_after {
        Some(limit) => runs::watch(limit, &run.shared).map_err(|error| {
            WORLD.with(|kernel| kernel.remove_runner(runner));
            errors::system(&error)
        })?,
        None => Watched::by_nobody(),
    };
    runs::begins(&run.shared);
    let window = window::User::new();
    Current::set_run(py, Some(Rc::clone(&run)));
    let origin = crate::body::origin(&main, &iterator);
    let task = spawn(py, &run, iterator, origin, Start::InRun, Given::default());
    let mut ruler = Ruler { py, run: Rc::clone(&run), main: None, signals, ending: None, given_up: false };
    let looped = task.and_then(|task| {
        ruler.main = Some(task.clone_ref(py));
        let _inner = inner::Inner::begin(py, task.get().id());
        thistledown_runtime::run(&WORLD, runner, &mut reactor, &run.clock, &watched, &mut ruler)
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
    let late = take_ending();
    let ending = ruler.ending.take().or(late);
    WORLD.with(|kernel| kernel.remove_runner(runner));
    Current::set_run(py, outer);
    crate::runner::is_over(py, &run);
    let concluded = looped.and_then(|main| conclude(py, &run, ending, main));
    runs::ends(&run.shared);
    if !run.forked.get() {
        window.goes(py);
    }
    // From here on no Python code runs in here: a thread that the exiting interpreter stops in there takes the
    // process down, so whoever waits for the end of the run has to wait until now.
    run.shared.over.store(true, Ordering::Release);
    concluded
}

/// Closes a body that will never begin, so that nobody is told that it was forgotten.
pub(crate) fn close_fresh(body: &Bound<'_, PyAny>) {
    if crate::body::state(body) == Some(crate::body::State::Fresh)
        && let Err(error) = body.call_method0(pyo3::intern!(body.py(), "close"))
    {
        error.write_unraisable(body.py(), Some(body));
    }
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

/// What else a new task is given.
#[derive(Default)]
pub(crate) struct Given<'a> {
    /// The group that answers for it.
    pub(crate) group: Option<Py<PyAny>>,
    pub(crate) name: Option<Py<PyAny>>,
    /// Where the tasks of its key stand.
    pub(crate) line: Option<&'a Line>,
}

/// Makes a task of an iterator and puts it in the ready queue.
pub(crate) fn spawn(
    py: Python<'_>,
    run: &Run,
    iterator: Bound<'_, PyAny>,
    origin: Bound<'_, PyString>,
    start: Start,
    given: Given<'_>,
) -> PyResult<Py<Task>> {
    if let Some(rooms) = &run.rooms
        && start == Start::InRun
    {
        let starting = rooms.start(py, run)?;
        return spawn_in(py, run.runner, iterator, origin, starting.start, given);
    }
    spawn_in(py, run.runner, iterator, origin, start, given)
}

/// The same in whichever run, from any thread.
pub(crate) fn spawn_in(
    py: Python<'_>,
    runner: RunnerId,
    iterator: Bound<'_, PyAny>,
    origin: Bound<'_, PyString>,
    start: Start,
    given: Given<'_>,
) -> PyResult<Py<Task>> {
    let Given { group, name, line } = given;
    let task = Task::make(py, Some(origin.unbind()))?;
    if let Some(name) = name {
        task.setattr("name", name)?;
    }
    let context = context::copy(py)?;
    tally::told_to_go(&task, context.as_any(), &iterator);
    let body = Body {
        iterator: Root::new(iterator.unbind()),
        task: task.clone().unbind(),
        context: Root::new(context.unbind()),
        awaited: None,
        group,
        extra: None,
    };
    let body = Held::new(py, body);
    let started = match line {
        None => WORLD.with(|kernel| kernel.spawn(runner, start, body)),
        Some(line) => line.spawn(runner, start, body),
    };
    match started {
        Ok(id) => {
            task.get().set_id(id);
            Ok(task.unbind())
        }
        Err(_body) => Err(errors::misuse("the group has ended: start tasks inside its block")),
    }
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
        let again = interrupts::came_again() && error.is_instance_of::<PyKeyboardInterrupt>(self.py);
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
            && let Some(error) = take_ending()
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
