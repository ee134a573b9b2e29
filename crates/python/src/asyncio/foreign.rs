//! Asyncio's own awaitables in a weightless task that is a guest of their loop.
//!
//! A body that yields a future of asyncio's waits for it as an asyncio task would. When the weightless task is cancelled,
//! the future is, and its end is waited for; what is then raised in the body is both our `Cancelled` and asyncio's
//! `CancelledError`. Code of asyncio's that asks for the current task is given a stand-in, whose `cancel` interrupts the
//! weightless task once, as asyncio does it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{ScopeId, TaskId, Turn, Wake, Want};
use thistledown_runtime::Rest;

use crate::asyncio::awaiting;
use crate::asyncio::guest::Busy;
use crate::asyncio::loops;
use crate::current::Run;
use crate::payload::{Body, Held, WORLD};
use crate::task::Task;

type GuestTurn = Turn<Held, Py<PyAny>>;

/// A future of asyncio's that a weightless task waits for.
pub(crate) struct Foreign {
    future: Py<PyAny>,
    /// Ends with the future, for the kernel.
    end: TaskId,
    /// The future was cancelled because the task is; its end is waited for in this shield.
    shield: Option<ScopeId>,
}

/// What a weightless task has of asyncio's.
#[derive(Default)]
pub(crate) struct Abroad {
    waits: Option<Foreign>,
    /// What is raised in the body when it goes on.
    raised: Option<Py<PyAny>>,
    stand_in: Option<Py<StandIn>>,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // Nobody waits for it any more; its end comes too late, or never.
        let end = self.end;
        WORLD.with(|kernel| kernel.finish(end));
    }
}

/// Ends the wait when the future is done.
#[pyclass(frozen, module = "thistledown._core")]
struct FutureDone(TaskId);

#[pymethods]
impl FutureDone {
    fn __call__(&self, py: Python<'_>, _future: &Bound<'_, PyAny>) -> PyResult<()> {
        let guest = loops::here(py)?;
        let _busy = guest.as_ref().map(Busy::new);
        WORLD.with(|kernel| kernel.finish(self.0));
        Ok(())
    }
}

/// Waits for what a body has yielded, if that is a future of asyncio's and the run a guest of its loop.
pub(crate) fn wait_for(
    py: Python<'_>,
    run: &Run,
    task: TaskId,
    body: &mut Body,
    yielded: &Bound<'_, PyAny>,
) -> Option<PyResult<()>> {
    run.rooms.as_ref()?;
    let blocking = intern!(py, "_asyncio_future_blocking");
    if !yielded.getattr(blocking).and_then(|blocks| blocks.is_truthy()).unwrap_or(false) {
        return None;
    }
    let abroad = body.extra.get_or_insert_default().abroad.get_or_insert_default();
    Some(abroad.wait(run, task, yielded))
}

impl Abroad {
    fn wait(&mut self, run: &Run, task: TaskId, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        future.setattr(intern!(py, "_asyncio_future_blocking"), false)?;
        let end = WORLD.with(|kernel| kernel.add_elsewhere(Some(run.runner)));
        let foreign = Foreign { future: future.clone().unbind(), end, shield: None };
        future.call_method1(intern!(py, "add_done_callback"), (Py::new(py, FutureDone(end))?,))?;
        if let Some(stand_in) = &self.stand_in {
            stand_in.get().wait(Some(future.clone().unbind()));
        }
        self.waits = Some(foreign);
        WORLD
            .with(|kernel| kernel.wait(task, [Want::End(end)]))
            .map_err(|cycle| crate::errors::deadlock(py, cycle.to_string()))
    }

    /// The task is cancelled: the future is to be, and then its end is waited for all the same.
    fn pass_on(&mut self, py: Python<'_>, task: TaskId) -> PyResult<()> {
        let Some(foreign) = &mut self.waits else { return Ok(()) };
        foreign.future.call_method0(py, intern!(py, "cancel"))?;
        let end = foreign.end;
        foreign.shield = WORLD.with(|kernel| {
            let shield = kernel.open_scope(task, None, true);
            // A wait with another way out is in no cycle.
            let _ = kernel.wait(task, [Want::End(end), Want::Until(thistledown_kernel::Moment::NEVER)]);
            shield
        });
        Ok(())
    }

