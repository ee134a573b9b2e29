//! What runs in this thread now: the run, the task that has its turn, and what woke it.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use thistledown_kernel::{Moment, RunnerId, ScopeId, TaskId, Wake};
use thistledown_reactor::{Registry, Waker};
use thistledown_runtime::Clock;

use crate::asyncio::rooms::Rooms;
use crate::errors::{self, Quick};
use crate::objects;
use crate::payload::WORLD;
use crate::runner::Runner;
use crate::task::Task;

/// Operations a task may complete in one turn before it is made to give way.
pub(crate) const BUDGET: u32 = 128;

/// A run, as everybody in its thread sees it.
pub(crate) struct Run {
    pub(crate) runner: RunnerId,
    pub(crate) root: ScopeId,
    pub(crate) clock: Arc<Clock>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) shared: Arc<Shared>,
    /// Tasks that failed while nobody waited for them.
    pub(crate) failed: RefCell<Vec<Py<Task>>>,
    /// How many more there were, after the list was full.
    pub(crate) failed_unlisted: Cell<usize>,
    /// The process has forked inside of it: in the child it cannot go on.
    pub(crate) forked: Cell<bool>,
    /// The task that takes in others, and what is called when those can never go on.
    pub(crate) attendant: RefCell<Option<(TaskId, Py<PyAny>)>>,
    /// The same for other threads, once somebody has asked.
    pub(crate) known: RefCell<Option<Py<Runner>>>,
    /// It is the guest of another event loop, and where its tasks and visitors stand.
    pub(crate) rooms: Option<Rooms>,
}

impl Run {
    /// A run that begins in this thread, of a runner that the kernel has for it. Registers with this reactor, which wakes it.
    pub(crate) fn new(
        (runner, root): (RunnerId, ScopeId),
        clock: Clock,
        registry: Registry,
        waker: Waker,
        rooms: Option<Rooms>,
    ) -> Self {
        let clock = Arc::new(clock);
        let shared = Shared {
            runner,
            thread: crate::survey::this_thread(),
            clock: Arc::clone(&clock),
            waker,
            exit: AtomicBool::new(false),
            over: AtomicBool::new(false),
            task: AtomicPtr::new(ptr::null_mut()),
        };
        Self {
            runner,
            root,
            clock,
            registry: Arc::new(registry),
            shared: Arc::new(shared),
            failed: RefCell::default(),
            failed_unlisted: Cell::new(0),
            forked: Cell::new(false),
            attendant: RefCell::new(None),
            known: RefCell::new(None),
            rooms,
        }
    }
}

/// A run, as other threads see it.
pub(crate) struct Shared {
    pub(crate) runner: RunnerId,
    /// The thread that it is in, by the interpreter's number.
    pub(crate) thread: u64,
    pub(crate) clock: Arc<Clock>,
    pub(crate) waker: Waker,
    /// Somebody wants it to end: the interpreter is about to exit.
    pub(crate) exit: AtomicBool,
    pub(crate) over: AtomicBool,
    /// The task that has its turn; borrowed, and only good while the turn lasts.
    pub(crate) task: AtomicPtr<ffi::PyObject>,
}

/// What runs in this thread.
pub(crate) struct Current {
    pub(crate) task: Cell<Option<TaskId>>,
    pub(crate) wake: Cell<Option<Wake<Py<PyAny>>>>,
    pub(crate) budget: Cell<u32>,
    /// The task gives way by an operation, which is to end when its turn comes again.
    pub(crate) gives_way: Cell<bool>,
    /// How many scopes of async generators are open in this thread.
    pub(crate) held_open: Cell<usize>,
    run: RefCell<Option<std::rc::Rc<Run>>>,
}

thread_local! {
    // A thread that ends has no run, and so nothing to drop; nobody has to ask whether it has been dropped.
    static CURRENT: ManuallyDrop<Current> = const {
        ManuallyDrop::new(Current {
            task: Cell::new(None),
            wake: Cell::new(None),
            budget: Cell::new(0),
            gives_way: Cell::new(false),
            held_open: Cell::new(0),
            run: RefCell::new(None),
        })
    };
}

