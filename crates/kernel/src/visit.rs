//! Visitors: parties of a runner whose code runs in another event loop, which the runner is a guest of.
//!
//! A visitor waits and opens scopes as a task of the runner does, but it has no body and no turns here. What becomes of
//! it (its wait is over, a cancellation reaches it) is told to the runner instead, which passes it on to that loop.
//! A region is a scope that nobody's block stands for: a guest keeps its visitors apart from its tasks in regions.

use crate::ids::{RunnerId, ScopeId, TaskId};
use crate::kernel::{Kernel, Payload};
use crate::moment::Moment;
use crate::party::{Party, Phase, Place};
use crate::scope::Scope;
use crate::wait::Wake;

/// What has become of a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The visitor.
    pub visitor: TaskId,
    /// Its wait committed to something: [`Kernel::withdraw`] says to what.
    pub committed: bool,
    /// A cancellation reaches it.
    pub cancelled: bool,
}

impl<P: Payload> Kernel<P> {
    /// A scope inside of a run as a whole, which no task has opened. Nothing when the runner is gone.
    pub fn open_region(&mut self, runner: RunnerId) -> Option<ScopeId> {
        let root = self.runners.get(runner)?.root;
        let id = self.scopes.insert(Scope::new(runner, TaskId::default(), root, false));
        self.add_child(root, id);
        Some(id)
    }

    /// Takes a region away. Whoever still lives in it lives in the run from now on.
    pub fn close_region(&mut self, region: ScopeId) {
        if self.scopes.get(region).is_some_and(|scope| scope.owner == TaskId::default()) {
            self.remove_scope(TaskId::default(), region);
        }
    }

    /// Takes all regions of a run away.
    pub(crate) fn close_regions(&mut self, root: ScopeId) {
        let regions: Vec<ScopeId> = self.regions(root).collect();
        for region in regions {
            self.remove_scope(TaskId::default(), region);
        }
    }

    /// The regions of a run, the last one first.
    pub(crate) fn regions(&self, root: ScopeId) -> impl Iterator<Item = ScopeId> {
        let mut next = self.scopes.get(root).map_or_else(ScopeId::default, |scope| scope.first_child);
        std::iter::from_fn(move || {
            loop {
                let scope = self.scopes.get(next)?;
                let id = std::mem::replace(&mut next, scope.next_sibling);
                if scope.owner == TaskId::default() {
                    return Some(id);
                }
            }
        })
    }

    /// A new visitor, as a member of a region; [`Self::finish`] takes it away. Nothing when the region is gone.
    pub fn add_visitor(&mut self, region: ScopeId) -> Option<TaskId> {
        let runner = self.scopes.get(region)?.runner;
        let id = self.parties.insert(Party::new(Place::Visitor(runner), None, region));
        self.join_scope(id, region);
        Some(id)
    }

    /// What time it is. A visitor waits between the looks of its runner, and the wait is to count from when it begins.
    pub fn tell_time(&mut self, runner: RunnerId, now: Moment) {
        if let Some(runner) = self.runners.get_mut(runner) {
            runner.now = runner.now.max(now);
        }
    }

    /// The runner has something to tell of a visitor.
    pub(crate) fn tell(&mut self, runner: RunnerId, visitor: TaskId) {
        let Some(runner) = self.runners.get_mut(runner) else { return };
        runner.told.push(visitor);
        if std::mem::take(&mut runner.parked) {
            self.wakers.push(runner.waker.clone());
        }
    }

    /// What has become of visitors since it was asked last.
    pub fn take_told(&mut self, runner: RunnerId) -> Vec<Told> {
        let told = self.runners.get_mut(runner).map(|runner| std::mem::take(&mut runner.told));
        let told = told.into_iter().flatten().filter_map(|visitor| {
            let committed = matches!(self.parties.get(visitor)?.wake, Some(Wake::Event { .. }));
            Some(Told { visitor, committed, cancelled: self.is_cancelled(visitor) })
        });
        told.collect()
    }

    /// Ends the wait of a party, if it waits, as a cancellation does; nothing is cancelled. False: it does not wait.
    pub fn interrupt(&mut self, party: TaskId) -> bool {
        let waits = self.parties.get(party).is_some_and(|party| party.phase == Phase::Waiting);
        if waits {
            self.wake(party, Wake::Cancelled);
        }
        waits
    }

    /// The runner whose run the party belongs to.
    #[must_use]
    pub fn runner_of(&self, party: TaskId) -> Option<RunnerId> {
        self.parties.get(party)?.runner()
    }

    /// Whether one of the scopes that the party has opened keeps cancellation from outside away.
    #[must_use]
    pub fn is_shielded(&self, party: TaskId) -> bool {
        let Some(party) = self.parties.get(party) else { return false };
        let mut at = party.scope;
        while at != party.base {
            let Some(scope) = self.scopes.get(at) else { return false };
            if scope.shield {
                return true;
            }
            at = scope.parent;
        }
        false
    }
}
