//! Tuples in memory.

use std::collections::BTreeMap;

use crate::index::{Index, Keyring};
use crate::store::{Entry, Store};
use crate::template::Template;
use crate::value::Tuple;

/// Holds tuples in memory, with an index of what they begin with.
#[derive(Debug, Default)]
pub struct Memory {
    entries: BTreeMap<u64, Entry>,
    index: Index,
    keyring: Keyring,
}

impl Memory {
    /// Those that may match: by the index, or all when any length will do.
    fn candidates(&self, template: &Template) -> impl Iterator<Item = (u64, &Entry)> {
        let key = self.keyring.of_template(template);
        let found = key.into_iter().flat_map(|key| self.index.numbers(key));
        let found = found.filter_map(|number| Some((number, self.entries.get(&number)?)));
        let all = key.is_none().then(|| self.entries.iter().map(|(&number, entry)| (number, entry)));
        found.chain(all.into_iter().flatten()).filter(|(_, entry)| {
            #[cfg(test)]
            tests::COMPARED.set(tests::COMPARED.get() + 1);
            template.matches(&entry.tuple)
        })
    }
}

impl Store for Memory {
    fn insert(&mut self, number: u64, entry: Entry) {
        for key in self.keyring.of_tuple(&entry.tuple) {
            self.index.insert(key, number);
        }
        self.entries.insert(number, entry);
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        for key in self.keyring.of_tuple(&entry.tuple) {
            self.index.remove(key, number);
        }
        Some(entry)
    }

    fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(&number)
    }

    fn first(&self, template: &Template) -> Option<u64> {
        self.candidates(template).next().map(|(number, _)| number)
    }

    fn visit(&self, template: &Template, visit: &mut dyn FnMut(&Tuple)) {
        self.candidates(template).for_each(|(_, entry)| visit(&entry.tuple));
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
        assert_eq!(compared(&memory, &[job(), value(7), value(5_007)]), (Some(5_007), 1));
        assert_eq!(compared(&memory, &[job(), value(7), Field::Kind(Kind::Text)]), (None, 2));
        assert_eq!(compared(&memory, &[job(), value(-1), Field::Anything]), (None, 0));
        assert_eq!(compared(&memory, &[Field::Anything]), (Some(10_000), 1), "others are of another length");
        assert_eq!(compared(&memory, &[Field::Anything, value(7), value(5_007)]), (Some(5_007), 5_008));
    }
}
