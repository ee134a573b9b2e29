//! Channels, as Python sees them. The kernel holds the buffer and the wait lists.

pub(crate) mod door;
mod hub;
pub(crate) mod known;
pub(crate) mod plain;
pub(crate) mod shared;
pub(crate) mod tickets;
mod waits;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use thistledown_exchange::ObjectId;
use thistledown_kernel::{ChannelId, RecvRefused, SendRefused, TaskId};

use crate::asyncio::awaiting::Wait;
use crate::channel::plain::PlainIterator;
use crate::channel::shared::Shared;
use crate::current::Current;
use crate::errors::{self, Quick, Thrown};
use crate::objects;
use crate::operation::{Kind, Operation, Step};
use crate::payload::WORLD;
use crate::workers::freight;

/// A channel: values go in at one end and come out at the other, in order; whoever waits is served in order.
///
/// Works between weightless tasks, asyncio tasks, plain threads and worker processes, in any mixture: give it to a task as
/// an argument, in a closure, inside of a value or through another channel. Messages between processes are copies. ``async for value in channel`` ends when the
/// channel is closed and empty. Model: Go's channels.
///
/// Args:
///     capacity: how many values it holds that nobody has received yet. 0 is a rendezvous: a send is done when
///         somebody takes the value.
///
/// Raises:
///     TypeError, ValueError: the capacity is not a whole number >= 0; there are no channels without a limit.
#[pyclass(frozen, generic, weakref, module = "thistledown")]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    capacity: usize,
    /// What it is from the moment on at which a handle is first pickled; then nothing is at the kernel's channel any more.
    shared: OnceLock<Arc<Shared>>,
}

/// Which channel a handle is to.
#[derive(PartialEq, Eq, Hash)]
enum Identity {
    /// One that was made here.
    Here(u64),
    Far(ObjectId),
}

impl Channel {
    /// What people call it.
    pub(crate) fn name(&self) -> String {
        self.shared().map_or_else(|| format!("channel {}", self.number()), |shared| shared.name())
    }

    /// What the kernel calls it.
    fn number(&self) -> u64 {
        self.id.number() & 0xffff_ffff
    }

