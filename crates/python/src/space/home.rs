//! A space in the process that has it, and its door for others, which is opened when it is first pickled; that of a space
//! on a file, with the file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_exchange::{Broken, Handle, Object, ObjectId, Ticket, TicketId};
use thistledown_runtime::SharedSpace;

use crate::channel::{door, tickets};
use crate::fork;
use crate::space::far;
use crate::space::hub::Hub;

/// A space of this process.
pub(crate) struct Home {
    pub(crate) shared: Arc<SharedSpace>,
    door: Mutex<Option<Door>>,
    /// The process that has shared it, once it was: what a fork of that has is a copy which nobody else sees.
    sharer: AtomicU64,
}

/// Nobody has shared it.
const NOBODY: u64 = u64::MAX;

struct Door {
    handle: Handle,
    hub: Arc<Hub>,
    /// For handles in functions, and whatever else is pickled.
    ticket: Mutex<Option<Ticket>>,
}

impl Home {
    pub(crate) fn new(shared: Arc<SharedSpace>) -> Arc<Self> {
        Arc::new(Self { shared, door: Mutex::new(None), sharer: AtomicU64::new(NOBODY) })
    }

    /// The space of a handle that has come home.
    pub(crate) fn find(hub: &Arc<Hub>, handle: Handle) -> Arc<Self> {
        let mut known = hub.home.lock();
        if let Some(home) = known.upgrade() {
            return home;
        }
        let door = Door { handle, hub: Arc::clone(hub), ticket: Mutex::default() };
        let home = Arc::new(Self {
            shared: Arc::clone(hub.shared()),
            door: Mutex::new(Some(door)),
            sharer: AtomicU64::new(fork::process().into()),
        });
        *known = Arc::downgrade(&home);
        home
    }

    /// What names it for another process, and keeps it until that has it.
    pub(crate) fn ticket(self: &Arc<Self>) -> PyResult<(ObjectId, TicketId)> {
        let mut door = self.door.lock();
        if door.is_none() {
            *door = Some(self.open()?);
        }
        let opened = door.as_ref().map(|door| {
            let ticket = tickets::ticket(&door.handle, &door.ticket)?;
            Ok((door.handle.id(), ticket))
        });
        opened.unwrap_or(Err(Broken::Forked)).map_err(far::broken)
    }

    /// Opens its door to whoever opens its file: the object that they ask.
    pub(crate) fn admit(self: &Arc<Self>) -> PyResult<ObjectId> {
        let mut door = self.door.lock();
        if let Some(door) = &*door {
            return Ok(door.handle.id());
        }
        Ok(door.insert(self.open()?).handle.id())
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.sharer.load(Ordering::Relaxed) != NOBODY
    }

    /// Whether it was shared by a process of which this one was forked.
    pub(crate) fn is_of_parent(&self) -> bool {
        let sharer = self.sharer.load(Ordering::Relaxed);
        sharer != NOBODY && sharer != u64::from(fork::process())
    }

    fn open(self: &Arc<Self>) -> PyResult<Door> {
        let exchange = door::open()?;
        let weak = exchange.downgrade();
        let mut made = None;
        let handle = exchange.publish(|id| {
            let hub = Hub::new(id.number, Arc::clone(&self.shared), weak);
            *hub.home.lock() = Arc::downgrade(self);
            Arc::clone(made.insert(hub)) as Arc<dyn Object>
        });
        let hub = made.ok_or_else(|| far::broken(Broken::Forked))?;
        self.sharer.store(fork::process().into(), Ordering::Relaxed);
        Ok(Door { handle, hub, ticket: Mutex::default() })
    }

    /// Its file is closed: whoever waits for it elsewhere is told.
    pub(crate) fn close(&self) {
        let door = self.door.lock().take();
        if let Some(door) = door {
            door.hub.close();
        }
    }
}
