//! Who waits in a process for one of the two things that a channel gives out, and for how many it has asked.

use std::collections::{BTreeMap, VecDeque};

/// Who waits here for values, or for slots.
#[derive(Debug)]
pub(super) struct Queue<W> {
    waiting: VecDeque<(u64, W)>,
    /// What is promised to them: they were called.
    called: BTreeMap<u64, W>,
    /// For how many it has asked: they wait with the channel, or something is on its way for them.
    pub(super) asked: usize,
    /// How many of these are to wait no more; the channel has not said yet for how many it was in time.
    unasked: usize,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), called: BTreeMap::new(), asked: 0, unasked: 0 }
    }
}

impl<W> Queue<W> {
    /// Somebody waits.
    pub(super) fn enlist(&mut self, ticket: u64, waiter: W) {
        if !self.is_called(ticket) && !self.waiting.iter().any(|(known, _)| *known == ticket) {
            self.waiting.push_back((ticket, waiter));
        }
    }

    /// Whether something is promised to him.
    pub(super) fn is_called(&self, ticket: u64) -> bool {
        self.called.contains_key(&ticket)
    }

    /// To how many something is promised.
    pub(super) fn promised(&self) -> usize {
        self.called.len()
    }

    /// How many more are to be asked for.
    pub(super) fn more(&mut self) -> Option<usize> {
        let more = self.waiting.len().saturating_sub(self.asked.saturating_sub(self.unasked));
        self.asked += more;
        (more > 0).then_some(more)
    }

    /// Nothing that was asked for comes any more: for how many it asks now.
    pub(super) fn anew(&mut self) -> usize {
        (self.asked, self.unasked) = (self.waiting.len(), 0);
        self.asked
    }

    /// Nothing is promised to anybody any more. They wait on where they stood.
    pub(super) fn requeue(&mut self) {
        while let Some(first) = self.called.pop_last() {
            self.waiting.push_front(first);
        }
    }

    /// Somebody waits no more.
    pub(super) fn release(&mut self, ticket: u64) {
        self.called.remove(&ticket);
        self.waiting.retain(|(known, _)| *known != ticket);
    }

    /// How many fewer are to be asked for than was said so far.
    pub(super) fn fewer(&mut self) -> Option<usize> {
        let fewer = self.asked.saturating_sub(self.unasked).saturating_sub(self.waiting.len());
        self.unasked += fewer;
        (fewer > 0).then_some(fewer)
    }

    /// The channel has heard that so many are to wait no more; for so many of them nothing comes.
    pub(super) fn heard_fewer(&mut self, count: usize, removed: usize) {
        self.unasked = self.unasked.saturating_sub(count);
        self.asked = self.asked.saturating_sub(removed);
    }

    /// Calls as many as there is something free for.
    pub(super) fn call(&mut self, there: usize, call: &mut dyn FnMut(&W)) {
        while there > self.called.len()
            && let Some((ticket, waiter)) = self.waiting.pop_front()
        {
            call(&waiter);
            self.called.insert(ticket, waiter);
        }
    }

    pub(super) fn call_all(&mut self, call: &mut dyn FnMut(&W)) {
        (self.asked, self.unasked) = (0, 0);
        self.waiting.drain(..).for_each(|(_, waiter)| call(&waiter));
    }

    /// Whether he may have one of so many: he was promised one, or there is one that is promised to nobody.
    pub(super) fn may_have(&self, ticket: Option<u64>, there: usize) -> bool {
        ticket.is_some_and(|ticket| self.is_called(ticket))
            || there > self.called.len() && (ticket.is_some() || self.waiting.is_empty())
    }

    /// He has it.
    pub(super) fn served(&mut self, ticket: Option<u64>) {
        if let Some(ticket) = ticket {
            self.called.remove(&ticket);
        }
    }
}
