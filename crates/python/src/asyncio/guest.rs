//! A run as the guest of another event loop: one for each asyncio loop that uses this package, made at first need.
//!
//! The loop watches one descriptor of ours as it watches a socket, keeps one timer for us, and calls [`Guest::visit`];
//! nothing of it is patched, and no thread is between. Two kinds of parties live here. Weightless tasks have their turns
//! during visits. Visitors are asyncio tasks that wait for an operation or have a scope open: they never have a turn; what
//! becomes of them is told to the loop, by the result of a future or by cancelling the asyncio task.
//!
//! Invariants: only the loop holds its guest (by the callback it watches the descriptor with), and the kernel holds
//! nothing of the loop's for a visitor, and only weakly for a weightless task, so that a loop that is dropped goes, with
//! everything in it. What a weightless task's own frames hold is alive as long as it is: one that has the loop in a
//! variable, or waits for a future of asyncio's, which knows its loop, keeps the loop until that is closed. No lock is held
//! while Python code runs. Outside of visits the runner is parked, so that a wake from anywhere reaches the descriptor, except
//! while a visit is due anyway.
#![allow(unsafe_code, reason = "a run is kept in an object of Python's, under the interpreter's lock")]

mod face;
mod visits;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{Moment, ScopeId, Start, TaskId};
use thistledown_reactor::Reactor;
use thistledown_runtime::Watched;

use crate::asyncio::visitor::Visitors;
use crate::body::{self, Arguments};
use crate::current::Run;
use crate::fork;
use crate::operation::Operation;
use crate::report::report;
use crate::run::{self, Given};
use crate::task::Task;
use crate::turn;
use crate::window;

pub(crate) use visits::Busy;

/// Operations that asyncio tasks may complete at once before one is made to give way.
const BUDGET: u32 = 128;

/// What is touched only by who has the interpreter's lock, and so by one thread at a time.
pub(crate) struct Locked<T>(T);

// SAFETY: each access goes through `get`, which asks for proof of the interpreter's lock; the module insists on having one.
unsafe impl<T> Send for Locked<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(crate) fn get(&self, _py: Python<'_>) -> &T {
        &self.0
    }
}

/// What a visitor waits with, and for.
pub(crate) struct Held {
    pub(crate) future: Py<PyAny>,
    pub(crate) operation: Py<Operation>,
}

/// A visitor, as far as it is known: its asyncio task, what that waits with, and for.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) task: Option<Py<PyAny>>,
    pub(crate) future: Option<Py<PyAny>>,
    pub(crate) awaited: Option<Py<Operation>>,
}

/// What a guest and its loop have arranged.
#[derive(Default)]
struct Desk {
    /// What visitors wait with.
    held: HashMap<TaskId, Held>,
    /// A visit is due in the loop's next round.
    soon: bool,
    /// The loop's timer for us.
    timer: Option<(Moment, Py<PyAny>)>,
    visits: u64,
}

/// The guest of one event loop.
#[pyclass(frozen, weakref, module = "thistledown._core")]
pub(crate) struct Guest {
    pub(crate) event_loop: Py<PyAny>,
    run: Locked<Rc<Run>>,
    reactor: Locked<RefCell<Reactor>>,
    watched: Watched,
    process: u32,
    ended: AtomicBool,
    /// Errors that nobody asked for are kept for the end, and not logged.
    collects: AtomicBool,
    /// Failed tasks of before, while errors are kept.
    before: Locked<RefCell<Vec<Py<Task>>>>,
    budget: Locked<Cell<u32>>,
    desk: Mutex<Desk>,
    pub(crate) visitors: Visitors,
    window: Mutex<Option<window::User>>,
}

/// Starts a weightless task in the guest.
pub(crate) fn go<'py>(
    guest: &Bound<'py, Guest>,
    body: &Bound<'py, PyAny>,
    arguments: &impl Arguments<'py>,
    start: Start,
    given: Given<'_>,
) -> PyResult<Py<Task>> {
    let py = body.py();
    let iterator = body::iterator(body, arguments)?;
    let origin = body::origin(body, &iterator);
    let _busy = Busy::new(guest);
    run::spawn(py, guest.get().run.get(py), iterator, origin, start, given)
}

impl Guest {
    pub(crate) fn run<'a>(&'a self, py: Python<'_>) -> &'a Rc<Run> {
        self.run.get(py)
    }

    pub(crate) fn lobby(&self, py: Python<'_>) -> ScopeId {
        self.run.get(py).rooms.as_ref().map_or_else(ScopeId::default, |rooms| rooms.lobby)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) || self.process != fork::process()
    }

    /// Whether an asyncio task may complete one more operation without that the loop has a round.
    pub(crate) fn spend(&self, py: Python<'_>) -> bool {
        let budget = self.budget.get(py);
        let left = budget.get().checked_sub(1);
        budget.set(left.unwrap_or(BUDGET));
        left.is_some()
    }

    /// Remembers what a visitor waits with.
    pub(crate) fn hold(&self, visitor: TaskId, held: Held) {
        let old = self.desk.lock().held.insert(visitor, held);
        drop(old);
    }

    pub(crate) fn let_go(&self, visitor: TaskId) {
        let held = self.desk.lock().held.remove(&visitor);
        drop(held);
    }

    /// What is known of a visitor.
    pub(crate) fn find(&self, py: Python<'_>, visitor: TaskId) -> Known {
        let task = self.visitors.task(py, visitor);
        match self.desk.lock().held.get(&visitor) {
            Some(held) => Known {
                task,
                future: Some(held.future.clone_ref(py)),
                awaited: Some(held.operation.clone_ref(py)),
            },
            None => Known { task, ..Known::default() },
        }
    }

    /// Errors of tasks that nobody holds any more, who could ask, are logged.
    fn tell_failed(&self, py: Python<'_>, all: bool) {
        let run = self.run.get(py);
        if self.collects.load(Ordering::Relaxed) || run.failed.borrow().is_empty() {
            return;
        }
        let failed = run.failed.take();
        let (gone, held): (Vec<_>, Vec<_>) =
            failed.into_iter().partition(|task| all || task.get().is_fetched() || turn::is_unseen(task));
        run.failed.borrow_mut().extend(held);
        for task in gone {
            if !task.get().is_fetched()
                && let Some(error) = task.get().failure(py)
            {
                task.get().mark_fetched();
                report(py, "failed_unseen", (task, error));
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        Python::try_attach(|py| {
            let _pending = crate::errors::Pending::set_aside(py);
            self.end(py);
        });
    }
}
