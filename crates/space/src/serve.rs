//! Serving: a tuple comes in, and goes to those who wait for it, or to the store.

use std::sync::Arc;

use crate::space::{How, Outside, Space};
use crate::store::{Entry, Store};
use crate::value::Tuple;
use crate::waiters::{Handed, Ticket, Waiter};

impl<N: Copy, S: Store> Space<N, S> {
    /// A tuple is there, or there again: all who wait to read it get a copy, then it goes to the first who waits to take
    /// it, or else into the store.
    pub(crate) fn offer(&mut self, number: u64, entry: Entry, outside: &mut Outside<'_, N>) {
        if self.waiters.len() == 0 {
            return self.put(number, entry);
        }
        self.serve(How::Read, &entry.tuple, outside);
        let Some(ticket) = self.serve(How::Take, &entry.tuple, outside) else {
            return self.put(number, entry);
        };
        let Some(waiter) = self.waiters.get_mut(ticket) else { return };
        let wanted = Arc::clone(&waiter.wanted);
        let claim = self.hold(number, entry, &wanted, outside);
        if let Some(waiter) = self.waiters.get_mut(ticket) {
            waiter.handed = Some(Handed::Held(claim));
        }
    }

    /// Gives copies to all who wait to read such a tuple; or finds the first who waits to take it, and calls.
    fn serve(&mut self, how: How, tuple: &Tuple, outside: &mut Outside<'_, N>) -> Option<Ticket> {
        let keys = self.waiters.keys(tuple);
        let mut at = Ticket(0);
        loop {
            at = self.waiters.next(how, &keys, at)?;
            let Some(waiter) = self.waiters.get_mut(at) else { continue };
            if !waiter.is_for(tuple) || !(waiter.called || (outside.call)(waiter.name)) {
                continue;
            }
            waiter.called = true;
            if how != How::Read {
                return Some(at);
            }
            waiter.handed = Some(Handed::Copy(Arc::clone(tuple)));
        }
    }

    /// Lays a tuple into the store.
    fn put(&mut self, number: u64, entry: Entry) {
        if let Some(until) = entry.until {
            self.leases.insert((until, number));
        }
        self.store.insert(number, entry);
    }

    /// Takes a tuple out of the store.
    pub(crate) fn withdraw(&mut self, number: u64) -> Option<Entry> {
        let entry = self.store.remove(number)?;
        if let Some(until) = entry.until {
            self.leases.remove(&(until, number));
        }
        Some(entry)
    }
}

impl<N> Waiter<N> {
    fn is_for(&self, tuple: &Tuple) -> bool {
        self.handed.is_none() && !self.over && self.wanted.template.matches(tuple)
    }
}