    /// What it is if it was shared.
    #[inline(always)]
    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.get()
    }

    /// The same for all handles to one channel, before it is shared and afterwards.
    fn identity(&self) -> Identity {
        match self.shared() {
            Some(shared) => shared.called().map_or(Identity::Far(shared.id()), Identity::Here),
            None => Identity::Here(self.id.number()),
        }
    }

    /// A handle to a channel that another process made, or this one made before.
    fn of(shared: Arc<Shared>) -> Self {
        let capacity = shared.capacity;
        Self { id: ChannelId::default(), capacity, shared: OnceLock::from(shared) }
    }

    /// Makes it one that other processes can use. What lies in it is packed; who waits at it waits on, at the other.
    fn share(&self, py: Python<'_>) -> PyResult<Arc<Shared>> {
        let mut packed: Vec<(Py<PyAny>, freight::Message)> = Vec::new();
        loop {
            if let Some(shared) = self.shared() {
                return Ok(Arc::clone(shared));
            }
            let mut lies = Vec::new();
            let is_closed = WORLD.with(|kernel| {
                kernel.visit_channel(self.id, |value| lies.push(value.clone_ref(py)));
                kernel.channel_state(self.id).0
            });
            let is_same = lies.iter().map(Py::as_ptr).eq(packed.iter().map(|(value, _)| value.as_ptr()));
            if is_same {
                // From the look to here no Python code has run, and none does before it is done.
                let (values, tickets): (_, Vec<_>) = packed.into_iter().map(|(_, packed)| packed).unzip();
                let shared = Shared::share(self.capacity, is_closed, values, self.id.number())?;
                tickets.into_iter().for_each(tickets::sent);
                let _ = self.shared.set(Arc::clone(&shared));
                drop(WORLD.with(|kernel| kernel.move_channel(self.id)));
                return Ok(shared);
            }
            // Packing runs Python code, which may use the channel.
            packed = lies
                .into_iter()
                .map(|value| Ok((value.clone_ref(py), freight::pack_message(value.bind(py))?)))
                .collect::<PyResult<_>>()?;
        }
    }

    /// A send or a receive, of a channel that is shared, by the address of its operation.
    #[cold]
    pub(crate) fn conclude_shared(
        &self,
        py: Python<'_>,
        operation: usize,
        sends: Option<&Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        match self.shared() {
            Some(shared) => shared.conclude(py, operation, sends),
            None => Ok(None),
        }
    }

    pub(crate) fn describe(&self) -> String {
        format!("{} (capacity {})", self.name(), self.capacity)
    }

    /// Whether the value could be sent at once. A task that is cancelled is told so instead.
    #[inline(always)]
    pub(crate) fn send_now(&self, py: Python<'_>, task: Option<TaskId>, value: &Py<PyAny>) -> Quick<bool> {
        if let Some(shared) = self.shared() {
            if let Some(task) = task {
                crate::current::check_cancelled(py, task)?;
            }
            return Ok(shared.send_now(py, value, false)?);
        }
        let value = value.clone_ref(py);
        let sent = WORLD.with(|kernel| match task {
            Some(task) if kernel.is_cancelled(task) => Sent::Cancelled(value),
            _ => match kernel.try_send(self.id, value) {
                Ok(()) => Sent::Done,
                Err(SendRefused::Full(value)) => Sent::Full(value),
                Err(SendRefused::Closed(value)) => Sent::Closed(value),
            },
        });
        match sent {
            Sent::Done => Ok(true),
            unsent => unsent.explain(py),
        }
    }

    /// The next value, if there is one. A task that is cancelled is told so instead.
    #[inline(always)]
    pub(crate) fn receive_now(&self, py: Python<'_>, task: Option<TaskId>) -> Quick<Option<Py<PyAny>>> {
        if let Some(shared) = self.shared() {
            if let Some(task) = task {
                crate::current::check_cancelled(py, task)?;
            }
            return Ok(shared.receive_now(py, false)?);
        }
        let received = WORLD.with(|kernel| match task {
            Some(task) if kernel.is_cancelled(task) => Received::Cancelled,
            _ => match kernel.try_recv(self.id) {
                Ok(value) => Received::Value(value),
                Err(RecvRefused::Empty) => Received::Nothing,
                Err(RecvRefused::Closed) => Received::Closed,
            },
        });
        match received {
            Received::Value(value) => Ok(Some(value)),
            Received::Nothing => Ok(None),
            Received::Closed => Err(refused(py, "the channel is closed, and empty")),
            Received::Cancelled => Err(stopped(py)),
        }
    }
}

/// What came of a send. It is flat, so that it travels in registers; what was not sent comes back.
enum Sent {
    Done,
    Full(Py<PyAny>),
    Closed(Py<PyAny>),
    Cancelled(Py<PyAny>),
}

impl Sent {
    /// Why it was not sent, if that is an error.
    #[inline(never)]
    fn explain(self, py: Python<'_>) -> Quick<bool> {
        match self {
            Self::Done => Ok(true),
            Self::Full(_value) => Ok(false),
            Self::Closed(_value) => Err(refused(py, "send on a channel that is closed")),
            Self::Cancelled(_value) => Err(stopped(py)),
        }
    }
}

/// What came of a receive, as flat.
enum Received {
    Value(Py<PyAny>),
    Nothing,
    Closed,
    Cancelled,
}

/// `ChannelClosed`.
#[cold]
fn refused(py: Python<'_>, words: &str) -> Thrown {
    errors::channel_closed(py, words).into()
}

/// `Cancelled`.
#[cold]
fn stopped(py: Python<'_>) -> Thrown {
    errors::cancelled(py, "the task is cancelled").into()
}

/// A number of values: whole, and not negative.
struct Capacity(usize);

impl<'py> FromPyObject<'_, 'py> for Capacity {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        // What shows itself may run into a Ctrl-C: only what is refused does.
        let words = || PyResult::Ok(format!("capacity must be a whole number >= 0, got {}", object.repr()?));
        let Ok(number) = object.extract::<i64>() else { return Err(errors::wrong_type(words()?)) };
        let Ok(number) = usize::try_from(number) else { return Err(errors::wrong_value(words()?)) };
        Ok(Self(number))
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        WORLD.with(|kernel| kernel.drop_channel(self.id));
    }
}

