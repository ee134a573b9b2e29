//! Asyncio tasks that have a scope of ours open, as visitors of their loop's guest.
//!
//! Our own waits are level-triggered: each looks at the scope before it waits. Asyncio's are not, so an asyncio task whose
//! scope is cancelled is told once for this scope, by its own `cancel`. Where the block ends that is taken back with
//! `uncancel`, and the `CancelledError` ends there, or becomes `TimeoutError`, unless somebody else has cancelled the task
//! as well. Of several cancelled scopes it is the outermost that is told of; one further out that is cancelled later, or
//! that a shield held back, is told of by itself. A shield keeps away what is ours, and not what somebody asks of asyncio;
//! that which comes while a group waits for its cancelled tasks is owed until they have ended.

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
    /// A cancellation of asyncio's waits until the tasks of a group have ended.
    owed: bool,
    /// Its open blocks, innermost last.
    blocks: Vec<Block>,
}

/// A block that an asyncio task has open.
struct Block {
    scope: ScopeId,
    /// How often others had cancelled the task when it was entered.
    others: u32,
    /// The task has been told that this one is cancelled.
    told: bool,
    /// Times we have called the task's `cancel` for it.
    asked: u32,
}

impl Visitor {
    /// Times we have called its `cancel` and not taken it back.
    fn asked(&self) -> u32 {
        self.blocks.iter().map(|block| block.asked).sum()
    }

    /// The block that a cancelled scope is; what comes from further out counts as the outermost.
    fn block(&mut self, scope: ScopeId) -> Option<&mut Block> {
        let at = self.blocks.iter().rposition(|block| block.scope == scope).unwrap_or(0);
        self.blocks.get_mut(at)
    }
}

/// Those that have a block open.
#[derive(Default)]
struct Roll {
    visitors: HashMap<TaskId, Visitor>,
    /// By the address of the asyncio task, which the visitor keeps alive.
    by_task: HashMap<usize, TaskId>,
}

impl Roll {
    fn find(&self, task: &Bound<'_, PyAny>) -> Option<TaskId> {
        self.by_task.get(&(task.as_ptr() as usize)).copied()
    }

    fn get_mut(&mut self, id: TaskId) -> Option<&mut Visitor> {
        self.visitors.get_mut(&id)
    }

    /// The visitor that the task is, from now on at the latest.
    fn enter(&mut self, id: TaskId, task: Bound<'_, PyAny>) -> &mut Visitor {
        self.by_task.insert(task.as_ptr() as usize, id);
        self.visitors.entry(id).or_insert_with(|| Visitor {
            task: task.unbind(),
            owed: false,
            blocks: Vec::new(),
        })
    }

    /// What comes back is to be dropped where no lock is held.
    fn remove(&mut self, id: TaskId) -> Option<Visitor> {
        let gone = self.visitors.remove(&id)?;
        self.by_task.remove(&(gone.task.as_ptr() as usize));
        Some(gone)
    }
}

/// The visitors of one guest.
#[derive(Default)]
pub(crate) struct Visitors {
    known: Mutex<Roll>,
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
    /// The visitor that the present asyncio task of this loop is; nothing while it has no block open.
    pub(crate) fn of_this_task(&self, py: Python<'_>, event_loop: &Py<PyAny>) -> PyResult<Option<TaskId>> {
        if self.known.lock().visitors.is_empty() {
            return Ok(None);
        }
        let task = current_task(py, event_loop)?;
        Ok(task.and_then(|task| self.find(&task)))
    }

    fn find(&self, task: &Bound<'_, PyAny>) -> Option<TaskId> {
        self.known.lock().find(task)
    }

    /// The asyncio task that a visitor is, as far as it has a block open.
    pub(crate) fn task(&self, py: Python<'_>, id: TaskId) -> Option<Py<PyAny>> {
        self.known.lock().visitors.get(&id).map(|visitor| visitor.task.clone_ref(py))
    }

    /// It is about to be raised in the task that it is cancelled.
    pub(crate) fn is_told(&self, id: TaskId) {
        let Some(scope) = WORLD.with(|kernel| kernel.cancelled_by(id)) else { return };
        if let Some(block) = self.known.lock().get_mut(id).and_then(|visitor| visitor.block(scope)) {
            block.told = true;
        }
    }

    /// Asyncio's cancellation is held back until the shield is left in which the tasks of a group are waited for.
    pub(crate) fn owe(&self, id: TaskId) {
        if let Some(visitor) = self.known.lock().get_mut(id) {
            visitor.owed = true;
        }
    }

