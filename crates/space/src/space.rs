//! The space as a whole: writing, looking, waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::claims::{ClaimId, Held};
use crate::memory::Memory;
use crate::store::{Entry, Store};
use crate::template::Template;
use crate::transactions::{Transaction, TransactionId};
use crate::value::Tuple;
use crate::waiters::{Handed, Ticket, Waiter, Waiters};
use crate::watches::{Watch, WatchId};

/// What an act needs to know, and whom it can reach.
pub struct Outside<'a, N> {
    /// What time it is.
    pub now: Duration,
    /// Calls a waiter by its name. True: it has heard, and will look. False: it does not wait now, and looks before it
    /// does.
    pub call: &'a mut dyn FnMut(N) -> bool,
}

impl<N: std::fmt::Debug> std::fmt::Debug for Outside<'_, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What is to become of a tuple that is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It stays; who asked gets a copy.
    Read,
    /// It is gone.
    Take,
    /// It is gone for so long, and for good if that is confirmed in time.
    Claim(Duration),
}

/// What somebody looks for.
#[derive(Debug)]
pub struct Wanted {
    /// What it is like.
    pub template: Template,
    /// What for.
    pub how: How,
    /// The transaction that it belongs to.
    pub within: Option<TransactionId>,
    /// What is taken is held until its taker confirms, whatever it is: he may be far, and not get it.
    pub held: bool,
}

/// A tuple that was found.
#[derive(Debug)]
pub struct Given {
    /// It.
    pub tuple: Tuple,
    /// Its number; zero for one that its own transaction has written.
    pub number: u64,
    /// When its own lease is over, if it has one.
    pub until: Option<Duration>,
    /// What is to be confirmed or given back: by whoever claims it, and also for a plain take of a tuple that is not plain or
    /// of a space that holds what is taken, which is done when its taker says so.
    pub claim: Option<ClaimId>,
}

/// A waiter, enlisted.
#[derive(Clone, Copy, Debug)]
pub struct Enlisted<N> {
    /// Its place, until it is released.
    pub ticket: Ticket,
    /// Where it is to wait for a call.
    pub name: N,
    /// When it is to look even if nobody calls: a claim may end then.
    pub looks: Option<Duration>,
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The claim is over: it was confirmed or given back, or the tuple went back because its time was up.
    #[error("the claim is over")]
    ClaimOver,
    /// The transaction was committed or rolled back.
    #[error("the transaction has ended")]
    TransactionOver,
}

/// A space whose waiters are called by names of this kind.
#[derive(Debug)]
pub struct Space<N, S = Memory> {
    pub(crate) store: S,
    /// The last name that was given, to whatever it was.
    last: u64,
    /// When the leases of tuples end that lie in the store.
    pub(crate) leases: BTreeSet<(Duration, u64)>,
    pub(crate) held: HashMap<ClaimId, Held>,
    /// When claims end.
    pub(crate) claims: BTreeSet<(Duration, ClaimId)>,
    pub(crate) transactions: HashMap<TransactionId, Transaction>,
    pub(crate) waiters: Waiters<N>,
    /// Nobody who waits will first look later than this by itself.
    pub(crate) latest_look: Duration,
    pub(crate) watches: BTreeMap<WatchId, Watch<N>>,
    /// What is taken is held until its taker confirms, and what is gone by itself is told.
    pub(crate) holds: bool,
    /// Tuples that are gone by themselves since somebody asked.
    pub(crate) expired: Vec<u64>,
}

impl<N, S: Default> Default for Space<N, S> {
    fn default() -> Self {
        Self {
            store: S::default(),
            last: 0,
            leases: BTreeSet::new(),
            held: HashMap::new(),
            claims: BTreeSet::new(),
            transactions: HashMap::new(),
            waiters: Waiters::default(),
            latest_look: Duration::ZERO,
            watches: BTreeMap::new(),
            holds: false,
            expired: Vec::new(),
        }
    }
}

impl Entry {
    fn given(&self, number: u64, claim: Option<ClaimId>) -> Given {
        Given { tuple: Arc::clone(&self.tuple), number, until: self.until, claim }
    }
}

