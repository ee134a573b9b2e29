//! Pools, as Python sees them: a function and its arguments become a job, and a task stands for it.
//!
//! In the program a pool has an engine of its own. In a worker there is the program's pool, which the worker asks to run
//! what its tasks start. Both have this face.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use thistledown_runtime::Clock;
use thistledown_workers::{Cancel, Closed, Config, Engine, Function, JobId, Launch, Name, Order, Verb};

use crate::channel::tickets;
use crate::current::{Current, seconds, seconds_or_none};
use crate::errors;
use crate::outside::outside;
use crate::root;
use crate::survey::{self, Awaited};
use crate::tally;
use crate::task::Task;
use crate::window;
use crate::workers::engines;
use crate::workers::freight;
use crate::workers::functions::{Functions, Named};
use crate::workers::herald;
use crate::workers::imports;
use crate::workers::options::Options;
use crate::workers::remote::{Asked, Remote};
use crate::workers::settle::Ticket;
use crate::workers::upstream::{self, Upstream};

/// Who runs a job.
#[derive(Clone)]
pub(crate) enum Source {
    /// An engine of this process. Its pool holds it; tasks do not.
    Own(Weak<Engine<Ticket>>),
    /// The program's pool, of which this process is a worker.
    Above(Arc<Upstream>),
}

/// The number of the program's pool in its workers. Nothing stands at such an address.
pub(crate) const UPSTREAM: u64 = 1;

impl Source {
    pub(crate) fn is_running(&self, job: u64) -> bool {
        match self {
            Self::Own(engine) => {
                engine.upgrade().is_some_and(|engine| engine.is_running(JobId::from_number(job)))
            }
            Self::Above(_) => true,
        }
    }

    /// The pool, among those that this process knows; never 0.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Own(engine) => engine.as_ptr() as u64,
            Self::Above(_) => UPSTREAM,
        }
    }

    /// A trail of waits goes on from this job.
    pub(crate) fn trail(&self, job: u64, written: Vec<u8>) {
        match self {
            Self::Own(engine) => {
                if let Some(engine) = engine.upgrade() {
                    engine.trail(JobId::from_number(job), written);
                }
            }
            Self::Above(upstream) => upstream.trail(job, &written),
        }
    }

    /// Takes back a call of an actor that has not begun, as far as this process can know.
    /// Of another process's job it is not known here; it counts as begun.
    pub(crate) fn has_begun(&self, job: u64) -> bool {
        match self {
            Self::Own(engine) => {
                engine.upgrade().is_some_and(|engine| engine.has_begun(JobId::from_number(job)))
            }
            Self::Above(_) => true,
        }
    }

    pub(crate) fn take_back(&self, job: u64) -> Cancel {
        match self {
            Self::Own(engine) => {
                engine.upgrade().map_or(Cancel::TooLate, |engine| engine.take_back(JobId::from_number(job)))
            }
            Self::Above(_) => Cancel::TooLate,
        }
    }

    pub(crate) fn cancel(&self, job: u64) -> Cancel {
        match self {
            Self::Own(engine) => {
                engine.upgrade().map_or(Cancel::TooLate, |engine| engine.cancel(JobId::from_number(job)))
            }
            Self::Above(upstream) => upstream.cancel(job),
        }
    }
}

/// A pool of worker processes.
#[pyclass(frozen, module = "thistledown._core", weakref)]
pub(crate) struct Pool {
    place: Place,
    functions: Functions,
}

