//! The end of a program: tasks of workers that failed, which are held to the end by somebody who never asked; and the
//! death by Ctrl-C of a program that was only waiting for its tasks.
#![allow(unsafe_code, reason = "a function is called by the interpreter when nothing of it is left")]

use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Once, Weak};

use pyo3::ffi;
use pyo3::prelude::*;
use rustix::process::{Signal, getpid, kill_process};
use rustix_futex_sync::Mutex;

use crate::task::Task;
use crate::workers::remote::Remote;

/// Those that failed while somebody held them, in the order of their ends. Taken by who settles tasks, and at the end.
static FAILED: Mutex<Vec<Weak<Remote>>> = Mutex::new(Vec::new());

/// Below so many nobody looks whether their tasks are still there.
const FEW: usize = 1_000;

/// These have failed.
pub(crate) fn note(failed: Vec<Weak<Remote>>) {
    let mut known = FAILED.lock();
    if known.len() + failed.len() > known.capacity().max(FEW) {
        known.retain(|remote| remote.strong_count() > 0);
        // Room for as many as there are, so that the next look comes after twice as many.
        let room = known.len().max(FEW);
        known.reserve(room);
    }
    known.extend(failed);
}

/// In a forked child: what failed is told by the parent.
pub(crate) fn forget() {
    FAILED.lock().clear();
}

/// Tasks of workers that have failed, whose outcome nobody has asked for and which somebody holds: name and error, in the
/// order of their ends, and how many more there are. Each is given once.
#[pyfunction]
pub(crate) fn take_unasked(py: Python<'_>, limit: usize) -> (Vec<(String, Py<PyAny>)>, usize) {
    let failed = std::mem::take(&mut *FAILED.lock());
    let (mut unasked, mut more) = (Vec::new(), 0);
    for remote in failed.iter().filter_map(Weak::upgrade) {
        let Some(task) = remote.task(py).filter(|task| !task.get().is_fetched()) else { continue };
        task.get().mark_fetched();
        if unasked.len() >= limit {
            more += 1;
        } else if let Some(error) = task.get().failure(py) {
            unasked.push((task.get().name(py), error));
        }
    }
    (unasked, more)
}

/// The process will die of SIGINT, when the interpreter has done all that it does at its end.
#[pyfunction]
pub(crate) fn die_of_interrupt() {
    static ONCE: Once = Once::new();
    // SAFETY: the function lives as long as the process, as this module is never unloaded.
    ONCE.call_once(|| {
        let _ = unsafe { ffi::Py_AtExit(Some(die)) };
    });
}

extern "C" fn die() {
    // The interpreter has put back what a process does with it that knows nothing of signals.
    let _ = kill_process(getpid(), Signal::INT);
}

/// Kept by a [`Remote`]: the task that it is in Python, as long as that lives.
#[derive(Default)]
pub(crate) struct Face(AtomicPtr<ffi::PyObject>);

impl Face {
    pub(crate) fn set(&self, task: *mut ffi::PyObject) {
        self.0.store(task, Ordering::Release);
    }

    /// The task, if it lives.
    pub(crate) fn get(&self, py: Python<'_>) -> Option<Py<Task>> {
        let task = self.0.load(Ordering::Acquire);
        // SAFETY: null, or a task whose memory is there: its drop, which needs the interpreter as we do, clears this first.
        // One whose last reference is gone may still be on its way there.
        unsafe {
            if task.is_null() || ffi::Py_REFCNT(task) == 0 {
                return None;
            }
            Bound::from_borrowed_ptr(py, task).cast_into::<Task>().ok().map(Bound::unbind)
        }
    }
}
