//! A line of jobs in the order they were submitted. A job that is gone leaves its entry behind: it is skipped when it
//! comes up, and swept out when such entries are the majority, so leaving costs nothing wherever the job stands.

use std::collections::VecDeque;

use super::ids::JobId;

/// Below this many entries neither a sweep nor giving memory back is worth its while.
const SWEEP_FLOOR: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) job: JobId,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    /// By sequence, ascending.
    entries: VecDeque<Entry>,
    live: usize,
}

impl Line {
    /// Puts a job at its place, which is the end unless it was in a line before.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.live += 1;
        if self.entries.back().is_none_or(|last| last.sequence < entry.sequence) {
            return self.entries.push_back(entry);
        }
        let place = self.entries.partition_point(|other| other.sequence < entry.sequence);
        self.entries.insert(place, entry);
    }

    /// The first live entry.
    pub(super) fn first(&mut self, is_live: impl Fn(JobId) -> bool) -> Option<Entry> {
        while let Some(&entry) = self.entries.front() {
            if is_live(entry.job) {
                return Some(entry);
            }
            self.entries.pop_front();
        }
        None
    }

    /// Takes the entry out that [`Self::first`] found.
    pub(super) fn remove_first(&mut self) {
        if self.entries.pop_front().is_some() {
            self.live -= 1;
        }
        self.give_back_memory();
    }

    /// A job has left that is still in the line.
    pub(super) fn forget(&mut self, is_live: impl Fn(JobId) -> bool) {
        self.live -= 1;
        let stale = self.entries.len() - self.live;
        if self.live == 0 {
            self.entries.clear();
        } else if stale > SWEEP_FLOOR && stale > self.live {
            self.entries.retain(|entry| is_live(entry.job));
        }
        self.give_back_memory();
    }

    fn give_back_memory(&mut self) {
        let capacity = self.entries.capacity();
        if capacity > 16 * SWEEP_FLOOR && self.entries.len() < capacity / 8 {
            self.entries.shrink_to(capacity / 4);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry { sequence: number, job: JobId::from_number(number) }
    }

    fn line(numbers: impl IntoIterator<Item = u64>) -> Line {
        let mut line = Line::default();
        numbers.into_iter().for_each(|number| line.insert(entry(number)));
        line
    }

    fn drain(line: &mut Line) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(entry) = line.first(|_| true) {
            line.remove_first();
            numbers.push(entry.sequence);
        }
        numbers
    }

    #[test]
    fn a_job_goes_to_its_place() {
        let mut line = line([5, 7, 9, 6, 1, 8]);
        assert_eq!(drain(&mut line), [1, 5, 6, 7, 8, 9]);
        assert!(line.is_empty());
    }

    #[test]
    fn who_has_left_is_skipped() {
        let mut line = line(1..=3);
        line.forget(|_| true);
        assert_eq!(line.first(|job| job != entry(1).job), Some(entry(2)));
    }

    #[test]
    fn those_who_left_do_not_pile_up() {
        let mut line = line(0..100_000);
        for left in (1..100_000).rev() {
            line.forget(|job| job.number() < JobId::from_number(left).number());
        }
        assert!(line.entries.len() <= 3 * SWEEP_FLOOR, "{} entries left", line.entries.len());
        assert!(line.entries.capacity() <= 16 * SWEEP_FLOOR, "room for {}", line.entries.capacity());
        assert!(!line.is_empty());
    }

    #[test]
    fn a_line_that_was_long_gives_its_memory_back() {
        let mut line = line(0..100_000);
        assert_eq!(drain(&mut line).len(), 100_000);
        assert!(line.entries.capacity() <= 16 * SWEEP_FLOOR, "room for {}", line.entries.capacity());
    }
}
