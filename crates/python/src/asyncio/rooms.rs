//! Where the parties of a guest stand: a lobby for visitors, and a house for weightless tasks while there are any.
//!
//! Both are regions of the kernel. The lobby is never cancelled: a visitor is its own loop's to cancel. The house is, when
//! the loop ends; the loop is told when it is opened, and keeps a task of its own until it is closed.

use std::cell::{Cell, RefCell};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use thistledown_kernel::{ScopeId, Start};

use crate::current::Run;
use crate::errors;
use crate::payload::WORLD;
use crate::scope::Scope;

/// Where the parties of a guest stand.
pub(crate) struct Rooms {
    /// The scope of its visitors, which is never cancelled.
    pub(crate) lobby: ScopeId,
    /// The scope of its weightless tasks while there are any, which is cancelled when the loop ends.
    house: RefCell<Option<Py<Scope>>>,
    /// The house has a keeper, or the loop will make it one.
    kept: Cell<bool>,
    /// Tasks that are being started in the house.
    starting: Cell<usize>,
    guest: RefCell<Option<Py<PyWeakrefReference>>>,
}

impl Rooms {
    pub(crate) fn new(lobby: ScopeId) -> Self {
        Self {
            lobby,
            house: RefCell::new(None),
            kept: Cell::new(false),
            starting: Cell::new(0),
            guest: RefCell::new(None),
        }
    }

    /// Whose they are.
    pub(crate) fn settle_in(&self, guest: Py<PyWeakrefReference>) {
        self.guest.replace(Some(guest));
    }

    pub(crate) fn house(&self, py: Python<'_>) -> Option<Py<Scope>> {
        self.house.borrow().as_ref().map(|house| house.clone_ref(py))
    }

    /// Closes a house until the next task, if no task lives in it. False: one does, or is about to.
    pub(crate) fn vacate(&self, house: &Py<Scope>) -> PyResult<bool> {
        if !self.house.borrow().as_ref().is_some_and(|present| present.is(house)) {
            return Ok(true);
        }
        let region = house.get().id()?;
        if self.starting.get() > 0 || WORLD.with(|kernel| kernel.scope_members(region)) > 0 {
            return Ok(false);
        }
        let house = self.house.take();
        WORLD.with(|kernel| kernel.close_region(region));
        drop(house);
        Ok(true)
    }

    /// The run is over.
    pub(crate) fn close(&self) {
        self.house.take();
        self.guest.take();
    }

    pub(crate) fn guest(&self, py: Python<'_>) -> Option<Py<PyWeakrefReference>> {
        self.guest.borrow().as_ref().map(|guest| guest.clone_ref(py))
    }

    /// Where a task starts that is told to go in the run as a whole. The first one is announced to the loop.
    pub(crate) fn start(&self, py: Python<'_>, run: &Run) -> PyResult<Starting<'_>> {
        let house = match self.house(py) {
            Some(house) => house,
            None => self.open(py, run)?,
        };
        let start = Start::InScope(house.get().id()?);
        // Until this task has started, nobody closes the house.
        self.starting.set(self.starting.get() + 1);
        let starting = Starting { start, rooms: self };
        // Another thread may come while the keeper is called: it calls one as well, as this call may fail.
        if !self.kept.get() {
            if let Err(error) = self.call_keeper(py, &house) {
                drop(starting);
                self.vacate(&house)?;
                return Err(error);
            }
            self.kept.set(true);
        }
        Ok(starting)
    }

    fn open(&self, py: Python<'_>, run: &Run) -> PyResult<Py<Scope>> {
        let region = WORLD.with(|kernel| kernel.open_region(run.runner)).ok_or_else(gone)?;
        let house = Py::new(py, Scope::of_region(region))?;
        self.kept.set(false);
        self.house.replace(Some(house.clone_ref(py)));
        Ok(house)
    }

    fn call_keeper(&self, py: Python<'_>, house: &Py<Scope>) -> PyResult<()> {
        let guest = self.guest(py).and_then(|weak| weak.bind(py).upgrade()).ok_or_else(gone)?;
        let keep = py.import(intern!(py, "thistledown._asyncio"))?.getattr(intern!(py, "keep"))?;
        keep.call1((guest, house)).map(drop)
    }
}

fn gone() -> PyErr {
    errors::misuse("the event loop of this run is closed")
}

/// A task is about to start: its house stays open until it has.
pub(crate) struct Starting<'a> {
    pub(crate) start: Start,
    rooms: &'a Rooms,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.rooms.starting.set(self.rooms.starting.get() - 1);
    }
}
