//! A channel that other processes use: this process's port, and, where it was made, the channel itself.
//!
//! The state machines are in `thistledown_exchange::channel`. Here and in `hub` are their locks, the waits in the kernel,
//! and how they talk: in the owner's process by calls, elsewhere through the exchange, in the words of its `speech`.
//!
//! What a port says arrives in the order in which it came to it: so the port is used with the machine locked, or
//! elsewhere with a lock for its turn to speak. The order of locks: the machine's or that one, then the port's, then the
//! kernel's. None of them is held while Python runs, or a value is packed or unpacked.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_exchange::channel::speech::{OPEN, STATE, noted, number_of, said};
use thistledown_exchange::channel::{End, Given, Machine, Port, Say};
use thistledown_exchange::{
    Broken, Exchange, Handle, Listener, ObjectId, Parcel, Party, Ticket, TicketId, Told, Word,
};
use thistledown_kernel::SpotId;

use crate::channel::hub::{Hub, call};
use crate::channel::known::make_known;
use crate::channel::waits::Waits;
use crate::channel::{door, tickets};
use crate::errors;
use crate::outside::outside_until;
use crate::payload::WORLD;
use crate::workers::freight;

pub(super) type Here = Port<Parcel, Option<SpotId>, Broken>;

/// A shared channel, as this process uses it.
pub(crate) struct Shared {
    id: ObjectId,
    pub(crate) capacity: usize,
    /// What the kernel called it, where it was made.
    called: Option<u64>,
    /// Where it was made. Dropped while the handle keeps the exchange, which is told what the channel has kept.
    pub(super) hub: Option<Arc<Hub>>,
    /// Set right after it is made, before anybody else knows it.
    pub(super) handle: OnceLock<Handle>,
    pub(super) port: Mutex<Here>,
    /// Held by who uses the port, where the channel is elsewhere, until what comes of it is said.
    turn: Mutex<()>,
    pub(super) waits: Mutex<Waits>,
    /// For handles in functions, and whatever else is pickled.
    ticket: Mutex<Option<Ticket>>,
}

/// A shared channel as it stands, as far as that is known without asking anybody.
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) is_closed: bool,
    /// How many values lie in it, where it was made.
    pub(crate) length: Option<usize>,
    pub(crate) capacity: usize,
}

impl Shared {
    pub(super) fn new(id: ObjectId, capacity: usize, hub: Option<Arc<Hub>>, called: Option<u64>) -> Self {
        Self {
            id,
            capacity,
            called,
            handle: OnceLock::new(),
            hub,
            port: Mutex::default(),
            turn: Mutex::default(),
            waits: Mutex::default(),
            ticket: Mutex::default(),
        }
    }

    /// A new one of this process, with these values in it; until now the kernel has called it by this number.
    pub(crate) fn share(
        capacity: usize,
        is_closed: bool,
        values: Vec<Parcel>,
        called: u64,
    ) -> PyResult<Arc<Self>> {
        let exchange: Exchange = door::open()?;
        let mut machine = Machine::new(capacity, || Word::new().ok());
        machine.preload(values);
        if is_closed {
            machine.close(&mut Vec::new());
        }
        let mut made = None;
        let handle = exchange.publish(|id| {
            let hub = Arc::new(Hub::new(id.number, machine, exchange.downgrade()));
            made = Some(Arc::clone(&hub));
            hub
        });
        let shared = Arc::new(Self::new(handle.id(), capacity, made, Some(called)));
        let _ = shared.handle.set(handle);
        shared.begin();
        make_known(&shared);
        Ok(shared)
    }

    /// Its port begins.
    pub(super) fn begin(self: &Arc<Self>) {
        if let Some(hub) = &self.hub {
            let _ = hub.here.set(Arc::downgrade(self));
        }
        self.tell([(OPEN, Parcel::empty())]);
    }

    /// Where it was made, and is kept.
    pub(crate) fn id(&self) -> ObjectId {
        self.id
    }

    /// What the kernel called it, where it was made.
    pub(crate) fn called(&self) -> Option<u64> {
        self.called
    }

