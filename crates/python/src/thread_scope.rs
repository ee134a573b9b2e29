//! Scopes of plain threads: whom a scope belongs to that is opened where no weightless task has its turn.
//!
//! A thread with scopes open is one party of the kernel, from the first one's beginning to the last one's end; its waits
//! are that party's. It looks at the time when it waits, and when it opens or leaves a scope. Where an asyncio task blocks its
//! loop by waiting in plain code, the scopes that it has open are the ones that count.

use std::cell::Cell;

use pyo3::prelude::*;
use thistledown_kernel::TaskId;
use thistledown_runtime::Clock;

use crate::asyncio::{loops, visitor};
use crate::current::Current;
use crate::errors;
use crate::payload::{WORLD, Waker};
use crate::trail::calls::{Held, Hold};
use crate::workers::upstream;

thread_local! {
    static PARTY: Cell<Option<TaskId>> = const { Cell::new(None) };
}

/// The party of this thread, when it has scopes open.
pub(crate) fn party() -> Option<TaskId> {
    PARTY.get()
}

/// Whether the time of a scope that this thread has open will end its waits anyway.
pub(crate) fn has_way_out() -> bool {
    party().is_some_and(|party| WORLD.with(|kernel| kernel.has_way_out(party)))
}

/// Whether no time of a scope will end a wait that begins here: of this thread's own, or of the asyncio task that it blocks.
pub(crate) fn is_bound(py: Python<'_>) -> PyResult<bool> {
    let visitor = blocked_visitor(py)?;
    Ok(!has_way_out() && visitor.is_none_or(|visitor| !WORLD.with(|kernel| kernel.has_way_out(visitor))))
}

/// In the thread of a worker that runs its tasks, with scopes open: it waits, for nothing but what the kernel knows of.
pub(crate) fn holds(py: Python<'_>) -> Option<Held> {
    let party = party()?;
    let upstream = upstream::get().filter(|upstream| upstream.runs_here())?;
    // Trails come with the answers. Where nobody can listen, a wait that can never end is not told.
    let hears = upstream.listen(py).is_ok();
    hears.then(|| Held::new(py, Hold::Party(party)))
}

/// Whom scopes belong to here: the task that has its turn, or the thread with scopes open.
pub(crate) fn owner() -> Option<TaskId> {
    Current::task().or_else(party)
}

/// Whom a scope belongs to that is opened here.
pub(crate) fn owner_to_be() -> PyResult<TaskId> {
    if let Some(task) = Current::task() {
        return Ok(task);
    }
    if Current::run().is_some() {
        return Err(errors::misuse(
            "a scope belongs to a task, and none has its turn here: this is a callback of the thread that runs them",
        ));
    }
    Ok(party().unwrap_or_else(|| {
        let party = WORLD.with(|kernel| kernel.add_thread(Waker::Nobody));
        PARTY.set(Some(party));
        party
    }))
}

/// A scope of this owner was closed: a thread without scopes is no party.
pub(crate) fn left(owner: TaskId) {
    if PARTY.get() != Some(owner) {
        return;
    }
    let over = WORLD.with(|kernel| {
        let over = !kernel.has_open_scope(owner);
        if over {
            kernel.finish(owner);
        }
        over
    });
    if over {
        PARTY.set(None);
    }
}

/// A thread with scopes open looks at the time.
pub(crate) fn look_at_the_time() {
    if let Some(party) = party() {
        let now = Clock::System.now();
        WORLD.with(|kernel| kernel.expire_thread(party, now));
    }
}

/// The asyncio task that has its turn in this thread's loop, and blocks that by a wait here; as far as it has a scope open.
pub(crate) fn blocked_visitor(py: Python<'_>) -> PyResult<Option<TaskId>> {
    match loops::there(py)? {
        Some(guest) => guest.get().visitors.of_this_task(py, &guest.get().event_loop),
        None => Ok(None),
    }
}

/// Refuses to go on in an asyncio task whose scope is cancelled. Its loop is blocked, so the time is looked at here.
fn check_visitor(py: Python<'_>) -> PyResult<()> {
    let Some(id) = blocked_visitor(py)? else { return Ok(()) };
    let now = Clock::System.now();
    WORLD.with(|kernel| kernel.expire_thread(id, now));
    visitor::here(py)?.map_or(Ok(()), |here| here.check(py))
}

/// Refuses to go on in a thread whose scope is cancelled.
pub(crate) fn check(py: Python<'_>) -> PyResult<()> {
    check_visitor(py)?;
    look_at_the_time();
    if party()
        .is_some_and(|party| WORLD.with(|kernel| kernel.is_cancelled(party) && !kernel.is_waiting(party)))
    {
        return Err(errors::cancelled(py, "the block is cancelled"));
    }
    Ok(())
}
