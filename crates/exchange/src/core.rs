//! What the thread of an exchange and all its users share.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix_futex_sync::Mutex;
use thistledown_parcel::{Bell, Parcel};

use crate::Broken;
use crate::address::{Address, Party, TicketId};
use crate::connection::{Connection, Sent};
use crate::desk::Desk;
use crate::link::{Link, Listener, Patience};
use crate::object::{Client, Object};
use crate::tables::{Entry, Tables, Way};
use crate::thread;

/// See the module above.
pub(crate) struct Core {
    pub(crate) address: Address,
    pub(crate) epoll: Arc<OwnedFd>,
    pub(crate) listener: OwnedFd,
    pub(crate) bell: Bell,
    pub(crate) tables: Mutex<Tables>,
    /// Who waits in this process for objects of this process.
    pub(crate) desk: Desk,
    pub(crate) here: Arc<Client>,
    pub(crate) listeners: Mutex<HashMap<u64, Weak<dyn Listener>>>,
    numbers: AtomicU64,
    /// The thread is to end.
    pub(crate) is_over: AtomicBool,
    /// Something could not be sent, because the system is short of something.
    pub(crate) is_short: AtomicBool,
    /// This is a copy in a forked child.
    pub(crate) is_forked: AtomicBool,
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
    pub(crate) fn start() -> io::Result<Arc<Self>> {
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
    pub(crate) fn link(self: &Arc<Self>, owner: Address, patience: Patience) -> Result<Arc<Link>, Broken> {
        let is_good = |link: &Arc<Link>| !link.is_broken.load(Ordering::Acquire);
        let known = self.tables.lock().links.get(&owner).and_then(Weak::upgrade);
        if let Some(link) = known.filter(is_good) {
            return Ok(link);
        }
        let link = Link::connect(self, owner, patience)?;
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
