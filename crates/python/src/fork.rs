//! Forks: the child gets the kernel whole, and starts without runs.
#![allow(unsafe_code, reason = "locks are held across a fork, where no guard can live")]

use pyo3::prelude::*;

use crate::current::Current;
use crate::herald;
use crate::payload::WORLD;
use crate::run::watchdog;
use crate::upstream;

/// Before a fork: nobody else is in the middle of anything.
#[pyfunction]
pub(crate) fn before_fork() {
    // Pools before the world, as whoever settles tasks does.
    upstream::lock_for_fork();
    watchdog().lock_for_fork();
    WORLD.lock_for_fork();
}

/// After a fork, in the parent.
#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    // SAFETY: Python calls this after `before_fork`, in the thread that forked, once.
    unsafe {
        WORLD.unlock_after_fork();
        watchdog().unlock_after_fork();
        upstream::unlock_after_fork(false);
    }
}

/// After a fork, in the child: a run that was going on belongs to the parent.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    // SAFETY: as in the parent; the child's only thread is a copy of the one that took the locks.
    unsafe { WORLD.unlock_after_fork() };
    crate::run::replace_watchdog();
    // SAFETY: as above. Pools come last: their tasks end here, and whoever waits is told.
    unsafe {
        herald::forget();
        upstream::unlock_after_fork(true);
        upstream::forget_worker();
    }
    if let Some(run) = Current::run() {
        run.forked.set(true);
    }
    crate::run::forget_runs();
    crate::thread_wait::forget_parker();
}