enum Place {
    Own { engine: Arc<Engine<Ticket>>, launch: Py<PyAny> },
    Above(Arc<Upstream>),
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (size, *, grace, concurrency, max_tasks_per_child, launch))]
    fn new(
        size: usize,
        grace: f64,
        concurrency: usize,
        max_tasks_per_child: Option<u64>,
        launch: Py<PyAny>,
    ) -> PyResult<Self> {
        let grace = seconds(grace, "grace")?.unwrap_or(Duration::MAX);
        let engine = Engine::new(&Config { size, grace, concurrency, max_tasks_per_child });
        let engine = Arc::new(engine);
        engines::register(&engine);
        Ok(Self::at(Place::Own { engine, launch }))
    }

    /// The pool that this process is a worker of; None in a program.
    #[staticmethod]
    fn upstream() -> Option<Self> {
        upstream::get().map(|upstream| Self::at(Place::Above(upstream)))
    }

    /// Runs a function in a worker. Does not wait.
    #[pyo3(signature = (function, args, kwargs, options))]
    fn go(
        &self,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        options: Option<&Bound<'_, Options>>,
    ) -> PyResult<Py<Task>> {
        let py = function.py();
        imports::check(py)?;
        self.begin(function)?;
        let Named { number, origin, words } = self.named(function)?;
        let options = options.map(Bound::get);
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
        let retry_on = options.and_then(|options| options.retry_on.as_ref());
        let pack = || freight::pack_call(args, kwargs, retry_on);
        let (call, tickets) = tickets::bound_for(self.place.number(), || tickets::collect(pack))?;
        let remote = Remote::new(self.place.source());
        remote.keep(tickets);
        let task = Task::make(py, Some(origin))?;
        Task::set_remote(&task, Arc::clone(&remote));
        // The engine does not hold it, so the collector has to know it.
        root::track(task.as_ptr());
        let mut order = Order::new(Name::numbered(&words, task.get().serial()), number, call);
        if let Some(options) = options {
            (order.priority, order.timeout) = (options.priority, options.timeout);
            (order.memory, order.retries) = (options.memory, options.retries);
            order.key = options.key;
            if let Some(name) = &options.name {
                order.name = Name::given(&name.bind(py).to_string_lossy());
                task.setattr(intern!(py, "name"), name)?;
            }
        }
        self.submit(py, order, &remote)?;
        tally::WORKERS.start();
        tally::told_to_go_in_worker(&task);
        Ok(task.unbind())
    }

    /// No more tasks. Does not wait.
    fn shutdown(&self, py: Python<'_>, cancel: bool) {
        if let Place::Own { engine, .. } = &self.place {
            outside(py, || engine.shut_down(cancel));
        }
    }

    /// Everything ends now; tasks end as cancelled.
    fn kill(&self, py: Python<'_>) {
        if let Place::Own { engine, .. } = &self.place {
            outside(py, || engine.kill());
        }
    }

    /// Waits until no thread and no process of it is left. Signals are seen at least every tenth of a second.
    #[pyo3(signature = (timeout=None))]
    fn closed(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = seconds_or_none)] timeout: Option<f64>,
    ) -> PyResult<bool> {
        let closed = self.wait(py, timeout, "the end of a pool", Engine::wait_closed)?;
        if closed {
            window::settle(py);
        }
        Ok(closed)
    }

    /// Waits until no task is left.
    #[pyo3(signature = (timeout=None))]
    fn wait_idle(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = seconds_or_none)] timeout: Option<f64>,
    ) -> PyResult<bool> {
        self.wait(py, timeout, "the end of a pool's tasks", Engine::wait_idle)
    }

    /// Whether nothing is left of it: no task, no thread, no process. Does not wait.
    fn is_over(&self) -> bool {
        match &self.place {
            Place::Own { engine, .. } => engine.is_over(),
            Place::Above(_) => false,
        }
    }

    /// Whether it takes tasks.
    fn takes_tasks(&self) -> bool {
        match &self.place {
            Place::Own { engine, .. } => !engine.is_closed(),
            Place::Above(_) => true,
        }
    }

    /// What there is and was.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        match &self.place {
            Place::Own { engine, .. } => counts(py, engine),
            Place::Above(_) => Ok(PyDict::new(py)),
        }
    }

    /// The workers that live: each by its number, with its process.
    fn crew(&self) -> PyResult<Vec<(u64, i32)>> {
        Ok(self.own("lists and watches its workers")?.crew())
    }

    /// A task that gives how a worker has ended, in a word, and the error, when it has. Never fails.
    fn watch_worker(&self, py: Python<'_>, worker: u64, pid: i32) -> PyResult<Py<Task>> {
        let engine = self.own("lists and watches its workers")?;
        let asked = Asked { actor: Arc::from(""), verb: Verb::Watch };
        let remote = Remote::asked(self.source(), asked);
        let origin = PyString::new(py, &format!("a watch of worker process {pid}")).unbind();
        let task = Task::make(py, Some(origin))?;
        Task::set_remote(&task, Arc::clone(&remote));
        // The engine does not hold it, so the collector has to know it.
        root::track(task.as_ptr());
        let ticket = Ticket(remote);
        outside(py, || engine.watch_worker(worker, ticket)).map_err(|_| misplaced())?;
        Ok(task.unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Place::Own { launch, .. } = &self.place {
            visit.call(launch)?;
        }
        self.functions.traverse(&visit)
    }

    fn __clear__(&self) {
        self.functions.clear();
    }
}

/// What a pool of this process has and had, by name.
pub(crate) fn counts<'py>(py: Python<'py>, engine: &Engine<Ticket>) -> PyResult<Bound<'py, PyDict>> {
    let known = PyDict::new(py);
    let (counts, processes) = engine.statistics();
    known.set_item("queued", counts.queued)?;
    known.set_item("offered", counts.offered)?;
    known.set_item("starting", counts.starting)?;
    known.set_item("idle", counts.idle)?;
    known.set_item("busy", counts.busy)?;
    known.set_item("waiting", counts.waiting)?;
    known.set_item("hosting", counts.hosts)?;
    known.set_item("submitted", counts.submitted)?;
    known.set_item("replied", counts.replied)?;
    known.set_item("actors", counts.actors)?;
    known.set_item("unanswered", counts.calls)?;
    known.set_item("retried", counts.retried)?;
    known.set_item("started", counts.started)?;
    known.set_item("died", counts.died)?;
    known.set_item("processes", processes)?;
    known.set_item("size", engine.size())?;
    Ok(known)
}

