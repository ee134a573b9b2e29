//! Scopes: regions in which tasks live, and which can be cancelled as a whole.
//!
//! A scope is opened by a task inside the scope it is in; tasks started in it are its members. Cancellation is
//! level-triggered: as long as a cancelled scope encloses a task, each of its waits is refused, except under a shield.
//! A run is a scope without a parent, and so is the outermost one of a plain thread. What runs elsewhere can be a member
//! too (`elsewhere`). Source: trio's cancel scopes and nurseries, here one thing.

use crate::ids::{RunnerId, ScopeId, TaskId};
use crate::kernel::{Kernel, Payload};
use crate::list::List;
use crate::moment::Moment;
use crate::party::{Party, Phase, Place};
use crate::timers::Entry;
use crate::wait::{Event, Wake};
use crate::waits::SCOPE_BRANCH;

#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) runner: RunnerId,
    pub(crate) parent: ScopeId,
    /// The task that opened it; none for a run.
    pub(crate) owner: TaskId,
    pub(crate) cancelled: bool,
    pub(crate) expired: bool,
    pub(crate) shield: bool,
    pub(crate) timed: bool,
    /// When it expires. A thread keeps its own time; a run has it among its timers.
    pub(crate) deadline: Moment,
    /// Live members.
    pub(crate) members: usize,
    pub(crate) first_member: TaskId,
    pub(crate) last_member: TaskId,
    /// A body that runs elsewhere is a member, or was.
    pub(crate) has_elsewhere: bool,
    pub(crate) first_child: ScopeId,
    pub(crate) previous_sibling: ScopeId,
    pub(crate) next_sibling: ScopeId,
    /// Who waits for it to be empty.
    pub(crate) drain: List,
}

impl Scope {
    pub(crate) fn new(runner: RunnerId, owner: TaskId, parent: ScopeId, shield: bool) -> Self {
        Self {
            runner,
            parent,
            owner,
            cancelled: false,
            expired: false,
            shield,
            timed: false,
            deadline: Moment::NEVER,
            members: 0,
            first_member: TaskId::default(),
            last_member: TaskId::default(),
            has_elsewhere: false,
            first_child: ScopeId::default(),
            previous_sibling: ScopeId::default(),
            next_sibling: ScopeId::default(),
            drain: List::default(),
        }
    }
}

/// What had become of a scope when it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeEnd {
    /// It was cancelled, by a call or by its deadline.
    pub cancelled: bool,
    /// Its deadline passed.
    pub expired: bool,
}

/// A scope was not closed by the task that opened it, innermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeMisuse {
    /// Somebody else's.
    #[error("the scope was opened by another task")]
    OtherTask,
    /// Another scope that was opened inside it is still open.
    #[error("a scope opened inside this one is still open")]
    NotInnermost,
    /// It was closed before.
    #[error("the scope is not open")]
    NotOpen,
}

impl<P: Payload> Kernel<P> {
    /// Opens a scope inside the present one of a task, or of a thread. Nothing when there is no such party.
    pub fn open_scope(&mut self, task: TaskId, deadline: Option<Moment>, shield: bool) -> Option<ScopeId> {
        let party = self.parties.get(task)?;
        let runner = match party.place {
            Place::Runner(runner, _) | Place::Visitor(runner) => runner,
            Place::Thread(_) => RunnerId::default(),
            Place::Elsewhere { .. } => return None,
        };
        let parent = party.scope;
        let id = self.scopes.insert(Scope::new(runner, task, parent, shield));
        self.add_child(parent, id);
        self.parties[task].scope = id;
        if let Some(deadline) = deadline.filter(|&deadline| deadline != Moment::NEVER) {
            self.set_deadline(id, runner, deadline);
        }
        Some(id)
    }

    /// Puts a new scope among those inside of another.
    pub(crate) fn add_child(&mut self, parent: ScopeId, id: ScopeId) {
        let Some(outer) = self.scopes.get_mut(parent) else { return };
        let next = std::mem::replace(&mut outer.first_child, id);
        self.scopes[id].next_sibling = next;
        if let Some(next) = self.scopes.get_mut(next) {
            next.previous_sibling = id;
        }
    }

    fn set_deadline(&mut self, scope: ScopeId, runner: RunnerId, at: Moment) {
        (self.scopes[scope].timed, self.scopes[scope].deadline) = (true, at);
        if !self.runners.contains_key(runner) {
            return;
        }
        let tag = self.next_tag(SCOPE_BRANCH);
        self.runners[runner].timers.set(Entry { at, tag, owner: scope.number() });
    }

    /// Closes a scope; its task is back in the one around it. Members that still live move there with it.
    pub fn close_scope(&mut self, task: TaskId, id: ScopeId) -> Result<ScopeEnd, ScopeMisuse> {
        let scope = self.scopes.get(id).ok_or(ScopeMisuse::NotOpen)?;
        if scope.owner != task {
            return Err(ScopeMisuse::OtherTask);
        }
        if self.parties.get(task).is_none_or(|party| party.scope != id) {
            return Err(ScopeMisuse::NotInnermost);
        }
        Ok(self.remove_scope(task, id))
    }

