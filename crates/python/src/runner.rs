//! A run as other threads see it: into which tasks can be told to go from anywhere.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyWeakrefReference};
use rustix_futex_sync::Mutex;
use thistledown_kernel::{RunnerId, Start};

use crate::asyncio::guest::Guest;
use crate::asyncio::loops;
use crate::body::{self, Packed};
use crate::current::{Current, Run};
use crate::errors;
use crate::fork;
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
    /// Boxes of actors that somebody watches, to be told when it is over.
    watched: Mutex<Vec<Py<PyAny>>>,
    /// The process that it runs in, by [`fork::process`]. A forked child has the kernel's memory of it, and nobody who gives turns.
    process: u32,
}

impl Runner {
    fn new(id: RunnerId, guest: Option<Py<PyWeakrefReference>>) -> Self {
        Self { id, guest, watched: Mutex::new(Vec::new()), process: fork::process() }
    }

    /// The kernel's name for the run.
    pub(crate) fn id(&self) -> RunnerId {
        self.id
    }

    fn is_over(&self) -> bool {
        self.process != fork::process() || !WORLD.with(|kernel| kernel.has_runner(self.id))
    }

    /// Starts a task of this body in the run, from any thread.
    pub(crate) fn spawn(
        &self,
        py: Python<'_>,
        iterator: Bound<'_, PyAny>,
        origin: Bound<'_, PyString>,
        given: Given<'_>,
    ) -> PyResult<Py<Task>> {
        if self.process != fork::process() {
            return Err(over());
        }
        let started = match &self.guest {
            None => run::spawn_in(py, self.id, iterator, origin, Start::InRun, given),
            Some(weak) => {
                let guest = weak.bind(py).upgrade_as::<Guest>()?.ok_or_else(over);
                guest.and_then(|guest| {
                    run::spawn(py, guest.get().run(py), iterator, origin, Start::InRun, given)
                })
            }
        };
        started.map_err(|error| if self.is_over() { over() } else { error })
    }
}

fn over() -> PyErr {
    errors::misuse("the run is over: no task can be started in it any more")
}

/// The run of this thread, or of its asyncio loop, the same object each time. Nothing where there is none.
pub(crate) fn home(py: Python<'_>) -> PyResult<Option<Py<Runner>>> {
    if let Some(run) = Current::run() {
        let guest = run.rooms.as_ref().and_then(|rooms| rooms.guest(py));
        return of_run(py, &run, guest).map(Some);
    }
    let Some(guest) = loops::here(py)? else { return Ok(None) };
    let weak = PyWeakrefReference::new(&guest)?.unbind();
    of_run(py, guest.get().run(py), Some(weak)).map(Some)
}

fn of_run(py: Python<'_>, run: &Run, guest: Option<Py<PyWeakrefReference>>) -> PyResult<Py<Runner>> {
    if let Some(known) = &*run.known.borrow() {
        return Ok(known.clone_ref(py));
    }
    let fresh = Py::new(py, Runner::new(run.runner, guest))?;
    *run.known.borrow_mut() = Some(fresh.clone_ref(py));
    Ok(fresh)
}

/// A run is over: the actors that somebody watches have ended with it.
pub(crate) fn is_over(py: Python<'_>, run: &Run) {
    let Some(runner) = run.known.take() else { return };
    let watched = std::mem::take(&mut *runner.get().watched.lock());
    for watched in watched {
        if let Err(error) = watched.call_method0(py, intern!(py, "_run_is_over")) {
            errors::put_off(py, error, Some(watched.bind(py)));
        }
    }
}

/// The run that this thread's tasks are in: a ``td.run``, or the guest of the asyncio loop that runs here.
///
/// ``runner.go(...)`` starts tasks in it from any thread.
///
/// Raises:
///     RuntimeError: no weightless tasks run in this thread, and no asyncio loop.
#[pyfunction]
pub(crate) fn current_runner(py: Python<'_>) -> PyResult<Py<Runner>> {
    home(py)?.ok_or_else(|| {
        errors::misuse(
            "no weightless tasks run in this thread: call `td.current_runner()` inside of `td.run(main)`, or in an \
             asyncio task, and hand what it gives to other threads",
        )
    })
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
        if self.is_over() {
            return Err(over());
        }
        let Some(iterator) = body::weightless(&body, &packed)? else {
            return go::elsewhere(&body, &packed, None, None);
        };
        let origin = body::origin(&body, &iterator);
        let fresh = iterator.clone();
        let started = self.spawn(py, iterator, origin, Given::default());
        started.inspect_err(|_| run::close_fresh(&fresh))
    }

    /// Remembers a box, to be told when the run is over; or forgets it.
    fn _watch(&self, watched: Bound<'_, PyAny>, begins: bool) {
        let known = {
            let mut list = self.watched.lock();
            let known = list.iter().position(|known| known.is(&watched)).map(|at| list.swap_remove(at));
            if begins {
                list.push(watched.unbind());
            }
            known
        };
        drop(known);
    }

    #[getter]
    fn _is_over(&self) -> bool {
        self.is_over()
    }

    fn __repr__(&self) -> &'static str {
        if self.is_over() { "<thistledown.Runner over>" } else { "<thistledown.Runner>" }
    }
}
