//! Operations: values that say what to wait for. One class, one protocol, however it is waited for.
//!
//! Each kind knows four things: how to *attempt* it without waiting, what it *wants* from the kernel when that fails,
//! how to *conclude* from the event that met a want, and what to *release* when the wait is over, however it ended. A
//! weightless task awaits, a generator says `yield from`, a plain thread calls `wait`; all three go through these.
//!
//! While it is waited for, an operation is its own awaiter; a second wait at the same time gets a copy, so that an
//! operation stays a value. Source: Concurrent ML's events.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use rustix::io::Errno;
use smallvec::SmallVec;
use thistledown_kernel::{Direction, Event, Moment, TaskId, Wake, Want};

use crate::asyncio::awaiting::Wait;
use crate::channel::Channel;
use crate::current::{Current, Run, check_cancelled, seconds_or_none};
use crate::errors::{self, Quick, Thrown};
use crate::net::poll::RawPoll;
use crate::net::verbs::SocketOperation;
use crate::payload::WORLD;
use crate::pledge::Heard;
use crate::scope::Scope;
use crate::select::{self, Select};
use crate::space::wait::SpaceOperation;
use crate::switch::Switch;
use crate::task::Task;
use crate::thread_call::ThreadCall;

/// Not waited for.
const IDLE: u8 = 0;
/// Enlisted, or about to be.
const WAITING: u8 = 1;
/// The task used up its budget; it is due again, and then the operation is attempted.
const OVERDUE: u8 = 2;

/// What an operation waits for.
pub(crate) enum Kind {
    Sleep(Sleep),
    After(Moment),
    Send(Py<Channel>, Py<PyAny>),
    Receive(Py<Channel>),
    Join(Py<Task>),
    Drain(Py<Scope>),
    Socket(Box<SocketOperation>),
    Poll(Box<RawPoll>),
    Select(Select),
    Thread(Box<ThreadCall>),
    Switch(Box<Switch>),
    Space(Box<SpaceOperation>),
    Heard(Box<Heard>),
}

impl Kind {
    /// Lets go of what it holds. The common kinds do it without asking first whether the thread is attached.
    #[inline]
    pub(crate) fn drop_refs(self, py: Python<'_>) {
        match self {
            Self::Sleep(_) | Self::After(_) => {}
            Self::Send(channel, value) => {
                channel.drop_ref(py);
                value.drop_ref(py);
            }
            Self::Receive(channel) => channel.drop_ref(py),
            Self::Join(task) => task.drop_ref(py),
            rarer => {
                // Outside of a call of PyO3's what they hold would be let go at the next one only. An interpreter that
                // ends does not attach anybody, and needs nothing to be let go.
                let mut rarer = Some(rarer);
                Python::try_attach(|_| drop(rarer.take()));
            }
        }
    }
}

/// A sleep counts from when it is first waited for.
pub(crate) struct Sleep {
    /// Nanoseconds; the largest number is for ever.
    nanos: u64,
    /// When the present wait is over, as nanoseconds; zero while nobody waits.
    until: AtomicU64,
}

impl Sleep {
    pub(crate) fn new(duration: Option<Duration>) -> Self {
        let nanos = duration.and_then(|duration| u64::try_from(duration.as_nanos()).ok()).unwrap_or(u64::MAX);
        Self { nanos, until: AtomicU64::new(0) }
    }

    fn until(&self) -> Moment {
        if self.nanos == u64::MAX {
            return Moment::NEVER;
        }
        let at = |nanos| Moment::after_epoch(Duration::from_nanos(nanos));
        match self.until.load(Ordering::Relaxed) {
            0 => {
                let until = Run::now().after(Duration::from_nanos(self.nanos));
                let nanos = until.since(Moment::default()).as_nanos();
                self.until.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
                until
            }
            nanos => at(nanos),
        }
    }
}

/// Where an operation is waited for, and what it wants there.
pub(crate) struct Wants<'a> {
    /// The run whose task waits; a plain thread has none.
    pub(crate) run: Option<&'a Run>,
    pub(crate) list: SmallVec<[Want<Py<PyAny>>; 2]>,
    /// What a plain thread has to watch itself: a descriptor, and the want that stands for it.
    pub(crate) watched: Vec<(i32, Direction, u16)>,
    /// Somebody in another process may have to do something first, for which there has to be a worker.
    pub(crate) needs_others: bool,
}

