//! Scopes beyond the loop: members whose bodies run elsewhere, and threads that keep their own time.
//!
//! Cancelling a scope must reach whoever runs the body of a member. The kernel cannot stop a process or a thread: it hands
//! out the member's waker, once, and its owner does the rest. The member stays one until its end is reported; so a scope
//! that has drained has nothing that runs.

use crate::ids::{ScopeId, TaskId};
use crate::kernel::{Kernel, Payload};
use crate::moment::Moment;
use crate::party::Place;

/// A body that runs elsewhere was not taken into a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinRefused {
    /// There is no such scope, or it was closed.
    #[error("the scope is not open")]
    NotOpen,
    /// It is in a scope already.
    #[error("it belongs to another scope")]
    Taken,
    /// It has ended, or it is none that runs elsewhere.
    #[error("it does not run elsewhere")]
    NotElsewhere,
}

impl<P: Payload> Kernel<P> {
    /// Makes a body that runs elsewhere a member of a scope. When it is cancelled, now or later, `stop` is among those to
    /// be woken, once; it lives on until [`Self::finish`] or [`Self::fail`].
    pub fn join(&mut self, task: TaskId, scope: ScopeId, stop: P::Waker) -> Result<(), JoinRefused> {
        if !self.scopes.contains_key(scope) {
            return Err(JoinRefused::NotOpen);
        }
        let party = self.parties.get_mut(task).ok_or(JoinRefused::NotElsewhere)?;
        let Place::Elsewhere { stop: known, .. } = &mut party.place else {
            return Err(JoinRefused::NotElsewhere);
        };
        if party.base != ScopeId::default() {
            return Err(JoinRefused::Taken);
        }
        *known = Some(stop);
        (party.base, party.scope) = (scope, scope);
        self.scopes[scope].has_elsewhere = true;
        self.join_scope(task, scope);
        self.tell_to_stop(task);
        Ok(())
    }

    /// The body has ended, and failed: the scope it is a member of is cancelled.
    pub fn fail(&mut self, task: TaskId) {
        let scope = self.parties.get(task).map(|party| party.base);
        self.finish(task);
        scope.into_iter().for_each(|scope| self.cancel_scope(scope));
    }

    /// Has a body told to stop, if a cancellation reaches it and it was not told before.
    pub(crate) fn tell_to_stop(&mut self, task: TaskId) {
        if !self.is_cancelled(task) {
            return;
        }
        if let Place::Elsewhere { stop, .. } = &mut self.parties[task].place {
            self.wakers.extend(stop.take());
        }
    }

    /// Tells the members of a cancelled scope that run elsewhere, the last ones first: so none of them begins in the place
    /// of one that was told before.
    pub(crate) fn stop_members(&mut self, scope: ScopeId) {
        let mut member = self.scopes[scope].last_member;
        while let Some(party) = self.parties.get(member) {
            let previous = party.previous_member;
            if party.is_elsewhere() {
                self.suspect(member);
            }
            member = previous;
        }
    }

    /// The scope of such a member is gone: it is told to stop, and belongs to nobody.
    pub(crate) fn disown(&mut self, task: TaskId) {
        let party = &mut self.parties[task];
        (party.base, party.scope) = (ScopeId::default(), ScopeId::default());
        (party.cancelled, party.suspect) = (true, true);
        self.tell_to_stop(task);
    }

    /// How a body that runs elsewhere is told to stop, if it is a member of a scope and was not told.
    #[must_use]
    pub fn stop_of(&self, task: TaskId) -> Option<&P::Waker> {
        match &self.parties.get(task)?.place {
            Place::Elsewhere { stop, .. } => stop.as_ref(),
            _ => None,
        }
    }

    /// How a thread is woken from now on.
    pub fn set_waker(&mut self, thread: TaskId, waker: P::Waker) {
        if let Some(Place::Thread(known)) = self.parties.get_mut(thread).map(|party| &mut party.place) {
            *known = waker;
        }
    }

    /// Whether the party waits.
    #[must_use]
    pub fn is_waiting(&self, party: TaskId) -> bool {
        self.parties.get(party).is_some_and(|party| party.phase == crate::party::Phase::Waiting)
    }

    /// Whether the party has a scope open.
    #[must_use]
    pub fn has_open_scope(&self, party: TaskId) -> bool {
        self.parties.get(party).is_some_and(|party| party.scope != party.base)
    }

    /// When the first of a thread's scopes expires, or of a visitor's, whose loop is blocked.
    #[must_use]
    pub fn next_deadline(&self, thread: TaskId) -> Option<Moment> {
        self.open_scopes(thread).filter_map(|(_, deadline)| deadline).min()
    }

    /// A thread, or a visitor that blocks its loop, looks at the time: its scopes whose deadlines have passed are
    /// cancelled, the outermost first.
    pub fn expire_thread(&mut self, thread: TaskId, now: Moment) {
        let due: Vec<ScopeId> = self
            .open_scopes(thread)
            .filter_map(|(id, deadline)| deadline.filter(|&at| at <= now).map(|_| id))
            .collect();
        due.into_iter().rev().for_each(|id| self.expire_scope(id));
    }

    /// The scopes that a thread has open, innermost first, with the deadlines that have not passed.
    fn open_scopes(&self, thread: TaskId) -> impl Iterator<Item = (ScopeId, Option<Moment>)> {
        let mut at = self.parties.get(thread).map_or_else(ScopeId::default, |party| party.scope);
        std::iter::from_fn(move || {
            let scope = self.scopes.get(at)?;
            let id = std::mem::replace(&mut at, scope.parent);
            Some((id, scope.timed.then_some(scope.deadline)))
        })
    }
}
