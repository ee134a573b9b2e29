//! Messages: bodies of tasks that have their first turn when it is their turn in a box.
//!
//! A message is the body of its task until it begins. Then the method is called. What a plain method returns is the end of
//! the task. A coroutine, or what a generator function made, takes the message's place as the body, so that its waits cost
//! what those of any task do; the message stays beside it, to be counted as unanswered.
#![allow(unsafe_code, reason = "the interpreter is asked what a generator is")]

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use thistledown_kernel::{Kernel, TaskId};
use thistledown_workers::Cancel;

use super::HereBox;
use super::counter::Letter;
use crate::body;
use crate::operation::{Kind, Operation};
use crate::outside::outside;
use crate::payload::{Body, Snake, WORLD};
use crate::task::{Outcome, Task};
use crate::workers::remote::Way;

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Instance,
    /// The box itself: to end it, or to move what is in it.
    Box,
}

/// A message, until it begins.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Message {
    to_box: Py<HereBox>,
    to: To,
    name: Py<PyString>,
    /// Without: the attribute is asked for, and nothing is called.
    args: Option<Py<PyTuple>>,
    kwargs: Option<Py<PyDict>>,
    /// From another process, which has the arguments.
    letter: Option<Py<Letter>>,
}

/// What comes of a message when its turn has come.
pub(crate) enum Begun {
    /// It is answered.
    Value(Py<PyAny>),
    /// This is the body from now on.
    Body(Py<PyAny>),
}

impl Message {
    pub(super) fn new(
        to_box: Py<HereBox>,
        to: To,
        name: Py<PyString>,
        args: Option<Py<PyTuple>>,
        kwargs: Option<Py<PyDict>>,
    ) -> Self {
        Self { to_box, to, name, args, kwargs, letter: None }
    }

    /// Of another process.
    pub(super) fn written(to_box: Py<HereBox>, name: Py<PyString>, letter: Py<Letter>) -> Self {
        let mut message = Self::new(to_box, To::Instance, name, None, None);
        message.letter = Some(letter);
        message
    }

    fn is_stop(&self, py: Python<'_>) -> bool {
        self.is_for_box() && self.name.bind(py) == "_stopped"
    }

    /// Whether it is for the box itself, which a user ends or moves without that he calls a method.
    pub(crate) fn is_for_box(&self) -> bool {
        self.to == To::Box
    }

    /// The box that it is for.
    pub(super) fn addressee(&self, py: Python<'_>) -> Py<HereBox> {
        self.to_box.clone_ref(py)
    }

    /// The message to an actor that a body is, or was before it began.
    pub(crate) fn of(py: Python<'_>, body: &Body) -> Option<Py<Self>> {
        let begun = body.extra.as_ref().and_then(|extra| extra.message.as_ref());
        match begun {
            Some(message) => Some(message.clone_ref(py)),
            None => body.iterator.bind(py).cast_exact::<Self>().ok().map(|message| message.clone().unbind()),
        }
    }

    /// What people call its task: the actor and what is asked of it, with the class, if the actor's name does not say that.
    /// Of a message to the box itself: what becomes of the actor.
    pub(crate) fn called(&self, py: Python<'_>) -> PyResult<String> {
        let actor = self.to_box.bind(py);
        let name: String = actor.getattr(intern!(py, "name"))?.extract()?;
        if self.is_for_box() {
            let becomes = if self.is_stop(py) { "stop" } else { "move" };
            return Ok(format!("the {becomes} of {name}"));
        }
        let owner = actor.getattr(intern!(py, "owner"))?;
        let owner: String = owner.getattr(intern!(py, "__qualname__"))?.extract()?;
        let what = self.name.bind(py).to_string_lossy();
        Ok(match name.starts_with(&owner) {
            true => format!("{name}.{what}"),
            false => format!("{name}.{what} (of {owner})"),
        })
    }