impl<'a> Wants<'a> {
    pub(crate) fn new(run: Option<&'a Run>) -> Self {
        Self { run, list: SmallVec::new(), watched: Vec::new(), needs_others: false }
    }

    pub(crate) fn push(&mut self, want: Want<Py<PyAny>>) {
        self.list.push(want);
    }

    /// A descriptor for the thread to watch, and what the kernel can say of it.
    pub(crate) fn watch(&mut self, fd: i32, direction: Direction, want: Want<Py<PyAny>>) {
        let branch = u16::try_from(self.list.len()).unwrap_or(u16::MAX);
        self.watched.push((fd, direction, branch));
        self.list.push(want);
    }
}

/// Something that is waited for: its name, and itself.
pub(crate) type Target = (String, Py<PyAny>);

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
        matches!(self.kind, Kind::Sleep(Sleep { nanos: 0, .. }))
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

    /// What it wants from the kernel. Says so even if it could be attempted.
    pub(crate) fn want(&self, py: Python<'_>, wants: &mut Wants<'_>) -> PyResult<()> {
        match &self.kind {
            Kind::Sleep(sleep) => wants.push(Want::Until(sleep.until())),
            Kind::After(moment) => wants.push(Want::Until(*moment)),
            Kind::Send(channel, value) => match channel.get().shared() {
                None => wants.push(Want::Send(channel.get().id, value.clone_ref(py))),
                Some(shared) => {
                    wants.needs_others = true;
                    shared.want(py, self.address(), Some(value), wants)?;
                }
            },
            Kind::Receive(channel) => match channel.get().shared() {
                None => wants.push(Want::Receive(channel.get().id)),
                Some(shared) => {
                    wants.needs_others = true;
                    shared.want(py, self.address(), None, wants)?;
                }
            },
            Kind::Join(task) => wants.push(Want::End(task.get().id())),
            Kind::Drain(scope) => wants.push(Want::Drain(scope.get().id()?)),
            Kind::Socket(operation) => operation.want(wants)?,
            Kind::Poll(poll) => poll.want(wants)?,
            Kind::Select(select) => select.want(py, wants)?,
            Kind::Thread(call) => call.want(py, wants)?,
            Kind::Space(operation) => {
                wants.needs_others = true;
                operation.want(wants);
            }
            Kind::Heard(heard) => {
                wants.needs_others = true;
                wants.push(Want::End(heard.pledge.get().id()));
            }
            Kind::Switch(_) => return Err(errors::misuse("`switch` works inside a weightless task only")),
        }
        Ok(())
    }

    /// One of its wants was met. Nothing comes back when it has to be waited for again.
    pub(crate) fn conclude(
        &self,
        py: Python<'_>,
        branch: u16,
        event: Event<Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        match (&self.kind, event) {
            (Kind::Select(select), event) => select.conclude(py, branch, event),
            (Kind::Space(operation), _) => operation.attempt(py),
            (Kind::Heard(heard), _) => heard.attempt(py),
            (_, Event::Received(value)) => Ok(Some(value)),
            (Kind::Send(channel, value), Event::Closed | Event::Ready | Event::Gone)
                if channel.get().shared().is_some() =>
            {
                channel.get().conclude_shared(py, self.address(), Some(value))
            }
            (Kind::Receive(channel), Event::Closed | Event::Ready | Event::Gone)
                if channel.get().shared().is_some() =>
            {
                channel.get().conclude_shared(py, self.address(), None)
            }
            (_, Event::Closed) => Err(errors::channel_closed(py, "the channel is closed")),
            (_, Event::Gone) => Err(closed_descriptor()),
            (Kind::Join(_) | Kind::Thread(_), _) => match self.attempt(py) {
                Ok(Some(value)) => Ok(Some(value)),
                // Everybody who waits for it looks, when the wait of one can never end.
                Ok(None) if self.is_for_remote() => match self.deadlock() {
                    Some(words) => Err(errors::deadlock(py, words)),
                    None => Ok(None),
                },
                Ok(None) => Err(errors::misuse("the run of the task was given up before the task had ended")),
                // It was taken back, as nobody can wait for it.
                Err(error) => Err(self.deadlock().map_or(error.into(), |words| errors::deadlock(py, words))),
            },
            (Kind::Socket(_) | Kind::Poll(_), _) => Ok(self.attempt(py)?),
            (_, Event::Elapsed | Event::Sent | Event::Drained | Event::Ended | Event::Ready) => {
                Ok(Some(py.None()))
            }
        }
    }

    /// Whether it waits for the end of a task in another process.
    fn is_for_remote(&self) -> bool {
        matches!(&self.kind, Kind::Join(task) if task.get().is_remote())
    }

    /// One of its wants was met, and nobody is there any more to be given what came: a value goes back to its channel.
    pub(crate) fn give_back(&self, branch: u16, event: Event<Py<PyAny>>) {
        match (&self.kind, event) {
            (Kind::Select(select), event) => select.give_back(branch, event),
            (Kind::Receive(channel), Event::Received(value)) => {
                let channel = channel.get().id;
                WORLD.with(|kernel| kernel.give_back(channel, value));
            }
            _ => {}
        }
    }

    /// Whether it waits for the end of a group's tasks.
    pub(crate) fn is_for_group(&self) -> bool {
        matches!(&self.kind, Kind::Drain(_))
    }

    /// Whether it waits for tasks that are to end: their group is not left before they have.
    pub(crate) fn is_for_cancelled_group(&self) -> bool {
        matches!(&self.kind, Kind::Drain(scope) if scope.get().is_cancelled())
    }

    /// Says that the wait of this task is over, if that was for a task in another process. What it is to be told, if it
    /// could never have ended.
    fn deadlock(&self) -> Option<String> {
        match (&self.kind, Current::task()) {
            (Kind::Join(task), Some(waiting)) if task.get().is_remote() => task.get().unbinds(waiting),
            _ => None,
        }
    }

    /// There is no time to wait: what is there now is to be had by one attempt, also if it is elsewhere.
    pub(crate) fn hurry(&self) {
        match &self.kind {
            Kind::Space(operation) => operation.hurry(),
            Kind::Select(select) => select.hurry(),
            _ => {}
        }
    }

    /// The wait is over, however it ended.
    pub(crate) fn release(&self) {
        match &self.kind {
            Kind::Sleep(sleep) => sleep.until.store(0, Ordering::Relaxed),
            Kind::Socket(operation) => operation.release(),
            Kind::Poll(poll) => poll.release(),
            Kind::Thread(call) => call.release(),
            Kind::Space(operation) => operation.release(),
            Kind::Select(select) => select.release(),
            Kind::Send(channel, _) | Kind::Receive(channel) => {
                if let Some(shared) = channel.get().shared() {
                    shared.release(self.address());
                }
            }
            _ => {}
        }
    }

    /// What a wait of it is known by at a shared channel: each wait has an operation of its own.
    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Nobody refers to it any more: a wait at a shared channel that nobody ended is over.
    #[inline(always)]
    pub(crate) fn end_wait(&self) {
        if self.phase.load(Ordering::Relaxed) == WAITING {
            self.end_far_wait();
        }
    }

    #[cold]
    fn end_far_wait(&self) {
        if let Kind::Send(channel, _) | Kind::Receive(channel) = &self.kind
            && let Some(shared) = channel.get().shared()
        {
            shared.release(self.address());
        }
    }

    /// What it waits for, in words.
    pub(crate) fn describe(&self, py: Python<'_>) -> String {
        match &self.kind {
            Kind::Sleep(Sleep { nanos: u64::MAX, .. }) => "sleep(inf)".into(),
            Kind::Sleep(sleep) => format!("sleep({})", Duration::from_nanos(sleep.nanos).as_secs_f64()),
            Kind::After(_) => "after(...)".into(),
            Kind::Send(channel, _) => format!("send to {}", channel.get().describe()),
            Kind::Receive(channel) => format!("recv from {}", channel.get().describe()),
            Kind::Join(task) => format!("the end of task {}", task.get().name(py)),
            Kind::Drain(_) => "the end of a group's tasks".into(),
            Kind::Socket(operation) => operation.describe(),
            Kind::Poll(poll) => poll.describe(),
            Kind::Select(select) => select.describe(py),
            Kind::Thread(call) => call.describe(py),
            Kind::Switch(_) => "switch".into(),
            Kind::Space(operation) => operation.describe(py),
            Kind::Heard(heard) => heard.pledge.get().name(py),
        }
    }

    /// Whom or what it waits for, as far as that has a name: tasks and channels.
    pub(crate) fn targets(&self, py: Python<'_>, into: &mut Vec<Target>) {
        match &self.kind {
            Kind::Send(channel, _) | Kind::Receive(channel) => {
                into.push((channel.get().name(), channel.clone_ref(py).into_any()));
            }
            Kind::Join(task) => into.push((task.get().name(py), task.clone_ref(py).into_any())),
            Kind::Select(select) => select.targets(py, into),
            Kind::Space(operation) => operation.targets(py, into),
            Kind::Heard(heard) => {
                into.extend(heard.of.iter().map(|of| (of.get().name(py), of.clone_ref(py).into_any())))
            }
            _ => {}
        }
    }

    /// Whether it waits for nothing but what this process can bring about: a channel or a space in memory that no other
    /// process has.
    pub(crate) fn is_own(&self) -> bool {
        match &self.kind {
            Kind::Send(channel, _) | Kind::Receive(channel) => channel.get().shared().is_none(),
            Kind::Space(operation) => operation.is_own(),
            Kind::Select(select) => select.is_own(),
            _ => false,
        }
    }

    /// Another one like it, for a wait at the same time.
    pub(crate) fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        Ok(Self::new(match &self.kind {
            Kind::Sleep(sleep) => Kind::Sleep(Sleep { nanos: sleep.nanos, until: AtomicU64::new(0) }),
            Kind::After(moment) => Kind::After(*moment),
            Kind::Send(channel, value) => Kind::Send(channel.clone_ref(py), value.clone_ref(py)),
            Kind::Receive(channel) => Kind::Receive(channel.clone_ref(py)),
            Kind::Join(task) => Kind::Join(task.clone_ref(py)),
            Kind::Drain(scope) => Kind::Drain(scope.clone_ref(py)),
            Kind::Socket(operation) => Kind::Socket(Box::new(operation.copy(py))),
            Kind::Poll(poll) => Kind::Poll(Box::new(poll.copy(py))),
            Kind::Select(select) => Kind::Select(select.copy(py)?),
            Kind::Thread(call) => Kind::Thread(Box::new(call.copy(py))),
            Kind::Switch(switch) => Kind::Switch(Box::new(switch.copy(py))),
            Kind::Space(operation) => Kind::Space(Box::new(operation.copy(py))),
            Kind::Heard(heard) => Kind::Heard(Box::new(heard.copy(py))),
        }))
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