impl Current {
    #[inline(always)]
    pub(crate) fn with<R>(work: impl FnOnce(&Self) -> R) -> R {
        CURRENT.with(|current| work(current))
    }

    /// The run of this thread.
    pub(crate) fn run() -> Option<std::rc::Rc<Run>> {
        CURRENT.with(|current| current.run.borrow().clone())
    }

    pub(crate) fn set_run(py: Python<'_>, run: Option<std::rc::Rc<Run>>) {
        CURRENT.with(|current| {
            current.task.set(None);
            current.wake.set(None);
            let runs = run.is_some();
            let ran = current.run.replace(run).is_some();
            match (ran, runs) {
                (false, true) => objects::begin(py),
                (true, false) => objects::end(py),
                _ => {}
            }
        });
    }

    /// Another run, and the task that has its turn in it; gives those before. For a visit in the middle of anything.
    pub(crate) fn change(
        py: Python<'_>,
        run: Option<std::rc::Rc<Run>>,
        task: Option<TaskId>,
    ) -> (Option<std::rc::Rc<Run>>, Option<TaskId>) {
        let before = (Self::run(), Self::task());
        Self::set_run(py, run);
        CURRENT.with(|current| current.task.set(task));
        before
    }

    /// The run and the task that has its turn in this thread.
    pub(crate) fn task() -> Option<TaskId> {
        CURRENT.with(|current| current.task.get())
    }

    /// The same, or an error that says what to write.
    pub(crate) fn need_task(what: &str) -> PyResult<TaskId> {
        Self::task().ok_or_else(|| {
            errors::misuse(format!(
                "{what} works inside a weightless task or an asyncio task: start one with `td.run(main)`; in a plain \
                 thread write `.wait()`"
            ))
        })
    }
}

impl Run {
    /// What time it is in the run of this thread, or else by the system's clock.
    pub(crate) fn now() -> Moment {
        Current::run().map_or_else(|| Clock::System.now(), |run| run.clock.now())
    }

    /// The task object of the present turn.
    pub(crate) fn task_object(&self, py: Python<'_>) -> Option<Py<Task>> {
        crate::turn::borrowed_task(py, self.shared.task.load(Ordering::Relaxed))
    }

    pub(crate) fn set_task_object(&self, task: Option<&Py<Task>>) {
        self.shared.task.store(task.map_or(ptr::null_mut(), Py::as_ptr), Ordering::Relaxed);
    }
}

/// Refuses to go on in a task that is cancelled.
#[inline]
pub(crate) fn check_cancelled(py: Python<'_>, task: TaskId) -> Quick<()> {
    if WORLD.with(|kernel| kernel.is_cancelled(task)) {
        return Err(errors::cancelled(py, "the task is cancelled").into());
    }
    Ok(())
}

/// Seconds, of an argument. What asyncio calls no limit has another name here.
pub(crate) fn number_of_seconds(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    value.extract().map_err(|error: PyErr| match value.is_none() {
        true => errors::wrong_type("must be a number of seconds, not None: write math.inf for no limit"),
        false if error.is_instance_of::<PyException>(value.py()) => {
            let shown = errors::shown(value, "something else");
            errors::wrong_type(format!("must be a number of seconds, got {shown}"))
        }
        false => error,
    })
}

/// The same, or None for no limit.
pub(crate) fn seconds_or_none(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    if value.is_none() { Ok(None) } else { number_of_seconds(value).map(Some) }
}

/// Seconds as a duration. Negative, not a number, or too long is an error.
pub(crate) fn seconds(value: f64, name: &str) -> PyResult<Option<Duration>> {
    if value == f64::INFINITY {
        return Ok(None);
    }
    Duration::try_from_secs_f64(value).map(Some).map_err(|_| match value > 0.0 {
        true => {
            errors::wrong_value(format!("{name} is too long, got {value:e}: write math.inf for no limit"))
        }
        false => errors::wrong_value(format!("{name} must be a number of seconds >= 0, got {value}")),
    })
}
