//! Claims: a tuple that is taken for a time.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use thistledown_runtime::{Look, Pending, SharedSpace};
use thistledown_space::{ClaimId, How, Tuple, Wanted};

use crate::current::{Run, number_of_seconds};
use crate::errors;
use crate::outside::outside;
use crate::payload::WORLD;
use crate::space::far::{self, FarSpace, Seat};
use crate::space::fields;
use crate::space::{Space, lease, refused, settle};

/// A tuple that was taken for a time: confirm that it is done with, or it comes back.
///
/// ``space.take(template, lease=30)`` gives one. Use it by ``with``, which gives the tuple: the end of the block
/// confirms, an exception gives the tuple back. When the time is over before either, the tuple is back in its old place,
/// for somebody else, and ``confirm`` raises ``LeaseExpired``. A claim that is dropped ends with its time.
///
/// Source: the leases of JavaSpaces; SQS calls the lease a visibility timeout and confirming a delete.
#[pyclass(frozen, module = "thistledown")]
pub(crate) struct Claim {
    space: Py<Space>,
    id: ClaimId,
    tuple: Py<PyTuple>,
    state: AtomicU8,
}

/// What its holder has done with a claim.
mod state {
    pub(super) const HELD: u8 = 0;
    pub(super) const CONFIRMED: u8 = 1;
    pub(super) const GIVEN_BACK: u8 = 2;
    /// It was to be confirmed, and that could not be written.
    pub(super) const FAILED: u8 = 3;
    /// Somebody waits for the process that has the space to confirm it.
    pub(super) const CONFIRMING: u8 = 4;
}

/// What somebody gets who looked for a tuple, and what was pending has happened; or it cannot be made, and is undone.
///
/// A tuple that cannot be made here is put behind all others, so that it is in nobody's way.
pub(crate) fn given(
    py: Python<'_>,
    space: &Py<Space>,
    shared: &SharedSpace,
    look: Look,
) -> PyResult<Py<PyAny>> {
    let Look { given, pending } = look;
    let is_claimed = pending.as_ref().is_some_and(Pending::is_claim);
    let made = make(py, space, (&given.tuple, given.claim), is_claimed);
    match (pending, &made) {
        (Some(pending), Ok(_)) => shared.finish(&WORLD, Run::now(), pending, true),
        (Some(pending), Err(_)) => shared.put_last(&WORLD, Run::now(), pending),
        (None, _) => {}
    }
    made
}

/// What somebody gets whom a space of another process has offered a tuple.
pub(crate) fn given_far(
    py: Python<'_>,
    space: &Py<Space>,
    far: &FarSpace,
    wanted: &Wanted,
    given: &far::Given,
    accept: impl FnOnce(),
) -> PyResult<Py<PyAny>> {
    let made = make(py, space, (&given.0, given.1), matches!(wanted.how, How::Claim(_)));
    match (&made, given.1) {
        (Ok(_), claim) => {
            if let (Some(claim), How::Claim(_)) = (claim, wanted.how) {
                far.note_claim(claim, true);
            }
            accept();
        }
        (Err(_), Some(claim)) => far.tell(far::Act::Spoilt(claim)),
        (Err(_), None) => {}
    }
    made
}

fn make(
    py: Python<'_>,
    space: &Py<Space>,
    (tuple, claim): (&Tuple, Option<ClaimId>),
    is_claimed: bool,
) -> PyResult<Py<PyAny>> {
    let tuple = fields::to_python(py, tuple)?.unbind();
    Ok(match claim {
        Some(id) if is_claimed => {
            let claim = Claim { space: space.clone_ref(py), id, tuple, state: AtomicU8::new(state::HELD) };
            Py::new(py, claim)?.into_any()
        }
        _ => tuple.into_any(),
    })
}

impl Claim {
    /// Refuses what comes after it was confirmed or given back.
    fn check_held(&self, py: Python<'_>) -> PyResult<()> {
        let words = match self.state.load(Ordering::Relaxed) {
            state::CONFIRMED => "the claim is over: it was confirmed already, and the tuple is gone for good",
            state::GIVEN_BACK => {
                "the claim is over: it was given back already, and the tuple is others' to take"
            }
            state::FAILED => "the claim is over: it could not be confirmed before, and the tuple went back",
            state::CONFIRMING => "the claim is being confirmed by another thread at this moment",
            _ => return Ok(()),
        };
        Err(errors::lease_expired(py, words))
    }

    fn is_over(&self) -> bool {
        self.state.load(Ordering::Relaxed) != state::HELD
    }

