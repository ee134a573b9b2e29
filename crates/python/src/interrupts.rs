//! Ctrl-C, as far as it is counted, and put off.
#![allow(unsafe_code, reason = "pyo3 has no word for a Ctrl-C that comes once more")]

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

/// Ctrl-C since the main thread's run began, wherever it struck: one that is raised inside of a task is otherwise not
/// seen before that task has cleaned up.
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// Counts a Ctrl-C; zero begins to count.
#[pyfunction]
pub(crate) fn count_interrupts(more: u32) {
    match more {
        0 => INTERRUPTS.store(0, Ordering::Relaxed),
        more => drop(INTERRUPTS.fetch_add(more, Ordering::Relaxed)),
    }
}

/// A Ctrl-C that was raised where nobody can raise it comes once more, and counts once.
pub(crate) fn strike_again() {
    let _ = INTERRUPTS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    // SAFETY: sets a flag, from any thread.
    unsafe { pyo3::ffi::PyErr_SetInterrupt() };
}

/// Whether there was more than one.
pub(crate) fn came_again() -> bool {
    INTERRUPTS.load(Ordering::Relaxed) > 1
}
