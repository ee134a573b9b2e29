//! Functions: sent to a worker once, whatever number of tasks name them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Weak};

use crate::parcel::Parcel;

/// Entries among which nobody looks for ones that are not named any more.
const SPARE: usize = 256;

/// A function. What makes it a function is its customers' affair.
#[derive(Debug)]
pub struct Function {
    /// Its number in this pool.
    pub id: u32,
    /// What it is made from.
    pub body: Parcel,
    /// Whether its tasks wait, many in one worker.
    pub weightless: bool,
}

/// The functions of a pool, by what they are made from.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    /// By two hashes with keys of their own: what is long need not be kept to be known again.
    by_content: HashMap<(u64, u64), Weak<Function>>,
    keys: [RandomState; 2],
    next: u32,
    sweep_at: usize,
}

impl Functions {
    /// The function with this content, the same one as long as somebody names it.
    pub(crate) fn intern(&mut self, content: &[u8], weightless: bool) -> io::Result<Arc<Function>> {
        let content_hash = (self.keys[0].hash_one(content), self.keys[1].hash_one(content));
        if let Some(known) = self.by_content.get(&content_hash).and_then(Weak::upgrade) {
            return Ok(known);
        }
        if self.by_content.len() >= self.sweep_at {
            self.by_content.retain(|_, function| function.strong_count() > 0);
            self.sweep_at = self.by_content.len() * 2 + SPARE;
        }
        let function = Arc::new(Function { id: self.next, body: Parcel::new(content, &[])?, weightless });
        self.next += 1;
        self.by_content.insert(content_hash, Arc::downgrade(&function));
        Ok(function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_is_the_same_function() {
        let mut functions = Functions::default();
        let one = functions.intern(b"one", false).expect("a function");
        let two = functions.intern(b"two", false).expect("a function");
        assert_eq!(one.id, functions.intern(b"one", false).expect("a function").id);
        assert_ne!(one.id, two.id);
    }

    #[test]
    fn those_that_nobody_names_are_not_kept() {
        let mut functions = Functions::default();
        for number in 0..10_000_u32 {
            functions.intern(&number.to_le_bytes(), false).expect("a function");
        }
        assert!(functions.by_content.len() <= SPARE + 1, "{}", functions.by_content.len());
    }
}
