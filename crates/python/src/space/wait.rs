//! Operations of a space: writing, taking, reading, and receiving from a watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use thistledown_kernel::{Moment, Want};
use thistledown_space::{How, Ticket, TransactionId, Tuple, Wanted};

use crate::current::Run;
use crate::operation::{Target, Wants};
use crate::payload::WORLD;
use crate::space::claim;
use crate::space::watch::Watch;
use crate::space::{Space, refused};

/// What is done.
pub(crate) enum Act {
    /// A tuple, its lease, and the transaction to which it belongs.
    Write(Tuple, Option<Duration>, Option<TransactionId>),
    Look(Arc<Wanted>),
    Receive(Py<Watch>),
}

pub(crate) struct SpaceOperation {
    space: Py<Space>,
    act: Act,
    /// The place of the present wait among those who wait; zero while nobody does.
    ticket: AtomicU64,
}

impl SpaceOperation {
    pub(crate) fn new(space: Py<Space>, act: Act) -> Self {
        Self { space, act, ticket: AtomicU64::new(0) }
    }

    fn ticket(&self) -> Option<Ticket> {
        Ticket::from_number(self.ticket.load(Ordering::Relaxed))
    }

    /// How many wants it has.
    pub(crate) fn wants(&self) -> usize {
        if matches!(self.act, Act::Look(_)) { 2 } else { 1 }
    }

    pub(crate) fn attempt(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let space = self.space.get();
        match &self.act {
            Act::Write(tuple, lease, within) => {
                let (tuple, lease) = (Arc::clone(tuple), *lease);
                space
                    .act(|space, outside| match within {
                        Some(id) => space.write_within(*id, tuple, lease, outside),
                        None => {
                            space.write(tuple, lease, outside);
                            Ok(())
                        }
                    })
                    .map_err(refused)?;
                Ok(Some(py.None()))
            }
            Act::Look(wanted) => {
                let ticket = self.ticket();
                let given = space.act(|space, outside| space.attempt(wanted, ticket, outside));
                given.map_err(refused)?.map(|given| claim::given(py, &self.space, &given)).transpose()
            }
            Act::Receive(watch) => watch.get().next(py),
        }
    }

    pub(crate) fn want(&self, wants: &mut Wants<'_>) {
        match &self.act {
            // It never has to wait.
            Act::Write(..) => wants.push(Want::Until(Moment::default())),
            Act::Look(wanted) => {
                let at = self.space.get().shared.enlist(&WORLD, Run::now(), wanted, self.ticket());
                self.ticket.store(at.ticket.number(), Ordering::Relaxed);
                wants.push(Want::Called(at.spot));
                wants.push(Want::Until(at.looks));
            }
            Act::Receive(watch) => wants.push(Want::Called(watch.get().spot)),
        }
    }

    pub(crate) fn release(&self) {
        if let Some(ticket) = Ticket::from_number(self.ticket.swap(0, Ordering::Relaxed)) {
            self.space.get().shared.release(&WORLD, Run::now(), ticket);
        }
    }

    pub(crate) fn describe(&self, py: Python<'_>) -> String {
        let space = self.space.get().name();
        match &self.act {
            Act::Write(..) => format!("write to {space}"),
            Act::Look(wanted) if wanted.how == How::Read => format!("read {} from {space}", wanted.template),
            Act::Look(wanted) => format!("take {} from {space}", wanted.template),
            Act::Receive(watch) => format!("recv from {}", watch.get().describe(py)),
        }
    }

    pub(crate) fn targets(&self, py: Python<'_>, into: &mut Vec<Target>) {
        into.push((self.space.get().name(), self.space.clone_ref(py).into_any()));
    }

    pub(crate) fn copy(&self, py: Python<'_>) -> Self {
        let act = match &self.act {
            Act::Write(tuple, lease, within) => Act::Write(Arc::clone(tuple), *lease, *within),
            Act::Look(wanted) => Act::Look(Arc::clone(wanted)),
            Act::Receive(watch) => Act::Receive(watch.clone_ref(py)),
        };
        Self::new(self.space.clone_ref(py), act)
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.space)?;
        match &self.act {
            Act::Receive(watch) => visit.call(watch),
            _ => Ok(()),
        }
    }
}

/// A wait that nobody ended: its run was given up.
impl Drop for SpaceOperation {
    fn drop(&mut self) {
        self.release();
    }
}
