//! A worker's way to the pool that it belongs to: what its tasks start runs there.
//!
//! The tasks go as replies; their ends come as answers, on a lane of their own, which a thread of its own reads, so that
//! any thread may wait for them in any way. The thread is started with the first task, or when the worker runs
//! weightless ones, which are cancelled by an answer.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_kernel::TaskId;
use thistledown_workers::{
    Answer, Cancel, Child, Death, End, Function, Gone, Order, Outcome, Parcel, Refusal, Reply, SpawnOptions,
};

use crate::errors;
use crate::outside::outside;
use crate::survey::this_thread;
use crate::trail::written::Trail;
use crate::workers::ended;
use crate::workers::herald;
use crate::workers::remote::Remote;
use crate::workers::settle;

/// The pool that this process is a worker of.
static UPSTREAM: OnceLock<Arc<Upstream>> = OnceLock::new();

/// What a worker has asked of its pool.
pub(crate) struct Upstream {
    child: Arc<Child>,
    next: AtomicU64,
    spawned: Mutex<HashMap<u64, Spawned>>,
    /// The thread that reads answers is there.
    listens: Mutex<bool>,
    /// How many threads are at something of this package's that must not be left in the middle.
    unstoppable: AtomicUsize,
    /// Weightless tasks and calls of this worker that are to be cancelled.
    cancelled: Mutex<Vec<u64>>,
    /// Actors of this worker that were killed.
    discarded: Mutex<Vec<u64>>,
    /// Actors live here, and so there is no place to give up.
    has_actors: AtomicBool,
    waits: Mutex<Waits>,
    /// The weightless tasks that are jobs of the pool, or the main task of a run in one, by the kernel's numbers of them.
    jobs: Mutex<HashMap<u64, u64>>,
    /// The thread that takes jobs.
    thread: u64,
    /// This process is a fork of the worker, and not the worker.
    forked: AtomicBool,
}

/// A task that was started here and runs elsewhere.
struct Spawned {
    remote: Arc<Remote>,
    is_cancelled: bool,
    /// While it runs, somebody else may have this worker's place.
    waiting: Option<Waiting>,
}

/// The pool that this process is a worker of.
pub(crate) fn get() -> Option<Arc<Upstream>> {
    UPSTREAM.get().filter(|upstream| !upstream.is_forked()).map(Arc::clone)
}

/// This process is a worker.
pub(crate) fn set(child: Arc<Child>) -> Arc<Upstream> {
    let upstream = UPSTREAM.get_or_init(|| {
        Arc::new(Upstream {
            child,
            next: AtomicU64::new(1),
            spawned: Mutex::default(),
            listens: Mutex::default(),
            unstoppable: AtomicUsize::new(0),
            cancelled: Mutex::default(),
            discarded: Mutex::default(),
            has_actors: AtomicBool::new(false),
            waits: Mutex::default(),
            jobs: Mutex::default(),
            thread: this_thread(),
            forked: AtomicBool::new(false),
        })
    });
    Arc::clone(upstream)
}

impl Upstream {
    /// Whether this process was forked by a task, and so is not the worker.
    pub(crate) fn is_forked(&self) -> bool {
        self.forked.load(Ordering::Relaxed)
    }

    /// A function; the pool knows by its content whether it has it.
    pub(crate) fn function(&self, body: &[u8], weightless: bool) -> io::Result<Arc<Function>> {
        Ok(Arc::new(Function { id: 0, body: Parcel::new(body, &[])?, weightless }))
    }

    /// Has a task run by the pool.
    pub(crate) fn submit(
        self: &Arc<Self>,
        py: Python<'_>,
        order: Order,
        remote: &Arc<Remote>,
    ) -> PyResult<()> {
        if self.is_forked() {
            return Err(errors::misuse(
                "this process was forked by a task of a worker, and is none: make a `td.Workers()` of its own here",
            ));
        }
        let reference = self.next.fetch_add(1, Ordering::Relaxed);
        remote.set_job(reference);
        // Weightless tasks wait without stopping this thread, so what they have started stands for their wait.
        let is_waited_for = !remote.is_watch() && self.child.region().running().is_none();
        let waiting = is_waited_for.then(|| self.wait());
        let spawned = Spawned { remote: Arc::clone(remote), is_cancelled: false, waiting };
        self.spawned.lock().insert(reference, spawned);
        let sent = self.listen(py).and_then(|()| {
            outside(py, || self.send(reference, &order)).map_err(|error| errors::system(&error))
        });
        sent.inspect_err(|_| drop(self.take(reference)))
    }

