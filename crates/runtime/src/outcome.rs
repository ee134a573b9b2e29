//! What became of operations that somebody may ask for again: at the next owner of the file, or over the next connection.
//!
//! It is written with the act itself, so one is never in the file without the other; and forgotten when whoever asked says
//! that he knows, or when his process is known to have ended. A tuple that was taken lies in the outcome alone: the next
//! owner holds it for who took it, and for nobody else, since that one may have got it. Of other processes nobody knows
//! whether they have ended; outcomes that nobody has asked for in a day are of the dead.

use std::collections::HashMap;

use thistledown_kernel::{Moment, Payload};
use thistledown_ledger::{Change, Lease};
use thistledown_space::{
    ClaimId, Entry, Given, OperationId, Outside, Space, Tuple, decode_tuple, encode_tuple,
};

use crate::durable::{Look, Pending, What, end_of, wall};
use crate::space::{Name, SharedSpace};
use crate::world::{Wakes, World};

/// How many milliseconds an outcome is kept for who does not ask.
const KEPT: u64 = 24 * 60 * 60 * 1000;

/// What became of an operation, as it is written down.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// It is done, and there is no more to it.
    Done,
    /// A tuple was written, with this number.
    Written(u64),
    /// A tuple was taken.
    Taken { number: u64, lease: Option<Lease>, tuple: &'a Tuple },
    /// A tuple was claimed.
    Claimed { claim: ClaimId, number: u64, tuple: &'a Tuple },
}

/// An operation that an earlier owner of the file has done.
#[derive(Debug)]
pub enum Recalled {
    /// It is done. The row under which that stands.
    Done(u64),
    /// This tuple was written; and the row.
    Written(u64, u64),
    /// This was found, for who asked.
    Look(Look),
}

/// What is known of an operation, in memory.
#[derive(Debug)]
pub(crate) enum Kept {
    Done,
    Written(u64),
    Taken { claim: ClaimId, number: u64, entry: Entry },
    Claimed { claim: ClaimId, number: u64, tuple: Tuple },
}

/// Operations that were done by earlier owners, or whose answers were lost, and the rows of their outcomes.
pub(crate) type Known = HashMap<OperationId, (u64, Kept)>;

impl Outcome<'_> {
    fn to_bytes(&self, operation: OperationId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        let mut push = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        push(operation.asker);
        push(operation.number);
        let (tag, numbers, tuple) = match self {
            Self::Done => (0, [0; 4], None),
            Self::Written(number) => (1, [*number, 0, 0, 0], None),
            Self::Taken { number, lease, tuple } => {
                let (ends, length) = lease.map_or((0, 0), |lease| (lease.ends, lease.length));
                (2, [*number, u64::from(lease.is_some()), ends, length], Some(*tuple))
            }
            Self::Claimed { claim, number, tuple } => (3, [*number, claim.number(), 0, 0], Some(*tuple)),
        };
        push(tag);
        numbers.into_iter().for_each(push);
        // A tuple that was written can be encoded.
        bytes.extend(tuple.and_then(|tuple| encode_tuple(tuple).ok()).unwrap_or_default());
        bytes
    }
}

/// What [`Outcome::to_bytes`] wrote; nothing, if it is not that.
fn read(bytes: &[u8], now: std::time::Duration) -> Option<(OperationId, Kept)> {
    let mut rest = bytes;
    let mut numbers = [0; 7];
    for number in &mut numbers {
        let (first, others) = rest.split_first_chunk::<8>()?;
        (*number, rest) = (u64::from_le_bytes(*first), others);
    }
    let [asker, operation, tag, number, second, ends, length] = numbers;
    let kept = match tag {
        0 => Kept::Done,
        1 => Kept::Written(number),
        2 => {
            let lease = (second == 1).then_some(Lease { ends, length });
            let entry = Entry { tuple: decode_tuple(rest).ok()?, until: end_of(lease, now) };
            // Its claim is made when it is held.
            Kept::Taken { claim: ClaimId::from_number(0), number, entry }
        }
        3 => Kept::Claimed { claim: ClaimId::from_number(second), number, tuple: decode_tuple(rest).ok()? },
        _ => return None,
    };
    Some((OperationId { asker, number: operation }, kept))
}

impl SharedSpace {
    /// Writes down, with an act, what becomes of an operation. The row; none, if nobody will ask again.
    pub(crate) fn note_outcome(
        &self,
        space: &mut Space<Name>,
        operation: Option<OperationId>,
        outcome: &Outcome<'_>,
        changes: &mut Vec<Change>,
    ) -> Option<u64> {
        let operation = operation.filter(|_| self.ledger.is_some())?;
        let row = space.reserve();
        changes.push(Change::Outcome { number: row, at: wall(), data: outcome.to_bytes(operation) });
        Some(row)
    }

