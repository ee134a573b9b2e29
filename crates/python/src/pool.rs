//! Pools, as Python sees them: a function and its arguments become a job, and a task stands for it.
//!
//! In the program a pool has an engine of its own. In a worker there is the program's pool, which the worker asks to run
//! what its tasks start. Both have this face.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};
use thistledown_runtime::Clock;
use thistledown_workers::{Cancel, Closed, Config, Engine, Function, JobId, Launch, Order};

use crate::current::{Current, seconds};
use crate::errors;
use crate::freight::{self, pickling};
use crate::herald;
use crate::outside::outside;
use crate::remote::{Remote, Ticket};
use crate::root;
use crate::task::Task;
use crate::upstream::{self, Upstream};

/// Functions whose numbers are remembered.
const FUNCTIONS: usize = 1024;

/// A longer body is not held, to know its function by.
const BODY_BYTES: usize = 32 * 1024;

/// Who runs a job.
#[derive(Clone)]
pub(crate) enum Source {
    /// An engine of this process. Its pool holds it; tasks do not.
    Own(Weak<Engine<Ticket>>),
    /// The program's pool, of which this process is a worker.
    Above(Arc<Upstream>),
}

impl Source {
    pub(crate) fn is_running(&self, job: u64) -> bool {
        match self {
            Self::Own(engine) => {
                engine.upgrade().is_some_and(|engine| engine.is_running(JobId::from_number(job)))
            }
            Self::Above(_) => true,
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

/// What goes with a task, besides its function's own arguments.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Options {
    timeout: Option<Duration>,
    memory: Option<u64>,
    retries: u32,
    retry_on: Option<Py<PyTuple>>,
    priority: i32,
    name: Option<Py<PyString>>,
    /// A number made of the key, the same in every process.
    key: Option<u64>,
}

#[pymethods]
impl Options {
    #[new]
    #[pyo3(signature = (*, timeout=None, memory=None, retries=0, retry_on=None, priority=0, name=None, key=None))]
    fn new(
        timeout: Option<f64>,
        memory: Option<u64>,
        retries: u32,
        retry_on: Option<Bound<'_, PyTuple>>,
        priority: i32,
        name: Option<Py<PyString>>,
        key: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let timeout = timeout.map(|timeout| seconds(timeout, "timeout")).transpose()?.flatten();
        let retry_on = retry_on.filter(|classes| !classes.is_empty()).map(Bound::unbind);
        let key = key.map(|key| key_number(&key)).transpose()?;
        Ok(Self { timeout, memory, retries, retry_on, priority, name, key })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.retry_on)
    }
}

/// What is remembered of a function, by its address.
struct Known {
    sign: Sign,
    number: Arc<Function>,
    origin: Py<PyString>,
}

/// What says that the function at an address is still the one that was there.
enum Sign {
    /// It goes by reference. It is held, so that nothing else gets its address.
    Itself(Py<PyAny>),
    /// It goes by value, and as long as nothing that it reaches has changed, packing it gives this very object. Itself it
    /// is not held: it may die when its program lets go of it.
    Body(Py<PyBytes>),
}

/// A pool of worker processes.
#[pyclass(frozen, module = "thistledown._core", weakref)]
pub(crate) struct Pool {
    place: Place,
    functions: Mutex<HashMap<usize, Known>>,
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
        upstream::register(&engine);
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
        self.begin(function)?;
        let (number, origin) = self.function(function)?;
        let options = options.map(Bound::get);
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
        let call = freight::pack_call(args, kwargs, options.and_then(|options| options.retry_on.as_ref()))?;
        let source = match &self.place {
            Place::Own { engine, .. } => Source::Own(Arc::downgrade(engine)),
            Place::Above(upstream) => Source::Above(Arc::clone(upstream)),
        };
        let remote = Remote::new(source);
        let task = Task::make(py, Some(origin))?;
        task.get().set_remote(Arc::clone(&remote));
        // The engine does not hold it, so the collector has to know it.
        root::track(task.as_ptr());
        let mut order =
            Order { function: number, call, priority: 0, key: None, timeout: None, memory: None, retries: 0 };
        if let Some(options) = options {
            (order.priority, order.timeout) = (options.priority, options.timeout);
            (order.memory, order.retries) = (options.memory, options.retries);
            order.key = options.key;
            if let Some(name) = &options.name {
                task.setattr(intern!(py, "name"), name)?;
            }
        }
        self.submit(py, order, &remote)?;
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
    fn closed(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.wait(py, timeout, Engine::wait_closed)
    }

    /// Waits until no task is left.
    #[pyo3(signature = (timeout=None))]
    fn wait_idle(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.wait(py, timeout, Engine::wait_idle)
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
        let known = PyDict::new(py);
        if let Place::Own { engine, .. } = &self.place {
            let (counts, processes) = engine.statistics();
            known.set_item("queued", counts.queued)?;
            known.set_item("offered", counts.offered)?;
            known.set_item("starting", counts.starting)?;
            known.set_item("idle", counts.idle)?;
            known.set_item("busy", counts.busy)?;
            known.set_item("waiting", counts.waiting)?;
            known.set_item("submitted", counts.submitted)?;
            known.set_item("replied", counts.replied)?;
            known.set_item("retried", counts.retried)?;
            known.set_item("started", counts.started)?;
            known.set_item("died", counts.died)?;
            known.set_item("processes", processes)?;
            known.set_item("size", engine.size())?;
        }
        Ok(known)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Place::Own { launch, .. } = &self.place {
            visit.call(launch)?;
        }
        let Some(functions) = self.functions.try_lock() else { return Ok(()) };
        functions.values().try_for_each(|known| match &known.sign {
            Sign::Itself(function) => visit.call(function),
            Sign::Body(body) => visit.call(body),
        })
    }

