//! What is asked twice, by the same name: a connection may be lost while both its ends live, and with it an answer.
//!
//! Whoever asked asks again over the next connection, perhaps before it is seen here that the last one is gone. So what is
//! asked again while it is being done waits until that is over: until whoever asked says that he has heard of it, or can
//! say so no more. Then he may have heard of it all the same, and what he has said is lost; or he asks again. So it stays
//! done, and it is known from then on what became of it. Who has given it up says so, by its name, and then it is undone.

use std::collections::hash_map::Entry;

use thistledown_exchange::{Post, RequestId};
use thistledown_space::{Act, OperationId};

use crate::payload::WORLD;
use crate::space::hub::Hub;

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

impl Hub {
    /// Notes that this is done from now on. None: it is being done already, and is looked at when that is over.
    pub(super) fn begin(&self, request: RequestId, operation: Option<OperationId>, act: Act) -> Option<Act> {
        let Some(operation) = operation.filter(|_| is_done_once(&act)) else { return Some(act) };
        match self.state.lock().doing.entry(operation) {
            Entry::Vacant(doing) => {
                doing.insert(Doing::Once);
                Some(act)
            }
            Entry::Occupied(mut doing) => {
                doing.insert(Doing::Again(request, act));
                None
            }
        }
    }

    /// It is not wanted any more.
    pub(super) fn forsake(&self, operation: Option<OperationId>) {
        let mut state = self.state.lock();
        if let Some(doing) = operation.and_then(|operation| state.doing.get_mut(&operation)) {
            *doing = Doing::Forsaken;
        }
    }

    /// It is over: done, and heard of, or not done.
    pub(super) fn over(&self, operation: Option<OperationId>, post: &mut Post<'_>) {
        let doing = operation.and_then(|operation| self.state.lock().doing.remove(&operation));
        if let Some(Doing::Again(request, act)) = doing {
            self.act(request, operation, act, post);
        }
    }

    /// Nobody took the answer to a write. One without a name is undone: nobody asks for it again.
    pub(super) fn undo_write(&self, number: u64, named: Option<Named>, post: &mut Post<'_>) {
        match named.filter(|named| self.may_come_again(&named.operation)) {
            Some(Named { operation, row }) => self.shared.remember(operation, row, Some(number)),
            None => self.shared.retract(&WORLD, self.now(), number, named.map(|named| named.row)),
        }
        self.over(named.map(|named| named.operation), post);
    }

    /// Nobody took the answer to what cannot be undone.
    pub(super) fn keep_settled(&self, Named { operation, row }: Named, post: &mut Post<'_>) {
        match self.may_come_again(&operation) {
            true => self.shared.remember(operation, row, None),
            false => self.shared.forget(row),
        }
        self.over(Some(operation), post);
    }

    fn may_come_again(&self, operation: &OperationId) -> bool {
        matches!(self.state.lock().doing.get(operation), Some(Doing::Once | Doing::Again(..)))
    }
}
