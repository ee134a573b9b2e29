//! The exchange of a process: what it has for others, and what it uses of theirs.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix_futex_sync::{Condvar, Mutex};
use thistledown_parcel::{Bell, Parcel};

use crate::Broken;
use crate::address::{Address, ObjectId, Party, TicketId};
use crate::connection::{Connection, Sent};
use crate::desk::{Desk, Stood, Told, Waiter};
use crate::frame::Request;
use crate::link::{Link, Listener};
use crate::object::{Client, Object, Post};
use crate::tables::{Entry, Tables, Way};
use crate::thread;

/// What the thread and all users share.
pub(crate) struct Core {
    pub(crate) address: Address,
    pub(crate) epoll: Arc<OwnedFd>,
    pub(crate) listener: OwnedFd,
    pub(crate) bell: Bell,
    pub(crate) tables: Mutex<Tables>,
    /// Who waits in this process for objects of this process.
    pub(crate) desk: Desk,
    here: Arc<Client>,
    listeners: Mutex<std::collections::HashMap<u64, Weak<dyn Listener>>>,
    numbers: AtomicU64,
    /// The thread is to end.
    pub(crate) is_over: AtomicBool,
    /// Something could not be sent, because the system is short of something.
    pub(crate) is_short: AtomicBool,
    /// This is a copy in a forked child.
    is_forked: AtomicBool,
    /// Tickets that nobody keeps any more.
    pub(crate) revoked: Mutex<Vec<(u64, TicketId)>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The names of what the thread watches; connections have larger ones.
pub(crate) const BELL: u64 = 0;
pub(crate) const LISTENER: u64 = 1;
const FIRST_NUMBER: u64 = 2;

/// Tickets that are remembered because they were shown before their makers said a word.
const EARLY: usize = 1024;

/// Connections that wait until they are accepted.
const BACKLOG: i32 = 4096;

impl Core {
    fn start() -> io::Result<Arc<Self>> {
        let address = Address::fresh();
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let name = SocketAddrUnix::new_abstract_name(address.socket_name().as_bytes())?;
        rustix::net::bind(&listener, &name)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let bell = Bell::new()?;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let core = Arc::new(Self {
            address,
            epoll: Arc::new(epoll),
            listener,
            bell,
            tables: Mutex::default(),
            desk: Desk::default(),
            here: Arc::new(Client::new(Party::HERE, None)),
            listeners: Mutex::default(),
            numbers: AtomicU64::new(FIRST_NUMBER),
            is_over: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            is_forked: AtomicBool::new(false),
            revoked: Mutex::default(),
            thread: Mutex::default(),
        });
        let shared = Arc::clone(&core);
        let builder = std::thread::Builder::new().name("thistledown-exchange".into());
        *core.thread.lock() = Some(builder.spawn(move || thread::run(&shared))?);
        Ok(core)
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn client(&self, party: Party) -> Option<Arc<Client>> {
        if party.is_here() {
            return Some(Arc::clone(&self.here));
        }
        match self.tables.lock().ways.get(&party.0) {
            Some(Way::Client(client)) => Some(Arc::clone(client)),
            _ => None,
        }
    }

    pub(crate) fn object(&self, number: u64) -> Option<Arc<dyn Object>> {
        self.tables.lock().objects.get(&number).map(|entry| Arc::clone(&entry.object))
    }

    /// Sends what is queued.
    pub(crate) fn send(&self, connection: &Connection) -> Sent {
        let sent = connection.send();
        if sent == Sent::Short && !self.is_short.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
        sent
    }

    pub(crate) fn note_here(&self, object: u64, verb: u8, body: Parcel) {
        let listener = self.listeners.lock().get(&object).and_then(Weak::upgrade);
        if let Some(listener) = listener {
            listener.noted(verb, body);
        }
    }

    /// A handle more, or one less: of this process, or of another. False: there is no such object.
    pub(crate) fn count_handle(&self, number: u64, is_more: bool, ticket: Option<TicketId>) -> bool {
        self.change(number, |entry| {
            match is_more {
                true => entry.handles += 1,
                false => entry.handles = entry.handles.saturating_sub(1),
            }
            match ticket {
                Some(ticket) if entry.tickets.get(&ticket) == Some(&true) => {
                    entry.tickets.remove(&ticket);
                }
                Some(ticket) if !entry.tickets.contains_key(&ticket) && entry.early.len() < EARLY => {
                    entry.early.push(ticket);
                }
                _ => {}
            }
        })
    }

    /// A handle goes on its way.
    pub(crate) fn grant(&self, number: u64, ticket: TicketId, once: bool) {
        self.change(number, |entry| {
            let shown = entry.early.iter().position(|early| *early == ticket);
            if let Some(place) = shown {
                entry.early.swap_remove(place);
            }
            if shown.is_none() || !once {
                entry.tickets.insert(ticket, once);
            }
        });
    }

    /// A handle is on its way no more. Whoever has got it may have said so, and has not been heard yet: the thread revokes
    /// the ticket when all was heard that had been said before.
    pub(crate) fn revoke_later(&self, number: u64, ticket: TicketId) {
        let mut revoked = self.revoked.lock();
        revoked.push((number, ticket));
        if revoked.len() == 1 {
            drop(revoked);
            self.bell.ring();
        }
    }

    pub(crate) fn revoke(&self, number: u64, ticket: TicketId) {
        self.change(number, |entry| {
            entry.tickets.remove(&ticket);
        });
    }

    /// Changes who keeps an object; one that nobody keeps is forgotten.
    fn change(&self, number: u64, change: impl FnOnce(&mut Entry)) -> bool {
        let forgotten;
        {
            let mut tables = self.tables.lock();
            let Some(entry) = tables.objects.get_mut(&number) else { return false };
            change(entry);
            if entry.is_kept() {
                return true;
            }
            forgotten = tables.objects.remove(&number);
        }
        self.listeners.lock().remove(&number);
        drop(forgotten);
        true
    }

    /// The link to an owner, made when there is none.
    fn link(self: &Arc<Self>, owner: Address) -> Result<Arc<Link>, Broken> {
        let is_good = |link: &Arc<Link>| !link.is_broken.load(Ordering::Acquire);
        let known = self.tables.lock().links.get(&owner).and_then(Weak::upgrade);
        if let Some(link) = known.filter(is_good) {
            return Ok(link);
        }
        let link = Link::connect(self, owner)?;
        let other = {
            let mut tables = self.tables.lock();
            let other = tables.links.get(&owner).and_then(Weak::upgrade);
            if !other.as_ref().is_some_and(is_good) {
                tables.links.insert(owner, Arc::downgrade(&link));
                let way = Way::Link(Arc::downgrade(&link), Arc::clone(&link.connection));
                tables.ways.insert(link.connection.number, way);
            }
            other
        };
        // If somebody else was quicker ours is closed, which is never done under the lock.
        if let Some(other) = other.filter(is_good) {
            return Ok(other);
        }
        self.send(&link.connection);
        Ok(link)
    }

    /// Nobody uses a link any more.
    pub(crate) fn forget_link(&self, owner: Address, connection: &Arc<Connection>) {
        if self.is_forked.load(Ordering::Acquire) {
            return;
        }
        let mut tables = self.tables.lock();
        if tables.links.get(&owner).is_some_and(|link| link.strong_count() == 0) {
            tables.links.remove(&owner);
        }
        let is_known = tables.ways.contains_key(&connection.number);
        if is_known {
            tables.ways.insert(connection.number, Way::Last(Arc::clone(connection)));
        }
        drop(tables);
        if self.send(connection) == Sent::All || !is_known {
            connection.close();
            self.tables.lock().ways.remove(&connection.number);
        }
    }
}

/// The users of an exchange: when the last one is gone, it ends.
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let core = &self.core;
        if core.is_forked.load(Ordering::Acquire) {
            return;
        }
        core.is_over.store(true, Ordering::Release);
        core.bell.ring();
        let thread = core.thread.lock().take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

/// The exchange of a process. See the crate's page.
#[derive(Clone)]
pub struct Exchange {
    shared: Arc<Shared>,
}

/// An exchange that is there as long as others use it.
#[derive(Clone, Default)]
pub struct WeakExchange(Weak<Shared>);

impl WeakExchange {
    /// The exchange, if somebody uses it.
    #[must_use]
    pub fn upgrade(&self) -> Option<Exchange> {
        self.0.upgrade().map(|shared| Exchange { shared })
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("address", &self.shared.core.address).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WeakExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeakExchange").finish_non_exhaustive()
    }
}

impl Exchange {
    /// Starts one: a socket, and a thread that ends when nobody uses it any more.
    ///
    /// # Errors
    /// The system has no descriptor or no thread for it.
    pub fn start() -> io::Result<Self> {
        Ok(Self { shared: Arc::new(Shared { core: Core::start()? }) })
    }

