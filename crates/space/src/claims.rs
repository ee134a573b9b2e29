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

impl ClaimId {
    /// As a number: larger than that of each claim before.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The claim that has this number.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// A tuple that is out of the store, and may come back.
#[derive(Debug)]
pub struct Held {
    /// Its number.
    pub number: u64,
    /// It.
    pub entry: Entry,
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
            self.note_expired(number);
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
        self.hold_until(claim, number, entry, ends, outside);
        if let Some(transaction) = wanted.within.and_then(|id| self.transactions.get_mut(&id)) {
            transaction.taken.push(claim);
        }
        claim
    }

    pub(crate) fn hold_until(
        &mut self,
        claim: ClaimId,
        number: u64,
        entry: Entry,
        ends: Option<Duration>,
        outside: &mut Outside<'_, N>,
    ) {
        self.held.insert(claim, Held { number, entry, ends: None });
        self.set_end(claim, ends, outside);
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
            if (outside.call)(waiter.name) {
                (waiter.looks, waiter.called) = (at, true);
            }
        }
        self.latest_look = at;
    }

    /// Does what is due by now, for who asks how things stand.
    pub fn settle_due(&mut self, outside: &mut Outside<'_, N>) {
        self.settle(outside);
    }

    /// Has all who wait look, and wait again; and all who watch.
    pub fn call_all(&mut self, outside: &mut Outside<'_, N>) {
        for waiter in self.waiters.all() {
            waiter.called |= (outside.call)(waiter.name);
        }
        for watch in self.watches.values() {
            while (outside.call)(watch.name) {}
        }
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
        self.offer_again(held, outside);
    }

    /// A tuple that was held is there again, unless its own lease is over meanwhile.
    pub fn offer_again(&mut self, held: Held, outside: &mut Outside<'_, N>) {
        match held.entry.until.is_none_or(|until| until > outside.now) {
            true => self.offer(held.number, held.entry, outside),
            false => self.note_expired(held.number),
        }
    }

    /// The tuple of the claim is gone for good.
    pub fn confirm(&mut self, claim: ClaimId, outside: &mut Outside<'_, N>) -> Result<Held, Refused> {
        self.settle(outside);
        self.let_go(claim).ok_or(Refused::ClaimOver)
    }

    /// The number of the tuple that is claimed.
    #[must_use]
    pub fn claimed(&self, claim: ClaimId) -> Option<u64> {
        Some(self.held.get(&claim)?.number)
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
