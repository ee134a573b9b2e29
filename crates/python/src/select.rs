//! Select: waits for the first of several operations, and undoes the rest.
//!
//! Its wants are those of its branches, one after the other; the kernel commits the whole wait to one of them. When
//! several could be met at once the first in the order of the arguments is taken.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple, PyType};
use thistledown_kernel::Event;

use crate::channel::Channel;
use crate::errors;
use crate::objects;
use crate::operation::{Kind, Operation, Target, Wants};
use crate::space::Space;
use crate::task::Task;

/// Operations in one select, counted through nested ones.
const BRANCHES: usize = 10_000;

/// References to an operation that is an argument of the call and nothing else: of the caller, of the arguments, and two
/// of this module's.
const OF_A_CALL: isize = 4;

/// Selects within selects.
const DEPTH: usize = 100;

/// The operations to choose from.
pub(crate) struct Select {
    branches: Box<[Py<Operation>]>,
    /// How many wants they have together.
    wants: usize,
    /// How many selects are nested in it, with itself.
    depth: usize,
}

/// Waits for the first of several operations and undoes the rest.
///
/// Args:
///     operations: operations, or tasks for their end; at least one. Selects may be nested.
///
/// Returns:
///     An operation that gives ``Selected(index, value)``: which one, and what it gave. When several are ready, the
///     first in the order of the arguments. An error of the chosen one is raised.
///
/// Raises:
///     TypeError: one of them is no operation, or cannot be undone (``sendall``, ``switch``).
#[pyfunction]
#[pyo3(signature = (*operations))]
pub(crate) fn select(operations: &Bound<'_, PyTuple>) -> PyResult<Operation> {
    if operations.is_empty() {
        return Err(errors::wrong_type("select needs at least one operation"));
    }
    let branches: PyResult<Vec<_>> = operations.iter().map(|object| branch(&object)).collect();
    let branches = branches?;
    let count: usize = branches.iter().map(|branch| wants(branch.get())).sum();
    if count > BRANCHES {
        return Err(errors::wrong_value(format!(
            "select takes up to {BRANCHES} operations, got {count}: receive from one channel that all of them send to"
        )));
    }
    let depth = 1 + branches.iter().map(|branch| depth(branch.get())).max().unwrap_or_default();
    if depth > DEPTH {
        return Err(errors::wrong_value(format!(
            "selects may be nested {DEPTH} deep: give all operations to one"
        )));
    }
    Ok(Operation::new(Kind::Select(Select { branches: branches.into_boxed_slice(), wants: count, depth })))
}

/// How many wants an operation has.
fn wants(operation: &Operation) -> usize {
    match &operation.kind {
        Kind::Select(select) => select.wants,
        Kind::Space(operation) => operation.wants(),
        _ => 1,
    }
}

fn depth(operation: &Operation) -> usize {
    match &operation.kind {
        Kind::Select(select) => select.depth,
        _ => 0,
    }
}

fn branch(object: &Bound<'_, PyAny>) -> PyResult<Py<Operation>> {
    let operation = from_python(object)?;
    match &operation.get().kind {
        Kind::Switch(_) => Err(errors::wrong_type("a switch cannot be selected: it goes there at once")),
        Kind::Socket(verb) if !verb.can_be_undone() => Err(errors::wrong_type(
            "sendall cannot be selected, what it has sent cannot be undone: use `send`",
        )),
        // These keep what belongs to one wait: each select waits by a copy of its own.
        Kind::Sleep(_) | Kind::Poll(_) | Kind::Thread(_) | Kind::Space(_) | Kind::Select(_) => {
            Py::new(object.py(), operation.get().copy(object.py())?)
        }
        // So do those of a channel between processes; and one that nobody else has needs no copy.
        Kind::Send(..) | Kind::Receive(_) if objects::references(&operation) > OF_A_CALL => {
            Py::new(object.py(), operation.get().copy(object.py())?)
        }
        _ => Ok(operation.unbind()),
    }
}

