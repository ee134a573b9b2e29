//! Operations: values that say what to wait for. One class, one protocol, however it is waited for.
//!
//! Each kind knows four things: how to *attempt* it without waiting, what it *wants* from the kernel when that fails,
//! how to *conclude* from the event that met a want, and what to *release* when the wait is over, however it ended. A
//! weightless task awaits, a generator says `yield from`, a plain thread calls `wait`; all three go through these.
//!
//! While it is waited for, an operation is its own awaiter; a second wait at the same time gets a copy, so that an
//! operation stays a value. Source: Concurrent ML's events.
//!
//! Here is the awaiter: its steps, and the attempts that they begin with. What the `kind`s are, what `waits` of them want
//! and come to, and their `words` are modules of it.

mod kind;
mod waits;
mod words;

use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use thistledown_kernel::{TaskId, Wake};

use crate::asyncio::awaiting::Wait;
use crate::current::{Current, Run, check_cancelled, seconds_or_none};
use crate::errors::{self, Quick, Thrown};
pub(crate) use kind::{Kind, Sleep};
pub(crate) use waits::Wants;
pub(crate) use words::Target;

/// Not waited for.
const IDLE: u8 = 0;
/// Enlisted, or about to be.
const WAITING: u8 = 1;
/// The task used up its budget; it is due again, and then the operation is attempted.
const OVERDUE: u8 = 2;

/// What an awaiter does next. It travels in registers, which a `Result` around it would not.
pub(crate) enum Step {
    Return(Py<PyAny>),
    /// Yield the operation: the run enlists it.
    Park,
    /// Yield nothing: the others have their turn first.
    GiveWay,
    Raise(Thrown),
}

impl From<PyErr> for Step {
    #[cold]
    fn from(error: PyErr) -> Self {
        Self::Raise(error.into())
    }
}

/// Something to wait for: a value, which can be waited for again.
///
/// There are three ways to wait for it: ``await op`` in a weightless task or an asyncio task, ``yield from op`` in a generator task, and
/// ``op.wait(timeout=None)`` in a plain thread. Each is a cancel point. ``select`` waits for the first of several.
#[pyclass(frozen, generic, module = "thistledown")]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    /// Where its own awaiter stands.
    phase: AtomicU8,
}

