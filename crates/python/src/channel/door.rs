//! The exchange of this process: made when a channel is first shared, there as long as one is; and what becomes of it at
//! a fork.
#![allow(
    unsafe_code,
    reason = "a lock is held across a fork, and descriptors that a fork has copied are closed"
)]

use std::os::fd::RawFd;

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_exchange::{Exchange, WeakExchange};

use crate::errors;
use crate::window::signal::keep_signals_out;

#[derive(Default)]
struct Door {
    exchange: Option<WeakExchange>,
    /// While a fork is under way: the exchange and the descriptors of its connections.
    held: Option<(Exchange, Vec<RawFd>)>,
}

/// Taken for an instant, and across a fork. The exchange's own locks are below it.
static DOOR: Mutex<Door> = Mutex::new(Door { exchange: None, held: None });

/// The exchange of this process.
pub(crate) fn open() -> PyResult<Exchange> {
    let mut door = DOOR.lock();
    if let Some(exchange) = door.exchange.as_ref().and_then(WeakExchange::upgrade) {
        return Ok(exchange);
    }
    let mask = keep_signals_out();
    let started = Exchange::start();
    mask.restore();
    let exchange = started.map_err(|error| errors::system(&error))?;
    door.exchange = Some(exchange.downgrade());
    Ok(exchange)
}

/// The exchange of this process, if there is one.
pub(crate) fn opened() -> Option<Exchange> {
    DOOR.lock().exchange.as_ref().and_then(WeakExchange::upgrade)
}

/// How many objects of this process are kept, for tests.
#[pyfunction]
#[pyo3(name = "_shared_objects")]
pub(crate) fn shared_objects() -> usize {
    opened().map_or(0, |exchange| exchange.objects())
}

/// Holds it, so that a fork finds it whole.
pub(crate) fn lock_for_fork() {
    let mut door = DOOR.lock();
    door.held = door.exchange.as_ref().and_then(WeakExchange::upgrade).map(|exchange| {
        let connections = exchange.connections();
        (exchange, connections)
    });
    std::mem::forget(door);
}

/// Ends what [`lock_for_fork`] has begun. Gives back what it held, to be dropped when nothing is locked any more: the last
/// one who lets an exchange go waits for its thread.
///
/// # Safety
/// Only after [`lock_for_fork`] in this thread, and once in each process.
#[must_use]
pub(crate) unsafe fn unlock_after_fork(in_child: bool) -> Option<Exchange> {
    // SAFETY: locked by `lock_for_fork`, by the contract above.
    unsafe { DOOR.force_unlock() };
    let mut door = DOOR.lock();
    let held = door.held.take();
    if in_child {
        door.exchange = None;
    }
    drop(door);
    let (exchange, connections) = held?;
    if !in_child {
        return Some(exchange);
    }
    for descriptor in exchange.desert().into_iter().chain(connections) {
        // SAFETY: a copy of the parent's, which nobody here uses: its thread does not exist, and all else asks first.
        unsafe { libc::close(descriptor) };
    }
    // What would close them again, by number, is never dropped.
    std::mem::forget(exchange);
    None
}
