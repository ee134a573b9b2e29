//! Who waits for one of the two things that a channel gives out: values, and slots.

use std::collections::VecDeque;

use crate::Party;

/// So often in a row a port is served before it is given something ahead.
const STREAK: usize = 3;

/// Ports in order, each with how many it waits for there.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: VecDeque<(Party, usize)>,
    /// Who was served last, and how often in a row.
    last: Option<Party>,
    streak: usize,
}

impl Line {
    pub(super) fn add(&mut self, party: Party, count: usize) {
        match self.waiting.back_mut() {
            _ if count == 0 => {}
            Some((last, known)) if *last == party => *known = known.saturating_add(count),
            _ => self.waiting.push_back((party, count)),
        }
        if self.last != Some(party) {
            self.last = None;
        }
    }

    /// Removes the last ones of a port, as far as they are there. How many that were.
    pub(super) fn remove(&mut self, party: Party, count: usize) -> usize {
        let mut left = count;
        for (_, known) in self.waiting.iter_mut().rev().filter(|(known, _)| *known == party) {
            let removed = left.min(*known);
            *known -= removed;
            left -= removed;
        }
        self.waiting.retain(|(_, known)| *known > 0);
        count - left
    }

    /// Whose turn it is.
    pub(super) fn first(&self) -> Option<Party> {
        self.waiting.front().map(|(party, _)| *party)
    }

    /// For how many all of them wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.iter().map(|(_, count)| *count).fold(0, usize::saturating_add)
    }

    /// The first one has got what it waits for.
    pub(super) fn serve(&mut self) {
        let Some((party, count)) = self.waiting.front_mut() else { return };
        let party = *party;
        *count -= 1;
        if *count == 0 {
            self.waiting.pop_front();
        }
        self.streak = if self.last == Some(party) { self.streak.saturating_add(1) } else { 1 };
        self.last = Some(party);
    }

    /// Who goes on and on, alone.
    pub(super) fn streams(&self) -> Option<Party> {
        self.last.filter(|_| self.waiting.is_empty() && self.streak >= STREAK)
    }

    /// How often in a row who was served last was.
    pub(super) fn streak(&self) -> usize {
        self.streak
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn forget(&mut self, party: Party) {
        self.waiting.retain(|(waiting, _)| *waiting != party);
        self.last = self.last.filter(|last| *last != party);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_of_a_port_are_removed_first() {
        let mut line = Line::default();
        for (party, count) in [(1, 2), (2, 1), (1, usize::MAX)] {
            line.add(Party(party), count);
        }
        assert_eq!(line.remove(Party(1), usize::MAX), usize::MAX);
        assert_eq!(line.remove(Party(1), 1), 1);
        assert_eq!((line.first(), line.len()), (Some(Party(1)), 2));
        line.serve();
        assert_eq!((line.first(), line.len()), (Some(Party(2)), 1));
        assert_eq!(line.remove(Party(1), 1), 0);
    }
}
