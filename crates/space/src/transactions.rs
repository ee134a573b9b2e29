//! Transactions: several takes and writes that are one act.
//!
//! What is taken within one is held for it; what is written within one is its own until it is committed. Its own waiters
//! are called to look at what it writes; they alone can see that.

use std::sync::Arc;
use std::time::Duration;

use crate::claims::ClaimId;
use crate::space::{How, Outside, Refused, Space, Wanted};
use crate::store::{Entry, Store};
use crate::value::Tuple;
use crate::waiters::Handed;

/// A transaction. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(u64);

impl TransactionId {
    /// As a number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The transaction that has this number.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) taken: Vec<ClaimId>,
    written: Vec<(Tuple, Option<Duration>)>,
}

/// A transaction that is to be finished or abandoned.
#[derive(Debug)]
#[must_use]
pub struct Prepared {
    /// What it takes: by what it is held, and its number.
    pub taken: Vec<(ClaimId, u64)>,
    /// What it writes, and under which number.
    pub written: Vec<(u64, Entry)>,
}

impl Transaction {
    /// Whether it has itself written what is wanted.
    pub(crate) fn has(&self, wanted: &Wanted) -> bool {
        self.written.iter().any(|(tuple, _)| wanted.template.matches(tuple))
    }

    /// What it has itself written; when that is taken, it was never there.
    pub(crate) fn find(&mut self, wanted: &Wanted) -> Option<Tuple> {
        let place = self.written.iter().position(|(tuple, _)| wanted.template.matches(tuple))?;
        if wanted.how == How::Read {
            return Some(Arc::clone(&self.written[place].0));
        }
        Some(self.written.remove(place).0)
    }
}

impl<N: Copy, S: Store> Space<N, S> {
    /// Begins a transaction.
    pub fn begin(&mut self) -> TransactionId {
        let id = TransactionId(self.next_number());
        self.transactions.insert(id, Transaction::default());
        id
    }

    /// Writes within a transaction. The lease begins when that is committed.
    pub fn write_within(
        &mut self,
        id: TransactionId,
        tuple: Tuple,
        lease: Option<Duration>,
        outside: &mut Outside<'_, N>,
    ) -> Result<(), Refused> {
        let transaction = self.transactions.get_mut(&id).ok_or(Refused::TransactionOver)?;
        for waiter in self.waiters.within(id).filter(|waiter| waiter.wanted.template.matches(&tuple)) {
            waiter.called |= (outside.call)(waiter.name);
        }
        transaction.written.push((tuple, lease));
        Ok(())
    }

    /// All of it has happened, at once.
    pub fn commit(&mut self, id: TransactionId, outside: &mut Outside<'_, N>) -> Result<(), Refused> {
        let prepared = self.prepare(id, outside)?;
        self.finish(prepared, outside);
        Ok(())
    }

    /// The transaction takes and writes no more: what is in it is to be finished, or abandoned, and nobody sees it before.
    pub fn prepare(&mut self, id: TransactionId, outside: &mut Outside<'_, N>) -> Result<Prepared, Refused> {
        self.settle(outside);
        let transaction = self.end(id, outside).ok_or(Refused::TransactionOver)?;
        let written = transaction.written.into_iter().map(|(tuple, lease)| {
            let until = lease.and_then(|lease| outside.now.checked_add(lease));
            (self.next_number(), Entry { tuple, until })
        });
        let written = written.collect();
        let taken = transaction.taken.into_iter();
        let taken = taken.filter_map(|claim| Some((claim, self.claimed(claim)?))).collect();
        Ok(Prepared { taken, written })
    }

    /// All of it has happened, at once.
    pub fn finish(&mut self, prepared: Prepared, outside: &mut Outside<'_, N>) {
        for (claim, _) in prepared.taken {
            self.let_go(claim);
        }
        for (number, entry) in prepared.written {
            self.publish(number, entry, outside);
        }
    }

    /// Nothing of it has happened.
    pub fn abandon(&mut self, prepared: Prepared, outside: &mut Outside<'_, N>) {
        for (claim, _) in prepared.taken {
            self.return_held(claim, outside);
        }
    }

    /// Nothing of it has happened. False: it had ended before.
    pub fn roll_back(&mut self, id: TransactionId, outside: &mut Outside<'_, N>) -> bool {
        self.settle(outside);
        let Some(transaction) = self.end(id, outside) else { return false };
        for claim in transaction.taken {
            self.return_held(claim, outside);
        }
        true
    }

    /// Takes a transaction away. What was kept for those who still wait within it comes back, and they are told.
    fn end(&mut self, id: TransactionId, outside: &mut Outside<'_, N>) -> Option<Transaction> {
        let transaction = self.transactions.remove(&id)?;
        let mut unfetched = Vec::new();
        for waiter in self.waiters.within(id) {
            if let Some(Handed::Held(claim)) = waiter.handed.take() {
                unfetched.push(claim);
            }
            waiter.over = true;
            waiter.called |= (outside.call)(waiter.name);
        }
        for claim in unfetched {
            self.return_held(claim, outside);
        }
        Some(transaction)
    }
}
