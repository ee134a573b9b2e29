//! A worker process's main thread: it takes tasks, runs them, and says what came of each.
//!
//! Plain tasks run here one after the other. When the first weightless one comes, Python is asked to run a loop
//! (`_worker.weightless`), which takes further ones through `next_job` until there are none.
//!
//! Here is what Python calls, and the loop of plain tasks. Below it: `job` is what is taken, `known` the functions that it
//! names, `actors` those who live here, `run` a plain task while it runs, and `finished` what came of one.
#![allow(unsafe_code, reason = "descriptors are taken that the process was born with")]

mod actors;
mod finished;
mod job;
mod known;
mod run;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rustix_futex_sync::Mutex;
use thistledown_workers::{Inheritance, Reply};

use crate::current::Current;
use crate::errors;
use crate::outside::outside;
use crate::workers::traces::Traces;
use crate::workers::upstream::{self, Upstream};
use actors::{Actors, Called};
use finished::Finished;
pub(crate) use job::Job;
use job::{Next, Taken};
use known::Functions;
pub(crate) use known::{ATTRIBUTE, METHOD};

/// The worker's end of everything.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Child {
    child: Arc<thistledown_workers::Child>,
    upstream: Arc<Upstream>,
    functions: Functions,
    actors: Actors,
    /// A plain task that came while weightless ones ran: it waits for the end of their run.
    next_plain: Mutex<Option<Taken>>,
    /// The task that was told to stop last, and has been stopped.
    stopped: AtomicU64,
    /// How many weightless tasks run.
    weightless: AtomicUsize,
    /// What was set when the first task came.
    traces: OnceLock<Traces>,
}

#[pymethods]
impl Child {
    #[new]
    fn new(
        region: RawFd,
        control: RawFd,
        work_bell: RawFd,
        answers_bell: RawFd,
        parent_bell: RawFd,
        lifeline: RawFd,
    ) -> PyResult<Self> {
        // SAFETY: the caller gives up descriptors that are his, as the process was born with them.
        let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
        let inherited = Inheritance {
            region: own(region),
            control: own(control),
            work_bell: own(work_bell),
            answers_bell: own(answers_bell),
            parent_bell: own(parent_bell),
            lifeline: own(lifeline),
        };
        // SAFETY: a worker is made of a region once, right after it was forked.
        let child = unsafe { thistledown_workers::Child::adopt(inherited) };
        let child = Arc::new(child.map_err(|error| errors::system(&error))?);
        let upstream = upstream::set(Arc::clone(&child));
        Ok(Self {
            child,
            upstream,
            functions: Functions::default(),
            actors: Actors::default(),
            next_plain: Mutex::default(),
            stopped: AtomicU64::new(0),
            weightless: AtomicUsize::new(0),
            traces: OnceLock::new(),
        })
    }

