//! Acts of a space that are written down: each is begun, lies in the file, and only then has happened.
//!
//! Between the two it is [`Pending`]: a tuple that is being written is nowhere yet, one that is being taken is held. So
//! nobody sees what is not in the file, and who gives up, or cannot write, undoes it without having hurt anybody. What has
//! changed is laid down under the space's lock, in the order in which it happens; nobody who has a lock waits for the disk.
//!
//! Times are those of the clock on the wall in the file, and of the monotonic one here: a clock that is set while the
//! space is open changes nothing, and one that was set back in between makes no lease longer than it was.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thistledown_kernel::{Moment, Payload};
use thistledown_ledger::{Change, Claim, Error, Lease, Ledger, Mark, Repaired, Told};
use thistledown_space::{
    ClaimId, CodecError, Entry, Given, Held, How, OperationId, Outside, Prepared, Refused, Space, Ticket,
    TransactionId, Tuple, Wanted, decode_tuple, encode_tuple,
};

use crate::outcome::{self, Kept, Outcome};
use crate::space::{Name, SharedSpace, since_epoch};
use crate::sync::Mutex;
use crate::world::{Wakes, World};

/// An act that has begun, and has not happened.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    /// None: nothing has to be written.
    pub(crate) mark: Option<Arc<Mark>>,
    pub(crate) what: What,
    /// Where it is written down for who may ask again.
    pub(crate) row: Option<u64>,
}

#[derive(Debug)]
pub(crate) enum What {
    Write {
        number: u64,
        entry: Entry,
    },
    Take {
        claim: ClaimId,
        number: u64,
        entry: Entry,
    },
    Claim {
        claim: ClaimId,
        number: u64,
    },
    /// A take of a transaction, which has it until that ends.
    Within {
        claim: ClaimId,
    },
    Commit(Prepared),
    Confirm(Held),
}

/// What somebody found who looked.
#[derive(Debug)]
pub struct Look {
    /// It.
    pub given: Given,
    /// What is to be finished, or undone, before it is his.
    pub pending: Option<Pending>,
}

impl Pending {
    /// Whether it is in the file. None: not yet.
    #[must_use]
    pub fn state(&self) -> Option<Result<(), Error>> {
        self.mark.as_ref().map_or(Some(Ok(())), |mark| mark.state())
    }

    /// Nobody is to be told of it again.
    fn forgotten(&self) -> Option<Change> {
        self.row.map(|number| Change::Forget { number })
    }

    /// Whether somebody claims a tuple by it.
    #[must_use]
    pub fn is_claim(&self) -> bool {
        matches!(self.what, What::Claim { .. })
    }

    /// Where it is written down for who may ask again; see [`SharedSpace::forget`].
    #[must_use]
    pub fn row(&self) -> Option<u64> {
        self.row
    }

    /// Sleeps until it is in the file.
    pub fn wait(&self) -> Result<(), Error> {
        self.mark.as_ref().map_or(Ok(()), |mark| mark.wait())
    }
}

