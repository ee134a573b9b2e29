//! A space in the process that has it, and its door for others, which is opened when it is first pickled; that of a space
//! on a file, with the file.

use std::sync::Arc;

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_exchange::{Broken, Handle, Object, ObjectId, Ticket, TicketId};
use thistledown_runtime::SharedSpace;

use crate::channel::{door, tickets};
use crate::space::far;
use crate::space::hub::Hub;

/// A space of this process.
pub(crate) struct Home {
    pub(crate) shared: Arc<SharedSpace>,
    door: Mutex<Option<Door>>,
}

struct Door {
    handle: Handle,
    hub: Arc<Hub>,
    /// For handles in functions, and whatever else is pickled.
    ticket: Mutex<Option<Ticket>>,
}

impl Home {
    pub(crate) fn new(shared: Arc<SharedSpace>) -> Arc<Self> {
        Arc::new(Self { shared, door: Mutex::new(None) })
    }

    /// The space of a handle that has come home.
    pub(crate) fn find(hub: &Arc<Hub>, handle: Handle) -> Arc<Self> {
        let mut known = hub.home.lock();
        if let Some(home) = known.upgrade() {
            return home;
        }
        let door = Door { handle, hub: Arc::clone(hub), ticket: Mutex::default() };
        let home = Arc::new(Self { shared: Arc::clone(hub.shared()), door: Mutex::new(Some(door)) });
        *known = Arc::downgrade(&home);
        home
    }

    /// What names it for another process, and keeps it until that has it.
    pub(crate) fn ticket(self: &Arc<Self>) -> PyResult<(ObjectId, TicketId)> {
        let mut door = self.door.lock();
        let is_forked = |door: &Door| door.handle.exchange().is_forked();
        if door.as_ref().is_none_or(is_forked) {
            // What the parent has of it is another space.
            std::mem::forget(door.take());
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
