//! The queue of jobs that wait for a worker: by priority, higher first, and within one in the order of submission.
//!
//! The line of the highest priority is at hand. Others are in a tree, which exists only while there are several.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::ids::JobId;
use super::line::{Entry, Line};

/// What comes first among jobs: the lower rank.
pub(super) type Rank = (Reverse<i32>, u64);

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The line of the highest priority; empty only when all is.
    top: Line,
    top_priority: i32,
    /// Lines of lower priorities, none of them empty.
    others: BTreeMap<Reverse<i32>, Line>,
    len: usize,
}

impl Queue {
    pub(super) fn insert(&mut self, priority: i32, entry: Entry) {
        self.len += 1;
        if self.top.is_empty() {
            self.top_priority = priority;
        } else if priority > self.top_priority {
            let lower = std::mem::take(&mut self.top);
            self.others.insert(Reverse(self.top_priority), lower);
            self.top_priority = priority;
        }
        if priority == self.top_priority {
            self.top.insert(entry);
        } else {
            self.others.entry(Reverse(priority)).or_default().insert(entry);
        }
    }

    /// Who is next, and its rank.
    pub(super) fn first(&mut self, is_live: impl Fn(JobId) -> bool) -> Option<(Rank, JobId)> {
        let entry = self.top.first(is_live)?;
        Some(((Reverse(self.top_priority), entry.sequence), entry.job))
    }

    /// Takes the job out that [`Self::first`] found.
    pub(super) fn remove_first(&mut self) {
        self.top.remove_first();
        self.len -= 1;
        self.promote();
    }

    /// A job of this priority has left that is still in the queue.
    pub(super) fn forget(&mut self, priority: i32, is_live: impl Fn(JobId) -> bool) {
        self.len -= 1;
        if priority == self.top_priority {
            self.top.forget(is_live);
            self.promote();
        } else if let Some(line) = self.others.get_mut(&Reverse(priority)) {
            line.forget(is_live);
            if line.is_empty() {
                self.others.remove(&Reverse(priority));
            }
        }
    }

    fn promote(&mut self) {
        if self.top.is_empty()
            && let Some((Reverse(priority), line)) = self.others.pop_first()
        {
            self.top = line;
            self.top_priority = priority;
        }
    }

    /// The highest priority of a job in it.
    pub(super) fn top_priority(&self) -> Option<i32> {
        (!self.is_empty()).then_some(self.top_priority)
    }

    /// Whether it holds jobs of different priorities.
    pub(super) fn is_mixed(&self) -> bool {
        !self.others.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(jobs: &[(i32, u64)]) -> Queue {
        let mut queue = Queue::default();
        for &(priority, number) in jobs {
            queue.insert(priority, Entry { sequence: number, job: JobId::from_number(number) });
        }
        queue
    }

    fn drain(queue: &mut Queue) -> Vec<(i32, u64)> {
        let mut jobs = Vec::new();
        while let Some(((Reverse(priority), sequence), _)) = queue.first(|_| true) {
            queue.remove_first();
            jobs.push((priority, sequence));
        }
        jobs
    }

    #[test]
    fn higher_priority_first_then_the_order_of_submission() {
        let mut queue = queue(&[(0, 1), (5, 2), (-1, 3), (5, 4), (9, 5), (0, 6)]);
        assert_eq!(drain(&mut queue), [(9, 5), (5, 2), (5, 4), (0, 1), (0, 6), (-1, 3)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn it_is_mixed_while_it_holds_several_priorities() {
        let mut queue = queue(&[(0, 1), (5, 2), (-1, 3)]);
        queue.forget(-1, |job| job != JobId::from_number(3));
        assert!(queue.is_mixed());
        queue.forget(5, |job| job != JobId::from_number(2));
        assert!(!queue.is_mixed());
        assert_eq!((queue.top_priority(), queue.len()), (Some(0), 1));
        queue.forget(0, |_| false);
        assert_eq!((queue.top_priority(), queue.len()), (None, 0));
    }
}