fn closed_descriptor() -> PyErr {
    PyOSError::new_err((Errno::BADF.raw_os_error(), "the socket was closed while it was waited for"))
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
        match &self.kind {
            Kind::Sleep(_) | Kind::After(_) | Kind::Poll(_) => Ok(()),
            Kind::Send(channel, value) => {
                visit.call(channel)?;
                visit.call(value)
            }
            Kind::Receive(channel) => visit.call(channel),
            Kind::Join(task) => visit.call(task),
            Kind::Drain(scope) => visit.call(scope),
            Kind::Socket(operation) => operation.traverse(visit),
            Kind::Select(select) => select.traverse(visit),
            Kind::Thread(call) => call.traverse(visit),
            Kind::Switch(switch) => switch.traverse(visit),
            Kind::Space(operation) => operation.traverse(visit),
            Kind::Heard(heard) => heard.traverse(visit),
        }
    }
}

/// Anything that can stand where an operation is asked for: an operation, or a task for its end.
pub(crate) fn from_python<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Operation>> {
    if let Ok(operation) = object.cast::<Operation>() {
        return Ok(operation.clone());
    }
    if let Ok(task) = object.cast::<Task>() {
        return Bound::new(object.py(), Operation::new(Kind::Join(task.clone().unbind())));
    }
    let kind = object.get_type().name()?;
    if let Some(instead) = select::instead(object) {
        return Err(errors::wrong_type(format!(
            "select waits for operations and tasks, not for a {kind}: write {instead}"
        )));
    }
    Err(errors::wrong_type(format!(
        "select waits for operations and tasks, not for a {kind}: start it with `td.go(...)` and select on the task{}",
        select::advice(object)
    )))
}
