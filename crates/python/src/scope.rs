//! Scopes, as Python sees them: `timeout`, `move_on_after`, `shield`, and what a group stands on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use pyo3::exceptions::{PyGeneratorExit, PyTimeoutError};
use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{ScopeEnd, ScopeId, ScopeMisuse, TaskId};

use crate::asyncio::{foreign, loops, visitor};
use crate::current::{Current, Run, number_of_seconds, seconds};
use crate::errors;
use crate::held_open;
use crate::operation::{Kind, Operation};
use crate::payload::WORLD;
use crate::task::Task;
use crate::thread_scope;

/// What leaving a scope means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its deadline is an error.
    Timeout,
    /// Its cancellation ends with it.
    MoveOn,
    /// Cancellation from outside stops at it.
    Shield,
    /// It holds a group's tasks.
    Group,
}

#[derive(Clone, Copy)]
enum State {
    New,
    Open(ScopeId),
    Closed(ScopeEnd),
    /// It was taken away from a generator that held it open across its `yield`.
    TakenAway(ScopeEnd),
}

/// What is left to say of a block when it has been left.
pub(crate) struct Left {
    pub(crate) end: ScopeEnd,
    /// A cancellation from outside goes on.
    pub(crate) goes_on: bool,
}

/// A region of a weightless task, of an asyncio task, or of a plain thread, as a ``with`` block.
#[pyclass(frozen, weakref, module = "thistledown")]
pub(crate) struct Scope {
    purpose: Purpose,
    seconds: Option<f64>,
    state: Mutex<State>,
    /// It belongs to an asyncio task.
    in_asyncio: AtomicBool,
    /// It was left, and a cancellation from outside goes on behind its end.
    outlived: AtomicBool,
    /// How often asyncio had cancelled the weightless task when it entered the block.
    asked: AtomicU32,
    /// It was left, and asyncio has cancelled the weightless task in it.
    interrupted: AtomicBool,
}

impl Scope {
    fn new(purpose: Purpose, seconds: Option<f64>) -> Self {
        Self {
            purpose,
            seconds,
            state: Mutex::new(State::New),
            in_asyncio: AtomicBool::new(false),
            outlived: AtomicBool::new(false),
            asked: AtomicU32::new(0),
            interrupted: AtomicBool::new(false),
        }
    }

    /// The kernel's name for it, while it is open.
    pub(crate) fn id(&self) -> PyResult<ScopeId> {
        match *self.state.lock() {
            State::Open(id) => Ok(id),
            State::New => Err(errors::misuse(self.how_to_enter())),
            State::Closed(_) => Err(errors::misuse("the block has been left")),
            State::TakenAway(_) => Err(errors::misuse(
                "the block was ended because an async generator held it open across its `yield`: leave it before the \
                 `yield`",
            )),
        }
    }

    /// What to write who has not entered it, by where he is.
    fn how_to_enter(&self) -> &'static str {
        let is_in_loop = || Python::attach(|py| loops::runs_here(py).unwrap_or(false));
        match self.purpose {
            Purpose::Group if Current::run().is_some() || is_in_loop() => {
                "the block has not been entered: use it as `async with td.TaskGroup() as group:` (in a generator task \
                 `with ...:`)"
            }
            Purpose::Group => "the block has not been entered: use it as `with td.TaskGroup() as group:`",
            _ => "the block has not been entered: use it as `with ...:`",
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.id().is_ok_and(|id| WORLD.with(|kernel| kernel.scope_members(id)) == 0)
    }

    fn end(&self) -> ScopeEnd {
        match *self.state.lock() {
            State::Closed(end) | State::TakenAway(end) => end,
            State::Open(id) => WORLD
                .with(|kernel| kernel.scope_state(id))
                .unwrap_or(ScopeEnd { cancelled: false, expired: false }),
            State::New => ScopeEnd { cancelled: false, expired: false },
        }
    }

    /// Enters the block, for whom it belongs to.
    pub(crate) fn open(slf: &Bound<'_, Self>, owner: TaskId) -> PyResult<ScopeId> {
        let this = slf.get();
        if Current::with(|current| current.held_open.get()) > 0 {
            held_open::check(slf.py(), owner)?;
        }
        thread_scope::look_at_the_time();
        if !matches!(*this.state.lock(), State::New) {
            return Err(errors::misuse("a block like this is entered once: make a new one"));
        }
        let deadline = match this.seconds {
            Some(value) => seconds(value, "seconds")?.map(|duration| Run::now().after(duration)),
            None => None,
        };
        this.asked.store(foreign::requests(slf.py())?, Ordering::Relaxed);
        let id = WORLD
            .with(|kernel| kernel.open_scope(owner, deadline, this.is_shield()))
            .ok_or_else(|| errors::misuse("the run is over"))?;
        *this.state.lock() = State::Open(id);
        if this.seconds == Some(0.0) {
            WORLD.with(|kernel| kernel.expire_scope(id));
        }
        held_open::opened(owner, slf)?;
        Ok(id)
    }

