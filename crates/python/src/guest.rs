//! A run as the guest of another event loop: one for each asyncio loop that uses this package, made at first need.
//!
//! The loop watches one descriptor of ours as it watches a socket, keeps one timer for us, and calls [`Guest::visit`];
//! nothing of it is patched, and no thread is between. Two kinds of parties live here. Weightless tasks have their turns
//! during visits. Visitors are asyncio tasks that wait for an operation or have a scope open: they never have a turn; what
//! becomes of them is told to the loop, by the result of a future or by cancelling the asyncio task.
//!
//! Invariants: only the loop holds its guest (by the callback it watches the descriptor with), and the kernel holds
//! nothing of the loop's for a visitor, so that a loop that is dropped goes, with everything in it. No lock is held while
//! Python code runs. Outside of visits the runner is parked, so that a wake from anywhere reaches the descriptor, except
//! while a visit is due anyway.
#![allow(unsafe_code, reason = "a run is kept in an object of Python's, under the interpreter's lock")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyWeakrefReference};
use rustix_futex_sync::Mutex;
use thistledown_kernel::{Moment, ScopeId, Start, TaskId, Told};
use thistledown_reactor::Reactor;
use thistledown_runtime::{Clock, Watched};

use crate::body::{self, Arguments, Packed};
use crate::current::{Current, Run, Shared};
use crate::errors;
use crate::lodger::Lodger;
use crate::loops;
use crate::operation::Operation;
use crate::payload::{WORLD, Waker};
use crate::report::report;
use crate::rooms::Rooms;
use crate::run;
use crate::scope::Scope;
use crate::task::Task;
use crate::turn;
use crate::visitor::Visitors;
use crate::window;

/// How long the other callbacks of the loop wait for a visit that finds always someone ready.
const SLICE: Duration = Duration::from_millis(1);

/// Operations that asyncio tasks may complete at once before one is made to give way.
const BUDGET: u32 = 128;

/// What is touched only by who has the interpreter's lock, and so by one thread at a time.
pub(crate) struct Locked<T>(T);

// SAFETY: each access goes through `get`, which asks for proof of the interpreter's lock; the module insists on having one.
unsafe impl<T> Send for Locked<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(crate) fn get(&self, _py: Python<'_>) -> &T {
        &self.0
    }
}

/// What a visitor waits with, and for.
pub(crate) struct Held {
    pub(crate) future: Py<PyAny>,
    pub(crate) operation: Py<Operation>,
}

/// A visitor, as far as it is known: its asyncio task, what that waits with, and for.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) task: Option<Py<PyAny>>,
    pub(crate) future: Option<Py<PyAny>>,
    pub(crate) awaited: Option<Py<Operation>>,
}

/// What a guest and its loop have arranged.
#[derive(Default)]
struct Desk {
    /// What visitors wait with.
    held: HashMap<TaskId, Held>,
    /// A visit is due in the loop's next round.
    soon: bool,
    /// The loop's timer for us.
    timer: Option<(Moment, Py<PyAny>)>,
    visits: u64,
}

/// The guest of one event loop.
#[pyclass(frozen, weakref, module = "thistledown._core")]
pub(crate) struct Guest {
    pub(crate) event_loop: Py<PyAny>,
    run: Locked<Rc<Run>>,
    reactor: Locked<RefCell<Reactor>>,
    watched: Watched,
    process: u32,
    ended: AtomicBool,
    /// Errors that nobody asked for are kept for the end, and not logged.
    collects: AtomicBool,
    budget: Locked<Cell<u32>>,
    desk: Mutex<Desk>,
    pub(crate) visitors: Visitors,
    window: Mutex<Option<window::User>>,
}

/// Starts a weightless task in the guest.
pub(crate) fn go<'py>(
    guest: &Bound<'py, Guest>,
    body: &Bound<'py, PyAny>,
    arguments: &impl Arguments<'py>,
    start: Start,
    group: Option<Py<PyAny>>,
    name: Option<Py<PyAny>>,
) -> PyResult<Py<Task>> {
    let py = body.py();
    let iterator = body::iterator(body, arguments)?;
    let origin = body::origin(body, &iterator);
    let _busy = Busy::new(guest);
    run::spawn(py, guest.get().run.get(py), iterator, origin, start, group, name)
}

