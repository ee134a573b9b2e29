//! What is asked and has to be written, until it is in the file; and what was offered, until it is taken or not.

use std::sync::{Arc, Weak};

use rustix_futex_sync::Mutex;
use thistledown_exchange::{Post, RequestId};
use thistledown_ledger::{Error, Mark, Told};
use thistledown_runtime::{Look, Pending};
use thistledown_space::{How, OperationId, Wanted, encode_given};

use crate::payload::WORLD;
use crate::space::hub::again::Named;
use crate::space::hub::{Hub, code, parcel};

/// What was offered, and is taken or not.
pub(super) enum Offered {
    /// The number of the tuple; and of which operation, for who may ask again.
    Write(u64, Option<Named>),
    Look(Arc<Wanted>, Look),
    /// It is done, whatever becomes of the offer; who takes it does not ask again.
    Settled(Named),
}

/// What is done when it is in the file.
pub(super) enum Job {
    Write {
        request: RequestId,
        number: u64,
        pending: Pending,
        operation: Option<OperationId>,
    },
    Look {
        request: RequestId,
        wanted: Arc<Wanted>,
        look: Look,
    },
    Settle {
        request: RequestId,
        pending: Pending,
        operation: Option<OperationId>,
    },
    /// What lay before it is in the file, and what was given up meanwhile has been undone.
    Undo {
        request: RequestId,
        mark: Option<Arc<Mark>>,
    },
    /// Nothing is left to do but to answer.
    Note {
        request: RequestId,
        mark: Option<Arc<Mark>>,
    },
}

impl Job {
    pub(super) fn state(&self) -> Option<Result<(), Error>> {
        match self {
            Self::Write { pending, .. } | Self::Settle { pending, .. } => pending.state(),
            Self::Look { look, .. } => look.pending.as_ref().map_or(Some(Ok(())), Pending::state),
            Self::Undo { mark, .. } | Self::Note { mark, .. } => {
                mark.as_ref().map_or(Some(Ok(())), |mark| mark.state())
            }
        }
    }
}

/// Where a job and the news that it is in the file meet; whichever comes last does the rest.
pub(super) struct Slot {
    hub: Weak<Hub>,
    job: Mutex<(Option<Job>, bool)>,
}

impl Slot {
    pub(super) fn told(self: &Arc<Self>) -> Told {
        let slot = Arc::clone(self);
        Box::new(move || {
            let job = {
                let mut job = slot.job.lock();
                job.1 = true;
                job.0.take()
            };
            if let (Some(job), Some(hub)) = (job, slot.hub.upgrade()) {
                hub.with_post(|post| hub.done(job, post));
            }
        })
    }

    pub(super) fn put(&self, job: Job) -> Option<Job> {
        let mut kept = self.job.lock();
        if kept.1 || job.state().is_some() {
            return Some(job);
        }
        kept.0 = Some(job);
        None
    }
}

fn named(operation: Option<OperationId>, row: Option<u64>) -> Option<Named> {
    operation.zip(row).map(|(operation, row)| Named { operation, row })
}

impl Hub {
    pub(super) fn slot(&self) -> Arc<Slot> {
        Arc::new(Slot { hub: Weak::clone(&self.me), job: Mutex::default() })
    }

    /// What is told when something is in the file, for a space that has one.
    pub(super) fn told(&self, slot: &Arc<Slot>) -> Option<Told> {
        self.shared.ledger().map(|_| slot.told())
    }

    pub(super) fn when_written(&self, slot: &Slot, job: Job, post: &mut Post<'_>) {
        if let Some(job) = slot.put(job) {
            self.done(job, post);
        }
    }

    /// It is in the file, or could not be written.
    pub(super) fn done(&self, job: Job, post: &mut Post<'_>) {
        let state = job.state().unwrap_or(Ok(()));
        let now = self.now();
        match job {
            Job::Write { request, number, pending, operation } => {
                let named = named(operation, pending.row());
                self.shared.finish(&WORLD, now, pending, state.is_ok());
                match state {
                    Ok(()) => self.offer(request, Offered::Write(number, named), &[], post),
                    Err(error) => {
                        self.refuse_file(request, &error, post);
                        self.over(operation, post);
                    }
                }
            }
            Job::Look { request, wanted, look } => {
                match (state, encode_given(&look.given.tuple, look.given.claim)) {
                    (Ok(()), Ok(bytes)) => self.offer(request, Offered::Look(wanted, look), &bytes, post),
                    (Ok(()), Err(error)) => {
                        self.undo(Offered::Look(wanted, look), post);
                        self.refuse(request, code::WORDS, &error.to_string(), post);
                    }
                    (Err(error), _) => {
                        if let Some(pending) = look.pending {
                            self.shared.finish(&WORLD, now, pending, false);
                        }
                        self.refuse_file(request, &error, post);
                    }
                }
            }
            Job::Settle { request, pending, operation } => {
                let named = named(operation, pending.row());
                self.shared.finish(&WORLD, now, pending, state.is_ok());
                match (named, &state) {
                    (Some(named), Ok(())) => self.offer(request, Offered::Settled(named), &[], post),
                    _ => {
                        self.answer_or_refuse(request, state, post);
                        self.over(operation, post);
                    }
                }
            }
            Job::Undo { request, .. } => {
                let slot = self.slot();
                let mark = self.shared.flush(self.told(&slot));
                self.when_written(&slot, Job::Note { request, mark }, post);
            }
            Job::Note { request, .. } => self.answer_or_refuse(request, state, post),
        }
    }

    pub(super) fn answer_or_refuse(&self, request: RequestId, state: Result<(), Error>, post: &mut Post<'_>) {
        match state {
            Ok(()) => self.answer(request, &[], post),
            Err(error) => self.refuse_file(request, &error, post),
        }
    }

    pub(super) fn offer(&self, request: RequestId, offered: Offered, bytes: &[u8], post: &mut Post<'_>) {
        let refused = {
            let mut state = self.state.lock();
            match state.open.remove(&request) {
                Some(_) => {
                    state.offered.insert(request, offered);
                    None
                }
                None => Some(offered),
            }
        };
        if let Some(offered) = refused {
            return self.undo(offered, post);
        }
        if !post.offer(request, &parcel(bytes))
            && let Some(offered) = self.take_offered(request)
        {
            self.undo(offered, post);
        }
    }

    pub(super) fn take_offered(&self, request: RequestId) -> Option<Offered> {
        self.state.lock().offered.remove(&request)
    }

    /// It has not happened.
    pub(super) fn undo(&self, offered: Offered, post: &mut Post<'_>) {
        let now = self.now();
        match offered {
            Offered::Write(number, named) => self.undo_write(number, named, post),
            Offered::Settled(named) => self.keep_settled(named, post),
            Offered::Look(wanted, Look { given, pending: None }) => {
                // What its own transaction has written is there again.
                if let Some(id) = wanted.within.filter(|_| wanted.how == How::Take) {
                    // If that is over meanwhile, it is gone with it.
                    let _ = self.shared.with(&WORLD, now, |space, outside| {
                        space.write_within(id, given.tuple, None, outside)
                    });
                }
            }
            Offered::Look(_, Look { given, pending: Some(pending) }) => {
                let is_spoilt = given.claim.is_some_and(|claim| self.state.lock().spoilt.remove(&claim));
                match is_spoilt {
                    true => self.shared.put_last(&WORLD, now, pending),
                    false => self.shared.undo(&WORLD, now, pending),
                }
            }
        }
    }
}
