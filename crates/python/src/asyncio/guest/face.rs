//! What Python calls on a guest: its loop, and `thistledown._asyncio`.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyBaseException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyWeakrefReference};
use rustix_futex_sync::Mutex;
use thistledown_kernel::Start;
use thistledown_reactor::Reactor;
use thistledown_runtime::{Clock, Watched};

use super::{BUDGET, Guest, Locked, go};
use crate::asyncio::loops;
use crate::asyncio::rooms::Rooms;
use crate::asyncio::visitor::Visitors;
use crate::body::Packed;
use crate::current::Run;
use crate::errors;
use crate::fork;
use crate::payload::{WORLD, Waker};
use crate::run::{self, Given};
use crate::scope::Scope;
use crate::task::Task;
use crate::window;

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
        let rooms = Some(Rooms::new(lobby));
        let run = Run::new((runner, root), Clock::System, registry, reactor.waker(), rooms);
        Ok(Self {
            event_loop,
            run: Locked(Rc::new(run)),
            reactor: Locked(RefCell::new(reactor)),
            watched: Watched::by_nobody(),
            process: fork::process(),
            ended: AtomicBool::new(false),
            collects: AtomicBool::new(false),
            before: Locked(RefCell::default()),
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
        Self::pay_visit(&slf)
    }

    /// The loop's timer for us is over.
    fn _elapsed(slf: Bound<'_, Self>) -> PyResult<()> {
        let timer = slf.get().desk.lock().timer.take();
        drop(timer);
        Self::pay_visit(&slf)
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

    /// Closes a house until the next task, if no task lives in it. False: one does, or is about to.
    fn _vacate(&self, py: Python<'_>, house: Py<Scope>) -> PyResult<bool> {
        let is_empty = self.run.get(py).rooms.as_ref().map_or(Ok(true), |rooms| rooms.vacate(&house))?;
        if !is_empty {
            return Ok(false);
        }
        self.tell_failed(py, false);
        Ok(true)
    }

    /// Starts the main task of a run in this loop.
    fn _go(slf: Bound<'_, Self>, main: Bound<'_, PyAny>, args: Bound<'_, PyTuple>) -> PyResult<Py<Task>> {
        go(&slf, &main, &Packed { args: &args, kwargs: None }, Start::InRun, Given::default())
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

    /// Whether errors that nobody asks for are kept, for whoever rules the loop. Those of before are not for him.
    fn _collect(&self, py: Python<'_>, collects: bool) {
        let run = self.run.get(py);
        if collects {
            self.tell_failed(py, false);
            run.failed_unlisted.set(0);
            self.before.get(py).borrow_mut().append(&mut run.failed.borrow_mut());
        }
        self.collects.store(collects, Ordering::Relaxed);
        if !collects {
            run.failed.borrow_mut().append(&mut self.before.get(py).borrow_mut());
            self.tell_failed(py, false);
        }
    }

    /// What a run in this loop gives: its main task's result, or what has ended it and the errors that are left.
    fn _conclude(
        &self,
        py: Python<'_>,
        ending: Option<Bound<'_, PyBaseException>>,
        main: Py<Task>,
    ) -> PyResult<Py<PyAny>> {
        let ending = ending.map(|error| PyErr::from_value(error.into_any()));
        run::conclude(py, self.run.get(py), ending, main)
    }

    /// The loop is closed: whatever lives in here ends as cancelled.
    pub(super) fn end(&self, py: Python<'_>) {
        if self.has_ended() || self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let run = self.run.get(py);
        loops::strike_out(run.runner);
        run::settle_left_over(py, run);
        if let Some(rooms) = &run.rooms {
            rooms.close();
        }
        self._collect(py, false);
        self.tell_failed(py, true);
        WORLD.with(|kernel| kernel.remove_runner(run.runner));
        crate::runner::is_over(py, run);
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