impl Pool {
    /// The engine, of which only its own program can ask this.
    fn own(&self, what: &str) -> PyResult<&Arc<Engine<Ticket>>> {
        match &self.place {
            Place::Own { engine, .. } => Ok(engine),
            Place::Above(_) => Err(errors::misuse(format!(
                "only the program that has made the pool {what}, and this is one of them: do that there"
            ))),
        }
    }

    fn at(place: Place) -> Self {
        Self { place, functions: Functions::default() }
    }

    /// Who runs what is given to it.
    pub(crate) fn source(&self) -> Source {
        self.place.source()
    }

    /// A function, as the workers know it.
    pub(crate) fn named(&self, function: &Bound<'_, PyAny>) -> PyResult<Named> {
        self.functions.named(function, |body, weightless| self.place.function(body, weightless))
    }

    /// Starts the pool, if this is its first task: its zygote comes up while the task is packed.
    pub(crate) fn begin(&self, function: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = function.py();
        let Place::Own { engine, launch } = &self.place else { return Ok(()) };
        if engine.is_started() {
            return Ok(());
        }
        // Made before the lock is taken: making it runs Python code.
        let launch = launch_of(launch.bind(py), function)?;
        herald::ensure(py)?;
        engine.start(launch);
        // One that was about to end may have ended before the pool was there.
        let _ = herald::ensure(py);
        Ok(())
    }

    fn submit(&self, py: Python<'_>, order: Order, remote: &Arc<Remote>) -> PyResult<()> {
        match &self.place {
            Place::Above(upstream) => upstream.submit(py, order, remote),
            Place::Own { engine, .. } => {
                let submitted = engine.submit(order, Ticket(Arc::clone(remote)));
                match submitted {
                    Ok(job) => {
                        job.into_iter().for_each(|job| remote.set_job(job.number()));
                        Ok(())
                    }
                    Err((Closed::Forked, _)) => Err(misplaced()),
                    Err(_) => Err(errors::misuse("cannot schedule new futures after shutdown")),
                }
            }
        }
    }

    fn wait(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        what: &'static str,
        wait: impl Fn(&Engine<Ticket>, Option<Duration>) -> bool + Send + Sync,
    ) -> PyResult<bool> {
        let Place::Own { engine, .. } = &self.place else {
            return Err(errors::misuse(
                "a worker cannot wait for the pool that it is part of: wait for its tasks",
            ));
        };
        // A look takes no time.
        if Current::run().is_some() && timeout.is_none_or(|timeout| timeout > 0.0) {
            return Err(errors::misuse(
                "waiting here would stop the thread that runs the weightless tasks: write `await td.thread(...)` with the \
                 method, or wait for the tasks",
            ));
        }
        let deadline = timeout.map(|timeout| seconds(timeout.max(0.0), "timeout")).transpose()?.flatten();
        let deadline = deadline.map(|timeout| Clock::System.now().after(timeout));
        let _noted = survey::note_wait(Awaited::Words(what));
        loop {
            let slice = Duration::from_millis(100);
            let left = deadline.map(|at| at.since(Clock::System.now()));
            if outside(py, || wait(engine, Some(left.map_or(slice, |left| left.min(slice))))) {
                herald::hear_out(py);
                return Ok(true);
            }
            py.check_signals()?;
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
        }
    }
}

fn misplaced() -> PyErr {
    errors::misuse(
        "this process is a fork of the one that the pool belongs to: make a `td.Workers()` of its own here",
    )
}

impl Place {
    /// Who runs what is given to it.
    fn source(&self) -> Source {
        match self {
            Self::Own { engine, .. } => Source::Own(Arc::downgrade(engine)),
            Self::Above(upstream) => Source::Above(Arc::clone(upstream)),
        }
    }

    /// As [`Source::number`].
    fn number(&self) -> u64 {
        match self {
            Self::Own { engine, .. } => Arc::as_ptr(engine) as u64,
            Self::Above(_) => UPSTREAM,
        }
    }

    /// The function with this content.
    fn function(&self, body: &[u8], weightless: bool) -> std::io::Result<Arc<Function>> {
        match self {
            Self::Own { engine, .. } => engine.function(body, weightless),
            Self::Above(upstream) => upstream.function(body, weightless),
        }
    }
}

/// How the pool's processes are started: what the Python side says, with a view to the first task's function.
fn launch_of(launch: &Bound<'_, PyAny>, function: &Bound<'_, PyAny>) -> PyResult<Launch> {
    let (command, environment, preparation) =
        launch.call1((function,))?.extract::<(Vec<OsString>, HashMap<OsString, OsString>, Vec<u8>)>()?;
    Ok(Launch { command, environment: environment.into_iter().collect(), preparation })
}
