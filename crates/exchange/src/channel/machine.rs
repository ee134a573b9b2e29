//! The channel itself, where its owner is.

use std::collections::{BTreeMap, VecDeque};

use thistledown_parcel::Word;

use super::WINDOW;
use super::line::Line;
use super::port::Say;
use super::side::{Placed, Ready, Side};
use crate::Party;

/// What a port is given, or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given<V> {
    /// A value.
    Value(V),
    /// By this word the port may say which values it has taken.
    Word(Word),
    /// From now on it is lent values that nobody there waits for yet, as far as the port asks for them.
    Ahead,
    /// What it has not taken is the channel's again, and what it has asked for is void.
    Revoked,
    /// So many slots; whether ahead of who waits for them.
    Slots(usize, bool),
    /// Slots that were granted ahead, and to which nobody has committed, are wanted back.
    Recall,
    /// It has been heard that a value comes back, and no value comes before the port says that it has settled.
    Settle,
    /// So many were to wait no more for a value; for so many of these there was none on its way, and none comes.
    Unwanted(usize, usize),
    /// The same for slots.
    Unneeded(usize, usize),
    /// The channel is closed: nothing more can be sent.
    Closed,
    /// And nothing more will be received.
    Ended,
}

/// What is to be passed on to whom.
pub type Act<V> = (Party, Given<V>);

const VALUES: usize = 0;
const SLOTS: usize = 1;

/// A channel. See the module above.
#[derive(Debug)]
pub struct Machine<V> {
    capacity: usize,
    buffer: VecDeque<Placed<V>>,
    placed_ever: u64,
    sides: BTreeMap<Party, Side<V>>,
    lines: [Line; 2],
    /// How the words come to be by which values are lent ahead.
    words: fn() -> Option<Word>,
    /// To whom values are lent ahead: nobody else waits for any.
    ahead: Option<Party>,
    is_closed: bool,
    has_ended: bool,
}

impl<V: Clone> Machine<V> {
    /// An empty one with room for so many values.
    ///
    /// `words` makes what is needed to lend values ahead. If it cannot, values are lent to those who wait alone.
    #[must_use]
    pub fn new(capacity: usize, words: fn() -> Option<Word>) -> Self {
        Self {
            capacity,
            buffer: VecDeque::new(),
            placed_ever: 0,
            sides: BTreeMap::new(),
            lines: Default::default(),
            words,
            ahead: None,
            is_closed: false,
            has_ended: false,
        }
    }

    /// Puts in what lay in the channel before it was shared.
    pub fn preload(&mut self, values: impl IntoIterator<Item = V>) {
        values.into_iter().for_each(|value| self.place(value));
    }