    fn send(&self, reference: u64, order: &Order) -> io::Result<()> {
        let options = SpawnOptions {
            timeout_nanos: order.timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)),
            memory: order.memory,
            retries: order.retries,
            priority: order.priority,
            key: order.key,
            errand: order.errand,
        };
        self.child.spawn(reference, &order.name, &order.function, &order.call, options)
    }

    fn take(&self, reference: u64) -> Option<Spawned> {
        self.spawned.lock().remove(&reference)
    }

    /// Whether something that was started here runs elsewhere.
    pub(crate) fn has_spawned(&self) -> bool {
        !self.spawned.lock().is_empty()
    }

    pub(crate) fn cancel(&self, reference: u64) -> Cancel {
        if self.is_forked() {
            return Cancel::TooLate;
        }
        match self.spawned.lock().get_mut(&reference) {
            Some(spawned) => spawned.is_cancelled = true,
            None => return Cancel::TooLate,
        }
        self.say(&Reply::CancelSpawned { reference });
        Cancel::Asked
    }

    /// Sees to it that the thread that reads answers is there, and the herald, who passes them on. A task that is told to
    /// stop meanwhile is stopped when both are.
    pub(crate) fn listen(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.unstoppable.fetch_add(1, Ordering::Relaxed);
        let listens = self.start_reading().map_err(|error| errors::system(&error));
        let listens = listens.and_then(|()| herald::ensure(py));
        self.unstoppable.fetch_sub(1, Ordering::Relaxed);
        listens
    }

    fn start_reading(self: &Arc<Self>) -> io::Result<()> {
        let mut listens = self.listens.lock();
        if *listens {
            return Ok(());
        }
        let upstream = Arc::clone(self);
        let thread = std::thread::Builder::new().name("thistledown-answers".into());
        thread.spawn(move || {
            // When the parent is gone nobody needs an answer; the worker's main thread sees to the end.
            let _ = upstream.read();
        })?;
        *listens = true;
        // Nobody can start the herald from that thread, so it stays.
        herald::pool_opened();
        Ok(())
    }

    /// Whether a task must not be stopped at this moment. It is told again.
    pub(crate) fn is_unstoppable(&self) -> bool {
        self.unstoppable.load(Ordering::Relaxed) > 0
    }

    fn read(&self) -> io::Result<()> {
        loop {
            let mut over = Vec::new();
            let settling = settle::settling();
            while let Some((answer, parcel)) = self.child.next_answer()? {
                match answer {
                    Answer::Ended { reference, end, .. } => {
                        let spawned = self.take(reference);
                        let outcome = outcome(end, parcel);
                        over.extend(spawned.map(|spawned| match spawned.is_cancelled {
                            // Whoever cancelled it was told that it will be, and nobody reads what came of it.
                            true => {
                                drop(ended::read(outcome));
                                (spawned.remote, Outcome::Cancelled)
                            }
                            false => (spawned.remote, outcome),
                        }));
                    }
                    Answer::Deadlock { reference } => {
                        let spawned = self.spawned.lock().get_mut(&reference).map(|spawned| {
                            // Who waited goes on, and has his place again.
                            let waiting =
                                spawned.waiting.take_if(|_| self.child.region().running().is_some());
                            (Arc::clone(&spawned.remote), waiting)
                        });
                        if let Some((remote, waiting)) = spawned {
                            drop(waiting);
                            remote.deadlocked(String::from_utf8_lossy(parcel.inline()).into_owned());
                        }
                    }
                    Answer::Cancel { id } => {
                        self.cancelled.lock().push(id);
                        self.child.work_bell().ring();
                    }
                    Answer::Discard { actor } => {
                        self.discarded.lock().push(actor);
                        self.child.work_bell().ring();
                    }
                    Answer::Trail { id } => {
                        herald::come_by(id, Trail::from_bytes(parcel.inline()));
                    }
                }
            }
            Remote::settle_all(over);
            drop(settling);
            if !self.child.sleep_for_answers()? {
                return Ok(());
            }
        }
    }

    /// A weightless task that is to be cancelled.
    pub(crate) fn next_cancelled(&self) -> Option<u64> {
        self.cancelled.lock().pop()
    }

    /// Nothing that was to be cancelled is here any more.
    pub(crate) fn forget_cancelled(&self) {
        self.cancelled.lock().clear();
    }

    /// An actor of this worker that was killed.
    pub(crate) fn next_discarded(&self) -> Option<u64> {
        self.discarded.lock().pop()
    }

    /// From now on actors live here.
    pub(crate) fn take_actors(&self) {
        self.has_actors.store(true, Ordering::Relaxed);
    }

    /// An actor of the pool is to end at once.
    pub(crate) fn kill_actor(&self, actor: u64) {
        self.say(&Reply::Kill { actor });
    }

    /// A trail of waits goes on from a task that this worker has started.
    pub(crate) fn trail(&self, reference: u64, written: &[u8]) {
        if !self.is_forked() {
            let _ = self.child.reply(&Reply::Trail { reference }, 0, written, None);
        }
    }

    /// An actor of the pool ends when this worker does.
    pub(crate) fn tie_actor(&self, actor: u64) {
        self.say(&Reply::Tie { actor });
    }

    /// Says something to the pool. When that is gone nobody needs it.
    fn say(&self, reply: &Reply) {
        if !self.is_forked() {
            let _ = self.child.reply(reply, 0, &[], None);
        }
    }

    /// Somebody waits for this task: until it has ended somebody else may have the worker's place.
    pub(crate) fn is_awaited(self: &Arc<Self>, reference: u64) {
        if self.is_forked() {
            return;
        }
        let waiting = self.wait();
        let spare = match self.spawned.lock().get_mut(&reference) {
            // A wait of an earlier task does not count any more.
            Some(spawned) if spawned.waiting.as_ref().is_none_or(|known| known.task != waiting.task) => {
                spawned.waiting.replace(waiting)
            }
            _ => Some(waiting),
        };
        drop(spare);
    }

    /// Somebody waits for something else in another process: the same, for as long as `known` holds it.
    pub(crate) fn is_awaited_elsewhere(self: &Arc<Self>, known: &mut Option<Waiting>) {
        let waiting = self.wait();
        if known.as_ref().is_none_or(|known| known.task != waiting.task) {
            drop(known.replace(waiting));
        }
    }

    /// Whether weightless tasks run here, which wait without stopping the thread.
    pub(crate) fn runs_weightless(&self) -> bool {
        !self.is_forked() && self.child.region().running().is_none()
    }

    /// A task of the pool cannot go on before another has ended, which it has started: the plain one of this thread, or
    /// that weightless one. Nothing, if it is neither, and so binds no task of the pool.
    pub(crate) fn blocked(self: &Arc<Self>, reference: u64, task: Option<TaskId>) -> Option<Blocked> {
        if self.is_forked() {
            return None;
        }
        let plain = self.job_here();
        let blocked = match task {
            Some(task) => self.bound(reference, task)?,
            None => Blocked { upstream: Arc::clone(self), job: plain?, reference },
        };
        self.say(&Reply::Blocked { id: blocked.job, reference, holds: plain.is_some() });
        Some(blocked)
    }

    /// The wait of that weightless task, if it is a job of the pool.
    pub(crate) fn bound(self: &Arc<Self>, reference: u64, task: TaskId) -> Option<Blocked> {
        let job = self.jobs.lock().get(&task.number()).copied()?;
        Some(Blocked { upstream: Arc::clone(self), job, reference })
    }

    /// The weightless task that is this job of the pool.
    pub(crate) fn task_of(&self, job: u64) -> Option<TaskId> {
        let jobs = self.jobs.lock();
        let task = jobs.iter().find(|(_, known)| **known == job).map(|(task, _)| *task);
        task.map(TaskId::from_number)
    }

    /// The plain task that this thread runs, if it is the one that takes the worker's tasks.
    pub(crate) fn job_here(&self) -> Option<u64> {
        let runs = !self.is_forked() && this_thread() == self.thread;
        runs.then(|| self.child.region().running())?.map(|(job, _)| job)
    }

    /// Whether this thread is the one that takes the worker's tasks, and runs one.
    pub(crate) fn runs_here(&self) -> bool {
        self.job_here().is_some()
    }

    /// A job goes on, whatever it waited for.
    pub(crate) fn goes_on(&self, job: u64) {
        if self.has_spawned() {
            self.say(&Reply::Blocked { id: job, reference: 0, holds: false });
        }
    }

    /// A weightless task of this worker is a job of the pool, or stands for one that is plain; or it has ended.
    pub(crate) fn set_job(&self, task: TaskId, job: Option<u64>) {
        let mut jobs = self.jobs.lock();
        match job {
            Some(job) => jobs.insert(task.number(), job),
            None => jobs.remove(&task.number()),
        };
    }

    fn wait(self: &Arc<Self>) -> Waiting {
        let mut waits = self.waits.lock();
        if !waits.runs || self.has_actors.load(Ordering::Relaxed) {
            // Somebody else waits, as the herald's thread does in a callback of a task that is over.
            return Waiting { upstream: Arc::clone(self), task: 0 };
        }
        waits.depth += 1;
        if waits.depth == 1 {
            self.say(&Reply::Waiting);
        }
        Waiting { upstream: Arc::clone(self), task: waits.task }
    }

    /// A plain task is about to run in this worker, or weightless ones.
    pub(crate) fn task_begins(&self) {
        let mut waits = self.waits.lock();
        *waits = Waits { task: waits.task + 1, runs: true, depth: 0 };
    }

    /// Which of the worker's tasks runs, or ran last.
    pub(crate) fn task(&self) -> u64 {
        self.waits.lock().task
    }

    /// Nothing runs in this worker now, and so nothing waits: the parent takes the reply of the last task for that.
    pub(crate) fn task_is_over(&self) {
        let mut waits = self.waits.lock();
        *waits = Waits { runs: false, depth: 0, ..*waits };
    }
}

