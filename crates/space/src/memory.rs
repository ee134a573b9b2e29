//! Tuples in memory.

use std::collections::HashMap;

use crate::index::{Keyring, Plain};
use crate::store::{Entry, Store};
use crate::template::Template;
use crate::tree::{Line, Tree};
use crate::value::Tuple;

/// Holds tuples in memory, and a tree of what they begin with.
#[derive(Debug, Default)]
pub struct Memory {
    entries: HashMap<u64, Entry, Plain>,
    all: Line,
    tree: Tree,
    keyring: Keyring,
}

impl Memory {
    /// Those that match, in order: by the tree, or among all when any length will do.
    fn matching(&self, template: &Template) -> impl Iterator<Item = (u64, &Entry)> {
        let keys = self.keyring.of_template(template);
        let all = keys.is_none().then(|| self.all.numbers());
        let found = keys.map(|keys| self.tree.numbers(&keys));
        let numbers = all.into_iter().flatten().chain(found.into_iter().flatten());
        let entries = numbers.filter_map(|number| Some((number, self.entries.get(&number)?)));
        entries.filter(|(_, entry)| {
            #[cfg(test)]
            tests::COMPARED.set(tests::COMPARED.get() + 1);
            template.matches(&entry.tuple)
        })
    }
}

impl Store for Memory {
    fn insert(&mut self, number: u64, entry: Entry) {
        let keys = self.keyring.of_tuple(&entry.tuple);
        self.entries.insert(number, entry);
        self.all.insert(number);
        let Self { entries, tree, keyring, .. } = self;
        let keys_of = |number: u64| {
            entries.get(&number).map(|entry| keyring.of_tuple(&entry.tuple)).unwrap_or_default()
        };
        tree.insert(&keys, 0, number, &keys_of);
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        let entries = &self.entries;
        self.all.remove(number, |number| entries.contains_key(&number));
        let keys = self.keyring.of_tuple(&entry.tuple);
        self.tree.remove(&keys, number, |number| entries.contains_key(&number));
        Some(entry)
    }

    fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(&number)
    }

    fn first(&self, template: &Template) -> Option<u64> {
        self.matching(template).next().map(|(number, _)| number)
    }

    fn visit(&self, template: &Template, visit: &mut dyn FnMut(&Tuple)) {
        self.matching(template).for_each(|(_, entry)| visit(&entry.tuple));
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::template::Field;
    use crate::value::{Kind, Value};

    thread_local! {
        /// Tuples that were compared with a template in this thread.
        pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    fn compared(memory: &Memory, fields: &[Field]) -> (Option<u64>, usize) {
        COMPARED.set(0);
        (memory.first(&Template::Fields(fields.into())), COMPARED.get())
    }

    #[test]
    fn a_search_by_leading_values_compares_what_begins_with_them_alone() {
        let mut memory = Memory::default();
        for number in 0..10_000u64 {
            let tuple: Tuple =
                [Value::None, Value::Int((number % 5_000) as i64), Value::Int(number as i64)].into();
            memory.insert(number, Entry { tuple, until: None });
        }
        memory.insert(10_000, Entry { tuple: [Value::None].into(), until: None });
        let value = |number| Field::Value(Value::Int(number));
        let job = || Field::Value(Value::None);
        assert_eq!(compared(&memory, &[job(), value(7), Field::Anything]), (Some(7), 1));
        assert_eq!(compared(&memory, &[job(), value(7), value(5_007)]), (Some(5_007), 2));
        assert_eq!(compared(&memory, &[job(), value(7), Field::Kind(Kind::Text)]), (None, 2));
        assert_eq!(compared(&memory, &[job(), value(-1), Field::Anything]), (None, 0));
        assert_eq!(compared(&memory, &[Field::Anything]), (Some(10_000), 1), "others are of another length");
        assert_eq!(compared(&memory, &[Field::Anything, value(7), value(5_007)]), (Some(5_007), 5_008));
    }
}
