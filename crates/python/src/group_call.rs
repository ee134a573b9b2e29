//! Thread calls of a group. Unlike one that is awaited, such a call is a member of a scope: nobody leaves that before it
//! has ended, so it can be told to stop.
//!
//! A thread cannot be killed. `Cancelled` is raised in it between two bytecodes; a call that stands in C code notices when
//! it is back. Whether that is still the same call is decided under the interpreter lock, without a bytecode between: an
//! exception that comes too late is raised behind the call, and dropped. (Taking it back, as the interface offers it,
//! leaves CPython 3.11 and 3.12 looking for it for ever.)
#![allow(unsafe_code, reason = "an exception is raised in another thread by CPython's C interface")]

use std::ffi::c_ulong;
use std::sync::Arc;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rustix_futex_sync::Mutex;

use crate::errors;
use crate::task::Task;

/// Where a call stands. Changed under the interpreter lock only.
#[derive(Default)]
enum State {
    /// It has not begun; the task, to take it out of its queue by.
    Fresh(Py<Task>),
    /// It runs in this thread.
    Running(c_ulong),
    /// It runs, and was told to stop.
    Told,
    /// It is over, or will not begin.
    #[default]
    Over,
}

/// A call, as whoever stops it sees it.
pub(crate) struct Call {
    state: Mutex<State>,
}

impl Call {
    /// Tells it to stop. One that has not begun never will.
    pub(crate) fn stop(&self, py: Python<'_>) {
        let mut state = self.state.lock();
        match std::mem::take(&mut *state) {
            State::Fresh(task) => {
                drop(state);
                let threads = py.import(intern!(py, "thistledown._threads"));
                let withdrawn = threads.and_then(|it| it.call_method1(intern!(py, "withdraw"), (&task,)));
                if let Err(error) = withdrawn {
                    crate::errors::put_off(py, error, None);
                }
            }
            State::Running(thread) => {
                *state = State::Told;
                let class = errors::cancelled_class(py);
                // SAFETY: attached; the class is alive, and the interpreter takes a reference of its own. A thread that
                // does not exist is no error.
                class.map(|class| unsafe { ffi::PyThreadState_SetAsyncExc(thread as _, class.as_ptr()) });
            }
            other => *state = other,
        }
    }
}

/// The function of a call, as its thread calls it.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct GroupCall {
    call: Arc<Call>,
    function: Py<PyAny>,
}

impl GroupCall {
    pub(crate) fn new(function: Py<PyAny>, task: Py<Task>) -> Self {
        Self { call: Arc::new(Call { state: Mutex::new(State::Fresh(task)) }), function }
    }

    pub(crate) fn call(&self) -> Arc<Call> {
        Arc::clone(&self.call)
    }
}

#[pymethods]
impl GroupCall {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        // SAFETY: attached, so this thread has a state, whose number is asked for.
        let thread = unsafe { ffi::PyThread_get_thread_ident() } as c_ulong;
        {
            let mut state = self.call.state.lock();
            if matches!(*state, State::Over) {
                return Err(errors::cancelled(py, "the call was cancelled before it began"));
            }
            let fresh = std::mem::replace(&mut *state, State::Running(thread));
            drop(state);
            drop(fresh);
        }
        let result = self.function.bind(py).call(args, kwargs);
        let told = std::mem::take(&mut *self.call.state.lock());
        if let State::Told = told {
            let threads = py.import(intern!(py, "thistledown._threads"));
            drop(threads.and_then(|threads| threads.call_method0(intern!(py, "take_notice"))));
        }
        result.map(Bound::unbind)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(state) = self.call.state.try_lock()
            && let State::Fresh(task) = &*state
        {
            visit.call(task)?;
        }
        visit.call(&self.function)
    }
}