    /// Leaves the block.
    fn close(&self, py: Python<'_>) -> PyResult<Left> {
        let id = self.id()?;
        let left = match self.in_asyncio.load(Ordering::Relaxed) {
            true => visitor::left(py, self, id)?,
            false => {
                let owner =
                    thread_scope::owner().ok_or_else(|| errors::scope_misuse(ScopeMisuse::OtherTask))?;
                let (left, stands_still) = self.close_in(py, owner)?;
                thread_scope::left(owner);
                let asked = self.asked.load(Ordering::Relaxed);
                self.interrupted.store(foreign::requests(py)? > asked, Ordering::Relaxed);
                stands_still?;
                left
            }
        };
        self.outlived.store(left.goes_on, Ordering::Relaxed);
        Ok(left)
    }

    /// The same, for its owner. That a generator stands still is to be said when the rest is done.
    pub(crate) fn close_in(&self, py: Python<'_>, owner: TaskId) -> PyResult<(Left, PyResult<()>)> {
        let id = self.id()?;
        held_open::left(self);
        // Those of a generator that stands still are taken away, so that this one can be left.
        let stands_still = match Current::with(|current| current.held_open.get()) {
            0 => Ok(()),
            _ => held_open::check(py, owner),
        };
        thread_scope::look_at_the_time();
        let (closed, goes_on) =
            WORLD.with(|kernel| (kernel.close_scope(owner, id), kernel.is_cancelled(owner)));
        let end = closed.map_err(errors::scope_misuse)?;
        *self.state.lock() = State::Closed(end);
        Ok((Left { end, goes_on }, stands_still))
    }

    /// Ends the block of a generator that stands still: what lives in it is cancelled.
    pub(crate) fn take_away(&self, owner: TaskId) {
        let Ok(id) = self.id() else { return };
        if let Some(end) = WORLD.with(|kernel| kernel.evict_scope(owner, id)) {
            *self.state.lock() = State::TakenAway(end);
        }
    }

    /// A region of the kernel as a scope: what a guest keeps its tasks in.
    pub(crate) fn of_region(id: ScopeId) -> Self {
        let scope = Self::new(Purpose::Group, None);
        *scope.state.lock() = State::Open(id);
        scope
    }

    /// It belongs to an asyncio task.
    pub(crate) fn set_in_asyncio(&self) {
        self.in_asyncio.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_shield(&self) -> bool {
        self.purpose == Purpose::Shield
    }

    /// What the cancellation that ended the block means for who comes after it: an error, or nothing.
    fn concluded(&self, py: Python<'_>, end: ScopeEnd, error: &Bound<'_, PyAny>) -> PyResult<bool> {
        if self.purpose == Purpose::Timeout && end.expired {
            let seconds = self.seconds.unwrap_or_default();
            let timeout = PyTimeoutError::new_err(format!("not done within {seconds} seconds"));
            timeout.set_cause(py, Some(PyErr::from_value(error.clone())));
            return Err(timeout);
        }
        Ok(true)
    }
}

#[pymethods]
impl Scope {
    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        if Current::task().is_none() && visitor::enter(&slf)? {
            return Ok(slf);
        }
        let owner = thread_scope::owner_to_be()?;
        Self::open(&slf, owner).inspect_err(|_| thread_scope::left(owner))?;
        Ok(slf)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let left = match self.close(py) {
            Ok(left) => left,
            // The body is closed from outside, as when a run is given up: there is nothing left to leave.
            Err(_) if error.is_instance_of::<PyGeneratorExit>() => return Ok(false),
            // It was said to whom it concerns.
            Err(_) if self.taken_away() && !error.is_none() => return Ok(false),
            Err(misuse) => return Err(misuse),
        };
        if !left.end.cancelled || self.is_outlived(error) || self.is_shield() {
            return Ok(false);
        }
        if error.is_none() || !crate::timers::is_cancellation(error)? {
            return Ok(false);
        }
        self.concluded(py, left.end, error)
    }

    /// Refused: a scope is a plain block, also in an ``async def``. Raises ``TypeError``.
    fn __aenter__(&self) -> PyResult<()> {
        Err(errors::plain_block("a scope is a plain block"))
    }

