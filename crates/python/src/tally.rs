//! How many tasks there were, by where they ran, for `td.statistics()`; and the latest of what went wrong, for whoever looks.
//!
//! What is counted is counted where it passes anyway: weightless tasks by the kernel, under its lock; tasks of workers and
//! thread calls here, once each, and once for a whole burst of ends. An error is put in words for whoever looks later, but
//! not more often than each [`PAUSE`], so that a program that fails all the time does not pay for it; all are counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use rustix_futex_sync::Mutex;

use crate::actor::message::Message;
use crate::errors;
use crate::payload::WORLD;
use crate::task::Task;
use crate::workers::{engines, pool, upstream};

/// Tasks of one place, ever.
pub(crate) struct Tally {
    started: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
}

/// Of weightless tasks only those that failed or were cancelled: the kernel counts the others.
pub(crate) static HERE: Tally = Tally::new();
pub(crate) static WORKERS: Tally = Tally::new();
pub(crate) static THREADS: Tally = Tally::new();

/// Turns that held their thread for too long.
static STALLS: AtomicU64 = AtomicU64::new(0);

impl Tally {
    const fn new() -> Self {
        let [started, ended, failed, cancelled] = [const { AtomicU64::new(0) }; 4];
        Self { started, ended, failed, cancelled }
    }

    pub(crate) fn start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// So many have ended; of these so many failed, and so many were cancelled.
    pub(crate) fn end(&self, ended: u64, failed: u64, cancelled: u64) {
        for (counter, more) in [(&self.ended, ended), (&self.failed, failed), (&self.cancelled, cancelled)] {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    fn counted(&self) -> Counted {
        let [started, ended, failed, cancelled] = [&self.started, &self.ended, &self.failed, &self.cancelled]
            .map(|counter| counter.load(Ordering::Relaxed));
        (started.max(ended), ended, failed, cancelled)
    }
}

/// Started, ended, failed, cancelled.
type Counted = (u64, u64, u64, u64);

pub(crate) fn stalled() {
    STALLS.fetch_add(1, Ordering::Relaxed);
}

/// Weightless tasks, those of workers, and thread calls: each started, ended, failed and cancelled. Then how many weightless
/// ones are ready, how many turns held their thread for too long, and what each pool has and had.
type Tallies<'py> = (Counted, Counted, Counted, usize, u64, Vec<Bound<'py, PyDict>>);

/// How much there was and is of everything.
#[pyfunction]
pub(crate) fn tallies(py: Python<'_>) -> PyResult<Tallies<'_>> {
    let counts = WORLD.with(|kernel| kernel.counts());
    let (_, _, failed, cancelled) = HERE.counted();
    let here = (counts.spawned, counts.ended, failed, cancelled);
    let pools = engines::all().iter().map(|engine| pool::counts(py, engine)).collect::<PyResult<_>>()?;
    let stalls = STALLS.load(Ordering::Relaxed);
    Ok((here, WORKERS.counted(), THREADS.counted(), counts.ready, stalls, pools))
}

/// Between two errors that are put in words.
const PAUSE: Duration = Duration::from_millis(20);

/// When the last one was, in nanoseconds.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A task has failed with this, as is known from now on. It may be put in words, in which none of the user's code runs.
pub(crate) fn failed(py: Python<'_>, name: impl FnOnce() -> String, place: &str, error: &Py<PyAny>) {
    let now = thistledown_workers::now();
    let last = LAST.load(Ordering::Relaxed);
    let pause = u64::try_from(PAUSE.as_nanos()).unwrap_or(u64::MAX);
    if (last != 0 && now.saturating_sub(last) < pause) || upstream::get().is_some() {
        return;
    }
    LAST.store(now, Ordering::Relaxed);
    // What goes wrong there costs the words, and nothing else; a Ctrl-C that strikes there is somebody's.
    let seen = py.import("thistledown._seen");
    let worded = seen.and_then(|seen| seen.call_method1("failed", (name(), place, error)));
    if let Err(error) = worded
        && error.is_instance_of::<PyKeyboardInterrupt>(py)
    {
        errors::put_off(py, error, None);
    }
}

// --- an observer ------------------------------------------------------------------------------------------------

/// Somebody wants to be told of each task that begins.
static OBSERVED: AtomicBool = AtomicBool::new(false);
static OBSERVER: PyOnceLock<Mutex<Option<Py<PyAny>>>> = PyOnceLock::new();

/// From now on ``observer(task, place, context, body)`` is called with each task that is told to go, weightless or of a
/// worker, calls of actors among them; None ends that. The context and the body are a weightless task's own, which has not
/// begun. What it raises is nobody's.
#[pyfunction]
#[pyo3(signature = (observer, /))]
pub(crate) fn set_observer(py: Python<'_>, observer: Option<Py<PyAny>>) {
    let is_there = observer.is_some();
    let known = OBSERVER.get_or_init(py, Mutex::default);
    let old = std::mem::replace(&mut *known.lock(), observer);
    OBSERVED.store(is_there, Ordering::Release);
    drop(old);
}

/// A weightless task was told to go: its context, and its body.
#[inline]
pub(crate) fn told_to_go(task: &Bound<'_, Task>, context: &Bound<'_, PyAny>, body: &Bound<'_, PyAny>) {
    if OBSERVED.load(Ordering::Relaxed) {
        tell_of_weightless(task, context, body);
    }
}

/// A task was told to go in a worker, or an actor there was called.
#[inline]
pub(crate) fn told_to_go_in_worker(task: &Bound<'_, Task>) {
    if OBSERVED.load(Ordering::Relaxed) {
        tell_observer(task, "workers", None, None);
    }
}

/// What a box is asked for by itself, to end it or to move it, is no message that anybody has written.
#[cold]
fn tell_of_weightless(task: &Bound<'_, Task>, context: &Bound<'_, PyAny>, body: &Bound<'_, PyAny>) {
    if body.cast_exact::<Message>().is_ok_and(|message| message.get().is_for_box()) {
        return;
    }
    tell_observer(task, "here", Some(context), Some(body));
}

#[cold]
fn tell_observer(
    task: &Bound<'_, Task>,
    place: &str,
    context: Option<&Bound<'_, PyAny>>,
    body: Option<&Bound<'_, PyAny>>,
) {
    let py = task.py();
    let observer = OBSERVER.get(py).and_then(|known| known.lock().as_ref().map(|it| it.clone_ref(py)));
    if let Some(Err(error)) = observer.map(|observer| observer.call1(py, (task, place, context, body))) {
        error.write_unraisable(py, Some(task.as_any()));
    }
}
