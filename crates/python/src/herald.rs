//! The herald: a thread that calls Python for those that must not, the threads of the pools.
//!
//! It calls done-callbacks, tells the standard library's waiters, and passes on what workers say (log records,
//! warnings). It is a thread of Python's, started by whoever makes it needed: a pool that begins, or somebody who wants
//! to be called. It ends when no pool is open and there was nothing to tell for a while.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use thistledown_runtime::Clock;

use crate::task::Task;

/// How long it waits for more, when no pool is open.
const IDLE: Duration = Duration::from_millis(200);

struct News {
    tasks: Vec<Py<Task>>,
    said: Vec<Vec<u8>>,
    /// Pools that are open: what they bring has to be told.
    pools: usize,
    runs: bool,
    /// It is telling what it took.
    tells: bool,
    /// The interpreter is about to end: nothing is told any more.
    silent: bool,
}

impl News {
    fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.said.is_empty()
    }
}

static NEWS: Mutex<News> = Mutex::new(News {
    tasks: Vec::new(),
    said: Vec::new(),
    pools: 0,
    runs: false,
    tells: false,
    silent: false,
});
static CHANGED: Condvar = Condvar::new();

/// These tasks have ended: their callbacks are called.
pub(crate) fn tell(tasks: Vec<Py<Task>>) {
    add(|news| news.tasks.extend(tasks));
}

/// Workers have said this.
pub(crate) fn pass_on(said: Vec<Vec<u8>>) {
    add(|news| news.said.extend(said));
}

fn add(more: impl FnOnce(&mut News)) {
    let mut news = NEWS.lock();
    if !news.silent {
        more(&mut news);
        CHANGED.notify_all();
    }
}

/// A pool is open.
pub(crate) fn pool_opened(py: Python<'_>) -> PyResult<()> {
    NEWS.lock().pools += 1;
    ensure(py)
}

/// A pool is over.
pub(crate) fn pool_closed() {
    let mut news = NEWS.lock();
    news.pools = news.pools.saturating_sub(1);
    CHANGED.notify_all();
}

/// Sees to it that the thread is there.
pub(crate) fn ensure(py: Python<'_>) -> PyResult<()> {
    {
        let mut news = NEWS.lock();
        if news.silent || std::mem::replace(&mut news.runs, true) {
            return Ok(());
        }
    }
    let started = py.import("thistledown._report").and_then(|report| report.call_method0("start_herald"));
    started.map(drop).inspect_err(|_| NEWS.lock().runs = false)
}

/// What the herald's thread does.
#[pyfunction]
pub(crate) fn tell_news(py: Python<'_>) {
    while let Some((tasks, said)) = py.detach(next) {
        for bytes in said {
            let heard = py
                .import("thistledown._carried")
                .and_then(|carried| carried.call_method1("heard", (PyBytes::new(py, &bytes),)));
            if let Err(error) = heard {
                error.write_unraisable(py, None);
            }
        }
        for task in tasks {
            Task::tell(task.bind(py));
        }
    }
}

type Told = (Vec<Py<Task>>, Vec<Vec<u8>>);

/// Waits for news. Nothing: the thread is to end.
fn next() -> Option<Told> {
    let mut news = NEWS.lock();
    news.tells = false;
    CHANGED.notify_all();
    while news.is_empty() && !news.silent {
        if news.pools > 0 {
            CHANGED.wait(&mut news);
        } else if CHANGED.wait_for(&mut news, IDLE).timed_out() && news.is_empty() && news.pools == 0 {
            news.runs = false;
            return None;
        }
    }
    if news.silent {
        news.runs = false;
        return None;
    }
    news.tells = true;
    Some((std::mem::take(&mut news.tasks), std::mem::take(&mut news.said)))
}

/// Whether the thread is there and has nothing to do.
#[pyfunction]
pub(crate) fn herald_rests() -> bool {
    let news = NEWS.lock();
    news.runs && !news.tells && news.is_empty()
}

/// Waits until everything is told, and then is silent: the interpreter is about to end.
#[pyfunction]
pub(crate) fn fall_silent(py: Python<'_>, timeout: f64) {
    py.detach(|| {
        let deadline = Clock::System.now().after(Duration::try_from_secs_f64(timeout).unwrap_or_default());
        let mut news = NEWS.lock();
        while (news.tells || !news.tasks.is_empty() || !news.said.is_empty()) && news.runs {
            let left = deadline.since(Clock::System.now());
            if left.is_zero() || CHANGED.wait_for(&mut news, left).timed_out() {
                break;
            }
        }
        news.silent = true;
        CHANGED.notify_all();
    });
}

/// Takes the lock, so that a fork finds everything whole.
pub(crate) fn lock_for_fork() {
    std::mem::forget(NEWS.lock());
}

/// Releases the lock that [`lock_for_fork`] took, in the parent and in the child.
///
/// # Safety
/// Only after [`lock_for_fork`] in this thread, and once in each process.
#[allow(unsafe_code, reason = "the guard cannot live across a fork, so the lock is released by hand")]
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: the caller holds the lock, by the contract above.
    unsafe { NEWS.force_unlock() };
}

/// In a forked child the thread does not exist, and what it was to tell is the parent's affair.
pub(crate) fn forget() {
    let mut news = NEWS.lock();
    let (tasks, said) = (std::mem::take(&mut news.tasks), std::mem::take(&mut news.said));
    (news.runs, news.tells, news.pools) = (false, false, 0);
    drop(news);
    drop((tasks, said));
}