    fn core(&self) -> &Arc<Core> {
        &self.shared.core
    }

    /// Itself, without keeping it.
    #[must_use]
    pub fn downgrade(&self) -> WeakExchange {
        WeakExchange(Arc::downgrade(&self.shared))
    }

    /// Where it is reached.
    #[must_use]
    pub fn address(&self) -> Address {
        self.core().address
    }

    /// Whether this process is a forked child of the exchange's: then nothing works but what says so.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.core().is_forked.load(Ordering::Acquire)
    }

    fn check(&self) -> Result<(), Broken> {
        if self.is_forked() { Err(Broken::Forked) } else { Ok(()) }
    }

    /// Makes an object known to other processes. It is until the handle is dropped, and those of other processes are, and
    /// every ticket was used or dropped.
    pub fn publish(&self, make: impl FnOnce(ObjectId) -> Arc<dyn Object>) -> Handle {
        let number = self.core().next_number();
        let id = ObjectId { owner: self.address(), number };
        let object = make(id);
        let entry = Entry {
            object,
            handles: 1,
            tickets: Default::default(),
            early: Vec::new(),
            _keeps: Arc::clone(&self.shared),
        };
        self.core().tables.lock().objects.insert(number, entry);
        Handle { exchange: self.clone(), id, link: None }
    }

