//! A task whose body runs in another process: what is known of it here, and what becomes of an error that nobody has
//! asked for.
#![allow(unsafe_code, reason = "the interpreter is asked whether it is there")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::ffi;
use pyo3::prelude::*;
use thistledown_kernel::{ScopeId, TaskId};

use super::{Outcome, PLEDGED, REMOTE, Task, log_failed_callback};
use crate::errors;
use crate::payload::WORLD;
use crate::report::report;
use crate::tally;
use crate::trail::calls::{Held, Hold};
use crate::workers::herald;
use crate::workers::remote::{Remote, Way};
use crate::workers::upstream::{self, Blocked};

impl Task {
    /// Its body runs in another process.
    pub(crate) fn set_remote(slf: &Bound<'_, Self>, remote: Arc<Remote>) {
        remote.set_task(slf.as_ptr());
        slf.get().state.lock().extra.get_or_insert_default().remote = Some(remote);
        slf.get().id.store(REMOTE, Ordering::Release);
    }

    /// Makes it a member of a scope, if it runs in another process.
    pub(crate) fn join(&self, py: Python<'_>, scope: ScopeId) -> PyResult<()> {
        match self.remote() {
            Some(remote) => {
                remote.join(scope).map_err(errors::join_refused)?;
                if let Some(Way::Home(call)) = remote.way() {
                    // At the end of the block, by whoever has opened it.
                    call.note_wait(&remote);
                    listen(py);
                }
                Ok(())
            }
            None => Err(errors::wrong_type(
                "a group takes in tasks of worker processes: start a weightless one with `tg.go(body, *args)`",
            )),
        }
    }

    pub(crate) fn remote(&self) -> Option<Arc<Remote>> {
        if self.id.load(Ordering::Relaxed) != REMOTE {
            return None;
        }
        self.state.lock().extra.as_ref().and_then(|extra| extra.remote.clone())
    }

    /// In a worker, if it is one that was started here and runs elsewhere: who waits for it cannot go on before it has
    /// ended. `task` is the weightless one that waits; without, it is what runs in this thread.
    pub(crate) fn blocks(&self, task: Option<TaskId>) -> Option<Blocked> {
        self.remote()?.blocks(task)
    }

    /// In a worker, if it is one that was started here: a weightless task waits for it, and for nothing else.
    pub(crate) fn binds(&self, py: Python<'_>, task: TaskId) {
        let Some(remote) = self.remote().filter(|_| is_bound(task)) else { return };
        if remote.is_far() {
            listen(py);
        }
        if let Some(blocked) = remote.blocks(Some(task)) {
            // Said to be over by whoever ends the wait.
            blocked.lasts();
        }
    }

    /// The wait of a weightless task for it is over. What it is to be told, if it could never have ended.
    pub(crate) fn unbinds(&self, task: TaskId) -> Option<String> {
        let remote = self.remote()?;
        let blocked = remote.bound(task);
        // What could never have ended may have been taken back, and so be over.
        let may_be_bound = remote.is_far() || remote.ended().is_some();
        let is_told = blocked.is_some() || (may_be_bound && is_bound(task));
        is_told.then(|| remote.take_deadlock())?
    }

    /// In the thread of a worker that runs its tasks: that waits for it, if it runs elsewhere, and for nothing else.
    pub(crate) fn holds(&self, py: Python<'_>) -> PyResult<Option<Held>> {
        let Some(remote) = self.remote() else { return Ok(None) };
        let Some(upstream) = upstream::get().filter(|upstream| upstream.runs_here()) else { return Ok(None) };
        // Trails come with the answers.
        upstream.listen(py)?;
        Ok(Some(Held::new(py, Hold::End(remote))))
    }

    /// Why the wait for it can never end, for the one whose wait it is.
    pub(crate) fn take_deadlock(&self) -> Option<String> {
        self.remote()?.take_deadlock()
    }

    /// The kernel's name for it when its body runs elsewhere, as far as it has one: nobody is made to wait.
    pub(crate) fn party_elsewhere(&self) -> Option<TaskId> {
        match self.remote() {
            Some(remote) => remote.party_if_known(),
            None => Some(self.id()),
        }
    }

    /// Whether its body runs in another process.
    pub(crate) fn is_remote(&self) -> bool {
        self.id.load(Ordering::Relaxed) == REMOTE
    }

    /// What has arrived from the other process, made Python's.
    pub(super) fn unpack(&self, py: Python<'_>) {
        // Most are not remote, and told so without a lock.
        if !self.is_remote() || self.state.lock().outcome.is_some() {
            return;
        }
        let Some(remote) = self.remote() else { return };
        let Some(ended) = remote.ended() else { return };
        herald::hear_out(py);
        // Unpacking runs foreign code, so nothing is held; who else does it meanwhile gets another copy, and one stays.
        let Some(outcome) = remote.unpack(py, &ended, &self.name(py)) else { return };
        if let Outcome::Error(error) = &outcome {
            tally::failed(py, || self.name(py), "workers", error);
        }
        let mut state = self.state.lock();
        let spare = match state.outcome {
            Some(_) => Some(outcome),
            None => {
                state.outcome = Some(outcome);
                None
            }
        };
        drop(state);
        drop(spare);
        remote.forget_outcome();
    }

    /// Tells whoever has asked to be told that its body, which ran in another process, has ended.
    pub(crate) fn tell(slf: &Bound<'_, Self>) {
        let this = slf.get();
        let Some(ended) = this.remote().and_then(|remote| remote.ended()) else { return };
        let tell = match (ended.is_cancelled(), ended.is_error()) {
            (true, _) => "add_cancelled",
            (_, true) => "add_exception",
            _ => "add_result",
        };
        drop(ended);
        if let Some(view) = this.known_view(slf.py()) {
            view.tell(slf, tell, || {});
        }
        let callbacks = this.state.lock().extra.as_mut().map(|extra| std::mem::take(&mut extra.callbacks));
        for callback in callbacks.into_iter().flatten() {
            if let Err(error) = callback.call1(slf.py(), (slf,)) {
                log_failed_callback(slf, error);
            }
        }
    }
}

/// In a worker: trails come with the answers. Where nobody can listen, a wait that can never end is not told.
fn listen(py: Python<'_>) {
    if let Some(upstream) = upstream::get() {
        let _ = upstream.listen(py);
    }
}

/// Whether no deadline ends the waits of a weightless task.
fn is_bound(task: TaskId) -> bool {
    WORLD.with(|kernel| !kernel.has_way_out(task))
}

impl Drop for Task {
    /// An error in another process that nobody has asked for is told, so that it is not lost.
    fn drop(&mut self) {
        if *self.id.get_mut() != REMOTE {
            if self.is_marked(PLEDGED) && !self.is_done() {
                let id = TaskId::from_number(*self.id.get_mut());
                WORLD.with(|kernel| kernel.finish(id));
            }
            return;
        }
        let Some(remote) = self.remote() else { return };
        remote.set_task(std::ptr::null_mut());
        if self.is_fetched() {
            return;
        }
        // SAFETY: a question that can be asked at any time. When the interpreter is ending nobody can be told.
        if unsafe { ffi::Py_IsInitialized() } == 0 {
            return;
        }
        Python::try_attach(|py| {
            let _pending = errors::Pending::set_aside(py);
            // One that runs on is told of when it ends, if it fails.
            if !remote.let_go(self.name(py))
                && remote.ended().is_some_and(|ended| ended.is_loss())
                && let Some(error) = self.failure(py)
            {
                report(py, "failed_elsewhere", (self.name(py), error));
            }
        });
    }
}