/// While it lives, wakes of the guest's runner ring nobody: what there is to do is looked for when it goes.
pub(crate) struct Busy<'a, 'py>(&'a Bound<'py, Guest>);

impl<'a, 'py> Busy<'a, 'py> {
    pub(crate) fn new(guest: &'a Bound<'py, Guest>) -> Self {
        let runner = guest.get().run.get(guest.py()).runner;
        WORLD.with(|kernel| kernel.unpark(runner));
        Self(guest)
    }
}

impl Drop for Busy<'_, '_> {
    fn drop(&mut self) {
        if let Err(error) = Guest::rest(self.0) {
            error.write_unraisable(self.0.py(), Some(self.0.as_any()));
        }
    }
}

impl Guest {
    pub(crate) fn run<'a>(&'a self, py: Python<'_>) -> &'a Rc<Run> {
        self.run.get(py)
    }

    pub(crate) fn lobby(&self, py: Python<'_>) -> ScopeId {
        self.run.get(py).rooms.as_ref().map_or_else(ScopeId::default, |rooms| rooms.lobby)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) || self.process != std::process::id()
    }

    /// Whether an asyncio task may complete one more operation without that the loop has a round.
    pub(crate) fn spend(&self, py: Python<'_>) -> bool {
        let budget = self.budget.get(py);
        let left = budget.get().checked_sub(1);
        budget.set(left.unwrap_or(BUDGET));
        left.is_some()
    }

    /// Remembers what a visitor waits with.
    pub(crate) fn hold(&self, visitor: TaskId, held: Held) {
        let old = self.desk.lock().held.insert(visitor, held);
        drop(old);
    }

    pub(crate) fn let_go(&self, visitor: TaskId) {
        let held = self.desk.lock().held.remove(&visitor);
        drop(held);
    }

    /// What is known of a visitor.
    pub(crate) fn find(&self, py: Python<'_>, visitor: TaskId) -> Known {
        let task = self.visitors.task(py, visitor);
        match self.desk.lock().held.get(&visitor) {
            Some(held) => Known {
                task,
                future: Some(held.future.clone_ref(py)),
                awaited: Some(held.operation.clone_ref(py)),
            },
            None => Known { task, ..Known::default() },
        }
    }

    /// After anything was done: passes on what there is to tell, and sees to it that the next visit comes in time.
    fn rest(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let runner = this.run.get(py).runner;
        let is_due = this.desk.lock().soon;
        let (told, prospects) = WORLD.with(|kernel| {
            let told = kernel.take_told(runner);
            (told, if is_due { None } else { kernel.park(runner) })
        });
        for told in told {
            Self::tell(slf, told)?;
        }
        match prospects {
            _ if is_due => Ok(()),
            None => Self::come_soon(slf),
            Some(prospects) => Self::come_at(slf, prospects.timer),
        }
    }

    fn tell(slf: &Bound<'_, Self>, told: Told) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let held = match told.committed {
            true => this.desk.lock().held.remove(&told.visitor),
            false => None,
        };
        if let Some(held) = held {
            let future = held.future.bind(py);
            if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                future.call_method1(intern!(py, "set_result"), (py.None(),))?;
            }
        }
        if told.cancelled && this.visitors.ask_to_end(py, told.visitor)? {
            // It has its turn in the loop just now.
            Self::come_soon(slf)?;
        }
        Ok(())
    }

    /// The loop's next round begins with a visit.
    pub(crate) fn come_soon(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if std::mem::replace(&mut this.desk.lock().soon, true) {
            return Ok(());
        }
        let runner = this.run.get(py).runner;
        WORLD.with(|kernel| kernel.unpark(runner));
        let visit = slf.getattr(intern!(py, "visit"))?;
        this.event_loop.call_method1(py, intern!(py, "call_soon"), (visit,)).map(drop)
    }

    fn come_at(slf: &Bound<'_, Self>, at: Option<Moment>) -> PyResult<()> {
        let Some(at) = at else { return Ok(()) };
        let (py, this) = (slf.py(), slf.get());
        let old = {
            let mut desk = this.desk.lock();
            // One that comes too early looks again.
            if desk.timer.as_ref().is_some_and(|(known, _)| *known <= at) {
                return Ok(());
            }
            desk.timer.take()
        };
        if let Some((_, handle)) = old {
            handle.call_method0(py, intern!(py, "cancel"))?;
        }
        // Loops count milliseconds; one that is rounded down would find nothing due, many times.
        let delay = (at.since(Clock::System.now()).as_secs_f64() * 1e3).ceil() / 1e3;
        let elapsed = slf.getattr(intern!(py, "_elapsed"))?;
        let handle = this.event_loop.call_method1(py, intern!(py, "call_later"), (delay, elapsed))?;
        this.desk.lock().timer = Some((at, handle));
        Ok(())
    }

    /// Errors of tasks that nobody holds any more, who could ask, are logged.
    fn tell_failed(&self, py: Python<'_>, all: bool) {
        let run = self.run.get(py);
        if self.collects.load(Ordering::Relaxed) || run.failed.borrow().is_empty() {
            return;
        }
        let failed = run.failed.take();
        let (gone, held): (Vec<_>, Vec<_>) =
            failed.into_iter().partition(|task| all || task.get().is_fetched() || turn::is_unseen(task));
        run.failed.borrow_mut().extend(held);
        for task in gone {
            if !task.get().is_fetched()
                && let Some(error) = task.get().failure(py)
            {
                task.get().mark_fetched();
                report(py, "failed_unseen", (task, error));
            }
        }
    }

    /// Gives turns, in the name of the run.
    fn give_turns(slf: &Bound<'_, Self>, reactor: &mut Reactor) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let run = this.run.get(py);
        let outer = Current::change(py, Some(Rc::clone(run)), None);
        let mut host = Lodger::new(py, run, &this.event_loop);
        let visited = thistledown_runtime::visit(
            &WORLD,
            run.runner,
            reactor,
            &run.clock,
            &this.watched,
            &mut host,
            SLICE,
        );
        let ending = host.ending.take();
        Current::change(py, outer.0, outer.1);
        match ending {
            Some(error) => Err(error),
            None => visited.map(drop).map_err(|error| errors::system(&error)),
        }
    }
}

