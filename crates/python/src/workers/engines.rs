//! The engines of this process's pools: who they are, and what becomes of them at a fork.

use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_workers::Engine;

use crate::workers::settle::{self, Ticket};
use crate::workers::upstream;

/// The engines of this process.
static ENGINES: Mutex<Vec<Weak<Engine<Ticket>>>> = Mutex::new(Vec::new());

/// The engines that are held across a fork.
static HELD: Mutex<Vec<Arc<Engine<Ticket>>>> = Mutex::new(Vec::new());

/// Makes one known.
pub(crate) fn register(engine: &Arc<Engine<Ticket>>) {
    let mut engines = ENGINES.lock();
    engines.retain(|engine| engine.strong_count() > 0);
    engines.push(Arc::downgrade(engine));
}

/// Whether a pool of this process has tasks, from which something may come.
#[pyfunction]
pub(crate) fn pools_have_tasks() -> bool {
    let engines: Vec<_> = ENGINES.lock().iter().filter_map(Weak::upgrade).collect();
    let spawned = upstream::get().is_some_and(|upstream| upstream.has_spawned());
    spawned || engines.iter().any(|engine| engine.has_jobs())
}

/// The engines of this process that have begun and are not over.
pub(crate) fn all() -> Vec<Arc<Engine<Ticket>>> {
    let engines: Vec<_> = ENGINES.lock().iter().filter_map(Weak::upgrade).collect();
    engines.into_iter().filter(|engine| engine.is_started()).collect()
}

/// Takes the locks of all engines, so that a fork finds them whole.
pub(crate) fn lock_for_fork() {
    let engines: Vec<_> = ENGINES.lock().iter().filter_map(Weak::upgrade).collect();
    engines.iter().for_each(|engine| engine.lock_for_fork());
    settle::lock_for_fork();
    *HELD.lock() = engines;
}

/// Releases them.
///
/// # Safety
/// Only after [`lock_for_fork`] in this thread, and once in each process.
#[allow(unsafe_code, reason = "guards cannot live across a fork")]
pub(crate) unsafe fn unlock_after_fork(in_child: bool) {
    // SAFETY: locked by `lock_for_fork`, by the contract above.
    unsafe { settle::unlock_after_fork() };
    let mut held = HELD.lock();
    for engine in held.iter() {
        // SAFETY: as above.
        unsafe {
            match in_child {
                true => engine.give_up_in_child(),
                false => engine.unlock_in_parent(),
            }
        }
    }
    if !in_child {
        held.clear();
    }
}

/// In a forked child, where Python may be called: the parent's pools are no concern of this process, also when it forks
/// itself. Their descriptors are closed, and their tasks end.
pub(crate) fn desert() {
    ENGINES.lock().clear();
    for engine in std::mem::take(&mut *HELD.lock()) {
        engine.desert();
    }
}
