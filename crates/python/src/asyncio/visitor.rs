//! Asyncio tasks that have a scope of ours open, as visitors of their loop's guest.
//!
//! Our own waits are level-triggered: each looks at the scope before it waits. Asyncio's are not, so an asyncio task whose
//! scope is cancelled is told once, by its own `cancel`. Where the block ends that is taken back with `uncancel`, and the
//! `CancelledError` ends there, or becomes `TimeoutError`, unless somebody else has cancelled the task as well. A
//! cancellation that comes while a shield of ours is open is owed until the shield's end.

use std::collections::HashMap;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{ScopeId, ScopeMisuse, TaskId};

use crate::asyncio::awaiting;
use crate::asyncio::guest::{Busy, Guest};
use crate::asyncio::loops;
use crate::current::Current;
use crate::errors;
use crate::payload::WORLD;
use crate::scope::{Left, Scope};

/// One asyncio task with its open blocks.
struct Visitor {
    task: Py<PyAny>,
    /// Times we have called its `cancel` and not taken it back.
    asked: u32,
    /// It has been told of the cancellation that reaches it.
    told: bool,
    /// A cancellation of asyncio's waits for the end of a shield.
    owed: bool,
    /// For each open block, innermost last: how often others had cancelled the task when it was entered.
    blocks: Vec<(ScopeId, u32)>,
}

/// The visitors of one guest.
#[derive(Default)]
pub(crate) struct Visitors {
    known: Mutex<HashMap<TaskId, Visitor>>,
    /// To be told when the task that has its turn has had it.
    later: Mutex<Vec<TaskId>>,
}

/// The asyncio task that has its turn in this thread's loop.
fn current_task<'py>(py: Python<'py>, event_loop: &Py<PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let task = CURRENT.import(py, "asyncio", "current_task")?.call1((event_loop,))?;
    Ok((!task.is_none()).then_some(task))
}

/// How often a task was cancelled by others than us.
fn cancelled_by_others(task: &Bound<'_, PyAny>, asked: u32) -> PyResult<u32> {
    let count: u32 = task.call_method0(intern!(task.py(), "cancelling"))?.extract()?;
    Ok(count.saturating_sub(asked))
}

impl Visitors {
    /// The visitor that the present asyncio task is; nothing while it has no block open.
    pub(crate) fn of_this_task(&self, py: Python<'_>) -> PyResult<Option<TaskId>> {
        if self.known.lock().is_empty() {
            return Ok(None);
        }
        let Some(guest) = loops::here(py)? else { return Ok(None) };
        let task = current_task(py, &guest.get().event_loop)?;
        Ok(task.and_then(|task| self.find(&task)))
    }

    fn find(&self, task: &Bound<'_, PyAny>) -> Option<TaskId> {
        let known = self.known.lock();
        known.iter().find(|(_, visitor)| visitor.task.is(task)).map(|(&id, _)| id)
    }

    /// The asyncio task that a visitor is, as far as it has a block open.
    pub(crate) fn task(&self, py: Python<'_>, id: TaskId) -> Option<Py<PyAny>> {
        self.known.lock().get(&id).map(|visitor| visitor.task.clone_ref(py))
    }

    /// It is about to be raised in the task that it is cancelled.
    pub(crate) fn is_told(&self, id: TaskId) {
        if let Some(visitor) = self.known.lock().get_mut(&id) {
            visitor.told = true;
        }
    }

    /// Asyncio's cancellation is held back by a shield.
    pub(crate) fn owe(&self, id: TaskId) {
        if let Some(visitor) = self.known.lock().get_mut(&id) {
            visitor.owed = true;
        }
    }

    /// Tells an asyncio task that a scope it is in is cancelled. True: it has its turn, and is to be told after it.
    pub(crate) fn ask_to_end(&self, py: Python<'_>, id: TaskId) -> PyResult<bool> {
        let task = match self.known.lock().get(&id) {
            Some(visitor) if !visitor.told => visitor.task.clone_ref(py),
            _ => return Ok(false),
        };
        let Some(guest) = loops::here(py)? else { return Ok(false) };
        if current_task(py, &guest.get().event_loop)?.is_some_and(|current| current.is(&task)) {
            self.later.lock().push(id);
            return Ok(true);
        }
        if let Some(visitor) = self.known.lock().get_mut(&id) {
            visitor.told = true;
            visitor.asked += 1;
        }
        task.call_method0(py, intern!(py, "cancel"))?;
        Ok(false)
    }

    /// Tells those that could not be told while they had their turn.
    pub(crate) fn look_again(&self, py: Python<'_>) -> PyResult<()> {
        let later = std::mem::take(&mut *self.later.lock());
        for id in later {
            if WORLD.with(|kernel| kernel.is_cancelled(id)) {
                self.ask_to_end(py, id)?;
            }
        }
        Ok(())
    }

    /// The present task was cancelled by asyncio, and something else came first: it is told again at its next wait.
    pub(crate) fn deliver_later(&self, guest: &Bound<'_, Guest>) -> PyResult<()> {
        let py = guest.py();
        let Some(task) = current_task(py, &guest.get().event_loop)? else { return Ok(()) };
        deliver(guest, task)
    }

    /// A task has ended that left a block open.
    pub(crate) fn forget(&self, task: &Bound<'_, PyAny>) {
        let Some(id) = self.find(task) else { return };
        let gone = self.known.lock().remove(&id);
        drop(gone);
        let wake = WORLD.with(|kernel| {
            let wake = kernel.withdraw(id);
            kernel.finish(id);
            wake
        });
        drop(wake);
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(known) = self.known.try_lock() else { return Ok(()) };
        known.values().try_for_each(|visitor| visit.call(&visitor.task))
    }

