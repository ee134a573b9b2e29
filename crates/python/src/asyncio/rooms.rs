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
    /// Tasks that are being started in the house.
    starting: Cell<usize>,
    guest: RefCell<Option<Py<PyWeakrefReference>>>,
}

impl Rooms {
    pub(crate) fn new(lobby: ScopeId) -> Self {
        Self { lobby, house: RefCell::new(None), starting: Cell::new(0), guest: RefCell::new(None) }
    }

    /// Whose they are.
    pub(crate) fn settle_in(&self, guest: Py<PyWeakrefReference>) {
        self.guest.replace(Some(guest));
    }

    pub(crate) fn house(&self, py: Python<'_>) -> Option<Py<Scope>> {
        self.house.borrow().as_ref().map(|house| house.clone_ref(py))
    }

    /// Closes the house until the next task, if no task lives in it. False: one does, or is about to.
    pub(crate) fn vacate(&self) -> PyResult<bool> {
        let Some(region) = self.house.borrow().as_ref().map(|house| house.get().id()).transpose()? else {
            return Ok(true);
        };
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
        let starting = |start| {
            self.starting.set(self.starting.get() + 1);
            Starting { start, rooms: self }
        };
        if let Some(house) = self.house.borrow().as_ref() {
            return Ok(starting(Start::InScope(house.get().id()?)));
        }
        let gone = || errors::misuse("the event loop of this run is closed");
        let region = WORLD.with(|kernel| kernel.open_region(run.runner)).ok_or_else(gone)?;
        let house = Py::new(py, Scope::of_region(region))?;
        let guest = self.guest.borrow().as_ref().and_then(|weak| weak.bind(py).upgrade());
        let keep = |guest| {
            py.import(intern!(py, "thistledown._asyncio"))?.call_method1(intern!(py, "keep"), (guest, &house))
        };
        // Another thread may come while the keeper is called; until this task has started, nobody closes the house.
        let starting = starting(Start::InScope(region));
        self.house.replace(Some(house.clone_ref(py)));
        if let Err(error) = guest.ok_or_else(gone).and_then(keep) {
            self.house.take();
            WORLD.with(|kernel| kernel.close_region(region));
            return Err(error);
        }
        Ok(starting)
    }
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