impl<N: Copy, S: Store> Space<N, S> {
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Writes a tuple, which is gone by itself when its lease is over.
    pub fn write(&mut self, tuple: Tuple, lease: Option<Duration>, outside: &mut Outside<'_, N>) {
        self.settle(outside);
        self.write_now(tuple, lease, outside);
    }

    pub(crate) fn write_now(&mut self, tuple: Tuple, lease: Option<Duration>, outside: &mut Outside<'_, N>) {
        let until = lease.and_then(|lease| outside.now.checked_add(lease));
        let number = self.next_number();
        self.publish(number, Entry { tuple, until }, outside);
    }

    /// A number for a tuple that is to be published later.
    pub fn reserve(&mut self) -> u64 {
        self.next_number()
    }

    /// A tuple is written whose number was reserved.
    pub fn publish(&mut self, number: u64, entry: Entry, outside: &mut Outside<'_, N>) {
        self.tell_watches(&entry.tuple, outside);
        if entry.until.is_some_and(|until| until <= outside.now) {
            return self.note_expired(number);
        }
        self.offer(number, entry, outside);
    }

    /// The last number that was given, to whatever it was.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.last
    }

    /// A space that keeps what is taken until its taker confirms, and tells which tuples have gone by themselves: for one
    /// whose acts are written down. `last` is the last number that was given before.
    #[must_use]
    pub fn that_holds(last: u64) -> Self
    where
        S: Default,
    {
        Self { last, holds: true, ..Self::default() }
    }

    /// A tuple that was there before, with its number; and the claim that it is under.
    pub fn restore(
        &mut self,
        number: u64,
        entry: Entry,
        claim: Option<(ClaimId, Option<Duration>)>,
        outside: &mut Outside<'_, N>,
    ) {
        match claim {
            Some((claim, ends)) => self.hold_until(claim, number, entry, ends, outside),
            None => self.offer(number, entry, outside),
        }
    }

    pub(crate) fn note_expired(&mut self, number: u64) {
        if self.holds {
            self.expired.push(number);
        }
    }

    /// The tuples that have gone by themselves since this was asked.
    pub fn take_expired(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.expired)
    }

    /// Whether a plain take of this is held until its taker confirms.
    fn is_held_for(&self, wanted: &Wanted, tuple: &Tuple) -> bool {
        wanted.held
            || matches!(wanted.how, How::Claim(_))
            || wanted.within.is_none() && (self.holds || !tuple.iter().all(crate::value::Value::is_plain))
    }

    /// Looks without waiting; who waits already says with what ticket, and gets what was kept for it.
    pub fn attempt(
        &mut self,
        wanted: &Wanted,
        ticket: Option<Ticket>,
        outside: &mut Outside<'_, N>,
    ) -> Result<Option<Given>, Refused> {
        self.settle(outside);
        if let Some(given) = ticket.and_then(|ticket| self.fetch(ticket)) {
            return Ok(Some(given));
        }
        if let Some(transaction) = wanted.within {
            let transaction = self.transactions.get_mut(&transaction).ok_or(Refused::TransactionOver)?;
            if let Some(tuple) = transaction.find(wanted) {
                return Ok(Some(Given { tuple, number: 0, until: None, claim: None }));
            }
        }
        let Some(number) = self.store.first(&wanted.template) else { return Ok(None) };
        if wanted.how == How::Read {
            return Ok(self.store.get(number).map(|entry| entry.given(number, None)));
        }
        let Some(entry) = self.withdraw(number) else { return Ok(None) };
        let given = entry.given(number, None);
        if wanted.within.is_none() && !self.is_held_for(wanted, &given.tuple) {
            return Ok(Some(given));
        }
        let claim = self.hold(number, entry, wanted, outside);
        let claim = self.is_held_for(wanted, &given.tuple).then_some(claim);
        Ok(Some(Given { claim, ..given }))
    }

    /// What was kept for a waiter.
    fn fetch(&mut self, ticket: Ticket) -> Option<Given> {
        let waiter = self.waiters.get_mut(ticket)?;
        let wanted = Arc::clone(&waiter.wanted);
        let claim = match waiter.handed.take()? {
            Handed::Copy(tuple) => return Some(Given { tuple, number: 0, until: None, claim: None }),
            Handed::Held(claim) => claim,
        };
        let held = self.held.get(&claim)?;
        let given = held.entry.given(held.number, None);
        if self.is_held_for(&wanted, &given.tuple) {
            return Some(Given { claim: Some(claim), ..given });
        }
        if wanted.within.is_none() {
            self.let_go(claim)?;
        }
        Some(given)
    }

    /// Enlists who has looked and found nothing, and now waits at the name that `open` gives; or who waits again, with the
    /// ticket it has. If there is something for it after all, it is called.
    pub fn enlist(
        &mut self,
        wanted: &Arc<Wanted>,
        ticket: Option<Ticket>,
        open: impl FnOnce() -> N,
        outside: &mut Outside<'_, N>,
    ) -> Enlisted<N> {
        self.settle(outside);
        let looks = self.claims.first().map_or(Duration::MAX, |&(at, _)| at);
        let ticket = match ticket {
            Some(ticket) => ticket,
            None => {
                let ticket = Ticket(self.next_number());
                let over = wanted.within.is_some_and(|id| !self.transactions.contains_key(&id));
                let (name, wanted) = (open(), Arc::clone(wanted));
                self.waiters
                    .insert(ticket, Waiter { name, wanted, handed: None, called: false, over, looks });
                ticket
            }
        };
        let is_there = self.is_there(wanted);
        let waiter = self.waiters.get_mut(ticket).unwrap_or_else(|| unreachable!("it was not released"));
        waiter.called = false;
        waiter.looks = looks;
        let name = waiter.name;
        if is_there || waiter.handed.is_some() {
            (outside.call)(name);
        }
        let others = if self.waiters.len() > 1 { self.latest_look } else { Duration::ZERO };
        self.latest_look = others.max(looks);
        Enlisted { ticket, name, looks: Some(looks).filter(|&at| at != Duration::MAX) }
    }

    /// Whether there is something, or an error, for who looks for this.
    fn is_there(&self, wanted: &Wanted) -> bool {
        let within = wanted.within.map(|transaction| self.transactions.get(&transaction));
        within.is_some_and(|transaction| transaction.is_none_or(|found| found.has(wanted)))
            || self.store.first(&wanted.template).is_some()
    }

    /// The wait is over, however it ended: what was kept for it and not fetched comes back. Its name is not called again.
    pub fn release(&mut self, ticket: Ticket, outside: &mut Outside<'_, N>) -> Option<N> {
        let waiter = self.waiters.remove(ticket)?;
        if let Some(Handed::Held(claim)) = waiter.handed {
            self.return_held(claim, outside);
        }
        Some(waiter.name)
    }

    /// Shows all that match, in the order in which they were written.
    pub fn visit(
        &mut self,
        template: &Template,
        outside: &mut Outside<'_, N>,
        visit: &mut dyn FnMut(&Tuple),
    ) {
        self.settle(outside);
        self.store.visit(template, visit);
    }

    /// How many match, those aside that are claimed.
    pub fn count(&mut self, template: &Template, outside: &mut Outside<'_, N>) -> usize {
        self.settle(outside);
        let mut count = 0;
        match template {
            Template::Anything => count = self.store.len(),
            template => self.store.visit(template, &mut |_| count += 1),
        }
        count
    }

    /// Takes away a tuple that lies in the store. False: it does not.
    pub fn retract(&mut self, number: u64, outside: &mut Outside<'_, N>) -> bool {
        self.settle(outside);
        self.withdraw(number).is_some()
    }

    /// Ends a claim; its tuple gets a new number, and is to be [offered](Self::offer_last) by it. None: the claim was over,
    /// or the tuple's lease is.
    pub fn put_last(&mut self, claim: ClaimId, outside: &mut Outside<'_, N>) -> Option<(u64, Entry)> {
        self.settle(outside);
        let held = self.let_go(claim)?;
        if held.entry.until.is_some_and(|until| until <= outside.now) {
            self.note_expired(held.number);
            return None;
        }
        Some((self.next_number(), held.entry))
    }

    /// A tuple is there again, behind all others.
    pub fn offer_last(&mut self, number: u64, entry: Entry, outside: &mut Outside<'_, N>) {
        self.offer(number, entry, outside);
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }
}
