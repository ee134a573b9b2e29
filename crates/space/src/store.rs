//! Where tuples lie.

use std::time::Duration;

use crate::template::Template;
use crate::value::Tuple;

/// A tuple that lies in a space.
#[derive(Clone, Debug)]
pub struct Entry {
    /// It.
    pub tuple: Tuple,
    /// When its lease is over, if it has one.
    pub until: Option<Duration>,
}

/// Holds tuples by number, and finds them by template. Lower numbers were written first.
pub trait Store {
    /// Takes a tuple in. Its number is new, or that of one which was removed and comes back.
    fn insert(&mut self, number: u64, entry: Entry);

    /// Gives a tuple out.
    fn remove(&mut self, number: u64) -> Option<Entry>;

    /// The one with this number.
    fn get(&self, number: u64) -> Option<&Entry>;

    /// The number of the first that the template matches.
    fn first(&self, template: &Template) -> Option<u64>;

    /// Shows all that the template matches, in order.
    fn visit(&self, template: &Template, visit: &mut dyn FnMut(&Tuple));

    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
