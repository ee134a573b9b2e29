//! The channel itself, where its owner is.

use std::collections::{BTreeMap, VecDeque};

use super::port::Say;
use crate::Party;

/// So many slots are granted ahead, at most.
const WINDOW: usize = 32;

/// So often in a row a port is granted a slot before it is granted some ahead.
const STREAK: u32 = 3;

/// What a port is given, or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given<V> {
    /// A value.
    Value(V),
    /// A slot; whether ahead of who waits for one.
    Slot(bool),
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

/// A port, as its owner sees it.
#[derive(Debug)]
struct Side<V> {
    /// How many values it was ever lent.
    lent_ever: u64,
    /// Those that it has neither taken nor returned: the number there, the place in the channel, the value.
    lent: VecDeque<(u64, u64, V)>,
    granted: usize,
    /// It is granted slots ahead.
    streams: bool,
    /// They were recalled, and have not come back.
    is_recalled: bool,
    /// It has returned a value. What it is lent has to come back as well, so that values stay in order, and until it has
    /// settled it is lent no more.
    is_settling: bool,
}

impl<V> Default for Side<V> {
    fn default() -> Self {
        Self {
            lent_ever: 0,
            lent: VecDeque::new(),
            granted: 0,
            streams: false,
            is_recalled: false,
            is_settling: false,
        }
    }
}

const VALUES: usize = 0;
const SLOTS: usize = 1;

/// Who waits for one of the two things, in order: a port stands there once for each that it waits for.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Party>,
    /// Who was served last, and how often in a row.
    last: Option<Party>,
    streak: u32,
}

impl Line {
    fn add(&mut self, party: Party, count: usize) {
        self.waiting.extend(std::iter::repeat_n(party, count));
        if self.last != Some(party) {
            self.last = None;
        }
    }

    /// Removes the last ones of a port, as far as they are there. How many that were.
    fn remove(&mut self, party: Party, count: usize) -> usize {
        let (mut at, mut removed) = (self.waiting.len(), 0);
        while removed < count && at > 0 {
            at -= 1;
            if self.waiting[at] == party {
                self.waiting.remove(at);
                removed += 1;
            }
        }
        removed
    }

    fn serve(&mut self) {
        if let Some(party) = self.waiting.pop_front() {
            self.streak = if self.last == Some(party) { self.streak.saturating_add(1) } else { 1 };
            self.last = Some(party);
        }
    }

    /// Who goes on and on, alone.
    fn streams(&self) -> Option<Party> {
        self.last.filter(|_| self.waiting.is_empty() && self.streak >= STREAK)
    }

    fn forget(&mut self, party: Party) {
        self.waiting.retain(|waiting| *waiting != party);
        self.last = self.last.filter(|last| *last != party);
    }
}

/// A channel. See the module above.
#[derive(Debug)]
pub struct Machine<V> {
    capacity: usize,
    buffer: VecDeque<(u64, V)>,
    placed_ever: u64,
    sides: BTreeMap<Party, Side<V>>,
    lines: [Line; 2],
    is_closed: bool,
    has_ended: bool,
}

impl<V: Clone> Machine<V> {
    /// An empty one with room for so many values.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            buffer: VecDeque::new(),
            placed_ever: 0,
            sides: BTreeMap::new(),
            lines: Default::default(),
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
        self.buffer.len() + self.lent()
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

    fn lent(&self) -> usize {
        self.sides.values().map(|side| side.lent.len()).sum()
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
        if let Some(side) = self.sides.remove(&party) {
            side.lent.into_iter().for_each(|(_, place, value)| self.put_back(place, value));
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
            self.lines[SLOTS].waiting.clear();
            acts.extend(self.sides.keys().map(|party| (*party, Given::Closed)));
        }
        self.go_on(acts);
    }

    /// A port says something.
    pub fn hear(&mut self, party: Party, say: Say<V>, acts: &mut Vec<Act<V>>) {
        let Some(side) = self.sides.get_mut(&party) else { return };
        match say {
            Say::Want(count) => self.lines[VALUES].add(party, count),
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
            Say::Taken(number) => {
                side.take(number);
            }
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

    /// Gives out what can be given.
    fn go_on(&mut self, acts: &mut Vec<Act<V>>) {
        while self.lend(acts) || self.grant(acts) {}
        let is_over = self.is_closed && self.is_empty() && self.granted() == 0;
        if is_over && !std::mem::replace(&mut self.has_ended, true) {
            self.lines[VALUES].waiting.clear();
            acts.extend(self.sides.keys().map(|party| (*party, Given::Ended)));
        }
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
        let Some(party) = self.lines[VALUES].waiting.front().copied() else { return false };
        let Some(side) = self.sides.get_mut(&party).filter(|side| !side.is_settling) else { return false };
        let Some((place, value)) = self.buffer.pop_front() else { return false };
        self.lines[VALUES].serve();
        side.lent.push_back((side.lent_ever, place, value.clone()));
        side.lent_ever += 1;
        acts.push((party, Given::Value(value)));
        true
    }

    fn grant(&mut self, acts: &mut Vec<Act<V>>) -> bool {
        let used = self.buffer.len() + self.lent() + self.granted();
        let line = &self.lines[SLOTS];
        let (party, is_ahead) = match (line.waiting.front(), line.streams()) {
            (Some(party), _) => (*party, false),
            (None, Some(party)) if !self.is_closed => (party, true),
            _ => return false,
        };
        let waiting = if is_ahead { 0 } else { self.lines[VALUES].waiting.len() };
        if used >= self.capacity + waiting {
            if !is_ahead {
                self.recall(party, acts);
            }
            return false;
        }
        let limit = WINDOW.min(self.capacity / 2);
        let Some(side) = self.sides.get_mut(&party) else { return false };
        if side.is_recalled || is_ahead && side.granted >= limit {
            return false;
        }
        side.granted += 1;
        if is_ahead {
            side.streams = true;
        } else {
            self.lines[SLOTS].serve();
        }
        acts.push((party, Given::Slot(is_ahead)));
        true
    }
}

impl<V> Side<V> {
    /// Takes out what was lent under this number: its place and itself.
    fn take(&mut self, number: u64) -> Option<(u64, V)> {
        let at = self.lent.iter().position(|(known, ..)| *known == number)?;
        self.lent.remove(at).map(|(_, place, value)| (place, value))
    }
}