    /// What people call it.
    pub(crate) fn name(&self) -> String {
        match self.called {
            Some(number) => format!("channel {}", number & 0xffff_ffff),
            None => format!("channel {} of process {}", self.id.number, self.id.owner.pid),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        let is_closed = self.is_closed();
        let length = self.hub.as_ref().map(|hub| hub.machine.lock().len());
        Seen { name: self.name(), is_closed, length, capacity: self.capacity }
    }

    /// A ticket for a handle that is pickled now.
    pub(crate) fn ticket(&self, py: Python<'_>) -> PyResult<TicketId> {
        let handle = self.handle.get().ok_or_else(|| self.error(py, self.end()))?;
        tickets::ticket(handle, &self.ticket).map_err(|why| self.error(py, End::Broken(why)))
    }

    fn tell(&self, says: impl IntoIterator<Item = (u8, Parcel)>) {
        if let Some(Err(why)) = self.handle.get().map(|handle| handle.tell_all(says)) {
            self.broken(why);
        }
    }

    /// Does something with the port, and says what comes of it.
    pub(super) fn at<R>(&self, work: impl FnOnce(&mut Here, &mut Vec<Say<Parcel>>) -> R) -> R {
        let mut says = Vec::new();
        if let (Some(hub), Some(handle)) = (&self.hub, self.handle.get()) {
            let mut post = handle.exchange().post();
            return hub.change(&mut post, |machine, acts| {
                let result = work(&mut self.port.lock(), &mut says);
                says.into_iter().for_each(|say| machine.hear(Party::HERE, say, acts));
                result
            });
        }
        let result = {
            let _turn = self.turn.lock();
            let result = work(&mut self.port.lock(), &mut says);
            self.tell(says.into_iter().map(said));
            result
        };
        WORLD.with(|_| ());
        result
    }

    /// Nothing is touched in a forked child: whoever had a lock is not there.
    pub(super) fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        match self.handle.get().is_some_and(|handle| handle.exchange().is_forked()) {
            true => Err(self.error(py, End::Broken(Broken::Forked))),
            false => Ok(()),
        }
    }

    fn end(&self) -> End<Broken> {
        let broken = self.port.lock().broken();
        End::Broken(broken.unwrap_or(Broken::NoObject { pid: self.id.owner.pid }))
    }

    pub(super) fn error(&self, py: Python<'_>, end: End<Broken>) -> PyErr {
        match end {
            End::Closed => errors::channel_closed(py, "the channel is closed"),
            End::Broken(Broken::Forked) => errors::channel_broken(
                py,
                "the channel belongs to the process that this one was forked from: use `td.go`, whose workers can have it",
            ),
            End::Broken(why) => errors::channel_broken(py, format!("the channel is gone: {why}")),
        }
    }

    pub(super) fn unpack(&self, py: Python<'_>, value: &Parcel) -> PyResult<Py<PyAny>> {
        freight::unpack_message(py, value).map(Bound::unbind)
    }

    /// Waits until all that was said before was heard, and what came of it came here: how many values there are, and whether
    /// it is closed.
    pub(super) fn ask_state(&self, py: Python<'_>) -> PyResult<(bool, usize)> {
        let Some(handle) = self.handle.get() else { return Err(self.error(py, self.end())) };
        let broken = |why| self.error(py, End::Broken(why));
        let hearing = handle.ask_to_hear(STATE, &Parcel::empty()).map_err(broken)?;
        match outside_until(py, |at_most| hearing.sleep(at_most))? {
            Told::Broken(why) => Err(broken(why)),
            Told::Answer(body) => {
                let state = number_of(&body).unwrap_or_default();
                Ok((state & 1 != 0, usize::try_from(state >> 1).unwrap_or_default()))
            }
            _ => Ok((true, 0)),
        }
    }

    /// Whether it is closed, and how many values lie in it.
    pub(crate) fn state(&self, py: Python<'_>) -> PyResult<(bool, usize)> {
        self.check_fork(py)?;
        if self.port.lock().broken().is_some() {
            return Ok((true, 0));
        }
        match &self.hub {
            Some(hub) => {
                let machine = hub.machine.lock();
                Ok((machine.is_closed(), machine.len()))
            }
            None => self.ask_state(py),
        }
    }

    /// What is known of it without asking anybody.
    pub(crate) fn is_closed(&self) -> bool {
        if self.handle.get().is_some_and(|handle| handle.exchange().is_forked()) {
            return true;
        }
        let port = self.port.lock();
        port.is_closed() || port.broken().is_some()
    }

    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.check_fork(py)?;
        self.at(|_, says| says.push(Say::Close));
        if self.hub.is_none() {
            // So that it is closed when this returns.
            self.at(|port, says| port.hear(Given::Closed, says, &mut call));
        }
        Ok(())
    }
}

impl Listener for Shared {
    fn noted(&self, verb: u8, body: Parcel) {
        if let Some(given) = noted(verb, body) {
            self.at(|port, says| port.hear(given, says, &mut call));
        }
    }

    fn broken(&self, why: Broken) {
        self.port.lock().break_off(why, &mut call);
        WORLD.with(|_| ());
    }
}
