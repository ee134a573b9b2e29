//! Stopping what runs elsewhere: what it means when the kernel says that a member of a scope is cancelled.
//!
//! A worker's task is stopped by its pool, whose lock is taken for it. So an order that comes while a pool is settling
//! tasks in this thread is kept until that is done. A thread call is stopped through the interpreter, and where that is
//! not to be waited for the herald does it.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use thistledown_runtime::{Guard, Wakes};

use crate::group_call::Call;
use crate::workers::herald;
use crate::workers::remote::Remote;

/// An order to stop.
#[derive(Clone)]
pub(crate) enum Stop {
    Task(Weak<Remote>),
    Call(Arc<Call>),
}

thread_local! {
    /// The orders that came while this thread settles tasks; nothing while it does not.
    static KEPT: RefCell<Option<Vec<Stop>>> = const { RefCell::new(None) };
}

impl Wakes for Stop {
    fn wake(&self) {
        let keep = |kept: &mut Option<Vec<Self>>| kept.as_mut().map(|kept| kept.push(self.clone())).is_some();
        if KEPT.with_borrow_mut(keep) {
            return;
        }
        match self {
            Self::Task(remote) => stop_task(remote),
            Self::Call(call) => drop(Python::try_attach(|py| call.stop(py))),
        }
    }
}

fn stop_task(remote: &Weak<Remote>) {
    if let Some(remote) = remote.upgrade() {
        remote.stop();
    }
}

/// Held while a thread settles tasks.
pub(crate) struct Settling(Option<Guard<'static, ()>>);

impl Settling {
    pub(crate) fn new(guard: Guard<'static, ()>) -> Self {
        KEPT.set(Some(Vec::new()));
        Self(Some(guard))
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        drop(self.0.take());
        for stop in KEPT.take().into_iter().flatten() {
            match stop {
                Stop::Task(remote) => stop_task(&remote),
                Stop::Call(call) => herald::stop(call),
            }
        }
    }
}
