//! A space behind a lock of its own, whose waiters wait in the kernel.
//!
//! Not behind the world's lock: a search without a leading value looks at every tuple, and nobody else is to wait for that.
//! The order is this lock, then the world's: to call a waiter. So what is found is handed over in the step in which the
//! kernel commits the wait to it, and a search and what follows from it (handing over, or laying into the store) are one
//! step for everybody at this space.
//!
//! Whom the kernel wants woken is woken after both are let go, and what it wants dropped is dropped then.
//!
//! Between a look that found nothing and the wait, this lock is let go. Whatever comes meanwhile calls the waiter's spot,
//! which keeps the call; the wait then ends at once, and it looks again.

use std::sync::Arc;
use std::time::Duration;

use thistledown_kernel::{Moment, Payload, SpotId};
use thistledown_ledger::{Change, Ledger};
use thistledown_space::{Outside, Space, Ticket, Wanted};

use crate::sync::Mutex;
use crate::world::{Wakes, World};

/// The space that many share.
#[derive(Debug, Default)]
pub struct SharedSpace {
    pub(crate) space: Mutex<Space<SpotId>>,
    /// Where it is written down what happens, in a space that is durable.
    pub(crate) ledger: Option<Ledger>,
}

/// A wait at a space: its place there, the spot at which it is called, and when it looks by itself.
#[derive(Clone, Copy, Debug)]
pub struct AtSpace {
    /// Its place in the order, until it is released.
    pub ticket: Ticket,
    /// Where it is called.
    pub spot: SpotId,
    /// When a claim may end.
    pub looks: Moment,
}

impl SharedSpace {
    /// Does something with the space, at this time.
    pub fn with<P: Payload<Waker: Wakes>, R>(
        &self,
        world: &World<P>,
        now: Moment,
        work: impl FnOnce(&mut Space<SpotId>, &mut Outside<'_, SpotId>) -> R,
    ) -> R {
        let mut has_called = false;
        let call = &mut |spot| {
            has_called = true;
            world.with_left(|kernel| kernel.call(spot))
        };
        let mut space = self.space.lock();
        let result = work(&mut space, &mut Outside { now: since_epoch(now), call });
        self.note_expired(&mut space);
        drop(space);
        if has_called {
            world.with(|_| ());
        }
        result
    }

    /// What has gone by itself need not be in the file; nobody waits for that.
    fn note_expired(&self, space: &mut Space<SpotId>) {
        let Some(ledger) = &self.ledger else { return };
        let expired = space.take_expired();
        if !expired.is_empty() {
            let changes = expired.into_iter().map(|number| Change::Remove { number }).collect();
            ledger.lay(changes, space.last_number(), None);
        }
    }

    /// Enlists who looked and found nothing, for the wait that comes next: for the first time, or again.
    pub fn enlist<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        wanted: &Arc<Wanted>,
        ticket: Option<Ticket>,
    ) -> AtSpace {
        let open = || world.with_left(thistledown_kernel::Kernel::open_spot);
        let enlisted = self.with(world, now, |space, outside| space.enlist(wanted, ticket, open, outside));
        let looks = enlisted.looks.map_or(Moment::NEVER, Moment::after_epoch);
        AtSpace { ticket: enlisted.ticket, spot: enlisted.name, looks }
    }

    /// The wait is over, however it ended.
    pub fn release<P: Payload<Waker: Wakes>>(&self, world: &World<P>, now: Moment, ticket: Ticket) {
        if let Some(spot) = self.with(world, now, |space, outside| space.release(ticket, outside)) {
            world.with(|kernel| kernel.drop_spot(spot));
        }
    }
}

pub(crate) fn since_epoch(moment: Moment) -> Duration {
    moment.since(Moment::default())
}