/// How many tasks are waited for, which the present task has started.
#[derive(Default)]
struct Waits {
    /// Counts the plain tasks of this worker, and the times that it ran weightless ones; 0: there was none yet.
    task: u64,
    runs: bool,
    depth: usize,
}

/// While it lives a task of this worker waits.
pub(crate) struct Waiting {
    upstream: Arc<Upstream>,
    /// Which of the worker's tasks; 0: none.
    task: u64,
}

/// While it lives a task of the pool cannot go on before another has ended.
pub(crate) struct Blocked {
    upstream: Arc<Upstream>,
    job: u64,
    reference: u64,
}

impl Blocked {
    /// It is not over when this is let go.
    pub(crate) fn lasts(mut self) {
        self.job = 0;
    }
}

impl Drop for Blocked {
    /// When the other has ended, the pool knows.
    fn drop(&mut self) {
        if self.job != 0 && self.upstream.spawned.lock().contains_key(&self.reference) {
            self.upstream.say(&Reply::Blocked { id: self.job, reference: 0, holds: false });
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.upstream.is_forked() {
            return;
        }
        let mut waits = self.upstream.waits.lock();
        if !waits.runs || waits.task != self.task {
            return;
        }
        waits.depth -= 1;
        if waits.depth == 0 {
            self.upstream.say(&Reply::Resumed);
        }
    }
}

fn outcome(end: End, parcel: Parcel) -> Outcome {
    let bytes = parcel.inline().to_vec();
    match end {
        End::Value => Outcome::Value(parcel),
        End::Error => Outcome::Error(parcel),
        End::Cancelled => Outcome::Cancelled,
        End::TimedOut => {
            let nanos = bytes.try_into().map_or(0, u128::from_le_bytes);
            Outcome::TimedOut(std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
        }
        End::Died => Outcome::Died(Death::decode(&bytes)),
        End::Refused => Outcome::Refused(Refusal::Start(String::from_utf8_lossy(&bytes).into_owned())),
        End::Stopped => Outcome::Gone(Gone::Stopped),
        End::Killed => Outcome::Gone(Gone::Killed),
        End::Closed => Outcome::Gone(Gone::Closed),
        End::Unmade => Outcome::Gone(Gone::Unmade(parcel)),
        End::Unknown => Outcome::Gone(Gone::Unknown),
        End::Full => Outcome::Full,
    }
}

/// In a child that a task has forked: what belongs to the worker is not its.
pub(crate) fn forget_worker() {
    if let Some(upstream) = UPSTREAM.get() {
        upstream.forked.store(true, Ordering::Relaxed);
        // Somebody who is not here may be at it; then whoever waits has to find out by himself.
        let spawned = upstream.spawned.try_lock().map(|mut spawned| std::mem::take(&mut *spawned));
        let spawned = spawned.unwrap_or_default().into_values();
        Remote::settle_all(spawned.map(|spawned| (spawned.remote, Outcome::Refused(Refusal::Forked))));
    }
}