    /// Refused, too: Python looks for it before it enters.
    fn __aexit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.__aenter__()
    }

    /// Cancels everything in the block: each wait raises ``Cancelled``, which ends at the block's end.
    pub(crate) fn cancel(&self) -> PyResult<()> {
        let state = *self.state.lock();
        match state {
            State::Open(id) => WORLD.with(|kernel| kernel.cancel_scope(id)),
            State::Closed(_) | State::TakenAway(_) => {}
            State::New => return self.id().map(drop),
        }
        Ok(())
    }

    /// Whether its time was over before it was left.
    #[getter]
    fn expired(&self) -> bool {
        self.end().expired
    }

    /// Whether it was cancelled, by its time or by ``cancel``.
    #[getter(cancelled)]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.end().cancelled
    }

    /// Whether no task lives in it.
    #[getter(empty)]
    fn has_no_tasks(&self) -> PyResult<bool> {
        let id = self.id()?;
        Ok(WORLD.with(|kernel| kernel.scope_members(id)) == 0)
    }

    /// How many tasks live in it, and the first of them that have their bodies here and wait or are ready.
    fn seen_tasks(&self, py: Python<'_>, limit: usize) -> PyResult<(usize, Vec<Py<Task>>)> {
        let id = self.id()?;
        Ok(WORLD.with(|kernel| {
            let (count, bodies) = kernel.members(id, limit);
            (count, bodies.into_iter().map(|body| body.task.clone_ref(py)).collect())
        }))
    }

    /// Whether a cancellation from outside goes on behind its end, once it was left with this error. Asyncio's, in a
    /// weightless task, is known by not being ours.
    #[pyo3(signature = (error, /))]
    fn is_outlived(&self, error: &Bound<'_, PyAny>) -> bool {
        self.outlived.load(Ordering::Relaxed)
            || (self.interrupted.load(Ordering::Relaxed) && !errors::is_cancelled(error.py(), error))
    }

    /// Whether it belongs to an asyncio task, which cannot wait in plain code.
    #[getter]
    fn in_asyncio(&self) -> bool {
        self.in_asyncio.load(Ordering::Relaxed)
    }

    /// An operation: no task lives in it any more.
    fn drain(slf: Bound<'_, Self>) -> Operation {
        Operation::new(Kind::Drain(slf.unbind()))
    }

    /// Leaves the block, and says whether it was cancelled. What a group does at its end.
    fn leave(&self, py: Python<'_>) -> PyResult<bool> {
        self.close(py).map(|left| left.end.cancelled)
    }

    /// Whether it was taken away from a generator that held it open across its ``yield``.
    #[getter]
    fn taken_away(&self) -> bool {
        matches!(*self.state.lock(), State::TakenAway(_))
    }

    /// Takes in a task of a worker process. A group's.
    #[pyo3(signature = (task, /))]
    fn adopt(&self, task: &Bound<'_, Task>) -> PyResult<()> {
        task.get().join(task.py(), self.id()?)
    }
}

/// Ends the block with ``TimeoutError`` when it takes too long.
///
/// ``with td.timeout(5): ...`` in a weightless task, async or generator, in an asyncio task, or in plain code. Each wait in
/// the block raises ``Cancelled`` once the time is over; leaving the block makes ``TimeoutError`` of it.
///
/// Args:
///     seconds: how long, from when the block is entered; ``math.inf`` for no limit.
///
/// Raises:
///     ValueError: seconds is negative or not a number.
#[pyfunction]
#[pyo3(name = "timeout")]
pub(crate) fn timeout(#[pyo3(from_py_with = number_of_seconds)] seconds: f64) -> PyResult<Scope> {
    crate::current::seconds(seconds, "seconds")?;
    Ok(Scope::new(Purpose::Timeout, Some(seconds)))
}

/// Ends the block quietly when it takes too long: ``with td.move_on_after(5) as scope: ...``.
///
/// ``scope.expired`` says whether it did; ``scope.cancel()`` ends the block early.
///
/// Args:
///     seconds: how long, from when the block is entered; ``math.inf`` for no limit.
///
/// Raises:
///     ValueError: seconds is negative or not a number.
#[pyfunction]
#[pyo3(name = "move_on_after")]
pub(crate) fn move_on_after(#[pyo3(from_py_with = number_of_seconds)] seconds: f64) -> PyResult<Scope> {
    crate::current::seconds(seconds, "seconds")?;
    Ok(Scope::new(Purpose::MoveOn, Some(seconds)))
}

/// Keeps cancellation from outside away: ``with td.shield(): await clean_up()``.
///
/// What is cancelled meanwhile is told at its first wait after the block. Shield only what ends by itself. In an asyncio
/// task it keeps away what scopes and groups of this package cancel, and not the task's own ``cancel``, by which also
/// ``asyncio.timeout`` works.
#[pyfunction]
#[pyo3(name = "shield")]
pub(crate) fn shield() -> Scope {
    Scope::new(Purpose::Shield, None)
}

/// The scope of a group's tasks.
pub(crate) fn group_scope() -> Scope {
    Scope::new(Purpose::Group, None)
}
