//! Asking a space that is elsewhere for what comes at once, and telling it something.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use thistledown_exchange::{Asked, Broken, Hearing, Parcel, Told};
use thistledown_space::{Act, Ask, ClaimId, How, OperationId, Tuple, Wanted, decode_given};

use crate::errors;
use crate::outside::outside_until;
use crate::space::cannot_be_written;
use crate::space::far::line::{Gone, Owner};
use crate::space::far::{FarSpace, NUMBERS, broken, garbled, now, refusal};
use crate::space::hub::{VERB, bytes_of, code};

impl FarSpace {
    /// What an act is called that must happen once though it is asked twice.
    pub(super) fn operation(&self, act: &Act) -> Option<OperationId> {
        let has_name = match act {
            Act::Write(_, _, None) | Act::Confirm(_) | Act::Commit(_) => true,
            Act::Look(wanted, _) => wanted.within.is_none() && wanted.how != How::Read,
            _ => false,
        };
        let number = || NUMBERS.fetch_add(1, Ordering::Relaxed);
        (has_name && self.is_on_file()).then(|| OperationId { asker: self.asker, number: number() })
    }

    pub(super) fn body(operation: Option<OperationId>, act: Act) -> PyResult<Parcel> {
        let bytes = Ask { now: now(), operation, act }.to_bytes().map_err(cannot_be_written)?;
        Parcel::new(&bytes, &[]).map_err(|error| errors::system(&error))
    }

    /// Asks, and sleeps until it is told; again, until somebody has told. An offer stands until what is asked is dropped.
    /// Signals are heard meanwhile; what one of them ends, is given up.
    pub(super) fn ask_and_hear(&self, py: Python<'_>, body: &Parcel) -> PyResult<(Asked, Told)> {
        let mut asked: Option<(u64, u32, Hearing)> = None;
        let heard = outside_until(py, |at_most| {
            let (turn, owner, hearing) = match asked.take() {
                Some(asked) => asked,
                None => match self.owner_for(at_most)? {
                    Err(gone) => return Some(Err(gone)),
                    Ok((turn, handle)) => match handle.ask_to_hear(VERB, body) {
                        Ok(hearing) => (turn, handle.id().owner.pid, hearing),
                        Err(why) => {
                            self.lose(turn, why);
                            return None;
                        }
                    },
                },
            };
            match hearing.sleep(at_most) {
                None => asked = Some((turn, owner, hearing)),
                Some(Told::Broken(why)) => self.lose(turn, why),
                Some(Told::Refusal { code: code::CLOSED, .. }) if self.is_on_file() => {
                    self.lose(turn, Broken::NoObject { pid: owner });
                }
                Some(told) => return Some(Ok((hearing.into_asked(), told))),
            }
            None
        });
        heard?.map_err(|gone: Gone| gone.error())
    }

    /// Asks, and hears. What is given up meanwhile has not happened, also with the next owner; but what has no name, or cannot
    /// be undone, may have.
    fn ask_named(&self, py: Python<'_>, operation: Option<OperationId>, act: Act) -> PyResult<(Asked, Told)> {
        let body = Self::body(operation, act)?;
        self.ask_and_hear(py, &body).inspect_err(|_| {
            operation.into_iter().for_each(|operation| self.forsake(operation));
        })
    }

    /// Asks, and waits for what comes of it in this thread. An offer is taken.
    pub(crate) fn ask(&self, py: Python<'_>, act: Act) -> PyResult<Vec<u8>> {
        let operation = self.operation(&act);
        let (asked, told) = self.ask_named(py, operation, act)?;
        match told {
            Told::Answer(body) => bytes_of(&body).map_err(garbled),
            Told::Offer(body) => {
                asked.accept();
                bytes_of(&body).map_err(garbled)
            }
            Told::Refusal { code, body } => Err(refusal(code, &body)),
            Told::Broken(why) => Err(broken(why)),
        }
    }

    /// Takes or claims what is there now: it is this process's when what is given with it says so.
    pub(crate) fn look_now(
        self: &Arc<Self>,
        py: Python<'_>,
        wanted: &Arc<Wanted>,
    ) -> PyResult<Option<(Given, Offered)>> {
        let act = Act::Look(Arc::clone(wanted), None);
        let operation = self.operation(&act);
        let (asked, told) = self.ask_named(py, operation, act)?;
        match told {
            Told::Offer(body) => {
                let given = bytes_of(&body).and_then(|bytes| decode_given(&bytes)).map_err(garbled)?;
                Ok(Some((given, Offered { asked: Some(asked), operation, space: Arc::clone(self) })))
            }
            Told::Answer(_) => Ok(None),
            Told::Refusal { code, body } => Err(refusal(code, &body)),
            Told::Broken(why) => Err(broken(why)),
        }
    }

    /// Tells it something, if it is there.
    pub(crate) fn tell(&self, act: Act) {
        if let (Owner::Known(handle), Ok(body)) = (self.owner().1, Self::body(None, act)) {
            // Who is gone need not be told.
            let _ = handle.tell(VERB, &body);
        }
    }
}

/// A tuple that is offered, and what holds it.
pub(crate) type Given = (Tuple, Option<ClaimId>);

/// What keeps a tuple for this process, until it is taken; or, dropped, gives it back, also with the next owner.
pub(crate) struct Offered {
    asked: Option<Asked>,
    operation: Option<OperationId>,
    space: Arc<FarSpace>,
}

impl Offered {
    pub(crate) fn accept(mut self) {
        if let Some(asked) = self.asked.take() {
            asked.accept();
        }
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        if let Some(asked) = self.asked.take() {
            drop(asked);
            self.operation.into_iter().for_each(|operation| self.space.forsake(operation));
        }
    }
}