    /// Its turn has come.
    pub(crate) fn begin(&self, py: Python<'_>) -> PyResult<Begun> {
        let Some(letter) = self.letter.as_ref().map(|letter| letter.bind(py).get()) else {
            return self.begin_with(py, self.args.as_ref(), self.kwargs.as_ref());
        };
        let call = letter.open(py)?;
        if let Some(with) = call.more {
            py.import(intern!(py, "thistledown._carried"))?.call_method1(intern!(py, "enter"), (with,))?;
        }
        let args = (!letter.reads()).then(|| call.args.unbind());
        let kwargs = Some(call.kwargs).filter(|kwargs| !kwargs.is_empty()).map(Bound::unbind);
        self.begin_with(py, args.as_ref(), kwargs.as_ref())
    }

    fn begin_with(
        &self,
        py: Python<'_>,
        args: Option<&Py<PyTuple>>,
        kwargs: Option<&Py<PyDict>>,
    ) -> PyResult<Begun> {
        let target = match self.to {
            To::Box => Some(self.to_box.clone_ref(py).into_any()),
            To::Instance => self.to_box.get().instance(py),
        };
        let Some(target) = target else {
            let without = intern!(py, "_without_instance");
            let made = self.to_box.bind(py).call_method1(without, (&self.name, args, kwargs))?;
            return Ok(Begun::Body(made.unbind()));
        };
        let found = target.bind(py).getattr(&self.name)?;
        let Some(args) = args else { return Ok(Begun::Value(found.unbind())) };
        let made = found.call(args.bind(py), kwargs.map(|kwargs| kwargs.bind(py)))?;
        if body::state(&made).is_none() || (is_generator(&made) && !body::makes_body(&found)?) {
            return Ok(Begun::Value(made.unbind()));
        }
        Ok(Begun::Body(made.unbind()))
    }
}

fn is_generator(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object; only its type is looked at.
    unsafe { ffi::PyGen_CheckExact(object.as_ptr()) != 0 }
}

#[pymethods]
impl Message {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.to_box)?;
        visit.call(&self.args)?;
        visit.call(&self.kwargs)?;
        visit.call(&self.letter)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.to_box.get().answered();
    }
}

/// The wait for a task was refused, since it waits for who waits. If it is a message that has not begun, it never does.
pub(crate) fn take_back_joined(py: Python<'_>, operation: &Operation) {
    if let Kind::Join(task) = &operation.kind {
        take_back(task.bind(py));
    }
}

/// If this is a message that has not begun, it never does. Whether it ends so, as far as this process knows.
pub(super) fn take_back(task: &Bound<'_, Task>) -> bool {
    let py = task.py();
    if let Some(remote) = task.get().remote() {
        return match remote.way() {
            Some(Way::Pool(source, job)) => outside(py, || source.take_back(job)) != Cancel::TooLate,
            _ => false,
        };
    }
    let id = task.get().id();
    WORLD.with(|kernel| {
        let waits = waits_for_turn(py, kernel, id);
        if waits {
            kernel.cancel_task(id);
        }
        waits
    })
}

/// Whether a task is a message that has not begun, since it stands behind others.
pub(crate) fn waits_for_turn(py: Python<'_>, kernel: &Kernel<Snake>, id: TaskId) -> bool {
    let is_message =
        kernel.body(id).is_some_and(|body| body.iterator.bind(py).is_exact_instance_of::<Message>());
    is_message && kernel.waits_behind(id).is_some()
}

/// What becomes of the message whose body this is, and which was cancelled, if that is because its box has ended: an
/// error. That the box is to end was answered all the same.
pub(crate) fn died(py: Python<'_>, body: &Body) -> Option<Outcome> {
    let beside = body.extra.as_ref().and_then(|extra| extra.message.as_ref()).map(|message| message.bind(py));
    let message = match beside {
        Some(message) => message,
        None => body.iterator.bind(py).cast_exact::<Message>().ok()?,
    };
    let error = HereBox::died(message.get().to_box.bind(py))?;
    match message.get().is_stop(py) {
        true => Some(Outcome::Value(py.None())),
        false => Some(Outcome::Error(error)),
    }
}
