//! What a space that is elsewhere has to undo: what was given up, until an owner has heard of it.

use std::sync::{Arc, Weak};

use thistledown_exchange::{Told, Waiter};
use thistledown_space::{Act, ClaimId, OperationId};

use crate::space::far::FarSpace;
use crate::space::far::line::Owner;
use crate::space::hub::VERB;

impl FarSpace {
    /// Tells the next owner what this process has, wants, and wants no more.
    pub(crate) fn introduce(&self) {
        let Owner::Known(handle) = self.owner().1 else { return };
        let claims: Vec<ClaimId> = self.claims.lock().iter().copied().collect();
        claims.into_iter().for_each(|claim| self.tell(Act::Keep(claim)));
        let owed: Vec<Owed> = self.owed.lock().keys().copied().collect();
        owed.into_iter().for_each(|owed| self.owe(owed));
        let watches: Vec<_> = self.watches.lock().values().cloned().collect();
        watches.into_iter().for_each(|watch| watch.resume(&handle));
        let mut waits: Vec<_> = self.waits.lock().values().filter_map(Weak::upgrade).collect();
        // In the order in which they came.
        waits.sort_unstable_by_key(|wait| wait.number);
        waits.into_iter().for_each(|wait| wait.ask());
    }

    /// What was asked by this name is not wanted any more.
    pub(super) fn forsake(&self, operation: OperationId) {
        self.owe(Owed::Undoing(operation));
    }

    /// Ends a claim: its tuple comes back.
    pub(crate) fn give_back(&self, claim: ClaimId) {
        self.note_claim(claim, false);
        self.owe(Owed::Claim(claim));
    }

    /// An owner who has done it says so, when that is in the file; else the next one is told.
    fn owe(&self, owed: Owed) {
        // First it is noted: whoever becomes the owner from here on is told by `introduce`.
        let before = self.owed.lock().insert(owed, None);
        drop(before);
        let (turn, owner) = self.owner();
        let (operation, act) = match owed {
            Owed::Undoing(operation) => (Some(operation), Act::Forsake),
            Owed::Claim(claim) => (None, Act::GiveBack(claim)),
        };
        let (Owner::Known(handle), Ok(body)) = (owner, Self::body(operation, act)) else { return };
        let waiter = Arc::new(Owing { space: Weak::clone(&self.me), owed });
        match handle.ask(VERB, &body, waiter) {
            Ok(asked) => {
                if let Some(kept) = self.owed.lock().get_mut(&owed) {
                    *kept = Some(asked);
                }
            }
            Err(why) => self.lose(turn, why),
        }
    }

    /// This process has a claim, or has it no more.
    pub(crate) fn note_claim(&self, claim: ClaimId, is_held: bool) {
        let mut claims = self.claims.lock();
        if is_held {
            claims.insert(claim)
        } else {
            claims.remove(&claim)
        };
    }
}

/// What an owner has to do before it is as if it had never been.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Owed {
    /// To undo what was asked by this name.
    Undoing(OperationId),
    /// To end this claim.
    Claim(ClaimId),
}

/// Hears that it is done.
struct Owing {
    space: Weak<FarSpace>,
    owed: Owed,
}

impl Waiter for Owing {
    fn told(&self, told: Told) {
        let knows = matches!(told, Told::Answer(_) | Told::Offer(_));
        if let Some(space) = self.space.upgrade().filter(|_| knows) {
            let kept = space.owed.lock().remove(&self.owed);
            drop(kept);
        }
    }
}