    /// Takes a scope away from its owner, with those that were opened inside of it; what lives in them is cancelled.
    /// Nothing when the owner does not have it open.
    pub fn evict_scope(&mut self, owner: TaskId, id: ScopeId) -> Option<ScopeEnd> {
        self.scopes.get(id).filter(|scope| scope.owner == owner)?;
        let end = self.scope_state(id);
        loop {
            let innermost = self.parties.get(owner)?.scope;
            self.cancel_scope(innermost);
            self.remove_scope(owner, innermost);
            if innermost == id {
                return end;
            }
        }
    }

    /// Takes the innermost scope of a task away, or a region, which has no task.
    pub(crate) fn remove_scope(&mut self, task: TaskId, id: ScopeId) -> ScopeEnd {
        self.wake_drained(id);
        let parent = self.scopes[id].parent;
        let members = self.move_members(id, parent);
        let children = self.move_children(id, parent);
        let (previous, next) = (self.scopes[id].previous_sibling, self.scopes[id].next_sibling);
        match self.scopes.get_mut(previous) {
            Some(previous) => previous.next_sibling = next,
            None => {
                if let Some(outer) = self.scopes.get_mut(parent) {
                    outer.first_child = next;
                }
            }
        }
        if let Some(next) = self.scopes.get_mut(next) {
            next.previous_sibling = previous;
        }
        if let Some(owner) = self.parties.get_mut(task) {
            owner.scope = parent;
        }
        let end = ScopeEnd { cancelled: self.scopes[id].cancelled, expired: self.scopes[id].expired };
        let Scope { runner, timed, shield, .. } = self.scopes[id];
        self.scopes.remove(id);
        if timed {
            self.forget_timers(runner, 1);
        }
        // A shield that held a cancellation back is gone.
        if shield && self.is_cancelled(task) {
            self.suspect(task);
        }
        let moved = !members.is_empty() || !children.is_empty();
        if moved && (end.cancelled || self.is_inside_cancelled(parent)) {
            members.into_iter().for_each(|member| self.suspect(member));
            children.into_iter().for_each(|child| self.spread(child));
        }
        end
    }

    /// Makes the members of a scope members of the one around it. What runs elsewhere is told to stop, and is nobody's.
    fn move_members(&mut self, id: ScopeId, parent: ScopeId) -> Vec<TaskId> {
        let cancelled = self.scopes[id].cancelled;
        let mut moved = Vec::new();
        while self.scopes[id].first_member != TaskId::default() {
            let member = self.scopes[id].first_member;
            self.leave_scope(member);
            if self.parties[member].is_elsewhere() {
                self.disown(member);
                continue;
            }
            let was_there = self.parties[member].scope == id;
            // What was cancelled stays so, also outside.
            self.parties[member].cancelled |= cancelled;
            self.parties[member].base = parent;
            if was_there {
                self.parties[member].scope = parent;
            }
            self.join_scope(member, parent);
            moved.push(member);
        }
        moved
    }

    /// Makes the scopes inside a scope children of the one around it. Those without a shield come back.
    fn move_children(&mut self, id: ScopeId, parent: ScopeId) -> Vec<ScopeId> {
        let mut open = Vec::new();
        let mut child = self.scopes[id].first_child;
        while let Some(inner) = self.scopes.get_mut(child) {
            inner.parent = parent;
            if !inner.shield {
                open.push(child);
            }
            let next = std::mem::take(&mut inner.next_sibling);
            inner.previous_sibling = ScopeId::default();
            let first = std::mem::replace(&mut self.scopes[parent].first_child, child);
            self.scopes[child].next_sibling = first;
            if let Some(first) = self.scopes.get_mut(first) {
                first.previous_sibling = child;
            }
            child = next;
        }
        open
    }

    /// Cancels everything in the scope, now and as long as it is open.
    pub fn cancel_scope(&mut self, id: ScopeId) {
        let Some(scope) = self.scopes.get_mut(id) else { return };
        scope.cancelled = true;
        self.spread(id);
    }

    /// What has become of an open scope so far.
    #[must_use]
    pub fn scope_state(&self, id: ScopeId) -> Option<ScopeEnd> {
        self.scopes.get(id).map(|scope| ScopeEnd { cancelled: scope.cancelled, expired: scope.expired })
    }

    /// The runner whose run the scope is in; none for a thread's.
    #[must_use]
    pub fn runner_of_scope(&self, id: ScopeId) -> Option<RunnerId> {
        self.scopes.get(id).map(|scope| scope.runner).filter(|&runner| self.runners.contains_key(runner))
    }

    /// How many tasks live in the scope itself.
    #[must_use]
    pub fn scope_members(&self, id: ScopeId) -> usize {
        self.scopes.get(id).map_or(0, |scope| scope.members)
    }

