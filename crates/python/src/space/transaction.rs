//! Transactions of a space.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use thistledown_space::{How, TransactionId, Tuple, Wanted, encode_tuple};

use crate::current::{Run, seconds_or_none};
use crate::errors;
use crate::operation::Operation;
use crate::payload::WORLD;
use crate::space::far::{self, Seat};
use crate::space::fields;
use crate::space::wait::{Act, SpaceOperation};
use crate::space::{Space, act, cannot_be_written, lease, refused, settle, wanted};

/// Several takes and writes that are one act: at the end of its ``with`` block all of it has happened, or nothing.
///
/// ``space.transaction()`` begins one. What is taken in it is out of the space meanwhile; what is written in it can be
/// found in it alone. When it is committed, all that was written is there at once; when it is rolled back, all that was
/// taken is in its old place. What waits in a transaction when that ends raises RuntimeError. A transaction that is
/// dropped is rolled back. Source: JavaSpaces.
#[pyclass(frozen, module = "thistledown")]
pub(crate) struct Transaction {
    space: Py<Space>,
    id: TransactionId,
    over: AtomicBool,
}

impl Transaction {
    pub(crate) fn begin(py: Python<'_>, space: Py<Space>) -> PyResult<Self> {
        space.get().check()?;
        let id = match space.get().seat() {
            Seat::Here(home) => act(&home.shared, |space, _| space.begin()),
            Seat::Far(far) => {
                let number = far::number(&far.ask(py, far::Act::Begin)?)?;
                TransactionId::from_number(number as u64)
            }
        };
        Ok(Self { space, id, over: AtomicBool::new(false) })
    }

    fn wanted(&self, template: &Bound<'_, PyAny>, how: How) -> PyResult<Wanted> {
        Ok(Wanted { within: Some(self.id), ..wanted(template, how)? })
    }

    /// A tuple that can be written.
    fn tuple(&self, tuple: &Bound<'_, PyAny>) -> PyResult<Tuple> {
        let tuple = fields::tuple(tuple)?;
        if matches!(self.space.get().seat(), Seat::Here(home) if home.shared.ledger().is_some()) {
            encode_tuple(&tuple).map_err(cannot_be_written)?;
        }
        Ok(tuple)
    }

    fn look(&self, template: &Bound<'_, PyAny>, how: How) -> PyResult<Operation> {
        let act = Act::Look(Arc::new(self.wanted(template, how)?));
        Ok(SpaceOperation::make(self.space.clone_ref(template.py()), act))
    }

    fn look_now(&self, template: &Bound<'_, PyAny>, how: How) -> PyResult<Option<Py<PyTuple>>> {
        self.space.get().look_now(template.py(), self.wanted(template, how)?)
    }
}

