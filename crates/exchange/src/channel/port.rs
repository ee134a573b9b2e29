//! A process's side of a channel: who waits here, and what it was given.
//!
//! Who waits is named by a ticket, and called through a function. Who is called has something promised, and comes for it
//! (`receive`, `send` with its ticket), or releases it. Whether the call was heard is of no interest here: one that comes
//! before the wait has begun ends that at once.

use std::collections::VecDeque;

use super::WINDOW;
use super::claims::{Claimed, Claims};
use super::machine::Given;
use super::queue::Queue;

/// What a port says to the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say<V> {
    /// So many more wait for a value.
    Want(usize),
    /// So many fewer.
    Unwant(usize),
    /// So many more wait for a slot.
    Need(usize),
    /// So many fewer.
    Unneed(usize),
    /// It has heard that nothing of what it had is its own, nor what it had asked for: and so many wait for a value.
    Anew(usize),
    /// Which values it has taken, from this number on, is said by its word.
    HasWord(u64),
    /// A wait has committed to the value that was lent under this number. Where this stands in a word it is said only if
    /// somebody wants to know.
    Taken(u64),
    /// It has taken something that is to be let go of at once: the channel looks what that was.
    Look,
    /// It comes back.
    Returned(u64),
    /// All that was lent before it was heard that a value comes back has come back too.
    Settled,
    /// Slots come back.
    SlotsReturned(usize),
    /// All of them that were recalled have come back.
    Recalled,
    /// A value, in a slot.
    Value(V),
    /// The channel is closed.
    Close,
}

/// Why there is nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<B> {
    /// It was closed.
    Closed,
    /// It is broken.
    Broken(B),
}

/// What comes of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Now<T, B> {
    /// This.
    Done(T),
    /// Nothing now.
    Nothing,
    /// Nothing ever.
    Over(End<B>),
}

/// A process's side of a channel.
#[derive(Debug)]
pub struct Port<V, W, B> {
    lent: VecDeque<(u64, V)>,
    lent_ever: u64,
    /// By what it says which values it has taken, and the first number of which it does.
    claims: Option<(Claims, u64)>,
    /// It is lent values ahead, and asks for as many as it can do with.
    is_ahead: bool,
    /// It has found that what it had was revoked, and has not been told yet.
    is_void: bool,
    /// A value was returned, and those that were on their way behind it go after it, whoever waits: else they came
    /// before it.
    is_settling: bool,
    slots: usize,
    /// It is granted slots ahead.
    streams: bool,
    receivers: Queue<W>,
    senders: Queue<W>,
    is_closed: bool,
    has_ended: bool,
    broken: Option<B>,
}

impl<V, W, B> Default for Port<V, W, B> {
    fn default() -> Self {
        Self {
            lent: VecDeque::new(),
            lent_ever: 0,
            claims: None,
            is_ahead: false,
            is_void: false,
            is_settling: false,
            slots: 0,
            streams: false,
            receivers: Queue::default(),
            senders: Queue::default(),
            is_closed: false,
            has_ended: false,
            broken: None,
        }
    }
}

impl<V, W, B: Copy> Port<V, W, B> {
    /// Whether it is known here that the channel was closed.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Why nothing works any more.
    pub fn broken(&self) -> Option<B> {
        self.broken
    }

    /// Takes a value, if there is one for who has this ticket; without one, if there is one that nobody waits for.
    pub fn receive(&mut self, ticket: Option<u64>, says: &mut Vec<Say<V>>) -> Now<V, B> {
        if self.receivers.may_have(ticket, self.lent.len())
            && let Some(value) = self.take(says)
        {
            self.receivers.served(ticket);
            return Now::Done(value);
        }
        match (self.broken, self.has_ended) {
            (Some(why), _) => Now::Over(End::Broken(why)),
            (None, true) => Now::Over(End::Closed),
            (None, false) => Now::Nothing,
        }
    }

    /// Takes the first value, unless it is the channel's again.
    fn take(&mut self, says: &mut Vec<Say<V>>) -> Option<V> {
        let number = self.lent.front().map(|(number, _)| *number)?;
        let claims = self.claims.as_ref().filter(|(_, first)| number >= *first);
        let is_told = match claims.map(|(claims, _)| claims.claim(number)) {
            None => true,
            Some(Claimed::Taken(is_awaited)) => is_awaited,
            Some(Claimed::Revoked) => {
                self.void();
                return None;
            }
        };
        says.extend(is_told.then_some(Say::Taken(number)));
        let (_, value) = self.lent.pop_front()?;
        self.replenish(says);
        Some(value)
    }

    /// What lies here is the channel's again. Who was promised something waits on, where he stood.
    fn void(&mut self) {
        self.lent.clear();
        self.receivers.requeue();
        self.is_void = true;
    }

    /// Asks for more to lie here, when half of it is gone.
    fn replenish(&mut self, says: &mut Vec<Say<V>>) {
        let there = self.lent.len() + self.receivers.asked;
        if self.is_ahead && !self.is_void && there <= WINDOW / 2 {
            self.receivers.asked += WINDOW - there;
            says.push(Say::Want(WINDOW - there));
        }
    }

