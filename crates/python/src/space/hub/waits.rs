//! Who waits elsewhere for a tuple: he is enlisted as all others are, and looked for when he is called.

use std::sync::Arc;

use thistledown_exchange::{Post, RequestId};
use thistledown_kernel::Moment;
use thistledown_space::{News, OperationId, Ticket, Wanted};

use crate::payload::WORLD;
use crate::space::hub::Hub;
use crate::space::hub::written::Job;

/// Somebody who waits for a tuple.
pub(super) struct Wait {
    pub(super) request: RequestId,
    /// His number for it.
    pub(super) number: u64,
    pub(super) wanted: Arc<Wanted>,
    pub(super) operation: Option<OperationId>,
    pub(super) ticket: Option<Ticket>,
    pub(super) turn: Turn,
}

/// Who is called while somebody looks for him is looked for once more.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) is_busy: bool,
    again: bool,
}

impl Turn {
    pub(super) fn begin(&mut self) -> bool {
        self.again = self.is_busy;
        !std::mem::replace(&mut self.is_busy, true)
    }

    /// True: once more.
    pub(super) fn end(&mut self) -> bool {
        self.is_busy = false;
        std::mem::take(&mut self.again)
    }
}

impl Hub {
    pub(super) fn look(
        &self,
        request: RequestId,
        (wanted, waits): (Arc<Wanted>, Option<u64>),
        operation: Option<OperationId>,
        post: &mut Post<'_>,
    ) {
        if let Some(number) = waits {
            let ours = {
                let mut state = self.state.lock();
                state.last += 1;
                let ours = state.last;
                let turn = Turn::default();
                state.waits.insert(ours, Wait { request, number, wanted, operation, ticket: None, turn });
                state.open.insert(request, Some(ours));
                ours
            };
            return self.serve(ours, post);
        }
        let slot = self.slot();
        match self.shared.look(&WORLD, self.now(), (&wanted, None), operation, || self.told(&slot)) {
            Ok(Some(look)) => self.when_written(&slot, Job::Look { request, wanted, look }, post),
            Ok(None) => self.answer(request, &[], post),
            Err(why) => self.refuse_as(request, why, post),
        }
    }

    /// Looks for somebody who waits: he is given what there is, or waits on.
    pub(super) fn serve(&self, ours: u64, post: &mut Post<'_>) {
        loop {
            let (request, wanted, operation, ticket) = {
                let mut state = self.state.lock();
                let Some(wait) = state.waits.get_mut(&ours) else { return };
                if !wait.turn.begin() {
                    return;
                }
                (wait.request, Arc::clone(&wait.wanted), wait.operation, wait.ticket)
            };
            let (slot, now) = (self.slot(), self.now());
            let look = self.shared.look(&WORLD, now, (&wanted, ticket), operation, || self.told(&slot));
            if let Ok(None) = look {
                let at = self.shared.enlist_far(&WORLD, now, &wanted, ticket, ours);
                let left = (at.looks != Moment::NEVER).then(|| at.looks.since(now));
                let goes_on = {
                    let mut state = self.state.lock();
                    state.waits.get_mut(&ours).map(|wait| {
                        wait.ticket = Some(at.ticket);
                        (wait.turn.end(), wait.number)
                    })
                };
                match goes_on {
                    Some((true, _)) => continue,
                    Some((false, number)) => self.note(request.party, &News::Enlisted(number, left), post),
                    None => self.shared.release(&WORLD, now, at.ticket),
                }
                return;
            }
            self.state.lock().waits.remove(&ours);
            match look {
                // Whether he has given up meanwhile is seen there.
                Ok(Some(look)) => self.when_written(&slot, Job::Look { request, wanted, look }, post),
                Ok(None) => {}
                Err(why) => self.refuse_as(request, why, post),
            }
            if let Some(ticket) = ticket {
                self.shared.release(&WORLD, now, ticket);
            }
            return;
        }
    }
}
