//! Thread calls: a plain function runs in a helper thread, and its end is waited for like a task's.
//!
//! The call starts when it is first waited for. A wait that ends without it abandons it: the thread cannot be stopped,
//! its result is dropped.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use rustix_futex_sync::Mutex;
use thistledown_kernel::{ScopeId, Want};

use crate::current::Current;
use crate::errors;
use crate::group_call::GroupCall;
use crate::operation::{Kind, Operation, Wants};
use crate::payload::{WORLD, Waker};
use crate::stop::Stop;
use crate::tally;
use crate::task::Task;

/// A call, and the task that stands for it while it runs.
pub(crate) struct ThreadCall {
    function: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
    started: Mutex<Option<Py<Task>>>,
}

/// Calls a function that blocks in a helper thread, so that the loop goes on.
///
/// The call starts when the operation is first waited for, with a copy of the context (``contextvars``). Cancelling
/// the wait abandons the call: it runs to its end unseen and its result is dropped. At most 64 run at a time, the
/// others stand in a queue.
///
/// Args:
///     fn: any callable.
///     *args: for it.
///     **kwargs: for it.
///
/// Returns:
///     An operation that gives what the call returns, or raises what it raises.
#[pyfunction]
#[pyo3(signature = (r#fn, /, *args, **kwargs))]
pub(crate) fn thread(
    r#fn: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    kwargs: Option<Bound<'_, PyDict>>,
) -> PyResult<Operation> {
    if !r#fn.is_callable() {
        return Err(errors::wrong_type(format!(
            "thread takes a function and its arguments, as in `td.thread(fn, *args)`; got {}",
            r#fn.repr()?
        )));
    }
    if crate::body::makes_body(&r#fn)? {
        return Err(errors::wrong_type(format!(
            "{} is an `async def` or generator function, which needs no thread: start it with `td.go(fn, *args)`",
            r#fn.repr()?
        )));
    }
    Ok(Operation::new(Kind::Thread(Box::new(ThreadCall {
        function: r#fn.unbind(),
        args: args.unbind(),
        kwargs: kwargs.map(Bound::unbind),
        started: Mutex::new(None),
    }))))
}

impl ThreadCall {
    fn started(&self, py: Python<'_>) -> Option<Py<Task>> {
        self.started.lock().as_ref().map(|task| task.clone_ref(py))
    }

    pub(crate) fn attempt(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.started(py).and_then(|task| task.get().outcome(py)).transpose()
    }

    pub(crate) fn want(&self, py: Python<'_>, wants: &mut Wants<'_>) -> PyResult<()> {
        let task = match self.started(py) {
            Some(task) => task,
            None => self.start(py, wants)?,
        };
        wants.push(Want::End(task.get().id()));
        Ok(())
    }

    /// Starts it as a member of a scope.
    pub(crate) fn go(&self, py: Python<'_>, scope: ScopeId) -> PyResult<Py<Task>> {
        let task = self.task(py)?;
        let call = GroupCall::new(self.function.clone_ref(py), task.clone().unbind());
        let stop = Waker::Stop(Stop::Call(call.call()));
        let call = Bound::new(py, call)?;
        let runner = Current::run().map(|run| run.runner);
        let id = WORLD.with(|kernel| kernel.add_elsewhere(runner));
        task.get().set_id(id);
        let joined = WORLD.with(|kernel| kernel.join(id, scope, stop)).map_err(errors::join_refused);
        let started = joined.and_then(|()| {
            py.import(intern!(py, "thistledown._threads"))?
                .call_method1(intern!(py, "start"), (&task, call, &self.args, &self.kwargs))
        });
        if let Err(error) = started {
            WORLD.with(|kernel| kernel.finish(id));
            return Err(error);
        }
        Ok(task.unbind())
    }

    /// A task that stands for the call.
    fn task<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Task>> {
        let function = self.function.bind(py);
        let named = function.getattr_opt(intern!(py, "__qualname__"))?;
        let origin = match named.and_then(|name| name.cast_into::<PyString>().ok()) {
            Some(name) => name,
            None => function.get_type().qualname()?,
        };
        tally::THREADS.start();
        Task::make(py, Some(origin.unbind()))
    }

    fn start(&self, py: Python<'_>, wants: &Wants<'_>) -> PyResult<Py<Task>> {
        let runner = wants.run.map(|run| run.runner);
        let task = self.task(py)?;
        let id = WORLD.with(|kernel| kernel.add_elsewhere(runner));
        task.get().set_id(id);
        // Set before the thread starts: a call may be over before this returns.
        *self.started.lock() = Some(task.clone().unbind());
        let started = py
            .import(intern!(py, "thistledown._threads"))?
            .call_method1(intern!(py, "start"), (&task, &self.function, &self.args, &self.kwargs));
        if let Err(error) = started {
            self.release();
            WORLD.with(|kernel| kernel.finish(id));
            return Err(error);
        }
        Ok(task.unbind())
    }

    pub(crate) fn release(&self) {
        let Some(task) = self.started.lock().take() else { return };
        if task.get().is_done() {
            return;
        }
        Python::attach(|py| {
            let withdrawn = py
                .import(intern!(py, "thistledown._threads"))
                .and_then(|threads| threads.call_method1(intern!(py, "withdraw"), (&task,)));
            if let Err(error) = withdrawn {
                errors::put_off(py, error, None);
            }
        });
    }

    pub(crate) fn describe(&self, py: Python<'_>) -> String {
        format!("the thread call {}", errors::shown(self.function.bind(py), "of something"))
    }

    pub(crate) fn copy(&self, py: Python<'_>) -> Self {
        Self {
            function: self.function.clone_ref(py),
            args: self.args.clone_ref(py),
            kwargs: self.kwargs.as_ref().map(|kwargs| kwargs.clone_ref(py)),
            started: Mutex::new(None),
        }
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        visit.call(&self.args)?;
        visit.call(&self.kwargs)?;
        match self.started.try_lock() {
            Some(started) => visit.call(&*started),
            None => Ok(()),
        }
    }
}