    pub(crate) fn clear(&self) {
        let known = std::mem::take(&mut *self.known.lock());
        drop(known);
    }
}

fn deliver(guest: &Bound<'_, Guest>, task: Bound<'_, PyAny>) -> PyResult<()> {
    let py = guest.py();
    let again = py.import("thistledown._asyncio")?.getattr("cancel_again")?;
    guest.get().event_loop.call_method1(py, intern!(py, "call_soon"), (again, task)).map(drop)
}

/// Enters a block in the present asyncio task. False: no loop runs in this thread, or a run of our own does.
pub(crate) fn enter(scope: &Bound<'_, Scope>) -> PyResult<bool> {
    let py = scope.py();
    if Current::run().is_some() {
        return Ok(false);
    }
    let Some(guest) = loops::here(py)? else { return Ok(false) };
    let this = guest.get();
    let Some(task) = current_task(py, &this.event_loop)? else {
        return Err(errors::misuse(
            "a scope belongs to a weightless task or an asyncio task, and none has its turn here: this is a callback of \
             the event loop",
        ));
    };
    let _busy = Busy::new(&guest);
    let known = this.visitors.find(&task);
    let lobby = this.lobby(py);
    let made = known.or_else(|| WORLD.with(|kernel| kernel.add_visitor(lobby)));
    let Some(id) = made else { return Err(errors::misuse("the event loop of this block is closed")) };
    let opened = Scope::open(scope, id).inspect_err(|_| {
        if known.is_none() {
            WORLD.with(|kernel| kernel.finish(id));
        }
    })?;
    scope.get().set_in_asyncio();
    if known.is_none() {
        let forget = guest.getattr(intern!(py, "_forget"))?;
        task.call_method1(intern!(py, "add_done_callback"), (forget,))?;
    }
    let asked = this.visitors.known.lock().get(&id).map_or(0, |visitor| visitor.asked);
    let others = cancelled_by_others(&task, asked)?;
    let mut visitors = this.visitors.known.lock();
    let visitor = visitors.entry(id).or_insert_with(|| Visitor {
        task: task.unbind(),
        asked: 0,
        told: false,
        owed: false,
        blocks: Vec::new(),
    });
    visitor.blocks.push((opened, others));
    Ok(true)
}

/// Leaves a block of the present asyncio task.
pub(crate) fn left(py: Python<'_>, scope: &Scope, block: ScopeId) -> PyResult<Left> {
    let other = || errors::scope_misuse(ScopeMisuse::OtherTask);
    let guest = loops::here(py)?.ok_or_else(other)?;
    let this = guest.get();
    let task = current_task(py, &this.event_loop)?.ok_or_else(other)?;
    let id = this.visitors.find(&task).ok_or_else(other)?;
    let _busy = Busy::new(&guest);
    let (left, stands_still) = scope.close_in(py, id)?;
    let (shielded, is_last) = WORLD.with(|kernel| (kernel.is_shielded(id), !kernel.has_open_scope(id)));
    let (mut asked, mut owed, mut gone) = (0, false, None);
    let (entered, still_asked) = {
        let mut visitors = this.visitors.known.lock();
        let visitor = visitors.get_mut(&id).ok_or_else(other)?;
        let at = visitor.blocks.iter().rposition(|(known, _)| *known == block);
        // Those behind it were taken away from generators.
        let entered = at.and_then(|at| visitor.blocks.drain(at..).next()).map_or(0, |(_, others)| others);
        if !left.goes_on {
            asked = std::mem::take(&mut visitor.asked);
            visitor.told = false;
        }
        if !shielded {
            owed = std::mem::take(&mut visitor.owed);
        }
        let still_asked = visitor.asked;
        if is_last {
            gone = visitors.remove(&id);
        }
        (entered, still_asked)
    };
    for _ in 0..asked {
        task.call_method0(intern!(py, "uncancel"))?;
    }
    let others = cancelled_by_others(&task, still_asked)?;
    if is_last {
        WORLD.with(|kernel| kernel.finish(id));
        let forget = guest.getattr(intern!(py, "_forget"))?;
        task.call_method1(intern!(py, "remove_done_callback"), (forget,))?;
    }
    if owed {
        deliver(&guest, task)?;
    }
    drop(gone);
    stands_still?;
    Ok(Left { goes_on: left.goes_on || others > entered, ..left })
}

/// The present task of the loop that runs in this thread.
pub(crate) struct Here<'py> {
    guest: Bound<'py, Guest>,
    /// The visitor that it is, while it has a block open.
    id: Option<TaskId>,
}

/// Who has its turn in the loop that runs in this thread; nothing where none does.
pub(crate) fn here(py: Python<'_>) -> PyResult<Option<Here<'_>>> {
    let Some(guest) = loops::here(py)? else { return Ok(None) };
    let id = guest.get().visitors.of_this_task(py)?;
    Ok(Some(Here { guest, id }))
}

impl Here<'_> {
    /// Whether a wait of it would be refused.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.id.is_some_and(|visitor| WORLD.with(|kernel| kernel.is_cancelled(visitor)))
    }

    /// Refuses to go on if that is so.
    pub(crate) fn check(&self, py: Python<'_>) -> PyResult<()> {
        match self.id {
            Some(visitor) if self.is_cancelled() => {
                self.guest.get().visitors.is_told(visitor);
                Err(awaiting::cancelled(py))
            }
            _ => Ok(()),
        }
    }
}