#[pymethods]
impl Channel {
    #[new]
    #[pyo3(signature = (capacity=Capacity(0)))]
    fn new(capacity: Capacity) -> Self {
        let Capacity(capacity) = capacity;
        let id = WORLD.with(|kernel| kernel.open_channel(capacity));
        Self { id, capacity, shared: OnceLock::new() }
    }

    /// An operation that sends a value: done when somebody received it, or it lies in the buffer.
    ///
    /// Args:
    ///     value: anything; in a channel that is shared with other processes, what can be pickled.
    ///
    /// Raises:
    ///     ChannelClosed: when it is waited for: the channel is closed, also while it waits.
    ///     ChannelBroken: the process that made the channel has ended.
    ///     NotPicklable: the value cannot be sent to another process.
    #[pyo3(signature = (value, /))]
    pub(crate) fn send(slf: Bound<'_, Self>, value: Py<PyAny>) -> Quick<Bound<'_, Operation>> {
        let py = slf.py();
        objects::operation(py, || Kind::Send(slf.unbind(), value))
    }

    /// An operation that receives the next value.
    ///
    /// Returns:
    ///     An operation that gives it.
    ///
    /// Raises:
    ///     ChannelClosed: when it is waited for: the channel is closed and nothing is left in it.
    ///     ChannelBroken: the process that made the channel has ended.
    pub(crate) fn recv(slf: Bound<'_, Self>) -> Quick<Bound<'_, Operation>> {
        let py = slf.py();
        objects::operation(py, || Kind::Receive(slf.unbind()))
    }

    /// Sends without waiting, from any thread.
    ///
    /// Args:
    ///     value: as of ``send``.
    ///
    /// Raises:
    ///     ChannelFull: it would have to wait; a ``queue.Full``.
    ///     ChannelClosed: the channel is closed.
    ///     NotPicklable: the value cannot be sent to another process.
    fn send_nowait(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<()> {
        let sent = match self.shared() {
            Some(shared) => shared.send_now(py, &value, true)?,
            None => self.send_now(py, None, &value)?,
        };
        if sent {
            return Ok(());
        }
        Err(errors::channel_full(py, "the channel is full: wait with `send`, or make its capacity larger"))
    }

    /// Receives without waiting, from any thread.
    ///
    /// Returns:
    ///     The next value.
    ///
    /// Raises:
    ///     ChannelEmpty: it would have to wait; a ``queue.Empty``.
    ///     ChannelClosed: the channel is closed and nothing is left in it.
    fn recv_nowait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let received = match self.shared() {
            Some(shared) => shared.receive_now(py, true)?,
            None => self.receive_now(py, None)?,
        };
        received.ok_or_else(|| errors::channel_empty(py, "the channel is empty: wait with `recv`"))
    }

    /// Closes the channel. Senders get ``ChannelClosed``; receivers too, once it is empty. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(shared) = self.shared() {
            return shared.close(py);
        }
        WORLD.with(|kernel| kernel.close_channel(self.id));
        Ok(())
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        if let Some(shared) = self.shared() {
            return shared.is_closed();
        }
        WORLD.with(|kernel| kernel.channel_state(self.id)).0
    }

    /// Whether it was closed, and how many values lie in it, if that is known without asking another process.
    fn _seen(&self) -> (bool, Option<usize>) {
        if let Some(shared) = self.shared() {
            let seen = shared.seen();
            return (seen.is_closed, seen.length);
        }
        let (closed, length) = WORLD.with(|kernel| kernel.channel_state(self.id));
        (closed, Some(length))
    }