    fn __clear__(&self) {
        let functions = std::mem::take(&mut *self.functions.lock());
        drop(functions);
    }
}

impl Pool {
    fn at(place: Place) -> Self {
        Self { place, functions: Mutex::default() }
    }

    /// Starts the pool, if this is its first task: its zygote comes up while the task is packed.
    fn begin(&self, function: &Bound<'_, PyAny>) -> PyResult<()> {
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

    /// The function's number, and what its tasks are called after.
    fn function(&self, function: &Bound<'_, PyAny>) -> PyResult<(Arc<Function>, Py<PyString>)> {
        let py = function.py();
        let address = function.as_ptr() as usize;
        if let Some(known) = self.known(py, address, |sign| matches!(sign, Sign::Itself(_))) {
            return Ok(known);
        }
        let packed = pickling(py)?.call_method1(intern!(py, "pack_function"), (function,))?;
        let (body, weightless, stable, origin) =
            packed.extract::<(Bound<'_, PyBytes>, bool, bool, Py<PyString>)>()?;
        let is_same = |sign: &Sign| matches!(sign, Sign::Body(known) if known.is(&body));
        if let Some(known) = self.known(py, address, is_same) {
            return Ok(known);
        }
        let content = body.as_bytes();
        let number = match &self.place {
            Place::Own { engine, .. } => engine.function(content, weightless),
            Place::Above(upstream) => upstream.function(content, weightless),
        };
        let number = number.map_err(|error| errors::system(&error))?;
        let sign = match stable {
            true => Some(Sign::Itself(function.clone().unbind())),
            false => (content.len() <= BODY_BYTES).then(|| Sign::Body(body.unbind())),
        };
        if let Some(sign) = sign {
            let known = Known { sign, number: Arc::clone(&number), origin: origin.clone_ref(py) };
            self.remember(address, known);
        }
        Ok((number, origin))
    }

    /// What is remembered of the function at an address, if its sign is as it should be.
    fn known(
        &self,
        py: Python<'_>,
        address: usize,
        is_good: impl FnOnce(&Sign) -> bool,
    ) -> Option<(Arc<Function>, Py<PyString>)> {
        let functions = self.functions.lock();
        let known = functions.get(&address).filter(|known| is_good(&known.sign))?;
        Some((Arc::clone(&known.number), known.origin.clone_ref(py)))
    }

    fn remember(&self, address: usize, known: Known) {
        let mut functions = self.functions.lock();
        let all = (functions.len() >= FUNCTIONS).then(|| std::mem::take(&mut *functions));
        let one = functions.insert(address, known);
        drop(functions);
        // Dropping a function may run foreign code, so no lock is held.
        drop((all, one));
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
                    Err((Closed::Forked, _)) => Err(errors::misuse(
                        "this process is a fork of the one that the pool belongs to: make a `td.Workers()` of its own here",
                    )),
                    Err(_) => Err(errors::misuse("cannot schedule new futures after shutdown")),
                }
            }
        }
    }

    fn wait(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        wait: impl Fn(&Engine<Ticket>, Option<Duration>) -> bool + Send + Sync,
    ) -> PyResult<bool> {
        let Place::Own { engine, .. } = &self.place else {
            return Err(errors::misuse(
                "a worker cannot wait for the pool that it is part of: wait for its tasks",
            ));
        };
        if Current::run().is_some() {
            return Err(errors::misuse(
                "waiting here would stop the thread that runs the weightless tasks: write `await td.thread(...)` with the \
                 method, or wait for the tasks",
            ));
        }
        let deadline = timeout.map(|timeout| seconds(timeout.max(0.0), "timeout")).transpose()?.flatten();
        let deadline = deadline.map(|timeout| Clock::System.now().after(timeout));
        loop {
            let slice = Duration::from_millis(100);
            let left = deadline.map(|at| at.since(Clock::System.now()));
            if outside(py, || wait(engine, Some(left.map_or(slice, |left| left.min(slice))))) {
                return Ok(true);
            }
            py.check_signals()?;
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
        }
    }
}

/// The number that stands for a key: of what it is made of, so that it is the same in every process.
fn key_number(key: &Bound<'_, PyAny>) -> PyResult<u64> {
    let number = pickling(key.py())?.call_method1(intern!(key.py(), "key_number"), (key,))?;
    number.extract()
}

/// How the pool's processes are started: what the Python side says, with a view to the first task's function.
fn launch_of(launch: &Bound<'_, PyAny>, function: &Bound<'_, PyAny>) -> PyResult<Launch> {
    let (command, environment, preparation) =
        launch.call1((function,))?.extract::<(Vec<OsString>, HashMap<OsString, OsString>, Vec<u8>)>()?;
    Ok(Launch { command, environment: environment.into_iter().collect(), preparation })
}

/// Whether a class is among those upon which a task is tried again.
pub(crate) fn is_retried(more: Option<&Bound<'_, PyAny>>, error: &Bound<'_, PyAny>) -> bool {
    let classes = more.and_then(|more| more.get_item("retry_on").ok());
    classes.is_some_and(|classes| {
        classes.try_iter().is_ok_and(|mut classes| {
            classes.any(|class| {
                class.is_ok_and(|class| {
                    class.cast::<PyType>().is_ok_and(|class| error.is_instance(class).unwrap_or(false))
                })
            })
        })
    })
}