    /// An object of this process, as long as somebody keeps it.
    #[must_use]
    pub fn object(&self, number: u64) -> Option<Arc<dyn Any + Send + Sync>> {
        self.core().object(number).map(Object::as_any)
    }

    /// How many objects of this process somebody keeps.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.core().tables.lock().objects.len()
    }

    /// Hears what an object of this process notes to [`Party::HERE`].
    pub fn listen(&self, number: u64, listener: Weak<dyn Listener>) {
        self.core().listeners.lock().insert(number, listener);
    }

    /// Gets a handle to an object, here or elsewhere. Does not wait: that there is no such object is told to the listener,
    /// and to whoever asks it something.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked.
    pub fn hold(
        &self,
        id: ObjectId,
        ticket: Option<TicketId>,
        listener: Option<Weak<dyn Listener>>,
    ) -> Result<Handle, Broken> {
        self.check()?;
        let core = self.core();
        if id.owner == core.address {
            return match core.count_handle(id.number, true, ticket) {
                true => Ok(Handle { exchange: self.clone(), id, link: None }),
                false => Err(Broken::NoObject { pid: id.owner.pid }),
            };
        }
        let link = core.link(id.owner)?;
        if let Some(listener) = listener {
            let mut listeners = link.listeners.lock();
            let known = listeners.entry(id.number).or_default();
            known.retain(|listener| listener.strong_count() > 0);
            known.push(listener);
        }
        if link.is_broken.load(Ordering::Acquire) {
            return Err(Broken::Gone { pid: id.owner.pid });
        }
        link.connection.put(Request::Hold { object: id.number, ticket }, &Parcel::empty());
        core.send(&link.connection);
        Ok(Handle { exchange: self.clone(), id, link: Some(link) })
    }