    /// The future has ended.
    fn conclude(&mut self, py: Python<'_>, task: TaskId) -> PyResult<()> {
        let Some(foreign) = self.waits.take() else { return Ok(()) };
        if let Some(stand_in) = &self.stand_in {
            stand_in.get().wait(None);
        }
        let Some(shield) = foreign.shield else { return Ok(()) };
        let _ = WORLD.with(|kernel| kernel.close_scope(task, shield));
        if foreign.future.call_method0(py, intern!(py, "cancelled"))?.is_truthy(py)? {
            self.raised = Some(cancelled_in_loop(py)?);
        }
        Ok(())
    }
}

/// What is raised in a body whose wait for a future ends because the task is cancelled.
fn cancelled_in_loop(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.import(py, "thistledown._asyncio", "CancelledInLoop")?;
    Ok(class.call1(("the task is cancelled",))?.unbind())
}

/// The future that a body waits for.
pub(crate) fn awaited(body: &Body) -> Option<&Py<PyAny>> {
    Some(&body.extra.as_ref()?.abroad.as_ref()?.waits.as_ref()?.future)
}

/// What is to be raised in a body that goes on.
pub(crate) fn raised(body: &mut Body) -> Option<Py<PyAny>> {
    body.extra.as_mut()?.abroad.as_mut()?.raised.take()
}

/// Before a turn in a guest: what there is to do about a future that was waited for. Nothing comes back of a turn that is
/// over with it.
pub(crate) fn before(py: Python<'_>, mut turn: GuestTurn) -> Result<GuestTurn, Rest<Held>> {
    let body: &mut Body = &mut turn.body;
    let Some(abroad) = body.extra.as_mut().and_then(|extra| extra.abroad.as_mut()) else {
        return Ok(turn);
    };
    let passed = match (&abroad.waits, &turn.wake) {
        (Some(foreign), Wake::Cancelled) if foreign.shield.is_none() => match abroad.pass_on(py, turn.task) {
            Ok(()) => return Err(Rest::Waits(turn.body)),
            Err(error) => Err(error),
        },
        (Some(_), _) => abroad.conclude(py, turn.task),
        (None, _) => Ok(()),
    };
    if let Err(error) = passed {
        abroad.raised = Some(error.into_value(py).into_any());
    }
    // What an operation has committed to counts, and the interruption comes at the next wait.
    let committed = body.awaited.is_some() && matches!(turn.wake, Wake::Event { .. });
    if !committed && abroad.stand_in.as_ref().is_some_and(|stand_in| stand_in.get().is_interrupted()) {
        abroad.raised = Some(awaiting::cancelled(py).into_value(py).into_any());
        if let Some(operation) = body.awaited.take() {
            operation.get().abandon();
        }
    }
    if abroad.raised.is_some() {
        turn.wake = Wake::Cancelled;
    }
    Ok(turn)
}

/// Says in the loop that a stand-in of the task's is the current task; gives it.
pub(crate) fn enter(py: Python<'_>, event_loop: &Py<PyAny>, body: &mut Body) -> PyResult<Py<StandIn>> {
    let abroad = body.extra.get_or_insert_default().abroad.get_or_insert_default();
    let stand_in = match &abroad.stand_in {
        Some(stand_in) => stand_in.clone_ref(py),
        None => {
            let made = StandIn {
                task: body.task.clone_ref(py),
                body: body.iterator.clone_ref(py),
                event_loop: event_loop.clone_ref(py),
                requests: AtomicU32::new(0),
                interrupted: AtomicBool::new(false),
                reached: AtomicBool::new(false),
                waits: Mutex::new(None),
            };
            abroad.stand_in.insert(Py::new(py, made)?).clone_ref(py)
        }
    };
    static ENTER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ENTER.import(py, "asyncio.tasks", "_enter_task")?.call1((event_loop, &stand_in))?;
    Ok(stand_in)
}

/// The turn is over.
pub(crate) fn leave(py: Python<'_>, event_loop: &Py<PyAny>, stand_in: &Py<StandIn>) -> PyResult<()> {
    static LEAVE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LEAVE.import(py, "asyncio.tasks", "_leave_task")?.call1((event_loop, stand_in)).map(drop)
}

