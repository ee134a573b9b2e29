//! The exchange of a process: what it has for others, and what it uses of theirs.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use thistledown_parcel::Parcel;

use crate::Broken;
use crate::address::{Address, ObjectId, TicketId};
use crate::core::{Core, Shared};
use crate::frame::Request;
use crate::handle::Handle;
use crate::link::{Link, Listener, Patience};
use crate::object::{Object, Post};
use crate::tables::{Entry, Way};

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

    pub(crate) fn core(&self) -> &Arc<Core> {
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

    pub(crate) fn check(&self) -> Result<(), Broken> {
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
        let link = core.link(id.owner, Patience::Whole)?;
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

    /// Revokes tickets, here and elsewhere, that have left and will not be shown: what they were in is gone.
    ///
    /// Does not wait. An owner that cannot be reached at once keeps what they keep.
    pub fn revoke(&self, tickets: impl IntoIterator<Item = (ObjectId, TicketId)>) {
        if self.is_forked() {
            return;
        }
        let core = self.core();
        let mut links: Vec<Arc<Link>> = Vec::new();
        for (id, ticket) in tickets {
            if id.owner == core.address {
                core.revoke_later(id.number, ticket);
                continue;
            }
            if !links.iter().any(|link| link.owner == id.owner) {
                links.extend(core.link(id.owner, Patience::None).ok());
            }
            if let Some(link) = links.iter().find(|link| link.owner == id.owner) {
                let message = Request::Revoke { object: id.number, ticket };
                link.connection.put(message, &Parcel::empty());
            }
        }
        for link in links {
            core.send(&link.connection);
        }
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
            Way::Former(former) => Some(former.process.as_raw_fd()),
        };
        tables.ways.values().filter_map(of_way).collect()
    }
}
