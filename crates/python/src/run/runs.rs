//! The runs of this process, and the watchdog that watches them: at forks, and at the end of the interpreter.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::prelude::*;
use rustix_futex_sync::{Mutex, RwLock};
use thistledown_runtime::{Stall, Watchdog, Watched};

use crate::current::Shared;
use crate::outside::outside;
use crate::report::report;
use crate::tally;
use crate::turn;
use crate::window;

/// The watchdog of this process.
static WATCHDOG: RwLock<Option<&'static Watchdog>> = RwLock::new(None);

pub(crate) fn watchdog() -> &'static Watchdog {
    if let Some(watchdog) = *WATCHDOG.read() {
        return watchdog;
    }
    WATCHDOG.write().get_or_insert_with(|| Box::leak(Box::default()))
}

/// In a forked child the old one's thread does not exist.
pub(crate) fn replace_watchdog() {
    *WATCHDOG.write() = None;
}

/// The runs of this process that are not over.
static RUNS: Mutex<Vec<Arc<Shared>>> = Mutex::new(Vec::new());

/// Makes one known.
pub(super) fn begins(run: &Arc<Shared>) {
    RUNS.lock().push(Arc::clone(run));
}

/// It is over.
pub(super) fn ends(run: &Arc<Shared>) {
    RUNS.lock().retain(|other| !Arc::ptr_eq(other, run));
}

/// The runs of this process that are not over.
pub(crate) fn runs() -> Vec<Arc<Shared>> {
    RUNS.lock().clone()
}

/// Lets the watchdog watch this thread.
pub(crate) fn watch(limit: Duration, shared: &Arc<Shared>) -> io::Result<Watched> {
    let thread = shared.thread;
    let shared = Arc::clone(shared);
    let progress = Arc::new(std::sync::OnceLock::<Arc<thistledown_runtime::Progress>>::new());
    let known = Arc::clone(&progress);
    let watched = watchdog().watch(limit, move |stall: Stall| {
        tally::stalled();
        Python::try_attach(|py| {
            let turn = known.get().and_then(|progress| progress.turn());
            let lasts = turn == Some(stall.turn);
            let task =
                if lasts { turn::borrowed_task(py, shared.task.load(Ordering::Relaxed)) } else { None };
            report(py, "stalled", (task, thread, stall.lasted.as_secs_f64(), lasts));
        });
    })?;
    let _ = progress.set(Arc::clone(watched.progress()));
    Ok(watched)
}

/// Asks every run of another thread to end, because the interpreter is about to. True when all are over.
#[pyfunction]
pub(crate) fn stop_runs(py: Python<'_>) -> bool {
    // The watchdog's thread must not be inside of the interpreter when that ends.
    outside(py, || {
        watchdog().fall_silent();
        window::fall_silent();
    });
    let runs = runs();
    for run in &runs {
        run.exit.store(true, Ordering::Release);
        run.waker.wake();
    }
    runs.iter().all(|run| run.over.load(Ordering::Acquire))
}

/// In a forked child: the parent's runs are not here.
pub(crate) fn forget_runs() {
    if let Some(mut runs) = RUNS.try_lock() {
        runs.clear();
    }
}
