//! Operations at a shared channel: what can be had without waiting, and waits in the kernel for what cannot.
//!
//! Each wait is known by the address of its operation, has a ticket at the port and a spot in the kernel, and keeps what it
//! sends packed, with what keeps the channels in that. It is called by the port when there may be something for it, and
//! then looks: nothing is given to it. The lock of the waits is held for a look or an entry, and while nothing else is
//! taken.
//!
//! What it is not: it does not know how what is said travels (`shared`), nor who is next (`thistledown_exchange::channel`).

use std::collections::HashMap;

use pyo3::prelude::*;
use thistledown_exchange::channel::{End, Now, Say};
use thistledown_exchange::{Broken, Parcel};
use thistledown_kernel::{SpotId, Want};

use crate::channel::hub::call;
use crate::channel::shared::Shared;
use crate::channel::tickets;
use crate::errors;
use crate::operation::Wants;
use crate::payload::WORLD;
use crate::workers::freight;

/// A wait of an operation.
struct Waiting {
    ticket: u64,
    spot: SpotId,
    /// What it sends, and what keeps the channels in that until it is sent.
    value: Option<freight::Message>,
}

#[derive(Default)]
pub(super) struct Waits {
    tickets: u64,
    /// By the operation.
    now: HashMap<usize, Waiting>,
}

impl Shared {
    fn next_ticket(&self) -> u64 {
        let mut waits = self.waits.lock();
        waits.tickets += 1;
        waits.tickets
    }

    /// Takes a value if there is one. A large one is not to be kept by the channel until somebody asks.
    fn receive(&self, ticket: Option<u64>) -> Now<Parcel, Broken> {
        self.at(|port, says| {
            let now = port.receive(ticket, says);
            let is_large = matches!(&now, Now::Done(value) if value.needs_blob());
            says.extend((is_large && self.hub.is_none()).then_some(Say::Look));
            now
        })
    }

    /// Receives what is here already; with `asks`, also what is not.
    pub(crate) fn receive_now(&self, py: Python<'_>, asks: bool) -> PyResult<Option<Py<PyAny>>> {
        self.check_fork(py)?;
        match self.receive(None) {
            Now::Done(value) => return self.unpack(py, &value).map(Some),
            Now::Over(end) => return Err(self.error(py, end)),
            Now::Nothing if !asks && self.hub.is_none() => return Ok(None),
            Now::Nothing => {}
        }
        let ticket = self.next_ticket();
        self.at(|port, says| port.await_value(ticket, None, says, &mut call));
        let asked = if self.hub.is_none() { self.ask_state(py).map(drop) } else { Ok(()) };
        // Who hears a signal instead has received nothing.
        let now = asked.map(|()| self.receive(Some(ticket)));
        self.at(|port, says| port.release(ticket, says, &mut call));
        match now? {
            Now::Done(value) => self.unpack(py, &value).map(Some),
            Now::Over(end) => Err(self.error(py, end)),
            Now::Nothing => Ok(None),
        }
    }

    /// Sends at once if it can be; with `asks`, also when there is no slot here yet.
    pub(crate) fn send_now(&self, py: Python<'_>, value: &Py<PyAny>, asks: bool) -> PyResult<bool> {
        self.check_fork(py)?;
        // What is packed and not sent would keep for ever what it names.
        if !asks && self.hub.is_none() && self.at(|port, _| port.is_full()) {
            return Ok(false);
        }
        let (parcel, tickets) = freight::pack_message(value.bind(py))?;
        let is_sent = self.send_packed(py, &parcel, asks)?;
        if is_sent {
            tickets::sent(tickets);
        }
        Ok(is_sent)
    }

    fn send_packed(&self, py: Python<'_>, parcel: &Parcel, asks: bool) -> PyResult<bool> {
        match self.send_with(py, None, parcel)? {
            false if !asks && self.hub.is_none() => return Ok(false),
            false => {}
            true => return Ok(true),
        }
        let ticket = self.next_ticket();
        self.at(|port, says| port.await_slot(ticket, None, says, &mut call));
        let asked = if self.hub.is_none() { self.ask_state(py).map(drop) } else { Ok(()) };
        let sent = asked.and_then(|()| self.send_with(py, Some(ticket), parcel));
        self.at(|port, says| port.release(ticket, says, &mut call));
        sent
    }

    fn send_with(&self, py: Python<'_>, ticket: Option<u64>, parcel: &Parcel) -> PyResult<bool> {
        let now = self.at(|port, says| {
            let now = port.send(ticket);
            if now == Now::Done(()) {
                says.push(Say::Value(parcel.clone()));
            }
            now
        });
        match now {
            Now::Done(()) => Ok(true),
            Now::Nothing => Ok(false),
            Now::Over(End::Closed) => Err(errors::channel_closed(py, "send on a channel that is closed")),
            Now::Over(end) => Err(self.error(py, end)),
        }
    }

    /// Enlists an operation, by its address: to send this, or to receive.
    pub(crate) fn want(
        &self,
        py: Python<'_>,
        operation: usize,
        sends: Option<&Py<PyAny>>,
        wants: &mut Wants<'_>,
    ) -> PyResult<()> {
        self.check_fork(py)?;
        let known = self.waits.lock().now.get(&operation).map(|wait| (wait.ticket, wait.spot));
        let (ticket, spot) = match known {
            Some(known) => known,
            None => {
                let value = sends.map(|value| freight::pack_message(value.bind(py))).transpose()?;
                let spot = WORLD.with(|kernel| kernel.open_outside_spot());
                let ticket = self.next_ticket();
                self.waits.lock().now.insert(operation, Waiting { ticket, spot, value });
                (ticket, spot)
            }
        };
        self.at(|port, says| match sends {
            Some(_) => port.await_slot(ticket, Some(spot), says, &mut call),
            None => port.await_value(ticket, Some(spot), says, &mut call),
        });
        wants.push(Want::Called(spot));
        Ok(())
    }

    /// A wait was called, or it was one for the channel before it was shared. Nothing: it is to go on.
    pub(crate) fn conclude(
        &self,
        py: Python<'_>,
        operation: usize,
        sends: Option<&Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        self.check_fork(py)?;
        let parcel = |wait: &Waiting| wait.value.as_ref().map(|(parcel, _)| parcel.clone());
        let wait = self.waits.lock().now.get(&operation).map(|wait| (wait.ticket, parcel(wait)));
        let Some((ticket, value)) = wait else {
            return match sends {
                Some(value) => Ok(self.send_now(py, value, false)?.then(|| py.None())),
                None => self.receive_now(py, false),
            };
        };
        if let Some(value) = value {
            if !self.send_with(py, Some(ticket), &value)? {
                return Ok(None);
            }
            let sent = self.waits.lock().now.get_mut(&operation).and_then(|wait| wait.value.take());
            sent.into_iter().for_each(|(_, tickets)| tickets::sent(tickets));
            return Ok(Some(py.None()));
        }
        match self.receive(Some(ticket)) {
            Now::Done(value) => self.unpack(py, &value).map(Some),
            Now::Over(end) => Err(self.error(py, end)),
            Now::Nothing => Ok(None),
        }
    }

    /// The wait of an operation is over, if it has one.
    pub(crate) fn release(&self, operation: usize) {
        if self.handle.get().is_some_and(|handle| handle.exchange().is_forked()) {
            return;
        }
        let Some(wait) = self.waits.lock().now.remove(&operation) else { return };
        self.at(|port, says| port.release(wait.ticket, says, &mut call));
        WORLD.with(|kernel| kernel.drop_spot(wait.spot));
    }
}