    /// A post, for an object that has something to say without having been asked.
    #[must_use]
    pub fn post(&self) -> Post<'_> {
        Post::new(self.core())
    }

    /// In a forked child, before anything else is done with it: from now on all that is asked says so, and nothing of the
    /// parent's is touched. Its descriptors are given, to be closed.
    ///
    /// Takes no lock, so that it can be called whatever other threads were doing in the parent.
    #[must_use]
    pub fn desert(&self) -> [RawFd; 3] {
        let core = self.core();
        core.is_forked.store(true, Ordering::Release);
        [core.epoll.as_raw_fd(), core.listener.as_raw_fd(), core.bell.as_fd().as_raw_fd()]
    }

    /// The descriptors of its connections: to be asked for before a fork, so that the child can close its copies, and the
    /// peers of its parent see when that ends.
    #[must_use]
    pub fn connections(&self) -> Vec<RawFd> {
        let tables = self.core().tables.lock();
        let of_way = |way: &Way| match way {
            Way::Client(client) => client.connection.as_ref().map(|known| known.as_fd().as_raw_fd()),
            Way::Link(_, connection) => Some(connection.as_fd().as_raw_fd()),
            Way::Last(connection) => Some(connection.as_fd().as_raw_fd()),
        };
        tables.ways.values().filter_map(of_way).collect()
    }
}

/// A handle to an object: keeps it, wherever it is.
pub struct Handle {
    exchange: Exchange,
    id: ObjectId,
    /// The owner's own process has none.
    link: Option<Arc<Link>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Handle {
    /// To which object.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Whether the object is in this process.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.link.is_none()
    }

    /// The exchange of this process.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Asks the object for something. The waiter may be told before this returns.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked. The waiter is told nothing then.
    pub fn ask(&self, verb: u8, body: &Parcel, waiter: Arc<dyn Waiter>) -> Result<Asked, Broken> {
        self.exchange.check()?;
        let core = self.exchange.core();
        let request = core.next_number();
        let asked = Asked {
            exchange: self.exchange.clone(),
            link: self.link.clone(),
            request,
            is_settled: AtomicBool::new(false),
        };
        match &self.link {
            None => {
                let object = core.object(self.id.number);
                let object = object.ok_or(Broken::NoObject { pid: self.id.owner.pid })?;
                core.desk.add(request, waiter);
                core.here.ask(object, request, verb, body.clone(), &mut Post::new(core));
            }
            Some(link) => {
                link.desk.add(request, waiter);
                if link.is_broken.load(Ordering::Acquire) {
                    link.desk.remove(request);
                    return Err(Broken::Gone { pid: self.id.owner.pid });
                }
                let blob = body.head_in_blob();
                let message = Request::Ask { request, object: self.id.number, verb, blob };
                link.connection.put(message, body);
                core.send(&link.connection);
            }
        }
        Ok(asked)
    }

    /// Asks, and sleeps until it is told. An offer is taken.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked.
    pub fn ask_and_wait(&self, verb: u8, body: &Parcel) -> Result<Told, Broken> {
        let (asked, told) = self.ask_and_hear(verb, body)?;
        match told {
            Told::Broken(why) => Err(why),
            told => {
                if matches!(told, Told::Offer(_)) {
                    asked.accept();
                }
                Ok(told)
            }
        }
    }

    /// Asks, and sleeps until it is told. What is offered has still to be accepted; dropping what is asked declines it.
    ///
    /// # Errors
    /// It could not be asked: the owner's process is gone, or this one was forked.
    pub fn ask_and_hear(&self, verb: u8, body: &Parcel) -> Result<(Asked, Told), Broken> {
        let waiting = Arc::new(Waiting::default());
        let asked = self.ask(verb, body, Arc::clone(&waiting) as Arc<dyn Waiter>)?;
        Ok((asked, waiting.wait()))
    }

    /// Tells the object something that has no answer. True: the system has it, so that it arrives also if this process dies.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked.
    pub fn tell(&self, verb: u8, body: &Parcel) -> Result<bool, Broken> {
        self.tell_all([(verb, body.clone())])
    }

    /// The same for several, in this order, which travel together.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked.
    pub fn tell_all(&self, told: impl IntoIterator<Item = (u8, Parcel)>) -> Result<bool, Broken> {
        self.exchange.check()?;
        let mut told = told.into_iter().peekable();
        if told.peek().is_none() {
            return Ok(true);
        }
        let core = self.exchange.core();
        let Some(link) = &self.link else {
            let object = core.object(self.id.number);
            let object = object.ok_or(Broken::NoObject { pid: self.id.owner.pid })?;
            let mut post = Post::new(core);
            told.for_each(|(verb, body)| object.told(Party::HERE, verb, body, &mut post));
            return Ok(true);
        };
        if link.is_broken.load(Ordering::Acquire) {
            return Err(Broken::Gone { pid: self.id.owner.pid });
        }
        for (verb, body) in told {
            let blob = body.head_in_blob();
            link.connection.put(Request::Tell { object: self.id.number, verb, blob }, &body);
        }
        Ok(core.send(&link.connection) == Sent::All)
    }

