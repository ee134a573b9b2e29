//! What the engine has to say when something is wrong. The words are Python's, in `thistledown._report`.

use pyo3::prelude::*;
use thistledown_kernel::{Cycle, Kernel, TaskId};

use crate::actor::message::Message;
use crate::current::Run;
use crate::errors;
use crate::operation::{Kind, Operation};
use crate::payload::{Body, Snake, WORLD};
use crate::task::Task;

/// Calls a function of the report module; what goes wrong there is not this thread's business.
pub(crate) fn report<'py>(
    py: Python<'py>,
    function: &str,
    args: impl pyo3::call::PyCallArgs<'py>,
) -> Option<Bound<'py, PyAny>> {
    match py.import("thistledown._report").and_then(|module| module.call_method1(function, args)) {
        Ok(value) => Some(value),
        Err(error) => {
            errors::put_off(py, error, None);
            None
        }
    }
}

/// The error for a wait that would close a cycle. Whose wait that is has its turn, with this body.
pub(crate) fn cycle_error(
    py: Python<'_>,
    run: &Run,
    cycle: &Cycle,
    (task, body): (TaskId, &Body),
    operation: &Bound<'_, Operation>,
) -> PyErr {
    let closing = Named::of(py, body);
    let (target, others): (Option<Named>, Vec<Waiting>) = WORLD.with(|kernel| {
        let tasks = kernel.tasks(run.runner).filter(|(task, _)| cycle.0.contains(task));
        let others = tasks.map(|(other, body)| Waiting::of(py, kernel, other, body, Some((task, &closing))));
        let others = others.collect();
        (target(py, kernel, operation.get(), Some((task, &closing))), others)
    });
    let waits_for = words(py, operation.get(), target);
    let told = report(py, "cycle", ((closing.name(py), &*body.iterator, waits_for), describe(py, others)));
    errors::deadlock(py, told.map_or_else(|| cycle.to_string(), |words| words.to_string()))
}

/// What a run says when nothing can happen any more.
pub(crate) fn nothing_can_happen(py: Python<'_>, run: &Run) -> PyErr {
    let attendant = run.attendant.borrow().as_ref().map(|(task, _)| *task);
    let waiting: Vec<Waiting> = WORLD.with(|kernel| {
        let others = kernel.tasks(run.runner).filter(|(task, _)| Some(*task) != attendant);
        others.map(|(task, body)| Waiting::of(py, kernel, task, body, None)).collect()
    });
    let told = report(py, "nothing_can_happen", (describe(py, waiting),));
    errors::deadlock(py, told.map_or_else(|| "nothing can happen any more".into(), |words| words.to_string()))
}

/// A task, and the message to an actor that it answers.
struct Named {
    task: Py<Task>,
    message: Option<Py<Message>>,
}

impl Named {
    fn of(py: Python<'_>, body: &Body) -> Self {
        Self { task: body.task.clone_ref(py), message: Message::of(py, body) }
    }

    fn copy(&self, py: Python<'_>) -> Self {
        let message = self.message.as_ref().map(|message| message.clone_ref(py));
        Self { task: self.task.clone_ref(py), message }
    }

    /// Whether it ends an actor, or moves it.
    fn is_for_box(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.get().is_for_box())
    }

    /// What people call it. Of a message that is the actor's name with what was asked.
    fn name(&self, py: Python<'_>) -> String {
        let called = self.message.as_ref().and_then(|message| message.get().called(py).ok());
        called.unwrap_or_else(|| self.task.get().name(py))
    }
}

/// A task that waits, as taken from the kernel under its lock.
struct Waiting {
    who: Named,
    iterator: Py<PyAny>,
    awaited: Option<Py<Operation>>,
    /// The task whose end it waits for.
    target: Option<Named>,
    /// It waits for its key, and this one holds it, if that does not have its turn.
    behind: Option<Option<Named>>,
}

impl Waiting {
    fn of(
        py: Python<'_>,
        kernel: &Kernel<Snake>,
        task: TaskId,
        body: &Body,
        has_turn: Option<(TaskId, &Named)>,
    ) -> Self {
        let holder = kernel.waits_behind(task);
        let awaited = body.awaited.as_ref();
        Self {
            behind: holder.map(|holder| kernel.body(holder).map(|body| Named::of(py, body))),
            who: Named::of(py, body),
            iterator: body.iterator.clone_ref(py),
            target: awaited.and_then(|operation| target(py, kernel, operation.get(), has_turn)),
            awaited: awaited.map(|operation| operation.clone_ref(py)),
        }
    }
}

/// The task of this process whose end an operation waits for, if it has not ended. The kernel does not have the body of
/// the one that has its turn.
fn target(
    py: Python<'_>,
    kernel: &Kernel<Snake>,
    operation: &Operation,
    has_turn: Option<(TaskId, &Named)>,
) -> Option<Named> {
    let Kind::Join(task) = &operation.kind else { return None };
    let id = Some(task.get()).filter(|task| !task.is_remote())?.id();
    match has_turn {
        Some((turn, named)) if turn == id => Some(named.copy(py)),
        _ => kernel.body(id).map(|body| Named::of(py, body)),
    }
}

/// What an operation waits for, in words.
fn words(py: Python<'_>, operation: &Operation, target: Option<Named>) -> String {
    match target {
        Some(task) if task.is_for_box() => task.name(py),
        Some(task) => format!("the end of task {}", task.name(py)),
        None => operation.describe(py),
    }
}

/// The same for the report: the name of the task, its body, and the operation in words.
fn describe(py: Python<'_>, waiting: Vec<Waiting>) -> Vec<(String, Py<PyAny>, String)> {
    waiting
        .into_iter()
        .map(|Waiting { who, iterator, awaited, target, behind }| {
            let operation = match (awaited, behind) {
                (Some(operation), _) => words(py, operation.get(), target),
                (None, Some(Some(holder))) => format!("its key, which {} holds", holder.name(py)),
                (None, Some(None)) => "its key, which is held by the task that would wait".into(),
                (None, None) => "its turn".into(),
            };
            (who.name(py), iterator, operation)
        })
        .collect()
}