    /// Tells an asyncio task that a scope it is in is cancelled. True: it has its turn, and is to be told after it.
    pub(crate) fn ask_to_end(&self, py: Python<'_>, id: TaskId) -> PyResult<bool> {
        let Some(scope) = WORLD.with(|kernel| kernel.cancelled_by(id)) else { return Ok(false) };
        let task = {
            let mut known = self.known.lock();
            let Some(visitor) = known.get_mut(id) else { return Ok(false) };
            if visitor.block(scope).is_none_or(|block| block.told) {
                return Ok(false);
            }
            visitor.task.clone_ref(py)
        };
        let Some(guest) = loops::here(py)? else { return Ok(false) };
        if current_task(py, &guest.get().event_loop)?.is_some_and(|current| current.is(&task)) {
            self.later.lock().push(id);
            return Ok(true);
        }
        if let Some(block) = self.known.lock().get_mut(id).and_then(|visitor| visitor.block(scope)) {
            block.told = true;
            block.asked += 1;
        }
        task.call_method0(py, intern!(py, "cancel"))?;
        Ok(false)
    }

    /// Tells those that could not be told while they had their turn.
    pub(crate) fn look_again(&self, py: Python<'_>) -> PyResult<()> {
        let later = std::mem::take(&mut *self.later.lock());
        for id in later {
            self.ask_to_end(py, id)?;
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
        let gone = self.known.lock().remove(id);
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
        known.visitors.values().try_for_each(|visitor| visit.call(&visitor.task))
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
    let (known, asked) = {
        let roll = this.visitors.known.lock();
        let known = roll.find(&task);
        (known, known.and_then(|id| roll.visitors.get(&id)).map_or(0, Visitor::asked))
    };
    // What may fail comes first: a block that was not entered is left by nobody.
    let others = cancelled_by_others(&task, asked)?;
    if known.is_none() {
        let forget = guest.getattr(intern!(py, "_forget"))?;
        task.call_method1(intern!(py, "add_done_callback"), (forget,))?;
    }
    let lobby = this.lobby(py);
    let made = known.or_else(|| WORLD.with(|kernel| kernel.add_visitor(lobby)));
    let Some(id) = made else { return Err(errors::misuse("the event loop of this block is closed")) };
    let opened = match Scope::open(scope, id) {
        Ok(opened) => opened,
        Err(error) => {
            if known.is_none() {
                WORLD.with(|kernel| kernel.finish(id));
                do_not_forget(&guest, &task)?;
            }
            return Err(error);
        }
    };
    scope.get().set_in_asyncio();
    let mut roll = this.visitors.known.lock();
    let visitor = roll.enter(id, task);
    visitor.blocks.push(Block { scope: opened, others, told: false, asked: 0 });
    Ok(true)
}

/// The guest need not be told of the end of a task any more.
fn do_not_forget(guest: &Bound<'_, Guest>, task: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = guest.py();
    let forget = guest.getattr(intern!(py, "_forget"))?;
    task.call_method1(intern!(py, "remove_done_callback"), (forget,)).map(drop)
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
    let is_last = WORLD.with(|kernel| !kernel.has_open_scope(id));
    let (mut owed, mut gone) = (false, None);
    let (entered, asked, still_asked) = {
        let mut roll = this.visitors.known.lock();
        let visitor = roll.get_mut(id).ok_or_else(other)?;
        let at = visitor.blocks.iter().rposition(|known| known.scope == block);
        // Those behind it were taken away from generators.
        let closed = visitor.blocks.split_off(at.unwrap_or(visitor.blocks.len()));
        let entered = closed.first().map_or(0, |block| block.others);
        let asked: u32 = closed.iter().map(|block| block.asked).sum();
        if scope.is_shield() {
            owed = std::mem::take(&mut visitor.owed);
        }
        let still_asked = visitor.asked();
        if is_last {
            gone = roll.remove(id);
        }
        (entered, asked, still_asked)
    };
    for _ in 0..asked {
        task.call_method0(intern!(py, "uncancel"))?;
    }
    let others = cancelled_by_others(&task, still_asked)?;
    if is_last {
        WORLD.with(|kernel| kernel.finish(id));
        do_not_forget(&guest, &task)?;
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
    let id = guest.get().visitors.of_this_task(py, &guest.get().event_loop)?;
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