impl Operation {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, phase: AtomicU8::new(IDLE) }
    }

    /// Whether nobody waits for it now.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        // One that is merely overdue is enlisted nowhere.
        matches!(self.phase.load(Ordering::Relaxed), IDLE | OVERDUE)
    }

    pub(crate) fn set_waiting(&self) {
        self.set_phase(WAITING);
    }

    /// Whether it is `sleep(0)`, by which the others have their turn.
    #[inline(always)]
    pub(crate) fn gives_way(&self) -> bool {
        matches!(&self.kind, Kind::Sleep(sleep) if sleep.gives_way())
    }

    fn set_phase(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// One step of its awaiter.
    #[inline(always)]
    pub(crate) fn step(&self, py: Python<'_>) -> Step {
        Current::with(|current| {
            let Some(task) = current.task.get() else { return self.needs_task(py) };
            if current.held_open.get() > 0
                && let Err(error) = crate::held_open::check(py, task)
            {
                return error.into();
            }
            match self.phase.load(Ordering::Relaxed) {
                WAITING => return self.resume(py, current.wake.take()),
                IDLE => {
                    if self.gives_way() {
                        return if give_way(current) { Step::Return(py.None()) } else { Step::GiveWay };
                    }
                    let Some(left) = current.budget.get().checked_sub(1) else {
                        self.set_phase(OVERDUE);
                        return Step::GiveWay;
                    };
                    current.budget.set(left);
                }
                _ => {}
            }
            self.begin(py, task)
        })
    }

    /// The step of one that only gives way: whether it is over. Nothing when there is more to it.
    #[inline(always)]
    pub(crate) fn quick_step(&self) -> Option<bool> {
        if !self.gives_way() {
            return None;
        }
        Current::with(|current| {
            let plain = current.task.get().is_some() && current.held_open.get() == 0;
            plain.then(|| give_way(current))
        })
    }

    #[cold]
    pub(crate) fn needs_task(&self, py: Python<'_>) -> Step {
        if let Kind::Join(_) = self.kind {
            return errors::misuse(
                "`await task` works inside a weightless task or an asyncio task; in plain code write `task.result()`",
            )
            .into();
        }
        Current::need_task(&self.describe(py)).err().unwrap_or_else(|| errors::misuse("no task")).into()
    }

    #[inline(always)]
    fn begin(&self, py: Python<'_>, task: TaskId) -> Step {
        let attempted = match &self.kind {
            Kind::Send(channel, value) => {
                channel.get().send_now(py, Some(task), value).map(|sent| sent.then(|| py.None()))
            }
            Kind::Receive(channel) => channel.get().receive_now(py, Some(task)),
            _ => self.attempt_rarer(py, Some(task)),
        };
        let (phase, step) = match attempted {
            Ok(Some(value)) => (IDLE, Step::Return(value)),
            Ok(None) => (WAITING, Step::Park),
            Err(thrown) => (IDLE, Step::Raise(thrown)),
        };
        self.set_phase(phase);
        step
    }

    #[inline(never)]
    fn resume(&self, py: Python<'_>, wake: Option<Wake<Py<PyAny>>>) -> Step {
        let concluded = match wake {
            Some(Wake::Event { branch, event }) => self.conclude(py, branch, event),
            Some(Wake::Cancelled) => {
                self.deadlock();
                Err(errors::cancelled(py, "the task is cancelled"))
            }
            _ => return errors::misuse("this operation is being waited for by another task").into(),
        };
        if let Ok(None) = concluded {
            return Step::Park;
        }
        self.set_phase(IDLE);
        self.release();
        concluded.map_or_else(Step::from, |value| Step::Return(value.unwrap_or_else(|| py.None())))
    }

    /// The wait it was enlisted for is over without it.
    pub(crate) fn abandon(&self) {
        self.set_phase(IDLE);
        self.release();
    }

    /// Tries it without waiting, for whoever it is.
    #[inline(never)]
    pub(crate) fn attempt(&self, py: Python<'_>) -> Quick<Option<Py<PyAny>>> {
        match &self.kind {
            Kind::Send(channel, value) => Ok(channel.get().send_now(py, None, value)?.then(|| py.None())),
            Kind::Receive(channel) => channel.get().receive_now(py, None),
            _ => self.attempt_rarer(py, None),
        }
    }

    /// The same for those that do not ask for a cancellation themselves. A task that is cancelled is told so instead.
    #[inline(never)]
    fn attempt_rarer(&self, py: Python<'_>, task: Option<TaskId>) -> Quick<Option<Py<PyAny>>> {
        if let Some(task) = task {
            check_cancelled(py, task)?;
        }
        Ok(match &self.kind {
            Kind::After(moment) => (*moment <= Run::now()).then(|| py.None()),
            Kind::Join(task) => task.get().outcome(py).transpose()?,
            Kind::Drain(scope) => scope.get().is_empty().then(|| py.None()),
            Kind::Socket(operation) => operation.attempt(py)?,
            Kind::Poll(poll) => poll.attempt(py)?,
            Kind::Select(select) => select.attempt(py)?,
            Kind::Thread(call) => call.attempt(py)?,
            Kind::Space(operation) => operation.attempt(py)?,
            Kind::Heard(heard) => heard.attempt(py)?,
            Kind::Sleep(_) | Kind::Switch(_) | Kind::Send(..) | Kind::Receive(_) => None,
        })
    }

    /// Another one like it, for a wait at the same time.
    pub(crate) fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        Ok(Self::new(self.kind.copy(py)?))
    }

    /// What waits for it now: itself, or a copy when it is being waited for already.
    #[inline(always)]
    pub(crate) fn awaiter(slf: Bound<'_, Self>) -> Quick<Bound<'_, Self>> {
        if slf.get().is_idle() { Ok(slf) } else { Self::second_awaiter(&slf) }
    }

    /// The same wherever this is: in a weightless task, or in an event loop's.
    #[cold]
    pub(crate) fn awaiter_here(slf: Bound<'_, Self>) -> Quick<Bound<'_, PyAny>> {
        match Current::task() {
            Some(_) => Ok(Self::awaiter(slf)?.into_any()),
            None => Wait::elsewhere(slf),
        }
    }

    #[cold]
    pub(crate) fn second_awaiter<'py>(slf: &Bound<'py, Self>) -> Quick<Bound<'py, Self>> {
        let copy = slf.get().copy(slf.py())?;
        Ok(Bound::new(slf.py(), copy)?)
    }
}

/// `sleep(0)`: the others have their turn, then it is over. It keeps nothing, so that one object serves everybody, and
/// does not ask for a cancellation: as for a bare `yield`, the kernel does when the task's turn comes again.
#[inline(always)]
fn give_way(current: &Current) -> bool {
    let over = current.gives_way.get();
    current.gives_way.set(!over);
    over
}

#[pymethods]
impl Operation {
    fn __await__(slf: Bound<'_, Self>) -> Quick<Bound<'_, PyAny>> {
        Self::awaiter_here(slf)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Quick<Bound<'_, PyAny>> {
        Self::awaiter_here(slf)
    }

    fn __next__(slf: Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        match slf.get().step(py) {
            Step::Return(value) => Err(pyo3::exceptions::PyStopIteration::new_err((value,))),
            Step::Park => Ok(Some(slf.into_any().unbind())),
            Step::GiveWay => Ok(Some(py.None())),
            Step::Raise(thrown) => Err(thrown.into()),
        }
    }

    /// Waits in a plain thread.
    ///
    /// Args:
    ///     timeout: seconds; ``None`` waits for as long as it takes.
    ///
    /// Returns:
    ///     What the operation gives.
    ///
    /// Raises:
    ///     TimeoutError: the time is over; the operation has been undone.
    ///     RuntimeError: this thread runs weightless tasks, which would all stand still; write ``await``.
    #[pyo3(signature = (timeout=None))]
    fn wait(
        slf: Bound<'_, Self>,
        #[pyo3(from_py_with = seconds_or_none)] timeout: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let operation = Self::awaiter(slf)?;
        operation.get().set_phase(WAITING);
        let waited = crate::thread_wait::wait(&operation, timeout);
        operation.get().abandon();
        waited
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<operation: {}>", self.describe(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.kind.traverse(visit)
    }
}
