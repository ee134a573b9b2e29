//! The shared channels that are alive in this process: each is one, however many handles to it there are.
//!
//! A handle that comes here finds the channel that is here already. What keeps one are its handles; here stands only where
//! it is. The lock is held for a look or an entry, and while nothing else is taken.

use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_exchange::{Listener, ObjectId, TicketId};

use crate::channel::door;
use crate::channel::hub::Hub;
use crate::channel::shared::{Seen, Shared};

/// The shared channels that are alive in this process.
static KNOWN: Mutex<Vec<(ObjectId, Weak<Shared>)>> = Mutex::new(Vec::new());

fn known(id: ObjectId) -> Option<Arc<Shared>> {
    KNOWN.lock().iter().find(|(known, _)| *known == id).and_then(|(_, shared)| shared.upgrade())
}

pub(super) fn make_known(shared: &Arc<Shared>) {
    let mut known = KNOWN.lock();
    known.retain(|(_, shared)| shared.strong_count() > 0);
    known.push((shared.id(), Arc::downgrade(shared)));
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
