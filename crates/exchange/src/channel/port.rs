//! A process's side of a channel: who waits here, and what it was given.
//!
//! Who waits is named by a ticket, and called through a function. Who is called has something promised, and comes for it
//! (`receive`, `send` with its ticket), or releases it. Whether the call was heard is of no interest here: one that comes
//! before the wait has begun ends that at once.

use std::collections::{BTreeSet, VecDeque};

use super::machine::Given;

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
    /// A wait has committed to the value that was lent under this number.
    Taken(u64),
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

/// Who waits for one of the two things.
#[derive(Debug)]
struct Queue<W> {
    waiting: VecDeque<(u64, W)>,
    /// What is promised to them: they were called.
    called: BTreeSet<u64>,
    /// For how many it has asked: they wait with the channel, or something is on its way for them.
    asked: usize,
    /// How many of these are to wait no more; the channel has not said yet for how many it was in time.
    unasked: usize,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), called: BTreeSet::new(), asked: 0, unasked: 0 }
    }
}

impl<W> Queue<W> {
    /// Somebody waits. How many more are to be asked for.
    fn enlist(&mut self, ticket: u64, waiter: W) -> usize {
        if !self.called.contains(&ticket) && !self.waiting.iter().any(|(known, _)| *known == ticket) {
            self.waiting.push_back((ticket, waiter));
        }
        self.more()
    }

    /// How many more are to be asked for.
    fn more(&mut self) -> usize {
        let more = self.waiting.len().saturating_sub(self.asked.saturating_sub(self.unasked));
        self.asked += more;
        more
    }

    /// Somebody waits no more.
    fn release(&mut self, ticket: u64) {
        self.called.remove(&ticket);
        self.waiting.retain(|(known, _)| *known != ticket);
    }

    /// How many fewer are to be asked for than was said so far.
    fn fewer(&mut self) -> Option<usize> {
        let fewer = self.asked.saturating_sub(self.unasked).saturating_sub(self.waiting.len());
        self.unasked += fewer;
        (fewer > 0).then_some(fewer)
    }

    /// The channel has heard that so many are to wait no more; for so many of them nothing comes.
    fn heard_fewer(&mut self, count: usize, removed: usize) {
        self.unasked = self.unasked.saturating_sub(count);
        self.asked = self.asked.saturating_sub(removed);
    }

    /// Calls as many as there is something free for.
    fn call(&mut self, there: usize, call: &mut dyn FnMut(&W)) {
        while there > self.called.len()
            && let Some((ticket, waiter)) = self.waiting.pop_front()
        {
            self.called.insert(ticket);
            call(&waiter);
        }
    }

    fn call_all(&mut self, call: &mut dyn FnMut(&W)) {
        (self.asked, self.unasked) = (0, 0);
        self.waiting.drain(..).for_each(|(_, waiter)| call(&waiter));
    }

    /// Whether it may have one of so many: it was promised one, or there is one that is promised to nobody.
    fn may_have(&mut self, ticket: Option<u64>, there: usize) -> bool {
        if ticket.is_some_and(|ticket| self.called.remove(&ticket)) {
            return true;
        }
        there > self.called.len() && (ticket.is_some() || self.waiting.is_empty())
    }
}

/// A process's side of a channel.
#[derive(Debug)]
pub struct Port<V, W, B> {
    lent: VecDeque<(u64, V)>,
    lent_ever: u64,
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
            && let Some((number, value)) = self.lent.pop_front()
        {
            says.push(Say::Taken(number));
            return Now::Done(value);
        }
        match (self.broken, self.has_ended) {
            (Some(why), _) => Now::Over(End::Broken(why)),
            (None, true) => Now::Over(End::Closed),
            (None, false) => Now::Nothing,
        }
    }

    /// Takes a slot, if there is one for who has this ticket: the value is to be said next.
    pub fn send(&mut self, ticket: Option<u64>) -> Now<(), B> {
        if let Some(why) = self.broken {
            return Now::Over(End::Broken(why));
        }
        let is_promised = ticket.is_some_and(|ticket| self.senders.called.contains(&ticket));
        if (is_promised || !self.is_closed) && self.senders.may_have(ticket, self.slots) {
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
        let more = self.receivers.enlist(ticket, waiter);
        if more > 0 {
            says.push(Say::Want(more));
        }
        self.receivers.call(self.lent.len(), call);
    }

    /// Somebody waits for a slot.
    pub fn await_slot(&mut self, ticket: u64, waiter: W, says: &mut Vec<Say<V>>, call: &mut dyn FnMut(&W)) {
        if self.broken.is_some() || self.is_closed {
            return call(&waiter);
        }
        let more = self.senders.enlist(ticket, waiter);
        if more > 0 {
            says.push(Say::Need(more));
        }
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
            Given::Value(value) => {
                let number = self.lent_ever;
                self.lent_ever += 1;
                self.receivers.asked = self.receivers.asked.saturating_sub(1);
                if !self.is_settling {
                    self.lent.push_back((number, value));
                } else {
                    says.push(Say::Returned(number));
                    let more = self.receivers.more();
                    says.extend((more > 0).then_some(Say::Want(more)));
                }
            }
            Given::Settle => {
                self.is_settling = false;
                says.push(Say::Settled);
            }
            Given::Slot(is_ahead) => {
                self.slots += 1;
                self.streams |= is_ahead;
                self.senders.asked = self.senders.asked.saturating_sub(usize::from(!is_ahead));
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
        says.extend(self.receivers.fewer().map(Say::Unwant));
        says.extend(self.senders.fewer().map(Say::Unneed));
        while self.lent.len() > self.receivers.called.len()
            && let Some((number, _)) = self.lent.pop_back()
        {
            self.is_settling = true;
            says.push(Say::Returned(number));
        }
        let free = self.slots.saturating_sub(self.senders.called.len());
        if !self.streams && free > 0 {
            self.slots -= free;
            says.push(Say::SlotsReturned(free));
        }
    }
}
