//! Boxes of weightless actors: an instance, and the line in which the messages to it stand.
//!
//! A message is a task of the box's own key, in the run in which the box was made, from whichever thread it comes. So its
//! order, its cancellation, the cycles it may close, all of it is what tasks have. What is rare (ending, moving, watching)
//! is Python's, in `thistledown._boxes_here`, which derives its class from this one and keeps what it needs in `extra`.
//!
//! A box is small, for there may be a million: one that has no message has no line either, and is held by its handles
//! alone.

pub(crate) mod census;
pub(crate) mod counter;
pub(crate) mod far;
pub(crate) mod handle;
pub(crate) mod message;

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use rustix_futex_sync::Mutex;
use thistledown_kernel::TaskId;

use crate::errors;
use crate::keys::Line;
use crate::payload::WORLD;
use crate::run::Given;
use crate::runner::{self, Runner};
use crate::task::Task;
use counter::Letter;
use message::{Message, To};

#[derive(Default)]
struct Inside {
    /// Not there when the box has ended, or was left.
    instance: Option<Py<PyAny>>,
    /// What few boxes have.
    extra: Option<Py<PyAny>>,
}

/// A weightless actor's box.
#[pyclass(frozen, subclass, module = "thistledown._core")]
pub(crate) struct HereBox {
    home: Py<Runner>,
    line: Line,
    /// How many messages may be unanswered, and how many are; in the highest bit of these the mark [`ASKS_FIRST`].
    limit: u32,
    unanswered: AtomicU32,
    inside: Mutex<Inside>,
}

/// Whoever has a message asks Python first, which knows whether the box still takes it: it is to end, has ended, or was
/// left. So many are never unanswered.
const ASKS_FIRST: u32 = 1 << 31;

impl HereBox {
    /// Calls a method by a message, when there is nothing to be asked first. Nothing: it is asked in Python, which says why
    /// when it does not do so either.
    pub(crate) fn call_at_once(
        slf: &Bound<'_, Self>,
        name: &Py<PyString>,
        origin: &Py<PyString>,
        args: &Bound<'_, PyTuple>,
    ) -> Option<Py<Task>> {
        let (py, this) = (slf.py(), slf.get());
        if this.unanswered.load(Ordering::Relaxed) >= this.limit {
            return None;
        }
        let args = Some(args.clone().unbind());
        let message = Message::new(slf.clone().unbind(), To::Instance, name.clone_ref(py), args, None);
        this.spawn(py, message, origin.bind(py).clone()).ok()
    }

    fn is_full(&self) -> bool {
        self.count_unanswered() >= self.limit
    }

    pub(crate) fn instance(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inside.lock().instance.as_ref().map(|instance| instance.clone_ref(py))
    }

    /// Why a call of it was cancelled, if that is because the box has ended: an error for who asks for the call.
    pub(crate) fn died(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        if slf.get().inside.lock().instance.is_some() {
            return None;
        }
        let error = slf.call_method0(intern!(slf.py(), "_death")).ok()?;
        (!error.is_none()).then(|| error.unbind())
    }