    /// How many values it holds that nobody has received.
    #[getter]
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        match self.shared() {
            Some(shared) => Ok(shared.state(py)?.1),
            None => Ok(WORLD.with(|kernel| kernel.channel_state(self.id)).1),
        }
    }

    /// For another process: the channel stays where it is, and a handle to it goes there.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let shared = slf.get().share(py)?;
        let ticket = shared.ticket(py)?;
        let name = tickets::written(shared.id(), ticket);
        let function = py.import("thistledown._core")?.getattr("_channel")?;
        Ok((function, (PyBytes::new(py, &name), slf.get().capacity).into_pyobject(py)?))
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __aiter__(slf: Bound<'_, Self>) -> PyResult<ChannelIterator> {
        Ok(ChannelIterator { receive: Self::recv(slf)?.unbind() })
    }

    fn __iter__(slf: Bound<'_, Self>) -> PyResult<PlainIterator> {
        PlainIterator::begin(Self::recv(slf)?, "channel")
    }

    /// Handles to one channel are equal, also one that has come back from another process.
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast_exact::<Self>().is_ok_and(|other| other.get().identity() == self.identity())
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.identity().hash(&mut hasher);
        hasher.finish()
    }

    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }

    fn __repr__(&self) -> String {
        if let Some(shared) = self.shared() {
            let state = if shared.is_closed() { ", closed" } else { "" };
            return format!("<thistledown.Channel shared, capacity {}{state}>", self.capacity);
        }
        let (closed, length) = WORLD.with(|kernel| kernel.channel_state(self.id));
        let state = if closed { ", closed" } else { "" };
        format!("<thistledown.Channel {length}/{}{state}>", self.capacity)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A lock that is taken here would be this thread's own; what is not shown is merely not collected yet.
        let shown = WORLD.try_with(|kernel| {
            let mut result = Ok(());
            kernel.visit_channel(self.id, |value| {
                if result.is_ok() {
                    result = visit.call(value);
                }
            });
            result
        });
        shown.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        WORLD.with(|kernel| kernel.clear_channel(self.id));
    }
}

/// The channels that this process shares with others: the name, whether it is closed, how many values lie in it, if it was
/// made here, and how many may.
#[pyfunction]
pub(crate) fn shared_channels() -> Vec<(String, bool, Option<usize>, usize)> {
    let row = |seen: shared::Seen| (seen.name, seen.is_closed, seen.length, seen.capacity);
    known::seen().into_iter().map(row).collect()
}

/// A handle that was pickled.
#[pyfunction]
#[pyo3(name = "_channel")]
pub(crate) fn channel_from(name: &[u8], capacity: usize) -> PyResult<Channel> {
    let (id, ticket) =
        tickets::read(name).ok_or_else(|| errors::wrong_value("this is no pickled channel"))?;
    Ok(Channel::of(known::find(id, capacity, ticket)?))
}

/// ``async for`` over a channel. It is its own awaiter, so that a value costs no object.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct ChannelIterator {
    pub(crate) receive: Py<Operation>,
}

impl ChannelIterator {
    #[inline(always)]
    pub(crate) fn step(&self, py: Python<'_>) -> Step {
        match self.receive.get().step(py) {
            Step::Raise(thrown) => Self::at_the_end(py, thrown),
            step => step,
        }
    }

    /// A channel that is closed and empty ends the iteration.
    #[cold]
    fn at_the_end(py: Python<'_>, thrown: Thrown) -> Step {
        let error = PyErr::from(thrown);
        let closed = errors::channel_closed(py, "").get_type(py);
        // One that is broken has not come to its end.
        if error.get_type(py).is(&closed) { PyStopAsyncIteration::new_err(()) } else { error }.into()
    }
}

#[pymethods]
impl ChannelIterator {
    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    pub(crate) fn __anext__(slf: Bound<'_, Self>) -> Quick<Bound<'_, PyAny>> {
        if Current::task().is_none() {
            return Wait::for_next(slf);
        }
        if slf.get().receive.get().is_idle() {
            return Ok(slf.into_any());
        }
        Err(errors::misuse(
            "this iterator is being waited for by another task: give each its own `async for`",
        )
        .into())
    }

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(slf: Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        match slf.get().step(py) {
            Step::Return(value) => Err(pyo3::exceptions::PyStopIteration::new_err((value,))),
            Step::Park => Ok(Some(slf.get().receive.clone_ref(py).into_any())),
            Step::GiveWay => Ok(Some(py.None())),
            Step::Raise(thrown) => Err(thrown.into()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.receive)
    }
}