#[pymethods]
impl Guest {
    #[new]
    fn new(event_loop: Py<PyAny>) -> PyResult<Self> {
        let reactor = Reactor::new().map_err(|error| errors::system(&error))?;
        let registry = reactor.registry().map_err(|error| errors::system(&error))?;
        let waker = Waker::Runner(reactor.waker());
        let (runner, root, lobby) = WORLD.with(|kernel| {
            let (runner, root) = kernel.add_runner(waker);
            let lobby = kernel.open_region(runner).unwrap_or_default();
            kernel.park(runner);
            (runner, root, lobby)
        });
        let clock = Arc::new(Clock::System);
        let shared = Arc::new(Shared {
            runner,
            thread: crate::survey::this_thread(),
            clock: Arc::clone(&clock),
            waker: reactor.waker(),
            exit: AtomicBool::new(false),
            over: AtomicBool::new(false),
            task: AtomicPtr::new(std::ptr::null_mut()),
        });
        let run = Run {
            runner,
            root,
            clock,
            registry: Arc::new(registry),
            shared,
            failed: RefCell::default(),
            failed_unlisted: Cell::new(0),
            forked: Cell::new(false),
            attendant: RefCell::new(None),
            rooms: Some(Rooms::new(lobby)),
        };
        Ok(Self {
            event_loop,
            run: Locked(Rc::new(run)),
            reactor: Locked(RefCell::new(reactor)),
            watched: Watched::by_nobody(),
            process: std::process::id(),
            ended: AtomicBool::new(false),
            collects: AtomicBool::new(false),
            budget: Locked(Cell::new(BUDGET)),
            desk: Mutex::default(),
            visitors: Visitors::default(),
            window: Mutex::new(Some(window::User::new())),
        })
    }

    /// Makes it known to itself, so that it can be kept.
    fn _settle_in(slf: Bound<'_, Self>) -> PyResult<()> {
        let (py, run) = (slf.py(), slf.get().run.get(slf.py()));
        let weak = PyWeakrefReference::new(&slf)?.unbind();
        loops::note(run.runner, weak.clone_ref(py));
        if let Some(rooms) = &run.rooms {
            rooms.settle_in(weak);
        }
        Ok(())
    }

    /// Readable when a visit is due.
    fn fileno(&self, py: Python<'_>) -> RawFd {
        self.reactor.get(py).borrow().as_raw_fd()
    }

