//! What was asked and is not over, and how a thread sleeps until it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix_futex_sync::{Condvar, Mutex};
use thistledown_parcel::Parcel;

use crate::connection::Sent;
use crate::desk::{Stood, Told, Waiter};
use crate::exchange::Exchange;
use crate::frame::Request;
use crate::link::Link;
use crate::object::Post;

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
    pub(crate) fn new(exchange: Exchange, link: Option<Arc<Link>>, request: u64) -> Self {
        Self { exchange, link, request, is_settled: AtomicBool::new(false) }
    }

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

/// Something that was asked by a thread that sleeps until it is told, a while at a time.
#[derive(Debug)]
pub struct Hearing {
    pub(crate) asked: Asked,
    pub(crate) waiting: Arc<Waiting>,
}

impl Hearing {
    /// Sleeps until it is told, or for this long at most.
    #[must_use]
    pub fn sleep(&self, at_most: Duration) -> Option<Told> {
        self.waiting.wait_for(at_most)
    }

    /// What was asked: what is offered has still to be accepted.
    #[must_use]
    pub fn into_asked(self) -> Asked {
        self.asked
    }
}

/// A thread that sleeps until it is told.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    told: Mutex<Option<Told>>,
    changed: Condvar,
}

impl Waiting {
    fn wait_for(&self, at_most: Duration) -> Option<Told> {
        let told = self.told.lock();
        let (mut told, _) = self.changed.wait_timeout_while(told, at_most, |told| told.is_none());
        told.take()
    }
}

impl Waiter for Waiting {
    fn told(&self, told: Told) {
        *self.told.lock() = Some(told);
        self.changed.notify_all();
    }
}