/// Anything that can stand where an operation is asked for: an operation, or a task for its end.
fn from_python<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Operation>> {
    if let Ok(operation) = object.cast::<Operation>() {
        return Ok(operation.clone());
    }
    if let Ok(task) = object.cast::<Task>() {
        return Bound::new(object.py(), Operation::new(Kind::Join(task.clone().unbind())));
    }
    let kind = object.get_type().name()?;
    if let Some(instead) = instead(object) {
        return Err(errors::wrong_type(format!(
            "select waits for operations and tasks, not for a {kind}: write {instead}"
        )));
    }
    Err(errors::wrong_type(format!(
        "select waits for operations and tasks, not for a {kind}: start it with `td.go(...)` and select on the task{}",
        advice(object)
    )))
}

/// What somebody means who gives this to a select.
fn instead(object: &Bound<'_, PyAny>) -> Option<&'static str> {
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        Some("`td.select(*operations)`, each for itself")
    } else if object.is_instance_of::<Channel>() {
        Some("`channel.recv()` or `channel.send(value)`")
    } else if object.is_instance_of::<Space>() {
        Some("`space.take(template)` or `space.read(template)`")
    } else {
        None
    }
}

/// What to add when somebody selects on a coroutine.
fn advice(object: &Bound<'_, PyAny>) -> &'static str {
    if object.hasattr("__await__").unwrap_or(false) {
        ""
    } else {
        ", or `td.thread(...)` for a call that blocks"
    }
}

fn selected(py: Python<'_>, index: usize, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(CLASS.import(py, "thistledown._operations", "Selected")?.call1((index, value))?.unbind())
}

impl Select {
    pub(crate) fn attempt(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        for (index, branch) in self.branches.iter().enumerate() {
            if let Some(value) = branch.get().attempt(py)? {
                return selected(py, index, value).map(Some);
            }
        }
        Ok(None)
    }

    pub(crate) fn want(&self, py: Python<'_>, wants: &mut Wants<'_>) -> PyResult<()> {
        self.branches.iter().try_for_each(|branch| branch.get().want(py, wants))
    }

    pub(crate) fn conclude(
        &self,
        py: Python<'_>,
        branch: u16,
        event: Event<Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let Some((index, operation, branch)) = self.of_want(branch) else {
            return Err(errors::misuse("a select was woken for a branch it does not have"));
        };
        match operation.conclude(py, branch, event)? {
            Some(value) => selected(py, index, value).map(Some),
            None => self.attempt(py),
        }
    }

    /// What came is nobody's any more.
    pub(crate) fn give_back(&self, branch: u16, event: Event<Py<PyAny>>) {
        if let Some((_, operation, branch)) = self.of_want(branch) {
            operation.give_back(branch, event);
        }
    }

    /// The operation that one of the wants is of, and which of its own it is.
    fn of_want(&self, number: u16) -> Option<(usize, &Operation, u16)> {
        let mut number = usize::from(number);
        for (index, branch) in self.branches.iter().enumerate() {
            let wants = wants(branch.get());
            if number < wants {
                return Some((index, branch.get(), u16::try_from(number).unwrap_or(u16::MAX)));
            }
            number -= wants;
        }
        None
    }

    pub(crate) fn hurry(&self) {
        self.branches.iter().for_each(|branch| branch.get().hurry());
    }

    pub(crate) fn release(&self) {
        self.branches.iter().for_each(|branch| branch.get().release());
    }

    pub(crate) fn describe(&self, py: Python<'_>) -> String {
        let branches: Vec<String> = self.branches.iter().map(|branch| branch.get().describe(py)).collect();
        format!("select({})", branches.join(", "))
    }

    pub(crate) fn targets(&self, py: Python<'_>, into: &mut Vec<Target>) {
        self.branches.iter().for_each(|branch| branch.get().targets(py, into));
    }

    /// Whether each of them is; see [`Operation::is_own`].
    pub(crate) fn is_own(&self) -> bool {
        self.branches.iter().all(|branch| branch.get().is_own())
    }

    pub(crate) fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        let copies: PyResult<Vec<_>> =
            self.branches.iter().map(|branch| Py::new(py, branch.get().copy(py)?)).collect();
        Ok(Self { branches: copies?.into_boxed_slice(), wants: self.wants, depth: self.depth })
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.branches.iter().try_for_each(|branch| visit.call(branch))
    }
}
