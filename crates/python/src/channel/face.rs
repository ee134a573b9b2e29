//! What Python calls on a channel.

use std::sync::OnceLock;

use pyo3::exceptions::PyOverflowError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::iterator::ChannelIterator;
use super::plain::PlainIterator;
use super::{Channel, tickets};
use crate::errors::{self, Quick};
use crate::identity;
use crate::objects;
use crate::operation::{Kind, Operation};
use crate::payload::WORLD;

/// A number of values: whole, and not negative.
struct Capacity(usize);

impl<'py> FromPyObject<'_, 'py> for Capacity {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        capacity(&object, 0).map(Self)
    }
}

/// A capacity: a whole number, and not less than what is the least.
pub(crate) fn capacity(object: &Bound<'_, PyAny>, least: i64) -> PyResult<usize> {
    let fault = match object.extract::<i64>() {
        Ok(number) if number >= least => return Ok(usize::try_from(number).unwrap_or(usize::MAX)),
        Ok(_) => errors::wrong_value,
        Err(error) if !error.is_instance_of::<PyOverflowError>(object.py()) => errors::wrong_type,
        Err(_) if object.gt(least)? => {
            return Err(errors::wrong_value(format!("capacity can be {} at most", i64::MAX)));
        }
        Err(_) => errors::wrong_value,
    };
    let bound = if least == 0 { ">= 0" } else { "> 0" };
    // What shows itself may run into a Ctrl-C: only what is refused does.
    Err(fault(format!("capacity must be a whole number {bound}, got {}", object.repr()?)))
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
        identity::are_same(self, other)
    }

    fn __hash__(&self) -> u64 {
        identity::hash(self)
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