    /// A ticket for a handle that goes on its way, used up by the first who shows it.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked.
    pub fn ticket(&self) -> Result<TicketId, Broken> {
        self.grant(true)
    }

    /// A ticket for handles that are on their way, any number of times, until it is dropped.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked.
    pub fn lasting_ticket(&self) -> Result<Ticket, Broken> {
        let id = self.grant(false)?;
        let (exchange, link) = (self.exchange.clone(), self.link.clone());
        Ok(Ticket { exchange, link, object: self.id.number, id })
    }

    fn grant(&self, once: bool) -> Result<TicketId, Broken> {
        self.exchange.check()?;
        let core = self.exchange.core();
        let ticket = TicketId { maker: core.address, number: core.next_number() };
        match &self.link {
            None => core.grant(self.id.number, ticket, once),
            Some(link) => {
                let message = Request::Grant { object: self.id.number, ticket, once };
                link.connection.put(message, &Parcel::empty());
                core.send(&link.connection);
            }
        }
        Ok(ticket)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.exchange.is_forked() {
            return;
        }
        let core = self.exchange.core();
        match &self.link {
            None => drop(core.count_handle(self.id.number, false, None)),
            Some(link) => {
                link.connection.put(Request::Release { object: self.id.number }, &Parcel::empty());
                core.send(&link.connection);
            }
        }
    }
}

/// Keeps an object while handles to it are on their way.
pub struct Ticket {
    exchange: Exchange,
    link: Option<Arc<Link>>,
    object: u64,
    id: TicketId,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Ticket {
    /// What is shown by who gets the handle.
    #[must_use]
    pub fn id(&self) -> TicketId {
        self.id
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.exchange.is_forked() {
            return;
        }
        let core = self.exchange.core();
        match &self.link {
            None => core.revoke_later(self.object, self.id),
            Some(link) => {
                let message = Request::Revoke { object: self.object, ticket: self.id };
                link.connection.put(message, &Parcel::empty());
                core.send(&link.connection);
            }
        }
    }
}

/// Something that was asked. Dropped before it has ended, it is withdrawn; what was offered for it goes back.
pub struct Asked {
    exchange: Exchange,
    link: Option<Arc<Link>>,
    request: u64,
    is_settled: AtomicBool,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Asked {
    /// Takes what was offered. True: the owner's process will hear of it, also if this one dies now.
    pub fn accept(&self) -> bool {
        self.settle(true)
    }

    fn settle(&self, is_taken: bool) -> bool {
        if self.exchange.is_forked() || self.is_settled.swap(true, Ordering::AcqRel) {
            return false;
        }
        let core = self.exchange.core();
        let Some(link) = &self.link else {
            let stood = core.desk.remove(self.request);
            if stood != Stood::Over {
                let is_taken = is_taken && stood == Stood::Offered;
                core.here.settle(self.request, is_taken, &mut Post::new(core));
            }
            return true;
        };
        let request = self.request;
        let message = match link.desk.remove(request) {
            Stood::Over => return false,
            Stood::Open => Request::Withdraw { request },
            Stood::Offered if is_taken => Request::Accept { request },
            Stood::Offered => Request::Decline { request },
        };
        link.connection.put(message, &Parcel::empty());
        core.send(&link.connection) == Sent::All
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.settle(false);
    }
}

/// A thread that sleeps until it is told.
#[derive(Default)]
struct Waiting {
    told: Mutex<Option<Told>>,
    changed: Condvar,
}

impl Waiting {
    fn wait(&self) -> Told {
        let mut told = self.told.lock();
        loop {
            match told.take() {
                Some(told) => return told,
                None => told = self.changed.wait(told),
            }
        }
    }
}

impl Waiter for Waiting {
    fn told(&self, told: Told) {
        *self.told.lock() = Some(told);
        self.changed.notify_all();
    }
}