/// What ``asyncio.current_task()`` gives in a weightless task: it answers as an asyncio task would.
#[pyclass(frozen, weakref, module = "thistledown._core")]
pub(crate) struct StandIn {
    task: Py<Task>,
    body: Py<PyAny>,
    event_loop: Py<PyAny>,
    /// Calls of `cancel` that were not taken back.
    requests: AtomicU32,
    /// It is to be interrupted at its next wait.
    interrupted: AtomicBool,
    /// Its wait is over for that, which cannot be taken back.
    reached: AtomicBool,
    waits: Mutex<Option<Py<PyAny>>>,
}

impl StandIn {
    fn wait(&self, future: Option<Py<PyAny>>) {
        let old = std::mem::replace(&mut *self.waits.lock(), future);
        drop(old);
    }

    /// Whether it is to be interrupted now; it is, then.
    fn is_interrupted(&self) -> bool {
        self.reached.store(false, Ordering::Relaxed);
        self.interrupted.swap(false, Ordering::Relaxed)
    }

    /// After a turn in which it was asked to end: the wait that it began is over at once.
    pub(crate) fn interrupt(&self) {
        if self.interrupted.load(Ordering::Relaxed) {
            let task = self.task.get().id();
            if WORLD.with(|kernel| kernel.interrupt(task)) {
                self.reached.store(true, Ordering::Relaxed);
            }
        }
    }
}

#[pymethods]
impl StandIn {
    /// Raises ``CancelledError`` at the task's wait, once.
    #[pyo3(signature = (msg=None))]
    fn cancel(&self, py: Python<'_>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        if self.task.get().is_done() {
            return Ok(false);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let waits = self.waits.lock().as_ref().map(|future| future.clone_ref(py));
        if let Some(future) = waits
            && future.call_method1(py, intern!(py, "cancel"), (msg,))?.is_truthy(py)?
        {
            return Ok(true);
        }
        self.interrupted.store(true, Ordering::Relaxed);
        self.interrupt();
        Ok(true)
    }

    /// Takes one call of ``cancel`` back; gives how many are left. From Python 3.13 on an interruption that has not come
    /// yet is taken back with the last one, as asyncio does it.
    fn uncancel(&self, py: Python<'_>) -> u32 {
        let Some(left) = self.requests.load(Ordering::Relaxed).checked_sub(1) else { return 0 };
        self.requests.store(left, Ordering::Relaxed);
        if left == 0 && !self.reached.load(Ordering::Relaxed) && py.version_info() >= (3, 13) {
            self.interrupted.store(false, Ordering::Relaxed);
        }
        left
    }

    /// How many calls of ``cancel`` were not taken back.
    fn cancelling(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    #[getter]
    fn _must_cancel(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    #[getter]
    fn _fut_waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.waits.lock().as_ref().map(|future| future.clone_ref(py))
    }

    fn get_coro(&self, py: Python<'_>) -> Py<PyAny> {
        self.body.clone_ref(py)
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    fn get_name(&self, py: Python<'_>) -> String {
        self.task.get().name(py)
    }

    fn set_name(&self, py: Python<'_>, name: Py<PyAny>) -> PyResult<()> {
        self.task.setattr(py, intern!(py, "name"), name)
    }

    fn done(&self) -> bool {
        self.task.get().is_done()
    }

    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        self.task.call_method0(py, intern!(py, "cancelled"))?.extract(py)
    }

    /// Calls ``fn(task)`` when the weightless task has ended.
    #[pyo3(signature = (r#fn, *, context=None))]
    fn add_done_callback(slf: Bound<'_, Self>, r#fn: Py<PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let call = py.import("thistledown._asyncio")?.getattr("call_in_loop")?;
        let (event_loop, task) = (slf.get().event_loop.clone_ref(py), slf.get().task.clone_ref(py));
        call.call1((event_loop, task, slf, r#fn, context)).map(drop)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<stand-in of task {}>", self.task.get().name(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.task)?;
        visit.call(&self.body)?;
        visit.call(&self.event_loop)?;
        match self.waits.try_lock() {
            Some(waits) => visit.call(&*waits),
            None => Ok(()),
        }
    }
}
