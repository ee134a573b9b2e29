//! What is asked twice, by the same name: a connection may be lost while both its ends live, and with it an answer.
//!
//! Whoever asked asks again over the next connection, perhaps before it is seen here that the last one is gone. So what is
//! asked again while it is being done waits until that is over: until whoever asked says that he has heard of it, or can
//! say so no more. Then he may have heard of it all the same, and what he has said is lost; or he asks again. So it stays
//! done, and it is known from then on what became of it. Who has given it up says so, by its name, and then it is undone.
//! When his process has ended nobody will ask, and what is known is forgotten; of what is being
//! done still, when all of that is over.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use thistledown_exchange::{Post, RequestId};
use thistledown_space::{Act, OperationId};

use crate::payload::WORLD;
use crate::space::hub::{Hub, State};

/// An operation that is being done.
pub(super) enum Doing {
    Once,
    /// It was asked again meanwhile.
    Again(RequestId, Act),
    /// It was given up: nobody will ask again.
    Forsaken,
}

/// What an operation is called, and the row of its outcome.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) operation: OperationId,
    pub(super) row: u64,
}

fn is_done_once(act: &Act) -> bool {
    matches!(act, Act::Write(_, _, None) | Act::Confirm(_) | Act::Commit(_))
}

/// Who has asked for it again meanwhile is next, and it is being done on: so who gives it up finds it. Else it is over.
fn next_of(doing: &mut HashMap<OperationId, Doing>, operation: OperationId) -> Option<(RequestId, Act)> {
    let Entry::Occupied(mut entry) = doing.entry(operation) else { return None };
    match std::mem::replace(entry.get_mut(), Doing::Once) {
        Doing::Again(request, act) => Some((request, act)),
        Doing::Once | Doing::Forsaken => {
            entry.remove();
            None
        }
    }
}

impl State {
    /// Whether something is being done that this process has asked for.
    pub(super) fn is_doing_for(&self, asker: u64) -> bool {
        self.doing.keys().any(|operation| operation.asker == asker)
    }
}

impl Hub {
    /// Notes that this is done from now on. None: it is being done already, and is looked at when that is over.
    pub(super) fn begin(&self, request: RequestId, operation: Option<OperationId>, act: Act) -> Option<Act> {
        let Some(operation) = operation.filter(|_| is_done_once(&act)) else { return Some(act) };
        let mut state = self.state.lock();
        let state = &mut *state;
        match state.doing.entry(operation) {
            Entry::Vacant(doing) => {
                doing.insert(Doing::Once);
                return Some(act);
            }
            // It was asked over a connection that is lost, and is heard after it was given up.
            Entry::Occupied(doing) if matches!(doing.get(), Doing::Forsaken) => {
                state.open.remove(&request);
            }
            Entry::Occupied(mut doing) => drop(doing.insert(Doing::Again(request, act))),
        }
        None
    }

    /// It is not wanted any more. Who sees to it later undoes it; what is known of it by now is for the caller to undo.
    pub(super) fn forsake(&self, operation: Option<OperationId>) {
        let mut state = self.state.lock();
        if let Some(doing) = operation.and_then(|operation| state.doing.get_mut(&operation)) {
            *doing = Doing::Forsaken;
        }
    }

    /// It is over: done, and heard of, or not done.
    pub(super) fn over(&self, operation: Option<OperationId>, post: &mut Post<'_>) {
        let Some(operation) = operation else { return };
        let (again, is_last) = {
            let mut state = self.state.lock();
            let again = next_of(&mut state.doing, operation);
            let is_ended = state.ended.contains(&operation.asker);
            if is_ended {
                state.doing.remove(&operation);
            }
            (again.filter(|_| !is_ended), is_ended && !state.is_doing_for(operation.asker))
        };
        if is_last {
            self.forget_process(operation.asker);
        }
        if let Some((request, act)) = again {
            self.act_begun(request, Some(operation), act, post);
        }
    }

    /// A process has ended: what is known of its acts is forgotten; and of what is being done, when the last is over.
    pub(super) fn forget_process(&self, asker: u64) {
        {
            let mut state = self.state.lock();
            match state.is_doing_for(asker) {
                true => state.ended.insert(asker),
                false => state.ended.remove(&asker),
            };
        }
        self.shared.forget_asker(&WORLD, self.now(), asker);
    }

    /// Nobody took the answer to a write. One without a name is undone: nobody asks for it again.
    pub(super) fn undo_write(&self, number: u64, named: Option<Named>, post: &mut Post<'_>) {
        if named.is_none_or(|named| !self.remember(named, Some(number))) {
            self.shared.retract(&WORLD, self.now(), number, named.map(|named| named.row));
        }
        self.over(named.map(|named| named.operation), post);
    }

    /// Nobody took the answer to what cannot be undone.
    pub(super) fn keep_settled(&self, named: Named, post: &mut Post<'_>) {
        if !self.remember(named, None) {
            self.shared.forget(named.row);
        }
        self.over(Some(named.operation), post);
    }

    /// Notes what became of it, if it may be asked again. Who gives it up says so first and then looks whether it is known:
    /// so this looks and notes while nobody can say so, and one of the two sees the other.
    fn remember(&self, Named { operation, row }: Named, written: Option<u64>) -> bool {
        let state = self.state.lock();
        let may_come_again = matches!(state.doing.get(&operation), Some(Doing::Once | Doing::Again(..)));
        if may_come_again {
            self.shared.remember(operation, row, written);
        }
        may_come_again
    }
}
