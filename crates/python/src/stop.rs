//! Stopping what runs elsewhere: what it means when the kernel says that a member of a scope is cancelled.
//!
//! A worker's task is stopped by its pool, whose lock is taken for it. So an order that comes while a pool is settling
//! tasks in this thread is kept until that is done. A thread call is stopped through the interpreter, and where that is
//! not to be waited for the herald does it.
//!
//! So is what keeps handles that nobody will unpack, when it turns up meanwhile: to let it go may connect to another process,
//! and may be the end of the exchange, whose thread may wait for this one to have settled.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use thistledown_exchange::{ObjectId, Ticket, TicketId};
use thistledown_runtime::{Guard, Wakes};

use crate::channel::tickets;
use crate::group_call::Call;
use crate::workers::herald;
use crate::workers::remote::Remote;

/// An order to stop.
#[derive(Clone)]
pub(crate) enum Stop {
    Task(Weak<Remote>),
    Call(Arc<Call>),
}

/// What is to be done when the tasks are settled.
#[derive(Default)]
struct Kept {
    /// The orders that came.
    stops: Vec<Stop>,
    /// What kept handles on their way, to be dropped.
    tickets: Vec<Ticket>,
    /// The same of other processes, to be let go.
    names: Vec<(ObjectId, TicketId)>,
}

thread_local! {
    /// What came while this thread settles tasks; nothing while it does not.
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// Keeps for later what must not be done while this thread settles tasks. False: it does not.
fn keep(what: impl FnOnce(&mut Kept)) -> bool {
    // Where a thread ends there is nothing of this any more, and it settles nothing.
    KEPT.try_with(|kept| kept.borrow_mut().as_mut().map(what).is_some()).unwrap_or(false)
}

/// Lets go what nobody will unpack; while tasks are settled here, afterwards.
pub(crate) fn let_go(names: Vec<(ObjectId, TicketId)>) {
    let mut names = Some(names);
    if !keep(|kept| kept.names.extend(names.take().into_iter().flatten())) {
        tickets::let_go(names.unwrap_or_default());
    }
}

/// Drops what kept handles on their way; while tasks are settled here, afterwards.
pub(crate) fn drop_tickets(tickets: Vec<Ticket>) {
    let mut tickets = Some(tickets);
    keep(|kept| kept.tickets.extend(tickets.take().into_iter().flatten()));
    drop(tickets);
}

impl Wakes for Stop {
    fn wake(&self) {
        if keep(|kept| kept.stops.push(self.clone())) {
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
        KEPT.set(Some(Kept::default()));
        Self(Some(guard))
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        drop(self.0.take());
        let Kept { stops, tickets, names } = KEPT.take().unwrap_or_default();
        drop(tickets);
        tickets::let_go(names);
        for stop in stops {
            match stop {
                Stop::Task(remote) => stop_task(&remote),
                Stop::Call(call) => herald::stop(call),
            }
        }
    }
}
