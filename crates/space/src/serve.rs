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
            // Whose time to look has come does so, though nobody wakes it any more.
            let looks = waiter.called || waiter.looks <= outside.now;
            if !waiter.is_for(tuple) || !((outside.call)(waiter.name) || looks) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::space::Wanted;
    use crate::template::Template;
    use crate::value::Value;

    #[test]
    fn who_was_woken_by_the_end_of_a_claim_is_not_passed() {
        let mut space: Space<u32> = Space::default();
        let wanted = |how| Arc::new(Wanted { template: Template::Anything, how, within: None, held: false });
        let second = Duration::from_secs(1);
        let mut listens = vec![1, 2];
        let mut at = |now, act: &mut dyn FnMut(&mut Space<u32>, &mut Outside<'_, u32>)| {
            let call = &mut |name| {
                let place = listens.iter().position(|&one| one == name);
                place.map(|place| listens.remove(place)).is_some()
            };
            act(&mut space, &mut Outside { now, call });
            listens.retain(|_| now < second);
        };
        let (mut first, mut other) = (None, None);
        at(Duration::ZERO, &mut |space, outside| {
            space.write([Value::Int(0)].into(), None, outside);
            let claim = space.attempt(&wanted(How::Claim(second)), None, outside);
            assert!(claim.is_ok_and(|given| given.is_some()));
            first = Some(space.enlist(&wanted(How::Take), None, || 1, outside));
            other = Some(space.enlist(&wanted(How::Take), None, || 2, outside));
        });
        // Both are awake, because the claim is over; neither has looked. Now one more tuple is written.
        at(second, &mut |_, _| {});
        at(second, &mut |space, outside| space.write([Value::Int(1)].into(), None, outside));
        for (waiter, expected) in [(first, 0), (other, 1)] {
            at(second, &mut |space, outside| {
                let ticket = waiter.map(|waiter| waiter.ticket);
                let given = space.attempt(&wanted(How::Take), ticket, outside).ok().flatten();
                assert_eq!(given.map(|given| given.tuple[0].clone()), Some(Value::Int(expected)));
            });
        }
    }
}
