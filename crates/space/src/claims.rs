//! Claims: tuples that are gone for a time; and the ends of leases.
//!
//! Nothing happens here by itself. Whoever comes to the space settles what is due, and whoever waits comes when the first
//! claim ends. So the latest look of all who wait is never later than the first end of a claim; when a claim is made that
//! ends sooner, they are called to hear of it. Since leases of one length end in order, that is seldom.

use std::time::Duration;

use crate::space::{How, Outside, Refused, Space, Wanted};
use crate::store::{Entry, Store};

/// A claim. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(u64);

/// A tuple that is out of the store, and may come back.
#[derive(Debug)]
pub(crate) struct Held {
    number: u64,
    pub(crate) entry: Entry,
    /// When it comes back.
    ends: Option<Duration>,
}

impl<N: Copy, S: Store> Space<N, S> {
    /// Does what is due: tuples whose lease is over are gone, those whose claim is over come back.
    pub(crate) fn settle(&mut self, outside: &mut Outside<'_, N>) {
        while let Some(&(at, number)) = self.leases.first()
            && at <= outside.now
        {
            self.withdraw(number);
        }
        while let Some(&(at, claim)) = self.claims.first()
            && at <= outside.now
        {
            self.return_held(claim, outside);
        }
    }

    /// Holds a tuple for who wanted it.
    pub(crate) fn hold(
        &mut self,
        number: u64,
        entry: Entry,
        wanted: &Wanted,
        outside: &mut Outside<'_, N>,
    ) -> ClaimId {
        let claim = ClaimId(self.next_number());
        let ends = match wanted.how {
            How::Claim(lease) => outside.now.checked_add(lease),
            _ => None,
        };
        self.held.insert(claim, Held { number, entry, ends: None });
        self.set_end(claim, ends, outside);
        if let Some(transaction) = wanted.within.and_then(|id| self.transactions.get_mut(&id)) {
            transaction.taken.push(claim);
        }
        claim
    }

    fn set_end(&mut self, claim: ClaimId, ends: Option<Duration>, outside: &mut Outside<'_, N>) {
        let Some(held) = self.held.get_mut(&claim) else { return };
        if let Some(at) = std::mem::replace(&mut held.ends, ends) {
            self.claims.remove(&(at, claim));
        }
        let Some(at) = ends else { return };
        self.claims.insert((at, claim));
        if self.waiters.len() == 0 || self.latest_look <= at {
            return;
        }
        for waiter in self.waiters.all().filter(|waiter| waiter.looks > at) {
            waiter.looks = at;
            waiter.called |= (outside.call)(waiter.name);
        }
        self.latest_look = at;
    }

    /// The tuple of a claim is not held any more.
    pub(crate) fn let_go(&mut self, claim: ClaimId) -> Option<Held> {
        let held = self.held.remove(&claim)?;
        if let Some(at) = held.ends {
            self.claims.remove(&(at, claim));
        }
        Some(held)
    }

    /// The tuple of a claim comes back, unless its own lease is over meanwhile.
    pub(crate) fn return_held(&mut self, claim: ClaimId, outside: &mut Outside<'_, N>) {
        let Some(held) = self.let_go(claim) else { return };
        if held.entry.until.is_none_or(|until| until > outside.now) {
            self.offer(held.number, held.entry, outside);
        }
    }

    /// The tuple of the claim is gone for good.
    pub fn confirm(&mut self, claim: ClaimId, outside: &mut Outside<'_, N>) -> Result<(), Refused> {
        self.settle(outside);
        self.let_go(claim).map(drop).ok_or(Refused::ClaimOver)
    }

    /// The tuple of the claim comes back at once, to its old place. False: the claim was over.
    pub fn give_back(&mut self, claim: ClaimId, outside: &mut Outside<'_, N>) -> bool {
        self.settle(outside);
        let is_held = self.held.contains_key(&claim);
        self.return_held(claim, outside);
        is_held
    }

    /// The claim ends so long from now, instead of when it would have.
    pub fn renew(
        &mut self,
        claim: ClaimId,
        lease: Duration,
        outside: &mut Outside<'_, N>,
    ) -> Result<(), Refused> {
        self.settle(outside);
        if !self.held.contains_key(&claim) {
            return Err(Refused::ClaimOver);
        }
        self.set_end(claim, outside.now.checked_add(lease), outside);
        Ok(())
    }
}
