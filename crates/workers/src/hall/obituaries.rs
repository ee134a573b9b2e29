//! The ends of workers, for whoever wants to hear of them.
//!
//! A worker has one end, which is told once to each who watches, and to whoever asks later as long as it is remembered.
//! A name is never used again, so nobody hears of another worker's end.

use std::collections::{HashMap, VecDeque};

use super::Hall;
use crate::desk::Owner;
use crate::outcome::{Gone, Outcome};
use crate::policy::WorkerId;

/// So many ends are remembered; of older ones it is only known that there is no such worker.
const REMEMBERED: usize = 1_000;

/// Who wants to hear of the end of which worker, and how the last ones have ended.
pub(crate) struct Obituaries<C> {
    watchers: HashMap<WorkerId, Vec<Owner<C>>>,
    ends: HashMap<WorkerId, Gone>,
    /// The oldest first.
    order: VecDeque<WorkerId>,
}

impl<C> Default for Obituaries<C> {
    fn default() -> Self {
        Self { watchers: HashMap::new(), ends: HashMap::new(), order: VecDeque::new() }
    }
}

impl<C> Obituaries<C> {
    /// A worker has ended so. Gives who wants to hear of it.
    fn write(&mut self, worker: WorkerId, gone: Gone) -> Vec<Owner<C>> {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ends.remove(&oldest);
        }
        self.order.push_back(worker);
        self.ends.insert(worker, gone);
        self.watchers.remove(&worker).unwrap_or_default()
    }
}

impl<C> Hall<C> {
    /// The workers that have a process, by their names.
    pub(crate) fn crew(&self) -> Vec<(WorkerId, i32)> {
        self.desk
            .workers
            .iter()
            .filter_map(|(id, worker)| Some((id, worker.process.pid().filter(|_| worker.status.is_none())?)))
            .collect()
    }

    /// Somebody wants to hear how a worker ends, or has ended.
    pub(crate) fn watch_worker(&mut self, worker: WorkerId, owner: Owner<C>) {
        if self.desk.workers.contains_key(worker) {
            self.obituaries.watchers.entry(worker).or_default().push(owner);
            return;
        }
        let gone = self.obituaries.ends.get(&worker).cloned().unwrap_or(Gone::Unknown);
        self.desk.conclude(owner, Outcome::Gone(gone));
    }

    /// A worker is gone: who watches hears of it. One that left as it was told to has come to a good end.
    pub(super) fn write_obituary(&mut self, id: WorkerId) {
        let Some(worker) = self.desk.workers.get_mut(id).filter(|worker| worker.process.pid().is_some())
        else {
            return;
        };
        let is_good =
            worker.is_leaving() && worker.cause.is_none() && worker.status.is_none_or(|status| status == 0);
        let gone = if is_good { Gone::Stopped } else { Gone::Died(worker.death()) };
        for owner in self.obituaries.write(id, gone.clone()) {
            self.desk.conclude(owner, Outcome::Gone(gone.clone()));
        }
    }

    /// The pool is over, and nobody says how those ended that were still there.
    pub(crate) fn write_last_obituaries(&mut self) {
        let workers: Vec<WorkerId> = self.desk.workers.keys().collect();
        for id in workers {
            self.write_obituary(id);
        }
        for owner in self.take_worker_watchers() {
            self.desk.conclude(owner, Outcome::Gone(Gone::Closed));
        }
    }

    /// Takes everybody who watches a worker.
    pub(super) fn take_worker_watchers(&mut self) -> Vec<Owner<C>> {
        std::mem::take(&mut self.obituaries.watchers).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ends_are_remembered() {
        let mut obituaries = Obituaries::<()>::default();
        for number in 1..=REMEMBERED as u64 + 1 {
            assert!(obituaries.write(WorkerId::from_number(number << 32 | number), Gone::Stopped).is_empty());
        }
        assert_eq!((obituaries.ends.len(), obituaries.order.len()), (REMEMBERED, REMEMBERED));
        let first = obituaries.order.front().copied();
        assert!(
            first.is_some_and(|first| obituaries.ends.contains_key(&first)),
            "the oldest was let go alone"
        );
    }

    #[test]
    fn who_watches_is_given_once() {
        let mut obituaries = Obituaries::<()>::default();
        let worker = WorkerId::from_number(1 << 32 | 1);
        obituaries.watchers.insert(worker, vec![Owner::Customer(()), Owner::Customer(())]);
        assert_eq!(obituaries.write(worker, Gone::Stopped).len(), 2);
        assert!(obituaries.watchers.is_empty());
    }
}