/// Milliseconds since 1970.
#[allow(
    clippy::disallowed_types,
    reason = "what is to mean something to the next process is in wall-clock terms"
)]
pub(crate) fn wall() -> u64 {
    use std::time::SystemTime;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lease_until(until: Option<Duration>, now: Duration) -> Option<Lease> {
    let length = u64::try_from(until?.saturating_sub(now).as_millis()).unwrap_or(u64::MAX);
    Some(Lease { ends: wall().saturating_add(length), length })
}

pub(crate) fn end_of(lease: Option<Lease>, now: Duration) -> Option<Duration> {
    now.checked_add(Duration::from_millis(lease?.left(wall())))
}

fn insert(number: u64, entry: &Entry, data: Vec<u8>, now: Duration) -> Change {
    Change::Insert { number, lease: lease_until(entry.until, now), data }
}

/// A tuple that was encoded once can be again.
fn bytes_of(tuple: &Tuple) -> Vec<u8> {
    encode_tuple(tuple).unwrap_or_default()
}

/// Names of transactions are not in the file: so that those of the owner before are not given again, each owner begins far
/// behind the last number in the file, and writes down where.
fn after(last: u64) -> u64 {
    const BITS: u32 = 32;
    ((last >> BITS) + 1) << BITS
}

impl SharedSpace {
    /// A space on a file, with all that lies there.
    pub fn open(
        path: &Path,
        fsync: bool,
        repair: bool,
        now: Moment,
    ) -> Result<(Self, Option<Repaired>), Error> {
        let (ledger, contents, repaired) = Ledger::open(path, fsync, repair)?;
        let first = after(contents.last);
        // With a full disk it is opened all the same: what is there can be read.
        match ledger.lay(Vec::new(), first, None).wait() {
            Ok(()) | Err(Error::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut space = Space::that_holds(first);
        let now = since_epoch(now);
        let outside = &mut Outside { now, call: &mut |_| false };
        for found in contents.tuples {
            let tuple = decode_tuple(&found.data).map_err(|error| {
                let damage = format!("tuple {}: {error}", found.number);
                Error::Damaged { path: path.into(), damage }
            })?;
            let entry = Entry { tuple, until: end_of(found.lease, now) };
            let claim = found.claim.map(|claim| {
                (ClaimId::from_number(claim.token), claim.lease.and_then(|lease| end_of(Some(lease), now)))
            });
            space.restore(found.number, entry, claim, outside);
        }
        let (known, forgotten) = outcome::restore(contents.outcomes, &mut space, outside);
        ledger.lay_later(forgotten);
        let (space, known) = (Mutex::new(space), Mutex::new(known));
        Ok((Self { space, ledger: Some(ledger), known, ..Self::default() }, repaired))
    }

    /// Its file, if it has one.
    #[must_use]
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Says when all that was laid down before is in the file, what nobody waits for included.
    pub fn flush(&self, told: Option<Told>) -> Option<Arc<Mark>> {
        let space = self.space.lock();
        self.lay(&space, Vec::new(), told)
    }

    /// Lays down what has changed, for who has the lock.
    fn lay(&self, space: &Space<Name>, changes: Vec<Change>, told: Option<Told>) -> Option<Arc<Mark>> {
        Some(self.ledger.as_ref()?.lay(changes, space.last_number(), told))
    }

    /// Begins to write a tuple. None: it is written.
    pub fn begin_write<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        (tuple, lease): (Tuple, Option<Duration>),
        told: Option<Told>,
    ) -> Result<Option<Pending>, CodecError> {
        if self.ledger.is_none() {
            self.with(world, now, |space, outside| space.write(tuple, lease, outside));
            return Ok(None);
        }
        Ok(Some(self.begin_numbered(world, now, (tuple, lease), None, told)?.1))
    }

    /// Looks without waiting, as [`Space::attempt`] does; what is found may be pending.
    pub fn look<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        (wanted, ticket): (&Wanted, Option<Ticket>),
        operation: Option<OperationId>,
        told: impl FnOnce() -> Option<Told>,
    ) -> Result<Option<Look>, Refused> {
        self.with(world, now, |space, outside| {
            let Some(given) = space.attempt(wanted, ticket, outside)? else { return Ok(None) };
            let Some(claim) = given.claim else { return Ok(Some(Look { given, pending: None })) };
            let number = given.number;
            if wanted.within.is_some() {
                let pending = Pending { mark: None, what: What::Within { claim }, row: None };
                return Ok(Some(Look { given, pending: Some(pending) }));
            }
            let tuple = &given.tuple;
            let (what, change, outcome) = match wanted.how {
                How::Claim(lease) => {
                    let lease = lease_until(outside.now.checked_add(lease), outside.now);
                    let claimed = Claim { token: claim.number(), lease };
                    let outcome = Outcome::Claimed { claim, number, tuple };
                    (What::Claim { claim, number }, Change::Claim { number, claim: claimed }, outcome)
                }
                _ => {
                    let entry = Entry { tuple: Arc::clone(tuple), until: given.until };
                    let lease = lease_until(given.until, outside.now);
                    let outcome = Outcome::Taken { number, lease, tuple };
                    (What::Take { claim, number, entry }, Change::Remove { number }, outcome)
                }
            };
            let mut changes = vec![change];
            let row = self.note_outcome(space, operation, &outcome, &mut changes);
            let mark = if self.ledger.is_some() { self.lay(space, changes, told()) } else { None };
            Ok(Some(Look { given, pending: Some(Pending { mark, what, row }) }))
        })
    }

    /// Begins to end a transaction.
    pub fn begin_commit<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        id: TransactionId,
        operation: Option<OperationId>,
        told: Option<Told>,
    ) -> Result<Pending, Refused> {
        self.with(world, now, |space, outside| {
            let prepared = space.prepare(id, outside)?;
            let taken = prepared.taken.iter().map(|&(_, number)| Change::Remove { number });
            let written = prepared
                .written
                .iter()
                .map(|(number, entry)| insert(*number, entry, bytes_of(&entry.tuple), outside.now));
            let mut changes: Vec<_> =
                if self.ledger.is_some() { taken.chain(written).collect() } else { Vec::new() };
            let row = self.note_outcome(space, operation, &Outcome::Done, &mut changes);
            let mark = self.lay(space, changes, told);
            Ok(Pending { mark, what: What::Commit(prepared), row })
        })
    }

    /// Begins to confirm a claim.
    pub fn begin_confirm<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        claim: ClaimId,
        operation: Option<OperationId>,
        told: Option<Told>,
    ) -> Result<Pending, Refused> {
        self.with(world, now, |space, outside| {
            let held = space.confirm(claim, outside)?;
            let mut changes = vec![Change::Remove { number: held.number }];
            let row = self.note_outcome(space, operation, &Outcome::Done, &mut changes);
            let mark = self.lay(space, changes, told);
            Ok(Pending { mark, what: What::Confirm(held), row })
        })
    }

    /// Extends a claim; the mark says when that is in the file.
    pub fn renew<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        (claim, lease): (ClaimId, Duration),
        told: Option<Told>,
    ) -> Result<Option<Arc<Mark>>, Refused> {
        self.with(world, now, |space, outside| {
            space.renew(claim, lease, outside)?;
            let Some(number) = space.claimed(claim) else { return Err(Refused::ClaimOver) };
            let lease = lease_until(outside.now.checked_add(lease), outside.now);
            let claim = Claim { token: claim.number(), lease };
            Ok(self.lay(space, vec![Change::Claim { number, claim }], told))
        })
    }

    /// Ends a claim: its tuple comes back.
    pub fn give_back<P: Payload<Waker: Wakes>>(&self, world: &World<P>, now: Moment, claim: ClaimId) {
        self.with(world, now, |space, outside| {
            if let Some(number) = space.claimed(claim) {
                self.lay(space, vec![Change::Release { number }], None);
            }
            space.give_back(claim, outside);
        });
    }

    /// What is pending is in the file, so it happens; or it could not be written, so it does not.
    pub fn finish<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        pending: Pending,
        is_written: bool,
    ) {
        self.with(world, now, |space, outside| match (pending.what, is_written) {
            (What::Write { number, entry }, true) => space.publish(number, entry, outside),
            // It has no end of its own, so it is held still.
            (What::Take { claim, .. }, true) => drop(space.confirm(claim, outside)),
            (What::Commit(prepared), true) => space.finish(prepared, outside),
            (What::Commit(prepared), false) => space.abandon(prepared, outside),
            (What::Confirm(held), false) => space.offer_again(held, outside),
            (What::Take { claim, .. } | What::Claim { claim, .. } | What::Within { claim }, false) => {
                space.give_back(claim, outside);
            }
            (What::Claim { .. } | What::Within { .. } | What::Confirm(_), true)
            | (What::Write { .. }, false) => {}
        });
    }

    /// What was taken cannot be used by who took it: it is behind all others now, so that it is in nobody's way.
    pub fn put_last<P: Payload<Waker: Wakes>>(&self, world: &World<P>, now: Moment, pending: Pending) {
        self.with(world, now, |space, outside| {
            let (claim, old) = match &pending.what {
                What::Take { claim, number, .. } | What::Claim { claim, number } => (*claim, *number),
                _ => return,
            };
            let Some((number, entry)) = space.put_last(claim, outside) else { return };
            let mut changes = vec![
                Change::Remove { number: old },
                insert(number, &entry, bytes_of(&entry.tuple), outside.now),
            ];
            changes.extend(pending.forgotten());
            self.lay(space, changes, None);
            space.offer_last(number, entry, outside);
        });
    }

    /// Takes back what was written, if it lies there still.
    pub fn retract<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        number: u64,
        row: Option<u64>,
    ) {
        self.with(world, now, |space, outside| {
            let is_there = space.retract(number, outside);
            let removed = is_there.then_some(Change::Remove { number });
            let changes: Vec<_> =
                removed.into_iter().chain(row.map(|number| Change::Forget { number })).collect();
            if !changes.is_empty() {
                self.lay(space, changes, None);
            }
        });
    }

    /// Whoever asked for what is done may not have heard so, and ask again: for a tuple of this number to be written, or for
    /// something else.
    pub fn remember(&self, operation: OperationId, row: u64, written: Option<u64>) {
        self.known.lock().insert(operation, (row, written.map_or(Kept::Done, Kept::Written)));
    }

    /// Writes a tuple that can be taken back: as [`Self::begin_write`], with its number.
    pub fn begin_numbered<P: Payload<Waker: Wakes>>(
        &self,
        world: &World<P>,
        now: Moment,
        (tuple, lease): (Tuple, Option<Duration>),
        operation: Option<OperationId>,
        told: Option<Told>,
    ) -> Result<(u64, Pending), CodecError> {
        let data = if self.ledger.is_some() { encode_tuple(&tuple)? } else { Vec::new() };
        Ok(self.with(world, now, |space, outside| {
            let until = lease.and_then(|lease| outside.now.checked_add(lease));
            let (number, entry) = (space.reserve(), Entry { tuple, until });
            let mut row = None;
            let mark = match &self.ledger {
                Some(_) => {
                    let mut changes = vec![insert(number, &entry, data, outside.now)];
                    row = self.note_outcome(space, operation, &Outcome::Written(number), &mut changes);
                    self.lay(space, changes, told)
                }
                None => None,
            };
            (number, Pending { mark, what: What::Write { number, entry }, row })
        }))
    }

    /// Whoever began it has given up: it is as if it had not been begun, in the file too.
    pub fn undo<P: Payload<Waker: Wakes>>(&self, world: &World<P>, now: Moment, pending: Pending) {
        self.with(world, now, |space, outside| {
            let change = match &pending.what {
                What::Write { number, .. } => Change::Remove { number: *number },
                What::Take { number, entry, .. } if self.ledger.is_some() => {
                    insert(*number, entry, bytes_of(&entry.tuple), outside.now)
                }
                What::Take { number, .. } | What::Claim { number, .. } => Change::Release { number: *number },
                What::Within { claim } => {
                    space.give_back(*claim, outside);
                    return;
                }
                What::Commit(_) | What::Confirm(_) => return,
            };
            let changes = std::iter::once(change).chain(pending.forgotten()).collect();
            self.lay(space, changes, None);
            match pending.what {
                What::Take { claim, .. } | What::Claim { claim, .. } => drop(space.give_back(claim, outside)),
                _ => {}
            }
        });
    }
}
