//! The herald: a thread that calls Python for those that must not, the threads of the pools.
//!
//! It calls done-callbacks, tells the standard library's waiters, and passes on what workers say (log records,
//! warnings). It is started when there is something to tell, and ends when there is nothing more.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::task::Task;

/// How long it waits for more.
const IDLE: Duration = Duration::from_secs(2);

#[derive(Default)]
struct News {
    tasks: Vec<Py<Task>>,
    said: Vec<Vec<u8>>,
    runs: bool,
    /// It is telling what it took.
    tells: bool,
    /// The interpreter is about to end: nothing is told any more.
    silent: bool,
}

static NEWS: Mutex<News> = Mutex::new(News { tasks: Vec::new(), said: Vec::new(), runs: false, tells: false, silent: false });
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
    if news.silent {
        return;
    }
    more(&mut news);
    if std::mem::replace(&mut news.runs, true) {
        CHANGED.notify_all();
        return;
    }
    let started = std::thread::Builder::new().name("thistledown-herald".into()).spawn(run);
    // Without a thread it is told with the next news.
    news.runs = started.is_ok();
}

fn run() {
    let mut news = NEWS.lock();
    loop {
        if news.tasks.is_empty() && news.said.is_empty() {
            news.tells = false;
            CHANGED.notify_all();
            let timed_out = CHANGED.wait_for(&mut news, IDLE).timed_out();
            if news.silent || (timed_out && news.tasks.is_empty() && news.said.is_empty()) {
                news.runs = false;
                CHANGED.notify_all();
                return;
            }
            continue;
        }
        news.tells = true;
        let (tasks, said) = (std::mem::take(&mut news.tasks), std::mem::take(&mut news.said));
        drop(news);
        Python::try_attach(|py| {
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
        });
        news = NEWS.lock();
    }
}

/// Waits until everything is told, and then is silent: the interpreter is about to end.
#[pyfunction]
pub(crate) fn fall_silent(py: Python<'_>, timeout: f64) {
    py.detach(|| {
        let deadline = std::time::Instant::now() + Duration::try_from_secs_f64(timeout).unwrap_or_default();
        let mut news = NEWS.lock();
        while (news.tells || !news.tasks.is_empty() || !news.said.is_empty()) && news.runs {
            if CHANGED.wait_until(&mut news, deadline).timed_out() {
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
    news.runs = false;
    news.tells = false;
    drop(news);
    drop((tasks, said));
}
