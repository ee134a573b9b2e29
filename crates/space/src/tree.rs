//! The tree of beginnings: numbers by what tuples begin with, as deep as it is worth.
//!
//! A bucket holds those of one length that begin with the same values: none, one, two and so on. One that holds few says
//! all: they stand in no bucket below it. When it gets more they are entered below, each by one value more. So a tuple
//! whose second value is its own is entered by its length, its first and its second value, and a search compares a few.
//!
//! A large bucket is a line in order. Who leaves it stays in it as a number that means nothing any more, unless it stood
//! at the front, until half of it means nothing. A number that comes back finds its old place.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;

use crate::index::{Keys, Plain};

/// As many are compared sooner than entered once more.
const FEW: usize = 8;
/// Below this many a line is not worth sweeping.
const SWEEP_FLOOR: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Line {
    /// In order. The first is live.
    numbers: VecDeque<u64>,
    dead: usize,
}

impl Line {
    pub(crate) fn insert(&mut self, number: u64) {
        if self.numbers.back().is_none_or(|&last| last < number) {
            return self.numbers.push_back(number);
        }
        match self.numbers.binary_search(&number) {
            Ok(_) => self.dead -= 1,
            Err(place) => self.numbers.insert(place, number),
        }
    }

    /// The number, which stands in it, is not live any more.
    pub(crate) fn remove(&mut self, number: u64, is_live: impl Fn(u64) -> bool) {
        self.dead += 1;
        if self.numbers.front() == Some(&number) {
            while self.numbers.front().is_some_and(|&first| !is_live(first)) {
                self.numbers.pop_front();
                self.dead -= 1;
            }
        } else if self.dead > SWEEP_FLOOR && self.dead * 2 > self.numbers.len() {
            self.numbers.retain(|&number| is_live(number));
            self.dead = 0;
        }
    }

    /// All in order, and some that are not live.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.numbers.iter().copied()
    }
}

#[derive(Debug)]
enum Bucket {
    /// In order, and nowhere below.
    Few(SmallVec<[u64; FEW / 2]>),
    /// And each below, if there is a key for it.
    Many(Line),
}

/// Numbers by keys; those of one tuple are given from the shortest beginning on.
#[derive(Debug, Default)]
pub(crate) struct Tree(HashMap<u64, Bucket, Plain>);

impl Tree {
    /// Enters a number, at this depth and below. `keys_of` gives the keys of one that was entered before.
    pub(crate) fn insert(&mut self, keys: &Keys, depth: usize, number: u64, keys_of: &impl Fn(u64) -> Keys) {
        let Some(&key) = keys.get(depth) else { return };
        let grown = match self.0.entry(key) {
            Slot::Vacant(slot) => {
                slot.insert(Bucket::Few(SmallVec::from_slice(&[number])));
                return;
            }
            Slot::Occupied(slot) => {
                let bucket = slot.into_mut();
                match bucket {
                    Bucket::Few(few) => {
                        let place = few.partition_point(|&known| known < number);
                        few.insert(place, number);
                        if few.len() <= FEW {
                            return;
                        }
                        let grown = std::mem::take(few);
                        let numbers = grown.iter().copied().collect();
                        *bucket = Bucket::Many(Line { numbers, dead: 0 });
                        grown
                    }
                    Bucket::Many(line) => {
                        line.insert(number);
                        SmallVec::from_slice(&[number])
                    }
                }
            }
        };
        for below in grown {
            let of_below = if below == number { None } else { Some(keys_of(below)) };
            self.insert(of_below.as_ref().unwrap_or(keys), depth + 1, below, keys_of);
        }
    }

    /// Takes a number out, which is not live any more.
    pub(crate) fn remove(&mut self, keys: &Keys, number: u64, is_live: impl Fn(u64) -> bool) {
        for &key in keys {
            let Slot::Occupied(mut slot) = self.0.entry(key) else { return };
            let (is_empty, is_last) = match slot.get_mut() {
                Bucket::Few(few) => {
                    few.retain(|known| *known != number);
                    (few.is_empty(), true)
                }
                Bucket::Many(line) => {
                    line.remove(number, &is_live);
                    (line.numbers.is_empty(), false)
                }
            };
            if is_empty {
                slot.remove();
            }
            if is_last {
                return;
            }
        }
    }

    /// Those who may begin with what has these keys, in order; and some that are not live.
    pub(crate) fn numbers(&self, keys: &Keys) -> impl Iterator<Item = u64> + use<'_> {
        let (mut few, mut many) = (None, None);
        for (depth, key) in keys.iter().enumerate().rev() {
            match self.0.get(key) {
                None => continue,
                Some(Bucket::Few(found)) => few = Some(found),
                Some(Bucket::Many(line)) if depth + 1 == keys.len() => many = Some(line),
                // All that are in it stand below, and none stands where it would match.
                Some(Bucket::Many(_)) => {}
            }
            break;
        }
        let few = few.into_iter().flat_map(|few| few.iter().copied());
        few.chain(many.into_iter().flat_map(Line::numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_order_and_forgets_what_is_dead() {
        let mut line = Line::default();
        let mut live: std::collections::BTreeSet<u64> = (0..1_000).collect();
        live.iter().for_each(|&number| line.insert(number));
        for number in (0..1_000).filter(|number| number % 10 != 0) {
            live.remove(&number);
            line.remove(number, |number| live.contains(&number));
        }
        assert!(line.numbers.len() <= 2 * live.len() + SWEEP_FLOOR, "{} are left", line.numbers.len());
        for number in [5, 995, 3] {
            live.insert(number);
            line.insert(number);
        }
        let shown: Vec<u64> = line.numbers().filter(|number| live.contains(number)).collect();
        assert_eq!(shown, live.iter().copied().collect::<Vec<_>>());
        for number in live.clone() {
            live.remove(&number);
            line.remove(number, |number| live.contains(&number));
        }
        assert_eq!((line.numbers.len(), line.dead), (0, 0));
    }

    #[test]
    fn a_number_that_comes_back_before_it_was_forgotten_stands_there_once() {
        let mut line = Line::default();
        (0..3).for_each(|number| line.insert(number));
        line.remove(1, |number| number != 1);
        line.insert(1);
        assert_eq!((line.numbers().collect::<Vec<_>>(), line.dead), (vec![0, 1, 2], 0));
    }

    #[test]
    fn what_is_removed_leaves_nothing() {
        let mut tree = Tree::default();
        // A thousand that begin alike, then ten each, then one.
        let keys_of = |number: u64| Keys::from_slice(&[1, 1_000 + number / 10, 10_000 + number]);
        for number in 0..1_000 {
            tree.insert(&keys_of(number), 0, number, &keys_of);
        }
        assert_eq!(tree.numbers(&keys_of(57)).collect::<Vec<_>>(), [57]);
        assert_eq!(tree.numbers(&Keys::from_slice(&[1, 1_005])).count(), 10);
        assert_eq!(tree.numbers(&Keys::from_slice(&[1, 999])).count(), 0);
        for number in 0..1_000 {
            tree.remove(&keys_of(number), number, |other| other > number);
        }
        assert!(tree.0.is_empty());
    }
}