#[pymethods]
impl Transaction {
    /// An operation that writes a tuple, which others find when the transaction is committed. Its lease begins then.
    ///
    /// Args:
    ///     tuple: as of ``Space.write``.
    ///     lease: seconds after which it is gone by itself; ``None`` keeps it.
    #[pyo3(signature = (tuple, /, lease=None))]
    fn write(
        &self,
        tuple: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = seconds_or_none)] lease: Option<f64>,
    ) -> PyResult<Operation> {
        let act = Act::Write(self.tuple(tuple)?, self::lease(lease)?, Some(self.id));
        Ok(SpaceOperation::make(self.space.clone_ref(tuple.py()), act))
    }

    /// Writes a tuple at once, for when the transaction is committed.
    ///
    /// Args:
    ///     tuple: as of ``Space.write``.
    ///     lease: seconds after which it is gone by itself; ``None`` keeps it.
    #[pyo3(signature = (tuple, /, lease=None))]
    fn write_nowait(
        &self,
        tuple: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = seconds_or_none)] lease: Option<f64>,
    ) -> PyResult<()> {
        let (py, tuple, lease) = (tuple.py(), self.tuple(tuple)?, self::lease(lease)?);
        match self.space.get().seat() {
            Seat::Here(home) => {
                let written =
                    act(&home.shared, |space, outside| space.write_within(self.id, tuple, lease, outside));
                written.map_err(refused)
            }
            Seat::Far(far) => far.ask(py, far::Act::Write(tuple, lease, Some(self.id))).map(drop),
        }
    }

    /// An operation that takes a tuple: one that the transaction wrote itself, or else one of the space's.
    ///
    /// Args:
    ///     template: as of ``Space.take``.
    #[pyo3(signature = (template, /))]
    fn take(&self, template: &Bound<'_, PyAny>) -> PyResult<Operation> {
        self.look(template, How::Take)
    }

    /// An operation that gives a copy of a tuple, which is not held: somebody else may take it meanwhile.
    ///
    /// Args:
    ///     template: as of ``Space.read``.
    #[pyo3(signature = (template, /))]
    fn read(&self, template: &Bound<'_, PyAny>) -> PyResult<Operation> {
        self.look(template, How::Read)
    }

    /// Takes a tuple that is there now, or gives ``None``.
    ///
    /// Args:
    ///     template: as of ``Space.take``.
    #[pyo3(signature = (template, /))]
    fn take_nowait(&self, template: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyTuple>>> {
        self.look_now(template, How::Take)
    }

    /// Gives a copy of a tuple that is there now, or ``None``.
    ///
    /// Args:
    ///     template: as of ``Space.read``.
    #[pyo3(signature = (template, /))]
    fn read_nowait(&self, template: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyTuple>>> {
        self.look_now(template, How::Read)
    }

    /// Ends the transaction: all of it has happened.
    ///
    /// Of a space that is on a file, all of it is in the file when this returns, or nothing is. While it waits for the process
    /// that has the space, signals are heard: what the handler of one raises may come when all of it has happened.
    ///
    /// Raises:
    ///     RuntimeError: it has ended before.
    ///     SpaceBroken: the file cannot be written, so nothing of it has happened.
    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        let space = self.space.get();
        space.check()?;
        self.over.store(true, Ordering::Relaxed);
        let home = match space.seat() {
            Seat::Here(home) => home,
            Seat::Far(far) => {
                far.leave(self.id);
                return far.ask(py, far::Act::Commit(self.id)).map(drop);
            }
        };
        let pending = home.shared.begin_commit(&WORLD, Run::now(), self.id, None, None).map_err(refused)?;
        settle(py, &home.shared, pending)
    }

    /// Ends the transaction: nothing of it has happened. Does nothing if it has ended.
    fn roll_back(&self) {
        self.over.store(true, Ordering::Relaxed);
        if self.space.get().check().is_ok() {
            match self.space.get().seat() {
                Seat::Here(home) => {
                    act(&home.shared, |space, outside| space.roll_back(self.id, outside));
                }
                Seat::Far(far) => {
                    far.leave(self.id);
                    far.tell(far::Act::RollBack(self.id));
                }
            }
        }
    }

    /// Refused: the block does not wait. Raises ``TypeError``.
    fn __aenter__(&self) -> PyResult<()> {
        Err(errors::plain_block("the block of a transaction is a plain one"))
    }

    /// Refused, too: Python looks for it before it enters.
    fn __aexit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.__aenter__()
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (kind, _error, _trace, /))]
    fn __exit__(
        &self,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        match (self.over.load(Ordering::Relaxed), kind.is_none()) {
            (true, _) => {}
            (false, true) => self.commit(kind.py())?,
            (false, false) => self.roll_back(),
        }
        Ok(false)
    }

    fn __repr__(&self) -> String {
        let state = if self.over.load(Ordering::Relaxed) { ", over" } else { "" };
        format!("<thistledown.Transaction in {}{state}>", self.space.get().name())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.space)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.over.load(Ordering::Relaxed) {
            Python::try_attach(|py| {
                let _pending = crate::errors::Pending::set_aside(py);
                self.roll_back();
            });
        }
    }
}
