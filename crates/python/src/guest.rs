//! A guest of another event loop: ends of tasks reach it through one descriptor that becomes readable.
//!
//! The loop watches the descriptor, as it watches a socket; so nothing of it is patched, no thread is between, and a
//! burst of ends wakes it once. What waits there is a party of the kernel like any other.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{TaskId, Want};
use thistledown_runtime::Wakes;
use thistledown_workers::Bell;

use crate::errors;
use crate::payload::{WORLD, Waker};
use crate::task::Task;

/// What a guest shares with whoever wakes it.
pub(crate) struct Desk {
    bell: Bell,
    ended: Mutex<Vec<u64>>,
}

/// Wakes a guest because of one wait.
#[derive(Clone)]
pub(crate) struct GuestWaker {
    desk: Arc<Desk>,
    wait: u64,
}

impl Wakes for GuestWaker {
    fn wake(&self) {
        let mut ended = self.desk.ended.lock();
        ended.push(self.wait);
        if ended.len() == 1 {
            self.desk.bell.ring();
        }
    }
}

/// Waits for tasks in an event loop that is not ours.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Guest {
    desk: Arc<Desk>,
    waits: Mutex<Waits>,
}

#[derive(Default)]
struct Waits {
    next: u64,
    parties: HashMap<u64, TaskId>,
}

#[pymethods]
impl Guest {
    #[new]
    fn new() -> PyResult<Self> {
        let bell = Bell::new().map_err(|error| errors::system(&error))?;
        Ok(Self { desk: Arc::new(Desk { bell, ended: Mutex::default() }), waits: Mutex::default() })
    }

    /// Readable when a task has ended.
    fn fileno(&self) -> RawFd {
        self.desk.bell.as_fd().as_raw_fd()
    }

    /// Waits for the end of a task; gives the number of the wait.
    fn watch(&self, py: Python<'_>, task: &Bound<'_, Task>) -> PyResult<u64> {
        let mut waits = self.waits.lock();
        waits.next += 1;
        let wait = waits.next;
        let waker = GuestWaker { desk: Arc::clone(&self.desk), wait };
        let end = task.get().id();
        let (party, is_over) = WORLD
            .with(|kernel| {
                let party = kernel.add_thread(Waker::Guest(waker.clone()));
                let waits = kernel.wait(party, [Want::End(end)]);
                waits.map(|()| (party, kernel.is_woken(party))).inspect_err(|_| kernel.finish(party))
            })
            .map_err(|cycle| errors::deadlock(py, cycle.to_string()))?;
        waits.parties.insert(wait, party);
        drop(waits);
        if is_over {
            waker.wake();
        }
        Ok(wait)
    }

    /// Nobody waits any more.
    fn forget(&self, wait: u64) {
        let party = self.waits.lock().parties.remove(&wait);
        party.into_iter().for_each(leave);
    }

    /// The waits that are over.
    fn take(&self) -> Vec<u64> {
        let ended = {
            let mut ended = self.desk.ended.lock();
            self.desk.bell.hush();
            std::mem::take(&mut *ended)
        };
        let mut waits = self.waits.lock();
        let parties: Vec<_> = ended.iter().filter_map(|wait| waits.parties.remove(wait)).collect();
        drop(waits);
        parties.into_iter().for_each(leave);
        ended
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let waits = std::mem::take(&mut *self.waits.lock());
        waits.parties.into_values().for_each(leave);
    }
}

fn leave(party: TaskId) {
    WORLD.with(|kernel| {
        kernel.withdraw(party);
        kernel.finish(party);
    });
}