    /// Asks a task to end. False when it already has.
    pub fn cancel_task(&mut self, task: TaskId) -> bool {
        let Some(party) = self.parties.get_mut(task) else { return false };
        party.cancelled = true;
        self.suspect(task);
        true
    }

    /// Whether a wait of this task would be refused now.
    #[must_use]
    #[inline]
    pub fn is_cancelled(&self, task: TaskId) -> bool {
        self.parties.get(task).is_some_and(|party| party.suspect && self.reaches(party))
    }

    /// The outermost of the cancelled scopes that reach the party now.
    #[must_use]
    pub fn cancelled_by(&self, party: TaskId) -> Option<ScopeId> {
        let party = self.parties.get(party)?;
        let (mut at, mut found) = (party.scope, None);
        while let Some(scope) = self.scopes.get(at) {
            if scope.cancelled || (at == party.base && party.cancelled) {
                found = Some(at);
            }
            if scope.shield {
                break;
            }
            at = scope.parent;
        }
        found
    }

    /// The scope's deadline has passed: it is cancelled.
    pub fn expire_scope(&mut self, id: ScopeId) {
        if let Some(scope) = self.scopes.get_mut(id) {
            scope.timed = false;
            scope.expired = !scope.cancelled;
        }
        self.cancel_scope(id);
    }

    /// Tells everyone inside a cancelled scope; shields stop it.
    fn spread(&mut self, top: ScopeId) {
        let mut scopes = vec![top];
        while let Some(id) = scopes.pop() {
            let scope = &self.scopes[id];
            let (owner, mut member, mut child) = (scope.owner, scope.first_member, scope.first_child);
            if scope.has_elsewhere {
                self.stop_members(id);
            }
            self.suspect(owner);
            while let Some(party) = self.parties.get(member) {
                let next = party.next_member;
                self.suspect(member);
                member = next;
            }
            while let Some(inner) = self.scopes.get(child) {
                if !inner.shield {
                    scopes.push(child);
                }
                child = inner.next_sibling;
            }
        }
    }

    pub(crate) fn suspect(&mut self, task: TaskId) {
        let Some(party) = self.parties.get_mut(task) else { return };
        party.suspect = true;
        let (waits, is_elsewhere) = (party.phase == Phase::Waiting, party.is_elsewhere());
        if is_elsewhere {
            self.tell_to_stop(task);
        } else if let Place::Visitor(runner) = party.place
            && !waits
        {
            self.tell(runner, task);
        } else if waits && self.is_cancelled(task) {
            self.wake(task, Wake::Cancelled);
        }
    }

    /// Whether a cancellation reaches the party: from the inside out, up to the first shield.
    #[cold]
    fn reaches(&self, party: &Party<P::Body, P::Value, P::Waker>) -> bool {
        let mut at = party.scope;
        let mut outside = false;
        loop {
            if at == party.base && !outside {
                outside = true;
                if party.cancelled {
                    return true;
                }
            }
            let Some(scope) = self.scopes.get(at) else { return false };
            if scope.cancelled {
                return true;
            }
            if scope.shield {
                return false;
            }
            at = scope.parent;
        }
    }

    pub(crate) fn join_scope(&mut self, task: TaskId, id: ScopeId) {
        let Some(scope) = self.scopes.get_mut(id) else { return };
        scope.members += 1;
        let previous = std::mem::replace(&mut scope.last_member, task);
        if scope.members == 1 {
            scope.first_member = task;
        }
        let suspect = self.is_inside_cancelled(id);
        let party = &mut self.parties[task];
        party.previous_member = previous;
        party.next_member = TaskId::default();
        party.suspect |= suspect;
        if let Some(previous) = self.parties.get_mut(previous) {
            previous.next_member = task;
        }
    }

    fn is_inside_cancelled(&self, id: ScopeId) -> bool {
        let mut at = id;
        while let Some(scope) = self.scopes.get(at) {
            if scope.cancelled {
                return true;
            }
            at = scope.parent;
        }
        false
    }

    pub(crate) fn leave_scope(&mut self, task: TaskId) {
        let party = &self.parties[task];
        let (base, previous, next) = (party.base, party.previous_member, party.next_member);
        let Some(scope) = self.scopes.get_mut(base) else { return };
        scope.members -= 1;
        if scope.first_member == task {
            scope.first_member = next;
        }
        if scope.last_member == task {
            scope.last_member = previous;
        }
        let empty = scope.members == 0;
        if let Some(previous) = self.parties.get_mut(previous) {
            previous.next_member = next;
        }
        if let Some(next) = self.parties.get_mut(next) {
            next.previous_member = previous;
        }
        if empty {
            self.wake_drained(base);
        }
    }

    fn wake_drained(&mut self, id: ScopeId) {
        while let Some(node) = self.scopes[id].drain.first() {
            self.wake_node(node, Event::Drained);
        }
    }
}
