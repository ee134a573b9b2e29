//! The herald: a thread that calls Python for those that must not, the threads of the pools.
//!
//! It calls done-callbacks, stops thread calls of groups, tells the standard library's waiters, passes on what workers say (log records, warnings), and
//! reports errors of tasks that nobody holds. It is a thread of Python's, started by whoever makes it needed: a pool that begins, or somebody who wants
//! to be called. It ends when no pool is open and there was nothing to tell for a while.

#![allow(unsafe_code, reason = "what belongs to a process is replaced in a forked child, behind a pointer")]

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix_futex_sync::{Condvar, Mutex};
use thistledown_workers::now;

use crate::actor::counter::Mail;
use crate::group_call::Call;
use crate::outside::{end_is_near, outside};
use crate::report::report;
use crate::task::{Outcome, Task};
use crate::trail::written::Trail;
use crate::trail::{self, calls};
use crate::workers::ended::Ended;
use crate::workers::remote::Remote;

/// A task that nobody holds: its name, how it ended, and what it was here.
pub(crate) type Lost = (String, Arc<Ended>, Option<Arc<Remote>>);

/// How much of what workers say waits to be told; what comes then is counted, and dropped.
const SAID_BYTES: usize = 8 * 1024 * 1024;

/// How long somebody waits for what workers said before. It may be told to who waits for a lock that this one holds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits for more, when no pool is open.
const IDLE: Duration = Duration::from_millis(200);

#[derive(Default)]
struct News {
    tasks: Vec<Py<Task>>,
    lost: Vec<Lost>,
    stops: Vec<Arc<Call>>,
    /// What other processes ask of actors of this one.
    mail: Vec<Mail>,
    /// Trails of waits that came to jobs of this worker.
    trails: Vec<(u64, Trail)>,
    /// It is time to look at calls that are not answered.
    looks: bool,
    /// When that is, while it looks at times.
    next_look: Option<u64>,
    said: Vec<Vec<u8>>,
    said_bytes: usize,
    /// How often something was said, and how much of it was told.
    said_ever: u64,
    told_ever: u64,
    /// How much more they said than is kept.
    unsaid: usize,
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
        self.tasks.is_empty()
            && self.lost.is_empty()
            && self.stops.is_empty()
            && self.mail.is_empty()
            && self.trails.is_empty()
            && self.said.is_empty()
    }
}

/// The herald of a process.
struct Herald {
    news: Mutex<News>,
    changed: Condvar,
}

/// Made when it is needed first, and kept for ever. A forked child has one of its own: the parent's may be locked there,
/// and waited for by threads that are not.
static HERALD: AtomicPtr<Herald> = AtomicPtr::new(std::ptr::null_mut());

fn herald() -> &'static Herald {
    // SAFETY: null, or what `replace` has leaked.
    match unsafe { HERALD.load(Ordering::Acquire).as_ref() } {
        Some(herald) => herald,
        None => replace(std::ptr::null_mut()),
    }
}

/// Puts a new one in the place of the old one, unless somebody else has.
fn replace(old: *mut Herald) -> &'static Herald {
    let fresh = Box::into_raw(Box::new(Herald { news: Mutex::default(), changed: Condvar::new() }));
    let there = match HERALD.compare_exchange(old, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => fresh,
        Err(there) => {
            // SAFETY: made above, and nobody has seen it.
            drop(unsafe { Box::from_raw(fresh) });
            there
        }
    };
    // SAFETY: leaked, here or by whoever was faster.
    unsafe { &*there }
}

/// How much of what workers said waits to be told. Set with the lock of the news; read without it by whoever only needs to
/// know whether there is any.
static UNTOLD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_HERALD: Cell<bool> = const { Cell::new(false) };
}

/// In a forked child the thread does not exist, and what it was to tell is the parent's affair.
pub(crate) fn forget() {
    UNTOLD.store(0, Ordering::Relaxed);
    LOOKS.store(false, Ordering::Relaxed);
    calls::forget();
    replace(HERALD.load(Ordering::Acquire));
}

/// These tasks have ended: their callbacks are called.
pub(crate) fn tell(tasks: Vec<Py<Task>>) {
    add(|news| news.tasks.extend(tasks));
}

