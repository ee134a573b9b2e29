//! A run as other threads see it: into which tasks can be told to go from anywhere.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyWeakrefReference};
use thistledown_kernel::{RunnerId, Start};

use crate::asyncio::guest::Guest;
use crate::asyncio::loops;
use crate::body::{self, Packed};
use crate::current::Current;
use crate::errors;
use crate::go;
use crate::payload::WORLD;
use crate::run::{self, Given};
use crate::task::Task;

/// A run of weightless tasks, for other threads: made by ``td.current_runner()``.
#[pyclass(frozen, module = "thistledown")]
pub(crate) struct Runner {
    id: RunnerId,
    /// The run is the guest of an asyncio loop.
    guest: Option<Py<PyWeakrefReference>>,
    /// The process that it runs in. A forked child has the kernel's memory of it, and nobody who gives turns.
    process: u32,
}

impl Runner {
    fn new(id: RunnerId, guest: Option<Py<PyWeakrefReference>>) -> Self {
        Self { id, guest, process: std::process::id() }
    }

    fn is_over(&self) -> bool {
        self.process != std::process::id() || !WORLD.with(|kernel| kernel.has_runner(self.id))
    }
}

/// The run that this thread's tasks are in: a ``td.run``, or the guest of the asyncio loop that runs here.
///
/// ``runner.go(...)`` starts tasks in it from any thread.
///
/// Raises:
///     RuntimeError: no weightless tasks run in this thread, and no asyncio loop.
#[pyfunction]
pub(crate) fn current_runner(py: Python<'_>) -> PyResult<Runner> {
    if let Some(run) = Current::run() {
        let guest = run.rooms.as_ref().and_then(|rooms| rooms.guest(py));
        return Ok(Runner::new(run.runner, guest));
    }
    let Some(guest) = loops::here(py)? else {
        return Err(errors::misuse(
            "no weightless tasks run in this thread: call `td.current_runner()` inside of `td.run(main)`, or in an \
             asyncio task, and hand what it gives to other threads",
        ));
    };
    let weak = PyWeakrefReference::new(&guest)?.unbind();
    Ok(Runner::new(guest.get().run(py).runner, Some(weak)))
}

#[pymethods]
impl Runner {
    /// Starts a task in this run, from any thread: as ``td.go`` does it inside of the run.
    ///
    /// Args:
    ///     body: a coroutine or generator function or object, or an object with ``__await__``. A plain function, or the
    ///         name of one, goes to a worker process.
    ///     *args: for the function.
    ///     **kwargs: for the function.
    ///
    /// Returns:
    ///     The task. Another thread waits for it with ``task.result()``.
    ///
    /// Raises:
    ///     TypeError: no task body.
    ///     RuntimeError: the run is over, or belongs to the process that this one was forked from.
    #[pyo3(signature = (body, /, *args, **kwargs))]
    fn go(
        &self,
        body: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        kwargs: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Py<Task>> {
        let py = body.py();
        let packed = Packed { args: &args, kwargs: kwargs.as_ref() };
        let over = || errors::misuse("the run is over: no task can be started in it any more");
        if self.is_over() {
            return Err(over());
        }
        let Some(iterator) = body::weightless(&body, &packed)? else {
            return go::elsewhere(&body, &packed, None, None);
        };
        let origin = body::origin(&body, &iterator);
        let fresh = iterator.clone();
        let started = match &self.guest {
            None => run::spawn_in(py, self.id, iterator, origin, Start::InRun, Given::default()),
            Some(weak) => {
                let guest = weak.bind(py).upgrade_as::<Guest>()?.ok_or_else(over);
                guest.and_then(|guest| {
                    run::spawn(py, guest.get().run(py), iterator, origin, Start::InRun, Given::default())
                })
            }
        };
        let started = started.inspect_err(|_| run::close_fresh(&fresh));
        started.map_err(|error| if self.is_over() { over() } else { error })
    }

    fn __repr__(&self) -> &'static str {
        if self.is_over() { "<thistledown.Runner over>" } else { "<thistledown.Runner>" }
    }
}
