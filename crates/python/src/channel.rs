//! Handles to channels: which channel one is to, where that is, and what can be done there at once.
//!
//! The kernel holds the buffer and the wait lists until a handle is pickled; from then on for good, what is `shared` does.
//! All handles to one are equal. What Python calls is in `face`, `async for` in `iterator`.
//!
//! What it is not: nobody waits in here (`operation`).

pub(crate) mod door;
mod face;
mod hub;
mod iterator;
pub(crate) mod known;
pub(crate) mod plain;
pub(crate) mod shared;
pub(crate) mod tickets;
mod waits;

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use thistledown_exchange::ObjectId;
use thistledown_kernel::{ChannelId, RecvRefused, SendRefused, TaskId};

use crate::channel::shared::Shared;
use crate::errors::{self, Quick, Thrown};
use crate::identity::Identified;
use crate::payload::WORLD;
use crate::workers::freight;
pub(crate) use face::capacity;
pub(crate) use iterator::ChannelIterator;

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
pub(crate) enum Identity {
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

impl Identified for Channel {
    type Identity = Identity;

    /// The same before it is shared and afterwards.
    fn identity(&self) -> Identity {
        match self.shared() {
            Some(shared) => shared.called().map_or(Identity::Far(shared.id()), Identity::Here),
            None => Identity::Here(self.id.number()),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        WORLD.with(|kernel| kernel.drop_channel(self.id));
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