    fn send(
        slf: &Bound<'_, Self>,
        to: To,
        name: Bound<'_, PyString>,
        args: Option<Py<PyTuple>>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Py<Task>> {
        let (py, this) = (slf.py(), slf.get());
        let origin = match to {
            To::Instance => this.origin(py, &name)?,
            To::Box => name.clone(),
        };
        this.spawn(py, Message::new(slf.clone().unbind(), to, name.unbind(), args, kwargs), origin)
    }

    fn spawn(&self, py: Python<'_>, message: Message, origin: Bound<'_, PyString>) -> PyResult<Py<Task>> {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let message = Bound::new(py, message)?.into_any();
        self.home.get().spawn(py, message, origin, Given { line: Some(&self.line), ..Given::default() })
    }

    /// What people call a message: the method's name with its class.
    fn origin<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyString>> {
        let Some(instance) = self.instance(py) else { return Ok(name.clone()) };
        let found = instance.bind(py).get_type().getattr_opt(name)?;
        let named = found.map(|found| found.getattr_opt(intern!(py, "__qualname__"))).transpose()?.flatten();
        Ok(named.and_then(|named| named.cast_into().ok()).unwrap_or_else(|| name.clone()))
    }

    pub(super) fn has_instance(&self) -> bool {
        self.inside.lock().instance.is_some()
    }

    /// How many messages are unanswered.
    pub(super) fn count_unanswered(&self) -> u32 {
        self.unanswered.load(Ordering::Relaxed) & !ASKS_FIRST
    }

    /// What few boxes have.
    pub(super) fn extra(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inside.lock().extra.as_ref().map(|extra| extra.clone_ref(py))
    }

    pub(super) fn answered(&self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

#[pymethods]
impl HereBox {
    #[new]
    fn new(instance: Py<PyAny>, limit: u32, home: Py<Runner>) -> Self {
        census::born();
        Self {
            home,
            line: Line::default(),
            limit: limit.min(ASKS_FIRST - 1),
            unanswered: AtomicU32::new(0),
            inside: Mutex::new(Inside { instance: Some(instance), extra: None }),
        }
    }

    /// The box is made: whoever looks can find it from now on.
    fn _settled(slf: &Bound<'_, Self>) {
        census::settled(slf);
    }

    /// Sends a message to the instance: a call with these arguments, or with None the question for an attribute. None
    /// when the mailbox is full; an error of ``RuntimeError`` when the run is over.
    fn _send(
        slf: &Bound<'_, Self>,
        name: Bound<'_, PyString>,
        args: Option<Py<PyTuple>>,
        kwargs: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Option<Py<Task>>> {
        if slf.get().is_full() {
            return Ok(None);
        }
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty()).map(Bound::unbind);
        Self::send(slf, To::Instance, name, args, kwargs).map(Some)
    }

    /// The same for what another process asks. Its arguments are read when it is its turn.
    fn _send_letter(slf: &Bound<'_, Self>, letter: Py<Letter>) -> PyResult<Option<Py<Task>>> {
        let (py, this) = (slf.py(), slf.get());
        if this.is_full() {
            return Ok(None);
        }
        let name = PyString::new(py, letter.get().what());
        let origin = this.origin(py, &name)?;
        this.spawn(py, Message::written(slf.clone().unbind(), name.unbind(), letter), origin).map(Some)
    }

    /// A message to the box itself: a call of this method of it, behind all messages that there are.
    fn _send_own(slf: &Bound<'_, Self>, name: Bound<'_, PyString>, args: Py<PyTuple>) -> PyResult<Py<Task>> {
        Self::send(slf, To::Box, name, Some(args), None)
    }

    /// Cancels what has begun, and all that has not.
    fn _cancel_all(&self) {
        WORLD.with(|kernel| {
            let line = self.line.id();
            let tasks: Vec<TaskId> = kernel.waiting_in(line).into_iter().chain(kernel.holder(line)).collect();
            for task in tasks {
                kernel.cancel_task(task);
            }
        });
    }

    /// Whether a message is unanswered.
    #[getter]
    fn _is_busy(&self) -> bool {
        WORLD.with(|kernel| kernel.has_line(self.line.id()))
    }

    #[getter]
    fn _limit(&self) -> u32 {
        self.limit
    }

    #[getter]
    fn _home(&self, py: Python<'_>) -> Py<Runner> {
        self.home.clone_ref(py)
    }

    #[getter]
    fn _instance(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.instance(py)
    }

    /// From now on whoever has a message asks first.
    fn _ask_first(&self) {
        self.unanswered.fetch_or(ASKS_FIRST, Ordering::Relaxed);
    }

    /// Lets go of the instance.
    fn _forget_instance(&self) {
        self._ask_first();
        let instance = self.inside.lock().instance.take();
        if instance.is_some() {
            census::over(self);
        }
        drop(instance);
    }

    #[getter]
    fn _extra(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.extra(py)
    }

    #[setter(_extra)]
    fn set_extra(&self, extra: Py<PyAny>) {
        let old = self.inside.lock().extra.replace(extra);
        drop(old);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.home)?;
        let Some(inside) = self.inside.try_lock() else { return Ok(()) };
        visit.call(&inside.instance)?;
        visit.call(&inside.extra)
    }

    fn __clear__(&self) {
        let inside = std::mem::take(&mut *self.inside.lock());
        if inside.instance.is_some() {
            census::over(self);
        }
        drop(inside);
    }
}

impl Drop for HereBox {
    fn drop(&mut self) {
        self._forget_instance();
        census::forget(self);
    }
}

/// The run of this thread, or of its asyncio loop, as its actors know it; the same object each time.
#[pyfunction]
pub(crate) fn home(py: Python<'_>) -> PyResult<Py<Runner>> {
    runner::home(py)?.ok_or_else(|| {
        errors::misuse(
            "no weightless tasks run in this thread: make actors of `td.here` inside of `td.run(main)`, or in an \
             asyncio task; elsewhere write `td.actor(Class, ...)`, which makes one in a process of its own",
        )
    })
}