    /// How many values nobody has taken, wherever they lie.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len() + self.sides.values().map(Side::untaken).sum::<usize>()
    }

    /// Whether there is no value that nobody has taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether all that this port has said was heard as it was meant. Else it has still to hear that it was not.
    #[must_use]
    pub fn is_settled(&self, party: Party) -> bool {
        self.sides.get(&party).is_none_or(|side| !side.is_revoked)
    }

    /// Takes out all that nobody has taken, of a channel that is no more.
    pub fn take_left(&mut self) -> Vec<V> {
        let lent = std::mem::take(&mut self.sides).into_values().flat_map(|mut side| side.give_up());
        lent.chain(self.buffer.drain(..)).map(|(_, value)| value).collect()
    }

    fn lent(&self) -> usize {
        self.sides.values().map(Side::lent).sum()
    }

    fn granted(&self) -> usize {
        self.sides.values().map(|side| side.granted).sum()
    }

    fn place(&mut self, value: V) {
        self.buffer.push_back((self.placed_ever, value));
        self.placed_ever += 1;
    }

    /// A port begins: with nothing, also if there was one of that process before.
    pub fn attach(&mut self, party: Party, acts: &mut Vec<Act<V>>) {
        self.detach(party, acts);
        self.sides.insert(party, Side::default());
        if self.is_closed {
            acts.push((party, Given::Closed));
        }
        if self.has_ended {
            acts.push((party, Given::Ended));
        }
    }

    /// A port is no more. What it had not taken goes back to where it stood.
    pub fn detach(&mut self, party: Party, acts: &mut Vec<Act<V>>) {
        self.lines.iter_mut().for_each(|line| line.forget(party));
        self.ahead = self.ahead.filter(|ahead| *ahead != party);
        if let Some(mut side) = self.sides.remove(&party) {
            side.give_up().into_iter().for_each(|(place, value)| self.put_back(place, value));
        }
        self.go_on(acts);
    }

    fn put_back(&mut self, place: u64, value: V) {
        let at = self.buffer.partition_point(|(known, _)| *known < place);
        self.buffer.insert(at, (place, value));
    }

    /// Closes it: nothing more can be sent, but by those who were granted a slot and have committed to it.
    pub fn close(&mut self, acts: &mut Vec<Act<V>>) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.lines[SLOTS].clear();
            acts.extend(self.sides.keys().map(|party| (*party, Given::Closed)));
        }
        self.go_on(acts);
    }

    /// A port says something.
    pub fn hear(&mut self, party: Party, say: Say<V>, acts: &mut Vec<Act<V>>) {
        let Some(side) = self.sides.get_mut(&party) else { return };
        match say {
            Say::Want(_) | Say::Unwant(_) if side.is_revoked => {}
            Say::Want(count) => self.want(party, count, acts),
            Say::Anew(count) => {
                side.restore();
                self.want(party, count, acts);
            }
            Say::Unwant(count) => {
                let removed = self.lines[VALUES].remove(party, count);
                acts.push((party, Given::Unwanted(count, removed)));
            }
            Say::Need(_) if self.is_closed => {}
            Say::Need(count) => self.lines[SLOTS].add(party, count),
            Say::Unneed(count) => {
                let removed = self.lines[SLOTS].remove(party, count);
                acts.push((party, Given::Unneeded(count, removed)));
            }
            Say::HasWord(number) => side.has_word(number),
            // As before all that is given out.
            Say::Look => {}
            Say::Taken(number) => drop(side.take(number)),
            Say::Returned(number) => {
                if let Some((place, value)) = side.take(number) {
                    if !std::mem::replace(&mut side.is_settling, true) {
                        acts.push((party, Given::Settle));
                    }
                    self.put_back(place, value);
                }
            }
            Say::Settled => side.is_settling = false,
            Say::SlotsReturned(count) => side.granted = side.granted.saturating_sub(count),
            Say::Recalled => (side.streams, side.is_recalled) = (false, false),
            Say::Value(value) => {
                // One that was granted no slot is corrupt.
                let Some(left) = side.granted.checked_sub(1) else { return };
                side.granted = left;
                self.place(value);
            }
            Say::Close => return self.close(acts),
        }
        self.go_on(acts);
    }

    /// A port waits for values. What lies ahead with another one is nobody's again.
    fn want(&mut self, party: Party, count: usize, acts: &mut Vec<Act<V>>) {
        if count == 0 {
            return;
        }
        if let Some(other) = self.ahead.take_if(|ahead| *ahead != party) {
            self.lines[VALUES].forget(other);
            let revoked = self.sides.get_mut(&other).map(Side::revoke).unwrap_or_default();
            revoked.into_iter().for_each(|(place, value)| self.put_back(place, value));
            acts.push((other, Given::Revoked));
        }
        self.lines[VALUES].add(party, count);
    }

    /// Gives out what can be given.
    fn go_on(&mut self, acts: &mut Vec<Act<V>>) {
        self.sides.values_mut().for_each(Side::look);
        while self.lend(acts) || self.grant(acts) {}
        let may_be_over = self.is_closed && self.buffer.is_empty() && self.granted() == 0;
        let is_over = may_be_over && (self.lent() == 0 || self.watch() && self.lent() == 0);
        if is_over && !std::mem::replace(&mut self.has_ended, true) {
            self.lines[VALUES].clear();
            acts.extend(self.sides.keys().map(|party| (*party, Given::Ended)));
        }
    }

    /// Whoever has values and takes one is to say so. Whether something was taken meanwhile.
    fn watch(&mut self) -> bool {
        // Each of them, also behind one that has taken something.
        self.sides.values_mut().filter_map(|side| side.watch().then_some(())).count() > 0
    }

    /// Recalls the slots that others than this port have ahead.
    fn recall(&mut self, party: Party, acts: &mut Vec<Act<V>>) {
        for (other, side) in &mut self.sides {
            if *other != party && side.streams && !std::mem::replace(&mut side.is_recalled, true) {
                acts.push((*other, Given::Recall));
            }
        }
    }

    fn lend(&mut self, acts: &mut Vec<Act<V>>) -> bool {
        let Some(party) = self.lines[VALUES].first() else { return false };
        let Some(side) = self.sides.get_mut(&party).filter(|side| !side.is_settling) else { return false };
        let Some((place, value)) = self.buffer.pop_front() else { return false };
        self.lines[VALUES].serve();
        side.lend(place, value.clone());
        acts.push((party, Given::Value(value)));
        let may_stream = self.ahead.is_none() && self.capacity > 1 && !party.is_here();
        if may_stream && self.lines[VALUES].streams() == Some(party) {
            match side.may_be_ahead(self.lines[VALUES].streak(), self.words) {
                Ready::Now => {
                    self.ahead = Some(party);
                    acts.push((party, Given::Ahead));
                }
                Ready::Soon(word) => acts.push((party, Given::Word(word))),
                Ready::No => {}
            }
        }
        true
    }

    fn grant(&mut self, acts: &mut Vec<Act<V>>) -> bool {
        let (party, is_ahead) = match (self.lines[SLOTS].first(), self.lines[SLOTS].streams()) {
            (Some(party), _) => (party, false),
            (None, Some(party)) if !self.is_closed => (party, true),
            _ => return false,
        };
        // Who is lent values ahead asks for them, and does not wait.
        let waiting = if is_ahead || self.ahead.is_some() { 0 } else { self.lines[VALUES].len() };
        let used = self.buffer.len() + self.lent() + self.granted();
        let room = self.capacity.saturating_add(waiting).saturating_sub(used);
        if room == 0 {
            if !is_ahead {
                self.recall(party, acts);
            }
            return !is_ahead && self.watch();
        }
        let limit = WINDOW.min(self.capacity / 2);
        let Some(side) = self.sides.get_mut(&party).filter(|side| !side.is_recalled) else { return false };
        let count = if is_ahead { room.min(limit.saturating_sub(side.granted)) } else { 1 };
        // Slots that nobody waits for come many at a time.
        if count == 0 || is_ahead && count < limit.div_ceil(2) {
            return false;
        }
        side.granted += count;
        if is_ahead {
            side.streams = true;
        } else {
            self.lines[SLOTS].serve();
        }
        acts.push((party, Given::Slots(count, is_ahead)));
        true
    }
}
