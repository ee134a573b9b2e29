//! Forks: the child gets the kernel whole, and starts without runs.
#![allow(unsafe_code, reason = "locks are held across a fork, where no guard can live")]

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::channel::door;
use crate::current::Current;
use crate::payload::WORLD;
use crate::run::watchdog;
use crate::workers::engines;
use crate::workers::herald;
use crate::workers::upstream;

/// How many forks lie between the process that has loaded the module and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Which process this is among its own ancestors. What remembers it knows later whether it was left by a fork, and no
/// system call is made for that.
pub(crate) fn process() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Sees to it that each fork of this process, also one by C code, finds nobody in the middle of anything.
///
/// Not by Python's own hooks: between those other Python code runs, and may wait for a thread that waits for the locks.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    // SAFETY: the functions live as long as the process, as this module is never unloaded.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_here));
    });
}

extern "C" fn before_fork() {
    // Pools before the world, as whoever settles tasks does.
    engines::lock_for_fork();
    crate::space::file::lock_for_fork();
    door::lock_for_fork();
    watchdog().lock_for_fork();
    WORLD.lock_for_fork();
}

extern "C" fn after_fork_in_parent() {
    // SAFETY: the C library calls this after `before_fork`, in the thread that forked, once.
    unsafe { unlock_all(false) };
}

/// In the child, which may be C's alone and fork itself: so there, too, nobody is left in the middle of anything.
extern "C" fn after_fork_here() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: as in the parent; the child's only thread is a copy of the one that took the locks.
    unsafe { unlock_all(true) };
}

/// Releases what `before_fork` has taken.
///
/// # Safety
/// Only after `before_fork` in this thread, and once in each process.
unsafe fn unlock_all(in_child: bool) {
    // SAFETY: by the contract above.
    unsafe {
        WORLD.unlock_after_fork();
        watchdog().unlock_after_fork();
        crate::space::file::unlock_after_fork();
        let held = door::unlock_after_fork(in_child);
        engines::unlock_after_fork(in_child);
        drop(held);
    }
}

/// After a fork, in the child: what was going on belongs to the parent.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    crate::outside::begin_anew();
    crate::run::replace_watchdog();
    herald::forget();
    // Tasks of the parent's pools end here, and whoever waits is told.
    engines::desert();
    upstream::forget_worker();
    crate::workers::ends::forget();
    if let Some(run) = Current::run() {
        run.forked.set(true);
    }
    crate::run::forget_runs();
    crate::keys::forget();
    crate::asyncio::loops::forget();
    crate::thread_wait::forget_parker();
    crate::survey::forget_waits();
    crate::channel::known::forget();
    crate::window::forget();
    crate::space::file::forget();
}