    /// Whether who comes now to send would have to wait.
    #[must_use]
    pub fn is_full(&mut self) -> bool {
        self.broken.is_none() && !self.is_closed && !self.senders.may_have(None, self.slots)
    }

    /// Takes a slot, if there is one for who has this ticket: the value is to be said next.
    pub fn send(&mut self, ticket: Option<u64>) -> Now<(), B> {
        if let Some(why) = self.broken {
            return Now::Over(End::Broken(why));
        }
        let is_promised = ticket.is_some_and(|ticket| self.senders.is_called(ticket));
        if (is_promised || !self.is_closed) && self.senders.may_have(ticket, self.slots) {
            self.senders.served(ticket);
            self.slots -= 1;
            return Now::Done(());
        }
        if self.is_closed { Now::Over(End::Closed) } else { Now::Nothing }
    }

    /// Somebody waits for a value.
    pub fn await_value(&mut self, ticket: u64, waiter: W, says: &mut Vec<Say<V>>, call: &mut dyn FnMut(&W)) {
        if self.broken.is_some() || self.has_ended {
            return call(&waiter);
        }
        self.receivers.enlist(ticket, waiter);
        if !self.is_ahead {
            says.extend(self.receivers.more().map(Say::Want));
        }
        self.receivers.call(self.lent.len(), call);
    }

    /// Somebody waits for a slot.
    pub fn await_slot(&mut self, ticket: u64, waiter: W, says: &mut Vec<Say<V>>, call: &mut dyn FnMut(&W)) {
        if self.broken.is_some() || self.is_closed {
            return call(&waiter);
        }
        self.senders.enlist(ticket, waiter);
        says.extend(self.senders.more().map(Say::Need));
        self.senders.call(self.slots, call);
    }

    /// A wait is over, however it ended.
    pub fn release(&mut self, ticket: u64, says: &mut Vec<Say<V>>, call: &mut dyn FnMut(&W)) {
        self.receivers.release(ticket);
        self.senders.release(ticket);
        self.settle(says, call);
    }

    /// The channel gives something, or tells.
    pub fn hear(&mut self, given: Given<V>, says: &mut Vec<Say<V>>, call: &mut dyn FnMut(&W)) {
        match given {
            Given::Value(value) => self.lend(value, says),
            Given::Word(word) => {
                self.claims = Some((Claims(word), self.lent_ever));
                says.push(Say::HasWord(self.lent_ever));
            }
            Given::Ahead => self.is_ahead = true,
            Given::Revoked => {
                self.void();
                (self.is_void, self.is_ahead, self.is_settling) = (false, false, false);
                says.push(Say::Anew(self.receivers.anew()));
            }
            Given::Settle => {
                self.is_settling = false;
                says.push(Say::Settled);
            }
            Given::Slots(count, is_ahead) => {
                self.slots = self.slots.saturating_add(count);
                self.streams |= is_ahead;
                if !is_ahead {
                    self.senders.asked = self.senders.asked.saturating_sub(count);
                }
            }
            Given::Recall => {
                self.streams = false;
                self.settle(says, call);
                return says.push(Say::Recalled);
            }
            Given::Unwanted(count, removed) => self.receivers.heard_fewer(count, removed),
            Given::Unneeded(count, removed) => self.senders.heard_fewer(count, removed),
            Given::Closed => {
                (self.is_closed, self.streams) = (true, false);
                self.senders.call_all(call);
            }
            Given::Ended => {
                self.has_ended = true;
                self.receivers.call_all(call);
            }
        }
        self.settle(says, call);
    }

    fn lend(&mut self, value: V, says: &mut Vec<Say<V>>) {
        let number = self.lent_ever;
        self.lent_ever += 1;
        self.receivers.asked = self.receivers.asked.saturating_sub(1);
        if self.is_settling {
            says.push(Say::Returned(number));
            says.extend(self.receivers.more().map(Say::Want));
        } else if !self.is_void {
            self.lent.push_back((number, value));
        }
    }

    /// Its owner is gone, or has it no more. What was lent can still be received.
    pub fn break_off(&mut self, why: B, call: &mut dyn FnMut(&W)) {
        self.broken.get_or_insert(why);
        self.receivers.call(self.lent.len(), call);
        self.receivers.call_all(call);
        self.senders.call_all(call);
    }

    /// Calls whom there is something for, and gives back what is for nobody.
    fn settle(&mut self, says: &mut Vec<Say<V>>, call: &mut dyn FnMut(&W)) {
        self.receivers.call(self.lent.len(), call);
        self.senders.call(self.slots, call);
        if self.broken.is_some() {
            return;
        }
        says.extend(self.senders.fewer().map(Say::Unneed));
        if self.is_ahead {
            self.replenish(says);
        } else {
            self.return_values(says);
        }
        let free = self.slots.saturating_sub(self.senders.promised());
        if !self.streams && free > 0 {
            self.slots -= free;
            says.push(Say::SlotsReturned(free));
        }
    }
    fn return_values(&mut self, says: &mut Vec<Say<V>>) {
        says.extend(self.receivers.fewer().map(Say::Unwant));
        while self.lent.len() > self.receivers.promised()
            && let Some((number, _)) = self.lent.pop_back()
        {
            self.is_settling = true;
            says.push(Say::Returned(number));
        }
    }
}
