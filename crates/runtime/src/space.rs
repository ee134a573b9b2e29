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

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use thistledown_kernel::{Moment, Payload, SpotId};
use thistledown_ledger::{Change, Ledger};
use thistledown_space::{Outside, Space, Ticket, Wanted};

use crate::outcome::Known;
use crate::sync::Mutex;
use crate::world::{Wakes, World};

/// Who waits at a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Somebody of this process, at a spot of the kernel.
    Here(SpotId),
    /// Somebody of another process, by a number of [`Far`]'s.
    Far(u64),
}

/// Those of other processes who use the space.
pub trait Far: Send + Sync + std::fmt::Debug {
    /// Whether anybody there can hear a call.
    fn hears(&self) -> bool;

    /// These were called, and are to look. Called without the space's lock, by whoever made it happen.
    fn called(&self, names: Vec<u64>);
}

/// The space that many share.
#[derive(Debug, Default)]
pub struct SharedSpace {
    pub(crate) space: Mutex<Space<Name>>,
    /// Who uses it from other processes.
    pub(crate) far: OnceLock<Mutex<Weak<dyn Far>>>,
    /// Where it is written down what happens, in a space that is durable.
    pub(crate) ledger: Option<Ledger>,
    /// What was done for those who used it when the file had another owner.
    pub(crate) known: Mutex<Known>,
}

/// A wait at a space: its place there, the spot at which it is called, and when it looks by itself.
#[derive(Clone, Copy, Debug)]
pub struct AtSpace {
    /// Its place in the order, until it is released.
    pub ticket: Ticket,
    /// Where it is called.
    pub name: Name,
    /// When a claim may end.
    pub looks: Moment,
}

impl SharedSpace {
    /// Does something with the space, at this time.
    pub fn with<P: Payload<Waker: Wakes>, R>(
        &self,
        world: &World<P>,
        now: Moment,
        work: impl FnOnce(&mut Space<Name>, &mut Outside<'_, Name>) -> R,
    ) -> R {
        let mut has_called = false;
        let far = self.far.get().and_then(|far| far.lock().upgrade()).filter(|far| far.hears());
        let mut called = Vec::new();
        let call = &mut |name| match name {
            Name::Here(spot) => {
                has_called = true;
                world.with_left(|kernel| kernel.call(spot))
            }
            // Who is called twice looks once.
            Name::Far(number) if far.is_some() && !called.contains(&number) => {
                called.push(number);
                true
            }
            Name::Far(_) => false,
        };
        let mut space = self.space.lock();
        let result = work(&mut space, &mut Outside { now: since_epoch(now), call });
        self.note_expired(&mut space);
        drop(space);
        if has_called {
            world.with(|_| ());
        }
        if let Some(far) = far.filter(|_| !called.is_empty()) {
            far.called(called);
        }
        result
    }

    /// Whether others may write what somebody here waits for.
    #[must_use]
    pub fn is_used_by_others(&self) -> bool {
        self.ledger.is_some() || self.far.get().is_some_and(|far| far.lock().strong_count() > 0)
    }

    /// From now on others use it too.
    pub fn share(&self, far: Weak<dyn Far>) {
        match self.far.get() {
            Some(known) => *known.lock() = far,
            None => drop(self.far.set(Mutex::new(far))),
        }
    }

    /// What has gone by itself need not be in the file; nobody waits for that.
    fn note_expired(&self, space: &mut Space<Name>) {
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
        self.enlist_as(world, now, wanted, ticket, || {
            Name::Here(world.with_left(thistledown_kernel::Kernel::open_spot))
        })
    }

    /// Enlists one of another process.
    pub fn enlist_far<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        wanted: &Arc<Wanted>,
        ticket: Option<Ticket>,
        number: u64,
    ) -> AtSpace {
        self.enlist_as(world, now, wanted, ticket, || Name::Far(number))
    }

    fn enlist_as<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        wanted: &Arc<Wanted>,
        ticket: Option<Ticket>,
        open: impl FnOnce() -> Name,
    ) -> AtSpace {
        let enlisted = self.with(world, now, |space, outside| space.enlist(wanted, ticket, open, outside));
        let looks = enlisted.looks.map_or(Moment::NEVER, Moment::after_epoch);
        AtSpace { ticket: enlisted.ticket, name: enlisted.name, looks }
    }

    /// The wait is over, however it ended.
    pub fn release<P: Payload<Waker: Wakes>>(&self, world: &World<P>, now: Moment, ticket: Ticket) {
        let name = self.with(world, now, |space, outside| space.release(ticket, outside));
        if let Some(Name::Here(spot)) = name {
            world.with(|kernel| kernel.drop_spot(spot));
        }
    }
}

pub(crate) fn since_epoch(moment: Moment) -> Duration {
    moment.since(Moment::default())
}
