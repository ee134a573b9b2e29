//! Watches: who wants to see each tuple that is written, and takes none.
//!
//! A watch keeps what it has not shown, up to a limit; beyond that it forgets the oldest, and says how many.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::space::{Outside, Space};
use crate::store::Store;
use crate::template::Template;
use crate::value::Tuple;

/// A watch. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

/// So many tuples came and went while nobody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} tuples were written that the watch had no room for")]
pub struct Missed(pub u64);

#[derive(Debug)]
pub(crate) struct Watch<N> {
    template: Template,
    pub(crate) name: N,
    capacity: usize,
    seen: VecDeque<Tuple>,
    missed: u64,
}

impl<N: Copy, S: Store> Space<N, S> {
    /// Begins to watch; who waits for what is seen waits at this name.
    pub fn watch(&mut self, template: Template, capacity: usize, name: N) -> WatchId {
        let id = WatchId(self.next_number());
        let watch = Watch { template, name, capacity: capacity.max(1), seen: VecDeque::new(), missed: 0 };
        self.watches.insert(id, watch);
        id
    }

    /// What was written next. None: nothing yet.
    ///
    /// Who finds something calls the next, for whom there may be more.
    pub fn next_seen(&mut self, id: WatchId, outside: &mut Outside<'_, N>) -> Result<Option<Tuple>, Missed> {
        let Some(watch) = self.watches.get_mut(&id) else { return Ok(None) };
        let next = match std::mem::take(&mut watch.missed) {
            0 => Ok(watch.seen.pop_front()),
            missed => Err(Missed(missed)),
        };
        if !watch.seen.is_empty() {
            (outside.call)(watch.name);
        }
        next
    }

    /// Whether the watch goes on.
    #[must_use]
    pub fn is_watched(&self, id: WatchId) -> bool {
        self.watches.contains_key(&id)
    }

    /// Ends a watch. Where those waited who are to be told comes back.
    pub fn unwatch(&mut self, id: WatchId) -> Option<N> {
        self.watches.remove(&id).map(|watch| watch.name)
    }

    /// A tuple is written.
    pub(crate) fn tell_watches(&mut self, tuple: &Tuple, outside: &mut Outside<'_, N>) {
        for watch in self.watches.values_mut().filter(|watch| watch.template.matches(tuple)) {
            if watch.seen.len() == watch.capacity {
                watch.seen.pop_front();
                watch.missed += 1;
            }
            watch.seen.push_back(Arc::clone(tuple));
            while (outside.call)(watch.name) {}
        }
    }
}
