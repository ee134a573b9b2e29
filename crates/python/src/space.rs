//! Handles to spaces: which space one is to, where that is now, and what is done there at once.
//!
//! A space is of this process, of another one, or on a file, whose owner may be another one each time that it is asked
//! for. All handles to one are equal. What Python calls is in `face`, what it is called with is read in `arguments`.
//!
//! What it is not: it finds no tuple and keeps no order, which is the space's own (`thistledown_space`).

mod arguments;
pub(crate) mod claim;
mod face;
pub(crate) mod far;
pub(crate) mod fields;
pub(crate) mod file;
pub(crate) mod heir;
pub(crate) mod home;
pub(crate) mod hub;
pub(crate) mod transaction;
pub(crate) mod wait;
pub(crate) mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use thistledown_exchange::{Broken, ObjectId};
use thistledown_runtime::{Name, Pending, SharedSpace};
use thistledown_space::{CodecError, Outside, Refused, Wanted, decode_given};

use crate::channel::tickets;
use crate::current::Run;
use crate::errors;
use crate::identity::Identified;
use crate::operation::{Kind, Operation};
use crate::outside::outside;
use crate::payload::WORLD;
pub(crate) use crate::space::arguments::{lease, wanted};
use crate::space::far::{FarSpace, Seat, garbled};
use crate::space::file::Opened;
use crate::space::wait::{Act, SpaceOperation};

static SPACES: AtomicU64 = AtomicU64::new(0);

/// A shared space of tuples, in memory: whoever writes one need not know who takes it, nor when.
///
/// ``take`` and ``read`` look for a tuple by a template: a tuple of as many fields, each a value, a type, ``...`` for
/// anything, ``td.between(low, high)`` or ``td.one_of(...)``. They wait until there is one; whoever waits is served in
/// order, and of several tuples that match, the one that was written first is given. Works between weightless tasks,
/// plain threads and, when it is handed to them, worker processes, in any mixture.
///
/// Values compare by type and value: ``1``, ``1.0`` and ``True`` are three, and not-a-number matches nothing. What is not
/// None, bool, int, float, str, bytes or a tuple of these is pickled when it is written, found by its exact type, and
/// comes out as a copy.
///
/// Source: Gelernter's Linda (out, in, rd); leases and transactions of JavaSpaces.
#[pyclass(frozen, weakref, module = "thistledown")]
pub(crate) struct Space {
    number: u64,
    at: At,
}

/// Which space a handle is to.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    Here(usize),
    Far(ObjectId),
    File(PathBuf),
}

/// Where it is.
enum At {
    Seat(Seat),
    /// On a file, whose owner may be another one at any time.
    File(Opened),
}

impl Space {
    /// What people call it.
    pub(crate) fn name(&self) -> String {
        match self.seat() {
            Seat::Here(_) => format!("space {}", self.number),
            Seat::Far(far) => format!("space {} of process {}", far.id().number, far.id().owner.pid),
        }
    }

    /// Where it is.
    pub(crate) fn seat(&self) -> Seat {
        match &self.at {
            At::Seat(seat) => seat.clone(),
            At::File(file) => file.seat(),
        }
    }

    fn file(&self) -> Option<&Opened> {
        match &self.at {
            At::Seat(_) => None,
            At::File(file) => Some(file),
        }
    }

    fn at(at: At) -> Self {
        Self { number: SPACES.fetch_add(1, Ordering::Relaxed) + 1, at }
    }

    /// Whether it can be used; not when it was closed, or opened or shared by the process from which this one was forked.
    pub(crate) fn check(&self) -> PyResult<()> {
        match &self.at {
            At::File(file) => file.check(),
            At::Seat(Seat::Here(home)) if home.is_of_parent() => Err(far::broken(Broken::Forked)),
            At::Seat(_) => Ok(()),
        }
    }

    /// Whether it is in memory, and no other process has it.
    pub(crate) fn is_own(&self) -> bool {
        matches!(&self.at, At::Seat(Seat::Here(home)) if !home.is_shared())
    }

    /// Whether another process has it, of which this one was forked: on a file, or in memory and shared.
    pub(crate) fn is_of_parent(&self) -> bool {
        match &self.at {
            At::File(file) => file.is_of_parent(),
            At::Seat(Seat::Here(home)) => home.is_of_parent(),
            At::Seat(Seat::Far(_)) => false,
        }
    }

