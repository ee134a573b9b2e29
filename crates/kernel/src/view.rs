//! The kernel as it stands, for whoever asks: who lives in which scope, what each does, and since when.
//!
//! Read-only, and at nobody's cost but his who asks: nothing is kept for it but the moment at which a wait began, which
//! is the time of the runner's last look, so that no clock is read for it.

use crate::ids::{RunnerId, ScopeId, TaskId};
use crate::kernel::{Kernel, Payload};
use crate::moment::Moment;
use crate::party::{Party, Phase, Place};

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It stands in the ready queue.
    Ready,
    /// It has its turn.
    Running,
    /// It waits, since this moment.
    Waiting(Moment),
    /// It has not begun, and waits since this moment for this one, which holds its key.
    Behind(Moment, TaskId),
    /// Its body runs elsewhere, in a thread or another process, or is to.
    Elsewhere,
}

/// A task as it stands.
#[derive(Debug)]
pub struct Standing<'a, B> {
    /// Which.
    pub task: TaskId,
    /// Its body; not there while it has its turn, nor when it runs elsewhere.
    pub body: Option<&'a B>,
    /// What it does.
    pub doing: Doing,
    /// Its next wait is refused, or its present one about to be: some cancellation reaches it.
    pub cancelled: bool,
    /// It has its turns in another event loop, and no body here. When it does not wait here nobody here knows what it does.
    pub visits: bool,
}

/// What [`Kernel::survey`] shows, each with the number of what it stands in, counted from zero in the order shown.
#[derive(Debug)]
pub enum Seen<'a, B> {
    /// A task, in a group or, without one, in the run itself.
    Task(Option<usize>, Standing<'a, B>),
    /// A scope in which tasks live, opened by the task of this number.
    Group(usize, ScopeId),
}

/// How many tasks of runners there were, and how many of them are ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Told to go, ever.
    pub spawned: u64,
    /// Ended, ever.
    pub ended: u64,
    /// In a ready queue now.
    pub ready: usize,
}

/// Where a survey still has to go.
struct Ahead {
    /// The number of what its tasks stand in.
    inside: Option<usize>,
    next: TaskId,
}

impl<P: Payload> Kernel<P> {
    /// Shows the tasks of a runner and the groups in which they live, each task after the group that it is in, each group
    /// after its task. What lives in a region lives in the run itself. It ends when so many of both together have been shown, with the groups of the last task; how many
    /// there are, [`Self::count_tasks`] says.
    pub fn survey<'a>(&'a self, runner: RunnerId, limit: usize, mut show: impl FnMut(Seen<'a, P::Body>)) {
        let Some(root) = self.runners.get(runner).map(|runner| runner.root) else { return };
        let mut ahead: Vec<Ahead> = self.regions(root).map(|region| self.ahead(region, None)).collect();
        ahead.push(self.ahead(root, None));
        let mut shown = 0;
        while let Some(place) = ahead.last_mut() {
            if shown >= limit {
                return;
            }
            let Some(party) = self.parties.get(place.next) else {
                ahead.pop();
                continue;
            };
            let task = std::mem::replace(&mut place.next, party.next_member);
            let inside = place.inside;
            show(Seen::Task(inside, self.standing_of(task, party)));
            let number = shown;
            shown += 1;
            let mut at = party.scope;
            let mut groups = Vec::new();
            while let Some(scope) = self.scopes.get(at).filter(|_| at != party.base) {
                if scope.members > 0 {
                    groups.push(at);
                }
                at = scope.parent;
            }
            for &group in groups.iter().rev() {
                show(Seen::Group(number, group));
                ahead.push(self.ahead(group, Some(shown)));
                shown += 1;
            }
        }
    }

    /// How a task stands. Nothing: it has ended.
    #[must_use]
    pub fn standing(&self, task: TaskId) -> Option<Standing<'_, P::Body>> {
        self.parties.get(task).map(|party| self.standing_of(task, party))
    }

    fn standing_of<'a>(
        &self,
        task: TaskId,
        party: &'a Party<P::Body, P::Value, P::Waker>,
    ) -> Standing<'a, P::Body> {
        let doing = match party.phase {
            _ if party.is_elsewhere() => Doing::Elsewhere,
            Phase::Ready => Doing::Ready,
            Phase::Running => Doing::Running,
            Phase::Waiting => match self.waits_behind(task) {
                Some(holder) => Doing::Behind(party.since, holder),
                None => Doing::Waiting(party.since),
            },
        };
        let cancelled = self.is_cancelled(task);
        let visits = matches!(party.place, Place::Visitor(_));
        Standing { task, body: party.body.as_ref(), doing, cancelled, visits }
    }

    /// The lines of keys in which somebody stands: of each who holds the key, and the first of those who wait for it.
    pub fn lines(&self) -> impl Iterator<Item = (TaskId, Option<TaskId>)> {
        self.keys.values().map(|line| {
            let first = line.waiting.first().map(|node| self.nodes[node as usize].party);
            (line.holder, first)
        })
    }

    /// How many channels there are.
    #[must_use]
    pub fn count_channels(&self) -> usize {
        self.channels.len()
    }

    fn ahead(&self, scope: ScopeId, inside: Option<usize>) -> Ahead {
        Ahead { inside, next: self.scopes.get(scope).map_or_else(TaskId::default, |s| s.first_member) }
    }

    /// How many tasks of all runners there were and are. Costs a look at each runner.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let ready = self.runners.values().map(|runner| runner.ready.len()).sum();
        Counts { spawned: self.spawned, ended: self.ended, ready }
    }

    /// How many tasks live in a runner.
    #[must_use]
    pub fn count_tasks(&self, runner: RunnerId) -> usize {
        let mut scopes: Vec<ScopeId> =
            self.runners.get(runner).map(|runner| runner.root).into_iter().collect();
        let mut count = 0;
        while let Some(scope) = scopes.pop().and_then(|id| self.scopes.get(id)) {
            count += scope.members;
            let mut child = scope.first_child;
            while let Some(inner) = self.scopes.get(child) {
                scopes.push(child);
                child = inner.next_sibling;
            }
        }
        count
    }

    /// How many tasks a scope has, those of the scopes inside of it left out, and the bodies of the first ones that have one
    /// here.
    pub fn members(&self, scope: ScopeId, limit: usize) -> (usize, Vec<&P::Body>) {
        let Some(seen) = self.scopes.get(scope) else { return (0, Vec::new()) };
        let mut next = seen.first_member;
        let members = std::iter::from_fn(|| {
            let party = self.parties.get(next)?;
            next = party.next_member;
            Some(party)
        });
        let bodies = members.take(limit).filter_map(|party| party.body.as_ref()).collect();
        (seen.members, bodies)
    }

    /// Whether everything in the scope was told to end.
    #[must_use]
    pub fn is_scope_cancelled(&self, id: ScopeId) -> bool {
        self.scopes.get(id).is_some_and(|scope| scope.cancelled)
    }
}
