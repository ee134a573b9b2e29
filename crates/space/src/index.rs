//! Keys of what tuples begin with; and the index of those who wait, by what they look for.
//!
//! A tuple of three has four keys: its length, and that with its first one, two and three values. A template has those of
//! the values that it begins with. So who looks up the last of them finds those alone that begin in the same way; what
//! stands behind a field which is no value is compared one by one.
//!
//! A key is a hash, with a secret of this process, and says nothing for certain: who looks something up compares.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ops::Bound;

use crate::template::Template;
use crate::value::Value;

/// Leading values that are looked up; what more of them there are is compared.
pub(crate) const DEPTH: usize = 4;

/// The keys of a tuple, from the one for all tuples on.
pub(crate) type Keys = smallvec::SmallVec<[u64; DEPTH + 2]>;

/// Makes keys.
#[derive(Debug, Default)]
pub(crate) struct Keyring(RandomState);

impl Keyring {
    /// Under which a tuple is found: the shortest first, the one for tuples of any length aside.
    pub(crate) fn of_tuple(&self, tuple: &[Value]) -> Keys {
        self.keys(tuple.len(), tuple.iter())
    }

    /// Those that all which a template matches have; none, when they may have any length.
    pub(crate) fn of_template(&self, template: &Template) -> Option<Keys> {
        let Template::Fields(fields) = template else { return None };
        Some(self.keys(fields.len(), template.leading()))
    }

    fn keys<'a>(&self, length: usize, leading: impl Iterator<Item = &'a Value>) -> Keys {
        let mut hasher = self.0.build_hasher();
        length.hash(&mut hasher);
        let mut keys = Keys::new();
        keys.push(hasher.finish());
        for value in leading.take(DEPTH) {
            value.hash(&mut hasher);
            keys.push(hasher.finish());
        }
        keys
    }
}

/// The numbers under one key. Most keys have one.
#[derive(Debug)]
enum Numbers {
    One(u64),
    Many(BTreeSet<u64>),
}

/// Numbers by key.
#[derive(Debug, Default)]
pub(crate) struct Index(HashMap<u64, Numbers, Plain>);

impl Index {
    pub(crate) fn insert(&mut self, key: u64, number: u64) {
        match self.0.entry(key) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Numbers::One(number));
            }
            std::collections::hash_map::Entry::Occupied(mut entry) => match entry.get_mut() {
                Numbers::One(known) => {
                    let both = Numbers::Many(BTreeSet::from([*known, number]));
                    entry.insert(both);
                }
                Numbers::Many(numbers) => {
                    numbers.insert(number);
                }
            },
        }
    }

    pub(crate) fn remove(&mut self, key: u64, number: u64) {
        let std::collections::hash_map::Entry::Occupied(mut entry) = self.0.entry(key) else { return };
        let is_empty = match entry.get_mut() {
            Numbers::One(known) => *known == number,
            Numbers::Many(numbers) => {
                numbers.remove(&number);
                numbers.is_empty()
            }
        };
        if is_empty {
            entry.remove();
        }
    }

    /// The numbers under a key, in order.
    #[cfg(test)]
    pub(crate) fn numbers(&self, key: u64) -> impl Iterator<Item = u64> + '_ {
        let numbers = self.0.get(&key);
        let (one, many) = match numbers {
            None => (None, None),
            Some(Numbers::One(number)) => (Some(*number), None),
            Some(Numbers::Many(numbers)) => (None, Some(numbers.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The first number after `after` under one of these keys.
    pub(crate) fn next(&self, keys: impl IntoIterator<Item = u64>, after: u64) -> Option<u64> {
        keys.into_iter()
            .filter_map(|key| match self.0.get(&key)? {
                Numbers::One(number) => Some(*number).filter(|&number| number > after),
                Numbers::Many(numbers) => {
                    numbers.range((Bound::Excluded(after), Bound::Unbounded)).next().copied()
                }
            })
            .min()
    }
}

/// For keys, which are hashes already, and for numbers that are given one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plain;

impl BuildHasher for Plain {
    type Hasher = Hashed;

    fn build_hasher(&self) -> Hashed {
        Hashed(0)
    }
}

pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, number: u64) {
        // The table looks at the highest bits too, which small numbers have all alike.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Field;

    #[test]
    fn a_template_has_the_first_keys_of_what_it_matches() {
        let keyring = Keyring::default();
        let tuple: Vec<Value> = (0..6).map(Value::Int).collect();
        let keys = keyring.of_tuple(&tuple);
        assert_eq!(keys.len(), DEPTH + 1);
        for known in 0..=6 {
            let field = |place| if place < known { Field::Value(Value::Int(place)) } else { Field::Anything };
            let template = Template::Fields((0..6).map(field).collect());
            let place = usize::try_from(known).expect("a small number").min(DEPTH);
            assert_eq!(keyring.of_template(&template).as_deref(), Some(&keys[..=place]));
        }
    }

    #[test]
    fn what_is_removed_leaves_nothing() {
        let mut index = Index::default();
        for number in [3, 1, 2] {
            index.insert(7, number);
        }
        assert_eq!(index.numbers(7).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((index.next([7, 8], 0), index.next([7, 8], 3)), (Some(1), None));
        for number in [1, 2, 3, 3] {
            index.remove(7, number);
        }
        index.insert(8, 1);
        index.remove(8, 2);
        assert_eq!(index.next([8], 0), Some(1));
        index.remove(8, 1);
        assert!(index.0.is_empty());
    }
}