    /// Whoever asked for an operation knows what became of it.
    pub fn forget(&self, row: u64) {
        if let Some(ledger) = &self.ledger {
            ledger.lay_later([Change::Forget { number: row }]);
        }
    }

    /// Whether anything is known of what this process has asked for.
    #[must_use]
    pub fn knows_of(&self, asker: u64) -> bool {
        self.known.lock().keys().any(|operation| operation.asker == asker)
    }

    /// A process has ended: nobody asks again for what it has asked for. What it has taken is gone with it.
    pub fn forget_asker<P: Payload<Waker: Wakes>>(&self, world: &World<P>, now: Moment, asker: u64) {
        let (rows, kept): (Vec<u64>, Vec<Kept>) = self
            .known
            .lock()
            .extract_if(|operation, _| operation.asker == asker)
            .map(|(_, known)| known)
            .unzip();
        let taken = kept.into_iter().filter_map(|kept| match kept {
            Kept::Taken { claim, .. } => Some(claim),
            Kept::Done | Kept::Written(_) | Kept::Claimed { .. } => None,
        });
        for claim in taken {
            // It was held for that process alone.
            self.with(world, now, |space, outside| drop(space.confirm(claim, outside)));
        }
        rows.into_iter().for_each(|row| self.forget(row));
    }

    /// What was done for an operation: by an earlier owner, or by this one, whose answer was lost. It is told once.
    pub fn recall<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        operation: OperationId,
    ) -> Option<Recalled> {
        let (row, kept) = self.known.lock().remove(&operation)?;
        match kept {
            Kept::Done => Some(Recalled::Done(row)),
            Kept::Written(number) => Some(Recalled::Written(number, row)),
            Kept::Taken { claim, number, entry } => {
                let (tuple, until) = (Tuple::clone(&entry.tuple), entry.until);
                let what = What::Take { claim, number, entry };
                let given = Given { tuple, number, until, claim: Some(claim) };
                let pending = Some(Pending { mark: None, what, row: Some(row) });
                Some(Recalled::Look(Look { given, pending }))
            }
            Kept::Claimed { claim, number, tuple } => {
                // Its time may be over, so that somebody else may have it.
                let stands = self.with(world, now, |space, outside| {
                    space.settle_due(outside);
                    space.claimed(claim) == Some(number)
                });
                if !stands {
                    self.forget(row);
                    return None;
                }
                let given = Given { tuple, number, until: None, claim: Some(claim) };
                let pending =
                    Some(Pending { mark: None, what: What::Claim { claim, number }, row: Some(row) });
                Some(Recalled::Look(Look { given, pending }))
            }
        }
    }
}

/// Holds what earlier owners had given, until those ask again who asked for it. And the changes of the file: what is of
/// the dead is forgotten.
pub(crate) fn restore(
    outcomes: Vec<(u64, u64, Vec<u8>)>,
    space: &mut Space<Name>,
    outside: &mut Outside<'_, Name>,
) -> (Known, Vec<Change>) {
    let (mut known, mut changes) = (Known::default(), Vec::new());
    for (row, at, data) in outcomes {
        let is_old = wall().saturating_sub(at) > KEPT;
        match read(&data, outside.now).filter(|_| !is_old) {
            Some((operation, Kept::Taken { number, entry, .. })) => {
                let claim = ClaimId::from_number(space.reserve());
                let held = Entry { tuple: Tuple::clone(&entry.tuple), until: entry.until };
                space.restore(number, held, Some((claim, None)), outside);
                known.insert(operation, (row, Kept::Taken { claim, number, entry }));
            }
            Some((operation, kept)) => drop(known.insert(operation, (row, kept))),
            None => changes.push(Change::Forget { number: row }),
        }
    }
    (known, changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thistledown_space::Value;

    #[test]
    fn an_outcome_comes_out_as_it_went_in_and_nothing_less_does() {
        let tuple: Tuple = [Value::Int(7)].into();
        let claim = ClaimId::from_number(9);
        let lease = Some(Lease { ends: u64::MAX, length: 2000 });
        let operation = OperationId { asker: u64::MAX, number: 3 };
        let now = std::time::Duration::from_secs(5);
        for (outcome, expected) in [
            (Outcome::Done, "Done"),
            (Outcome::Written(4), "Written(4)"),
            (Outcome::Taken { number: 4, lease, tuple: &tuple }, "number: 4, entry: Entry"),
            (Outcome::Claimed { claim, number: 4, tuple: &tuple }, "claim: ClaimId(9), number: 4"),
        ] {
            let bytes = outcome.to_bytes(operation);
            let (known, kept) = read(&bytes, now).expect("it was written");
            assert_eq!(known, operation);
            let words = format!("{kept:?}");
            assert!(words.contains(expected), "{words}");
            if let Kept::Taken { entry, .. } = &kept {
                assert_eq!(entry.until, Some(std::time::Duration::from_secs(7)));
            }
            assert!(read(&bytes[..50], now).is_none());
        }
    }
}
