//! Who waits for what he has asked, by the number of the request.
//!
//! Whoever is told is told once for each: an offer, then what becomes of it is his to say; or how it ended. He is told
//! with no lock of the exchange held.

use std::collections::HashMap;
use std::sync::Arc;

use rustix_futex_sync::Mutex;
use thistledown_parcel::Parcel;

use crate::Broken;

/// What became of something that was asked.
#[derive(Clone, Debug)]
pub enum Told {
    /// The owner keeps this for who asked, until [`Asked::accept`](crate::Asked::accept), or the drop of it.
    Offer(Parcel),
    /// It is done, and this came of it.
    Answer(Parcel),
    /// It is not to be had.
    Refusal {
        /// Why: a number of the object's kind.
        code: u16,
        /// More about it.
        body: Parcel,
    },
    /// There is nobody to do it any more.
    Broken(Broken),
}

/// Who has asked for something.
pub trait Waiter: Send + Sync {
    /// Called by the thread of the exchange, or by whoever made it happen in the owner's own process. It must not block,
    /// and may be before [`Exchange::ask`](crate::Exchange::ask) has returned.
    fn told(&self, told: Told);
}

struct Entry {
    waiter: Arc<dyn Waiter>,
    offered: bool,
}

/// Who waits.
#[derive(Default)]
pub(crate) struct Desk(Mutex<HashMap<u64, Entry>>);

/// Where a request stood that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stood {
    Open,
    Offered,
    Over,
}

impl Desk {
    pub(crate) fn add(&self, request: u64, waiter: Arc<dyn Waiter>) {
        self.0.lock().insert(request, Entry { waiter, offered: false });
    }

    /// Tells who waits. One who has gone away is not told: he has said so to the owner.
    pub(crate) fn tell(&self, request: u64, told: Told) {
        let waiter = {
            let mut waiting = self.0.lock();
            match (&told, waiting.get_mut(&request)) {
                (Told::Offer(_), Some(entry)) if !entry.offered => {
                    entry.offered = true;
                    Arc::clone(&entry.waiter)
                }
                (Told::Offer(_), _) => return,
                _ => match waiting.remove(&request) {
                    Some(entry) => entry.waiter,
                    None => return,
                },
            }
        };
        waiter.told(told);
    }

    /// It is over for who asked.
    pub(crate) fn remove(&self, request: u64) -> Stood {
        let removed = self.0.lock().remove(&request);
        match removed {
            None => Stood::Over,
            Some(entry) if entry.offered => Stood::Offered,
            Some(_) => Stood::Open,
        }
    }

    /// Tells everybody that there is nobody to do it any more.
    pub(crate) fn break_all(&self, why: Broken) {
        let waiting = std::mem::take(&mut *self.0.lock());
        waiting.into_values().for_each(|entry| entry.waiter.told(Told::Broken(why)));
    }
}