    fn note(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }
}

#[pymethods]
impl Claim {
    /// The tuple.
    #[getter]
    fn tuple(&self, py: Python<'_>) -> Py<PyTuple> {
        self.tuple.clone_ref(py)
    }

    /// The tuple is done with, and gone for good.
    ///
    /// While it waits for the process that has the space, signals are heard. What the handler of one raises may come when it
    /// has happened: then the tuple is gone for good, or the claim stands until its lease is over.
    ///
    /// Raises:
    ///     LeaseExpired: too late, the tuple went back; or it was confirmed or given back before. Says which.
    ///     SpaceBroken: the space is on a file, and that cannot be written. The tuple is back in its place.
    fn confirm(&self, py: Python<'_>) -> PyResult<()> {
        self.check_held(py)?;
        let space = self.space.get();
        space.check()?;
        match space.seat() {
            Seat::Here(home) => {
                let pending =
                    home.shared.begin_confirm(&WORLD, Run::now(), self.id, None, None).map_err(refused)?;
                self.note(state::CONFIRMED);
                settle(py, &home.shared, pending).inspect_err(|_| self.note(state::FAILED))
            }
            Seat::Far(far) => {
                // Other threads run while this one waits.
                self.note(state::CONFIRMING);
                far.ask(py, far::Act::Confirm(self.id)).inspect_err(|_| self.note(state::HELD))?;
                far.note_claim(self.id, false);
                self.note(state::CONFIRMED);
                Ok(())
            }
        }
    }

    /// Gives the tuple back at once, to its old place. If it is there already, nothing happens: it was given back before, or
    /// the lease is over.
    ///
    /// Raises:
    ///     LeaseExpired: it was confirmed before, so the tuple is gone for good; or another thread is about to confirm it.
    fn give_back(&self, py: Python<'_>) -> PyResult<()> {
        match self.state.load(Ordering::Relaxed) {
            state::CONFIRMED => {
                return Err(errors::lease_expired(
                    py,
                    "the claim was confirmed before, so the tuple is gone for good: write it again to have it in the space",
                ));
            }
            state::CONFIRMING => return self.check_held(py),
            state::HELD => self.note(state::GIVEN_BACK),
            _ => return Ok(()),
        }
        if self.space.get().check().is_ok() {
            match self.space.get().seat() {
                Seat::Here(home) => home.shared.give_back(&WORLD, Run::now(), self.id),
                Seat::Far(far) => far.give_back(self.id),
            }
        }
        Ok(())
    }

    /// Extends the claim: it ends ``lease`` seconds from now.
    ///
    /// Args:
    ///     lease: seconds, more than 0.
    ///
    /// Raises:
    ///     LeaseExpired: too late, the tuple went back; or it was confirmed or given back before. Says which.
    fn renew(&self, py: Python<'_>, #[pyo3(from_py_with = number_of_seconds)] lease: f64) -> PyResult<()> {
        self.check_held(py)?;
        let lease = self::lease(Some(lease))?.unwrap_or(Duration::MAX);
        let space = self.space.get();
        space.check()?;
        let home = match space.seat() {
            Seat::Here(home) => home,
            Seat::Far(far) => return far.ask(py, far::Act::Renew(self.id, lease)).map(drop),
        };
        let mark = home.shared.renew(&WORLD, Run::now(), (self.id, lease), None).map_err(refused)?;
        match mark {
            None => Ok(()),
            Some(mark) => outside(py, || mark.wait()).map_err(|error| errors::of_ledger(&error)),
        }
    }

    fn __enter__(&self, py: Python<'_>) -> Py<PyTuple> {
        self.tuple.clone_ref(py)
    }

    #[pyo3(signature = (kind, _error, _trace, /))]
    fn __exit__(
        &self,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        match (self.is_over(), kind.is_none()) {
            (true, _) => {}
            (false, true) => self.confirm(kind.py())?,
            (false, false) => self.give_back(kind.py())?,
        }
        Ok(false)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = if self.is_over() { ", over" } else { "" };
        Ok(format!("<thistledown.Claim {}{state}>", self.tuple.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.space)?;
        visit.call(&self.tuple)
    }
}

/// Nobody can confirm it any more: it ends with its time, whoever has the space then.
impl Drop for Claim {
    fn drop(&mut self) {
        if let (false, Seat::Far(far)) = (self.is_over(), self.space.get().seat()) {
            far.note_claim(self.id, false);
        }
    }
}