/// Tasks that nobody holds have failed so.
pub(crate) fn mourn(lost: Vec<Lost>) {
    add(|news| news.lost.extend(lost));
}

/// This thread call is to stop.
pub(crate) fn stop(call: Arc<Call>) {
    add(|news| news.stops.push(call));
}

/// Another process asks this of an actor. Told in the order in which it came.
pub(crate) fn deliver(mail: Mail) {
    add(|news| news.mail.push(mail));
}

/// A trail of waits has come to a job of this worker.
pub(crate) fn come_by(job: u64, trail: Option<Trail>) {
    add(|news| news.trails.extend(trail.map(|trail| (job, trail))));
}

/// Calls are waited for that may never be answered: somebody looks now and then. See `trail`.
static LOOKS: AtomicBool = AtomicBool::new(false);

/// How often, also while there is other news all the time.
const PERIOD_NANOS: u64 = 50_000_000;

/// For so many looks that find nothing it goes on.
const IDLE_LOOKS: u32 = 20;

/// From now on it looks at calls that are not answered.
pub(crate) fn look_at_times() {
    if !LOOKS.swap(true, Ordering::Relaxed) {
        let Herald { news, changed } = herald();
        let _news = news.lock();
        changed.notify_all();
    }
}

/// Workers have said this.
pub(crate) fn pass_on(said: Vec<Vec<u8>>) {
    add(|news| {
        for bytes in said {
            if news.said_bytes + bytes.len() > SAID_BYTES {
                news.unsaid += 1;
                continue;
            }
            news.said_bytes += bytes.len();
            news.said.push(bytes);
            news.said_ever += 1;
            UNTOLD.fetch_add(1, Ordering::Relaxed);
        }
    });
}

fn add(more: impl FnOnce(&mut News)) {
    let Herald { news, changed } = herald();
    let mut news = news.lock();
    if !news.silent {
        more(&mut news);
        changed.notify_all();
    }
}

/// A pool is open. Whoever can, sees to it that the thread is there.
pub(crate) fn pool_opened() {
    herald().news.lock().pools += 1;
}

/// A pool is over.
pub(crate) fn pool_closed() {
    let Herald { news, changed } = herald();
    let mut news = news.lock();
    news.pools = news.pools.saturating_sub(1);
    changed.notify_all();
}

/// While it lives, what it stands for is told.
pub(crate) struct Needed(&'static Herald);

impl Needed {
    /// Sees to it that the thread is there, and stays.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        let needed = Self(herald());
        needed.0.news.lock().pools += 1;
        ensure(py)?;
        Ok(needed)
    }
}

impl Drop for Needed {
    fn drop(&mut self) {
        // In a forked child there is another one.
        if std::ptr::eq(self.0, herald()) {
            pool_closed();
        }
    }
}

/// Sees to it that the thread is there.
pub(crate) fn ensure(py: Python<'_>) -> PyResult<()> {
    {
        let mut news = herald().news.lock();
        if news.silent || std::mem::replace(&mut news.runs, true) {
            return Ok(());
        }
    }
    let started = py.import("thistledown._report").and_then(|report| report.call_method0("start_herald"));
    started.map(drop).inspect_err(|_| herald().news.lock().runs = false)
}

/// What the herald's thread does.
#[pyfunction]
pub(crate) fn tell_news(py: Python<'_>) {
    IS_HERALD.set(true);
    let mut idle = 0;
    while let Some(News { tasks, lost, stops, mail, trails, looks, said, unsaid, .. }) = outside(py, next) {
        if looks {
            idle = look(idle);
            continue;
        }
        stops.iter().for_each(|call| call.stop(py));
        let count = said.len();
        for bytes in said {
            let heard = py
                .import("thistledown._carried")
                .and_then(|carried| carried.call_method1("heard", (PyBytes::new(py, &bytes),)));
            if let Err(error) = heard {
                error.write_unraisable(py, None);
            }
        }
        if count > 0 {
            told(count);
        }
        if unsaid > 0 {
            report(py, "unsaid", (unsaid,));
        }
        for (name, ended, remote) in lost {
            // What was asked of an actor knows how that is called.
            let outcome =
                remote.map_or_else(|| ended.unpack(py, &name), |remote| remote.unpack(py, &ended, &name));
            if let Some(Outcome::Error(error)) = outcome {
                report(py, "failed_elsewhere", (name, error));
            }
        }
        for task in tasks {
            Task::tell(task.bind(py));
        }
        mail.into_iter().for_each(|mail| mail.read(py));
        trails.iter().for_each(|(job, trail)| trail::follow_job(py, *job, trail));
    }
}