    /// The worker takes tasks from now on.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        self.reply(py, &Reply::Ready, &[])
    }

    /// The worker cannot be made ready; the packed error says why.
    fn failed(&self, py: Python<'_>, error: &[u8]) -> PyResult<()> {
        self.reply(py, &Reply::Failed, error)
    }

    /// Something for the parent's program to hear.
    fn say(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        self.reply(py, &Reply::Say, data)
    }

    /// Whether the task that runs is to be stopped now: the parent wants it, and it was not yet. The parent says it again
    /// until the task has ended.
    fn interrupted(&self) -> bool {
        if self.upstream.is_unstoppable() || !self.child.region().is_interrupted() {
            return false;
        }
        let running = self.child.region().running();
        running.is_some_and(|(task, _)| self.stopped.swap(task, Ordering::Relaxed) != task)
    }

    /// Counts what ran here: plain tasks, and the times that weightless ones did.
    fn task(&self) -> u64 {
        self.upstream.task()
    }

    /// What stopped the task was lost, in a finalizer or another callback whose errors go nowhere: it is not stopped.
    fn not_stopped(&self) {
        self.stopped.store(0, Ordering::Relaxed);
    }

    /// The parent may ask at which line this process stands: it is sent a signal, and reads from this descriptor.
    fn shows_lines(&self, descriptor: u32) {
        self.child.region().show_lines(descriptor);
    }

    /// Runs tasks until there will be no more.
    fn serve(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let _ = this.traces.set(Traces::keep(py)?);
        loop {
            if this.actors.are_here() {
                // Whatever was taken has ended.
                this.upstream.forget_cancelled();
                this.discard(py);
            }
            let next = this.next_plain.lock().take();
            match next.map_or_else(|| this.next(), |job| Ok(Next::Plain(job)))? {
                Next::Plain(job) => this.run(py, &job, None)?,
                Next::Weightless(job) => Self::run_weightless(slf, job)?,
                Next::Call(job) => Self::run_call(slf, job)?,
                Next::Nothing if this.child.region().is_to_leave() => return Ok(()),
                Next::Nothing => {
                    let slept = outside(py, || this.child.sleep_for_work());
                    py.check_signals()?;
                    if !slept.map_err(|error| errors::system(&error))? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A weightless task that is there now. None: there is none, and from now on the bell rings when one comes; or a plain
    /// one is next, which is run when the weightless ones have ended.
    fn next_job(&self) -> PyResult<Option<Job>> {
        let mut next_plain = self.next_plain.lock();
        while next_plain.is_none() {
            match self.next()? {
                Next::Weightless(task) => return Ok(Some(self.take(task))),
                Next::Plain(job) => *next_plain = Some(job),
                Next::Call(task) => return Ok(Some(self.take_call(task))),
                Next::Nothing => {
                    // Hushed before the last look, so that nothing that comes now goes unheard.
                    self.child.work_bell().hush();
                    if self.child.listens_for_work() {
                        break;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether a call of an actor may wait in its middle, and let others run. One that does not is run by `run_here`.
    fn may_wait(&self, py: Python<'_>, job: &Job) -> bool {
        self.called(py, &job.task).is_some_and(|called| called.waits())
    }

    /// Runs a call of an actor that has the thread for itself while it runs, in the middle of a run of others.
    fn run_here(&self, py: Python<'_>, job: &Job) -> PyResult<()> {
        // What runs in this thread otherwise does not exist for it: it may wait, and start a run of its own.
        let outer = Current::change(py, None, None);
        let ran = self.run(py, &job.task, self.called(py, &job.task));
        Current::change(py, outer.0, outer.1);
        ran
    }

    /// A call of an actor will wait, as a weightless task.
    fn waits_now(&self) {
        self.count();
    }

    /// A call that was taken and has not begun will not be run.
    fn drop_job(&self, py: Python<'_>, job: &Job) -> PyResult<()> {
        self.finish(py, job.task.id, 0, Finished::cancelled())
    }

    /// Lets go of the actors that were killed.
    fn discard(&self, py: Python<'_>) {
        while let Some(actor) = self.upstream.next_discarded() {
            self.actors.let_go(py, actor);
        }
    }

    /// What a weightless task calls: the function, its arguments, and what goes with them.
    fn begin<'py>(&self, py: Python<'py>, job: &Job) -> PyResult<Bound<'py, PyTuple>> {
        let (function, call, _) = self.open(py, &job.task, self.called(py, &job.task))?;
        *job.more.lock() = call.more.clone().map(Bound::unbind);
        let more = call.more.unwrap_or_else(|| py.None().into_bound(py));
        (function, call.args, call.kwargs, more).into_pyobject(py)
    }

    /// Rung when work comes, or a weightless task is to be cancelled.
    fn bell(&self) -> RawFd {
        self.child.work_bell().as_fd().as_raw_fd()
    }

    /// The number of a weightless task that is to be cancelled; None when there is none.
    fn next_cancelled(&self) -> Option<u64> {
        self.upstream.next_cancelled()
    }

    /// A weightless task is this one of the kernel's from now on.
    fn began(&self, job: &Job, task: &Bound<'_, crate::task::Task>) {
        self.upstream.set_job(task.get().id(), Some(job.task.id));
    }

    /// It has ended.
    fn ended(&self, task: &Bound<'_, crate::task::Task>) {
        self.upstream.set_job(task.get().id(), None);
    }

    /// A weightless task has returned this.
    fn done(&self, py: Python<'_>, job: &Job, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.untrace(py);
        let finished = Finished::value(py, value);
        self.leave();
        self.finish(py, job.task.id, 0, finished)
    }

    /// A weightless task has raised this.
    fn failed_job(&self, py: Python<'_>, job: &Job, error: &Bound<'_, PyBaseException>) -> PyResult<()> {
        self.untrace(py);
        let more = job.more.lock().as_ref().map(|more| more.bind(py).clone());
        let finished = Finished::error(py, &PyErr::from_value(error.clone().into_any()), more.as_ref());
        self.leave();
        self.finish(py, job.task.id, 0, finished)
    }
}

impl Child {
    /// Runs a weightless task, and those that come meanwhile.
    fn run_weightless(slf: &Bound<'_, Self>, job: Taken) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.upstream.listen(py)?;
        let worker = py.import(intern!(py, "thistledown._worker"))?;
        let job = this.take(job);
        worker.call_method1(intern!(py, "weightless"), (slf, job))?;
        Ok(())
    }

    /// Runs a call of an actor; one that may wait in its middle with those that come meanwhile.
    fn run_call(slf: &Bound<'_, Self>, job: Taken) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.take_actors(py)?;
        let called = this.called(py, &job);
        if called.as_ref().is_some_and(Called::waits) {
            let worker = py.import(intern!(py, "thistledown._worker_actors"))?;
            worker.call_method1(intern!(py, "serve"), (slf, this.take_call(job)))?;
            return Ok(());
        }
        this.run(py, &job, called)
    }
}
