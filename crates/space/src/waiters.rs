//! Who waits: by ticket, in the order in which they came, and found by what they look for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::claims::ClaimId;
use crate::index::{Index, Keyring, Keys};
use crate::space::{How, Wanted};
use crate::template::Template;
use crate::transactions::TransactionId;
use crate::value::{Tuple, Value};

/// The place of a waiter in the order. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

impl Ticket {
    /// As a number, which is not zero.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The ticket that [`Self::number`] gave; none for zero.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }
}

/// What a waiter was given, and has not fetched.
#[derive(Debug)]
pub(crate) enum Handed {
    Copy(Tuple),
    Held(ClaimId),
}

#[derive(Debug)]
pub(crate) struct Waiter<N> {
    /// What to call.
    pub(crate) name: N,
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) handed: Option<Handed>,
    /// It has heard a call, and has not begun to wait again: it will look.
    pub(crate) called: bool,
    /// Its transaction is over, so that nothing is for it.
    pub(crate) over: bool,
    /// When it will look by itself; the longest duration is never.
    pub(crate) looks: Duration,
}

#[derive(Debug)]
pub(crate) struct Waiters<N> {
    by_ticket: BTreeMap<u64, Waiter<N>>,
    readers: Index,
    takers: Index,
    keyring: Keyring,
}

impl<N> Default for Waiters<N> {
    fn default() -> Self {
        let (readers, takers) = (Index::default(), Index::default());
        Self { by_ticket: BTreeMap::new(), readers, takers, keyring: Keyring::default() }
    }
}

/// The key of those who look for tuples of any length.
const ANYTHING: u64 = 0;

impl<N> Waiters<N> {
    pub(crate) fn insert(&mut self, ticket: Ticket, waiter: Waiter<N>) {
        let key = self.key(&waiter.wanted.template);
        self.index(waiter.wanted.how).insert(key, ticket.0);
        self.by_ticket.insert(ticket.0, waiter);
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Waiter<N>> {
        let waiter = self.by_ticket.remove(&ticket.0)?;
        let key = self.key(&waiter.wanted.template);
        self.index(waiter.wanted.how).remove(key, ticket.0);
        Some(waiter)
    }

    fn key(&self, template: &Template) -> u64 {
        self.keyring.of_template(template).and_then(|keys| keys.last().copied()).unwrap_or(ANYTHING)
    }

    fn index(&mut self, how: How) -> &mut Index {
        if how == How::Read { &mut self.readers } else { &mut self.takers }
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Waiter<N>> {
        self.by_ticket.get_mut(&ticket.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_ticket.len()
    }

    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Waiter<N>> {
        self.by_ticket.values_mut()
    }

    /// Those within a transaction.
    pub(crate) fn within(&mut self, transaction: TransactionId) -> impl Iterator<Item = &mut Waiter<N>> {
        self.all().filter(move |waiter| waiter.wanted.within == Some(transaction))
    }

    /// The keys under which those stand who may look for such a tuple.
    pub(crate) fn keys(&self, tuple: &[Value]) -> Keys {
        let mut keys = self.keyring.of_tuple(tuple);
        keys.push(ANYTHING);
        keys
    }

    /// The next of those who may want to read, or to take, what has these keys.
    pub(crate) fn next(&self, how: How, keys: &Keys, after: Ticket) -> Option<Ticket> {
        let index = if how == How::Read { &self.readers } else { &self.takers };
        index.next(keys.iter().copied(), after.0).map(Ticket)
    }
}