    /// Gives the tasks that are ready their turns, and tells visitors what they wait for. The loop calls this.
    fn visit(slf: Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        // Inside of a task's turn somebody runs the loop again: the turn is not over.
        let Ok(mut reactor) = this.reactor.get(py).try_borrow_mut() else {
            // Its end sees to the next visit.
            this.desk.lock().soon = false;
            return Ok(());
        };
        if this.has_ended() {
            return Ok(());
        }
        {
            let mut desk = this.desk.lock();
            desk.soon = false;
            desk.visits += 1;
        }
        let runner = this.run.get(py).runner;
        WORLD.with(|kernel| kernel.unpark(runner));
        let given = Self::give_turns(&slf, &mut reactor);
        drop(reactor);
        this.visitors.look_again(py)?;
        let rested = Self::rest(&slf);
        this.tell_failed(py, false);
        given.and(rested)
    }

    /// The loop's timer for us is over.
    fn _elapsed(slf: Bound<'_, Self>) -> PyResult<()> {
        let timer = slf.get().desk.lock().timer.take();
        drop(timer);
        Self::visit(slf)
    }

    /// An asyncio task has ended with a block left open.
    fn _forget(&self, task: &Bound<'_, PyAny>) {
        self.visitors.forget(task);
    }

    /// How often it was visited.
    #[getter]
    fn visits(&self) -> u64 {
        self.desk.lock().visits
    }

    /// Closes the house until the next task, if no task lives in it. False: one does, or is about to.
    fn _vacate(&self, py: Python<'_>) -> PyResult<bool> {
        let is_empty = self.run.get(py).rooms.as_ref().map_or(Ok(true), Rooms::vacate)?;
        if !is_empty {
            return Ok(false);
        }
        self.tell_failed(py, false);
        Ok(true)
    }

    /// Starts the main task of a run in this loop.
    fn _go(slf: Bound<'_, Self>, main: Bound<'_, PyAny>, args: Bound<'_, PyTuple>) -> PyResult<Py<Task>> {
        go(&slf, &main, &Packed { args: &args, kwargs: None }, Start::InRun, None, None)
    }

    /// The scope of the weightless tasks that were told to go in the loop, while there are any.
    fn _house(&self, py: Python<'_>) -> Option<Py<Scope>> {
        self.run.get(py).rooms.as_ref()?.house(py)
    }

    /// The loop.
    #[getter]
    fn event_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// Cancels the weightless tasks that were told to go in the loop.
    fn _cancel(&self, py: Python<'_>) -> PyResult<()> {
        self._house(py).map_or(Ok(()), |house| house.get().cancel())
    }

    /// From now on errors that nobody asks for are kept for whoever rules the loop.
    fn _collect(&self) {
        self.collects.store(true, Ordering::Relaxed);
    }

    /// The errors that nobody has asked for, and how many more there were.
    fn _failed(&self, py: Python<'_>) -> (Vec<Py<PyAny>>, usize) {
        let run = self.run.get(py);
        let failed = run.failed.take();
        let left = failed.iter().filter(|task| !task.get().is_fetched());
        (left.filter_map(|task| task.get().failure(py)).collect(), run.failed_unlisted.take())
    }

    /// The loop is closed: whatever lives in here ends as cancelled.
    fn end(&self, py: Python<'_>) {
        if self.has_ended() || self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let run = self.run.get(py);
        loops::strike_out(run.runner);
        run::settle_left_over(py, run);
        if let Some(rooms) = &run.rooms {
            rooms.close();
        }
        self.collects.store(false, Ordering::Relaxed);
        self.tell_failed(py, true);
        WORLD.with(|kernel| kernel.remove_runner(run.runner));
        let desk = std::mem::take(&mut *self.desk.lock());
        drop(desk);
        let window = self.window.lock().take();
        if let Some(window) = window {
            window.goes(py);
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.visitors.traverse(&visit)?;
        let Some(desk) = self.desk.try_lock() else { return Ok(()) };
        if let Some((_, handle)) = &desk.timer {
            visit.call(handle)?;
        }
        desk.held.values().try_for_each(|held| {
            visit.call(&held.future)?;
            visit.call(&held.operation)
        })
    }

    fn __clear__(&self) {
        let desk = std::mem::take(&mut *self.desk.lock());
        drop(desk);
        self.visitors.clear();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        Python::try_attach(|py| self.end(py));
    }
}