/// Looks at calls that are not answered, after so many looks that found nothing. Gives how many those are now.
fn look(idle: u32) -> u32 {
    if idle == IDLE_LOOKS {
        // Before the look: for a call that is noted after it, it begins anew.
        let mut news = herald().news.lock();
        LOOKS.store(false, Ordering::Relaxed);
        news.next_look = None;
    }
    match calls::look() {
        false => (idle + 1) % (IDLE_LOOKS + 1),
        true => {
            look_at_times();
            0
        }
    }
}

fn told(count: usize) {
    let Herald { news, changed } = herald();
    let mut news = news.lock();
    news.told_ever += count as u64;
    UNTOLD.fetch_sub(count, Ordering::Relaxed);
    changed.notify_all();
}

/// Waits until what workers have said so far is told. Whoever is about to see how a task ended calls this, so that what it
/// logged and warned of is there before.
pub(crate) fn hear_out(py: Python<'_>) {
    if UNTOLD.load(Ordering::Relaxed) == 0 || IS_HERALD.get() {
        return;
    }
    outside(py, || {
        let Herald { news, changed } = herald();
        let news = news.lock();
        let goal = news.said_ever;
        let is_awaited = |news: &mut News| news.told_ever < goal && news.runs && !news.silent;
        drop(changed.wait_timeout_while(news, PATIENCE, is_awaited));
    });
}

/// Waits for news. Nothing: the thread is to end.
fn next() -> Option<News> {
    let Herald { news, changed } = herald();
    let mut news = news.lock();
    news.tells = false;
    changed.notify_all();
    while !news.silent {
        let pause = pause(&mut news);
        if pause == Some(Duration::ZERO) {
            news.next_look = None;
            return Some(News { looks: true, ..News::default() });
        }
        if !news.is_empty() {
            break;
        }
        if let Some(pause) = pause {
            (news, _) = changed.wait_timeout(news, pause);
            continue;
        }
        if news.pools > 0 {
            news = changed.wait(news);
            continue;
        }
        let (again, slept) = changed.wait_timeout(news, IDLE);
        news = again;
        if slept.timed_out() && news.is_empty() && news.pools == 0 {
            news.runs = false;
            return None;
        }
    }
    if news.silent {
        news.runs = false;
        return None;
    }
    news.tells = true;
    Some(News {
        tasks: std::mem::take(&mut news.tasks),
        lost: std::mem::take(&mut news.lost),
        stops: std::mem::take(&mut news.stops),
        mail: std::mem::take(&mut news.mail),
        trails: std::mem::take(&mut news.trails),
        said: std::mem::take(&mut news.said),
        said_bytes: std::mem::take(&mut news.said_bytes),
        unsaid: std::mem::take(&mut news.unsaid),
        ..News::default()
    })
}

/// How long until it is time to look at calls. It does not begin anew with what comes meanwhile.
fn pause(news: &mut News) -> Option<Duration> {
    if !LOOKS.load(Ordering::Relaxed) {
        return None;
    }
    let now = now();
    let next = *news.next_look.get_or_insert(now + PERIOD_NANOS);
    Some(Duration::from_nanos(next.saturating_sub(now)))
}

/// Whether the thread is there and has nothing to do.
#[pyfunction]
pub(crate) fn herald_rests() -> bool {
    let news = herald().news.lock();
    news.runs && !news.tells && news.is_empty()
}

/// Waits until everything is told, and then is silent: the interpreter is about to end.
#[pyfunction]
pub(crate) fn fall_silent(py: Python<'_>, timeout: f64) {
    outside(py, || {
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or_default();
        let Herald { news, changed } = herald();
        let is_telling = |news: &mut News| (news.tells || !news.is_empty()) && news.runs;
        let (mut news, _) = changed.wait_timeout_while(news.lock(), timeout, is_telling);
        news.silent = true;
        changed.notify_all();
    });
    end_is_near(py);
}
