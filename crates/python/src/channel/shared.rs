//! A channel that other processes use: this process's port, and, where it was made, the channel itself.
//!
//! The state machines are in `thistledown_exchange::channel`. Here and in `hub` are their locks, the waits in the kernel,
//! and how they talk: in the owner's process by calls, elsewhere through the exchange, in the words of its `speech`.
//!
//! What a port says arrives in the order in which it came to it: so the port is used with the machine locked, or
//! elsewhere with a lock for its turn to speak. The order of locks: the machine's or that one, then the port's, then the
//! kernel's. None of them is held while Python runs, or a value is packed or unpacked.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_exchange::channel::speech::{OPEN, STATE, noted, number_of, said};
use thistledown_exchange::channel::{End, Given, Machine, Now, Port, Say};
use thistledown_exchange::{
    Broken, Exchange, Handle, Listener, ObjectId, Parcel, Party, Ticket, TicketId, Told, Word,
};
use thistledown_kernel::{SpotId, Want};

use crate::channel::hub::{Hub, call};
use crate::channel::{door, tickets};
use crate::errors;
use crate::operation::Wants;
use crate::outside::outside_until;
use crate::payload::WORLD;
use crate::workers::freight;

pub(super) type Here = Port<Parcel, Option<SpotId>, Broken>;

/// A wait of an operation.
struct Waiting {
    ticket: u64,
    spot: SpotId,
    /// What it sends, and what keeps the channels in that until it is sent.
    value: Option<freight::Message>,
}

#[derive(Default)]
struct Waits {
    tickets: u64,
    /// By the operation.
    now: HashMap<usize, Waiting>,
}

/// A shared channel, as this process uses it.
pub(crate) struct Shared {
    id: ObjectId,
    pub(crate) capacity: usize,
    /// What the kernel called it, where it was made.
    called: Option<u64>,
    /// Set right after it is made, before anybody else knows it.
    handle: OnceLock<Handle>,
    /// Where it was made.
    hub: Option<Arc<Hub>>,
    pub(super) port: Mutex<Here>,
    /// Held by who uses the port, where the channel is elsewhere, until what comes of it is said.
    turn: Mutex<()>,
    waits: Mutex<Waits>,
    /// For handles in functions, and whatever else is pickled.
    ticket: Mutex<Option<Ticket>>,
}

/// The shared channels that are alive in this process.
static KNOWN: Mutex<Vec<(ObjectId, Weak<Shared>)>> = Mutex::new(Vec::new());

fn known(id: ObjectId) -> Option<Arc<Shared>> {
    KNOWN.lock().iter().find(|(known, _)| *known == id).and_then(|(_, shared)| shared.upgrade())
}

fn make_known(shared: &Arc<Shared>) {
    let mut known = KNOWN.lock();
    known.retain(|(_, shared)| shared.strong_count() > 0);
    known.push((shared.id, Arc::downgrade(shared)));
}

/// A shared channel as it stands, as far as that is known without asking anybody.
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) is_closed: bool,
    /// How many values lie in it, where it was made.
    pub(crate) length: Option<usize>,
    pub(crate) capacity: usize,
}

/// The shared channels of this process.
pub(crate) fn seen() -> Vec<Seen> {
    let known: Vec<Arc<Shared>> = KNOWN.lock().iter().filter_map(|(_, shared)| shared.upgrade()).collect();
    known.iter().map(|shared| shared.seen()).collect()
}

/// In a forked child.
pub(crate) fn forget() {
    if let Some(mut known) = KNOWN.try_lock() {
        known.clear();
    }
}

/// The channel that this names, in this process too.
pub(crate) fn find(id: ObjectId, capacity: usize, ticket: TicketId) -> PyResult<Arc<Shared>> {
    let exchange = door::open()?;
    if let Some(shared) = known(id) {
        // The ticket is used up; what keeps the channel is there.
        drop(exchange.hold(id, Some(ticket), None));
        return Ok(shared);
    }
    let hub = match id.owner == exchange.address() {
        true => exchange.object(id.number).and_then(|object| object.downcast::<Hub>().ok()),
        false => None,
    };
    let shared = Arc::new(Shared::new(id, capacity, hub, None));
    let listener: Arc<dyn Listener> = Arc::clone(&shared) as _;
    match exchange.hold(id, Some(ticket), Some(Arc::downgrade(&listener))) {
        Ok(handle) => {
            let _ = shared.handle.set(handle);
            shared.begin();
        }
        Err(why) => shared.broken(why),
    }
    make_known(&shared);
    Ok(shared)
}

impl Shared {
    fn new(id: ObjectId, capacity: usize, hub: Option<Arc<Hub>>, called: Option<u64>) -> Self {
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
            let hub = Arc::new(Hub::new(id.number, machine));
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
    fn begin(self: &Arc<Self>) {
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
    fn at<R>(&self, work: impl FnOnce(&mut Here, &mut Vec<Say<Parcel>>) -> R) -> R {
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
    fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        match self.handle.get().is_some_and(|handle| handle.exchange().is_forked()) {
            true => Err(self.error(py, End::Broken(Broken::Forked))),
            false => Ok(()),
        }
    }

    fn end(&self) -> End<Broken> {
        let broken = self.port.lock().broken();
        End::Broken(broken.unwrap_or(Broken::NoObject { pid: self.id.owner.pid }))
    }

    fn error(&self, py: Python<'_>, end: End<Broken>) -> PyErr {
        match end {
            End::Closed => errors::channel_closed(py, "the channel is closed"),
            End::Broken(Broken::Forked) => errors::channel_broken(
                py,
                "the channel belongs to the process that this one was forked from: use `td.go`, whose workers can have it",
            ),
            End::Broken(why) => errors::channel_broken(py, format!("the channel is gone: {why}")),
        }
    }

    fn unpack(&self, py: Python<'_>, value: &Parcel) -> PyResult<Py<PyAny>> {
        freight::unpack_message(py, value).map(Bound::unbind)
    }

    /// Waits until all that was said before was heard, and what came of it came here: how many values there are, and whether
    /// it is closed.
    fn ask_state(&self, py: Python<'_>) -> PyResult<(bool, usize)> {
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