    /// Looks for a tuple that is not held: to read it, or within a transaction.
    pub(crate) fn look_now(&self, py: Python<'_>, wanted: Wanted) -> PyResult<Option<Py<PyTuple>>> {
        self.check()?;
        match &self.seat() {
            Seat::Here(home) => {
                let given = act(&home.shared, |space, outside| space.attempt(&wanted, None, outside));
                let given = given.map_err(refused)?;
                given.map(|given| Ok(fields::to_python(py, &given.tuple)?.unbind())).transpose()
            }
            Seat::Far(far) => {
                let given = far.ask(py, far::Act::Look(Arc::new(wanted), None))?;
                if given.is_empty() {
                    return Ok(None);
                }
                let (tuple, _) = decode_given(&given).map_err(garbled)?;
                Ok(Some(fields::to_python(py, &tuple)?.unbind()))
            }
        }
    }

    fn take_far(slf: &Bound<'_, Self>, far: &Arc<FarSpace>, wanted: Wanted) -> PyResult<Option<Py<PyAny>>> {
        let (py, wanted) = (slf.py(), Arc::new(wanted));
        let told = far.look_now(py, &wanted)?;
        told.map(|(tuple, offered)| {
            claim::given_far(py, slf.as_unbound(), far, &wanted, &tuple, || offered.accept())
        })
        .transpose()
    }
}

/// Waits until what is pending is in the file; then it has happened, or not.
pub(crate) fn settle(py: Python<'_>, shared: &SharedSpace, pending: Pending) -> PyResult<()> {
    let state = pending.state().unwrap_or_else(|| outside(py, || pending.wait()));
    shared.finish(&WORLD, Run::now(), pending, state.is_ok());
    state.map_err(|error| errors::of_ledger(&error))
}

/// Does something with a space of this process, now. The interpreter is not let go meanwhile, so that nobody waits for the
/// lock while somebody who has it waits for the interpreter.
pub(crate) fn act<R>(
    shared: &SharedSpace,
    work: impl FnOnce(&mut thistledown_space::Space<Name>, &mut Outside<'_, Name>) -> R,
) -> R {
    shared.with(&WORLD, Run::now(), work)
}

/// Why the space did not do it.
pub(crate) fn refused(why: Refused) -> PyErr {
    match why {
        Refused::ClaimOver => Python::attach(|py| {
            errors::lease_expired(py, "the claim is over, and somebody else may have taken the tuple")
        }),
        _ => errors::misuse("the transaction has ended: begin another one"),
    }
}

impl Identified for Space {
    type Identity = Identity;

    fn identity(&self) -> Identity {
        match &self.at {
            At::Seat(Seat::Here(home)) => match home.shared.ledger() {
                Some(ledger) => Identity::File(ledger.path().into()),
                None => Identity::Here(Arc::as_ptr(&home.shared).addr()),
            },
            At::Seat(Seat::Far(far)) => Identity::Far(far.id()),
            At::File(file) => Identity::File(file.path().into()),
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some(file) = self.file() {
            Python::attach(|py| {
                let _pending = errors::Pending::set_aside(py);
                file.close(py);
            });
        }
    }
}

/// A handle that was pickled.
#[pyfunction]
#[pyo3(name = "_space")]
pub(crate) fn space_from(name: &[u8]) -> PyResult<Space> {
    let (id, ticket) = tickets::read(name).ok_or_else(|| errors::wrong_value("this is no pickled space"))?;
    Ok(Space::at(At::Seat(far::find(id, Some(ticket))?)))
}

/// A space on a file, opened where it was sent to.
#[pyfunction]
#[pyo3(name = "_space_on_file")]
pub(crate) fn space_on_file(py: Python<'_>, path: PathBuf, fsync: bool) -> PyResult<Space> {
    Ok(Space::at(At::File(Opened::open(py, &path, fsync, false)?)))
}

/// Why a tuple cannot be written down.
pub(crate) fn cannot_be_written(error: CodecError) -> PyErr {
    errors::wrong_value(format!("the tuple cannot be written: {error}"))
}

impl SpaceOperation {
    pub(crate) fn make(space: Py<Space>, act: Act) -> Operation {
        Operation::new(Kind::Space(Box::new(Self::new(space, act))))
    }
}
