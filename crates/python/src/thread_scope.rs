//! Scopes of plain threads: whom a scope belongs to that is opened where no weightless task has its turn.
//!
//! A thread with scopes open is one party of the kernel, from the first one's beginning to the last one's end; its waits
//! are that party's. It looks at the time when it waits, and when it opens or leaves a scope.

use std::cell::Cell;

use pyo3::prelude::*;
use thistledown_kernel::TaskId;
use thistledown_runtime::Clock;

use crate::current::Current;
use crate::errors;
use crate::payload::{WORLD, Waker};

thread_local! {
    static PARTY: Cell<Option<TaskId>> = const { Cell::new(None) };
}

/// The party of this thread, when it has scopes open.
pub(crate) fn party() -> Option<TaskId> {
    PARTY.get()
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

/// Refuses to go on in a thread whose scope is cancelled.
pub(crate) fn check(py: Python<'_>) -> PyResult<()> {
    look_at_the_time();
    if party()
        .is_some_and(|party| WORLD.with(|kernel| kernel.is_cancelled(party) && !kernel.is_waiting(party)))
    {
        return Err(errors::cancelled(py, "the block is cancelled"));
    }
    Ok(())
}
