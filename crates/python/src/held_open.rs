//! Scopes that an async generator holds open across its `yield`, and how they are found out.
//!
//! Such a scope stays on its task while the generator stands still: it would cancel whoever iterates, and be left in the
//! wrong order. Nothing can be seen at the `yield` itself. But when the task next waits, or opens or leaves a scope, the
//! generator's frame is not among those that run. Then the scope is taken away, and the task is told.
//!
//! A generator of `contextlib` stands for its caller, who holds the block. Source: PEP 789, and trio's long discussion of
//! yielding inside of nurseries.
#![allow(unsafe_code, reason = "frames are looked at by CPython's C interface")]

use std::cell::{Cell, RefCell};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;
use thistledown_kernel::TaskId;

use crate::body::{CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_ITERABLE_COROUTINE};
use crate::current::Current;
use crate::errors;
use crate::payload::WORLD;
use crate::scope::Scope;

/// An open scope, and the generator inside of which it was opened.
struct Held {
    owner: TaskId,
    scope: Py<Scope>,
    frame: Py<PyAny>,
    /// Where it was opened.
    place: String,
}

thread_local! {
    /// Innermost last.
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
    /// An async generator has begun in this thread; before that there is nothing to look for.
    static HAS_GENERATORS: Cell<bool> = const { Cell::new(false) };
}

/// An async generator begins in this thread. The interpreter calls this.
#[pyfunction]
#[pyo3(signature = (generator, /))]
pub(crate) fn generator_begins(generator: Bound<'_, PyAny>) {
    drop(generator);
    HAS_GENERATORS.set(true);
}

/// A scope was opened.
pub(crate) fn opened(owner: TaskId, scope: &Bound<'_, Scope>) -> PyResult<()> {
    let py = scope.py();
    if !HAS_GENERATORS.get() && Current::run().is_some() {
        return Ok(());
    }
    let Some((frame, place)) = around(py)? else { return Ok(()) };
    HELD.with_borrow_mut(|held| {
        held.push(Held { owner, scope: scope.clone().unbind(), frame: frame.unbind(), place });
        Current::with(|current| current.held_open.set(held.len()));
    });
    Ok(())
}

/// A scope was left.
pub(crate) fn left(scope: &Scope) {
    if Current::with(|current| current.held_open.get()) > 0 {
        drop(take(|held| std::ptr::eq(held.scope.get(), scope)));
    }
}

fn take(such: impl Fn(&Held) -> bool) -> Option<Held> {
    HELD.with_borrow_mut(|held| {
        let at = held.iter().rposition(such)?;
        let found = held.remove(at);
        Current::with(|current| current.held_open.set(held.len()));
        Some(found)
    })
}

/// Raises if the innermost scope of a generator of this owner is open and the generator stands at a `yield`.
#[cold]
pub(crate) fn check(py: Python<'_>, owner: TaskId) -> PyResult<()> {
    // Tasks that were given up have left theirs behind.
    while take(|held| !WORLD.with(|kernel| kernel.is_live(held.owner))).is_some() {}
    let innermost = HELD.with_borrow(|held| {
        held.iter().rfind(|held| held.owner == owner).map(|held| held.frame.clone_ref(py))
    });
    let Some(frame) = innermost.filter(|frame| !frames(py).any(|other| other.is(frame))) else {
        return Ok(());
    };
    let mut outermost = None;
    while let Some(held) = take(|held| held.owner == owner && held.frame.is(&frame)) {
        held.scope.get().take_away(owner);
        outermost = Some(held);
    }
    let place = outermost.map_or_else(String::new, |held| held.place);
    let code = frame.bind(py).getattr(intern!(py, "f_code"))?;
    let name = code.getattr(intern!(py, "co_qualname"))?;
    Err(errors::misuse(format!(
        "the async generator {name} holds the block that it has entered at {place} open across its `yield`: there it would \
         cancel whoever iterates. Leave the block before the `yield`; or let a task of the iterating side's group send \
         the values through a `td.Channel`; or make it an `@asynccontextmanager` if it yields once"
    )))
}

/// The frames that run in this thread, innermost first.
fn frames(py: Python<'_>) -> impl Iterator<Item = Bound<'_, PyAny>> {
    // SAFETY: attached; what comes back is borrowed, or nothing.
    let mut next = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetFrame().cast()) };
    std::iter::from_fn(move || {
        let frame = next.take()?;
        // SAFETY: a frame; what comes back is a new reference, or nothing.
        next =
            unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetBack(frame.as_ptr().cast()).cast()) };
        Some(frame)
    })
}

/// The async generator inside of which this runs, and the line of the block: nothing when a task, a thread or a context
/// manager's user stands there.
fn around(py: Python<'_>) -> PyResult<Option<(Bound<'_, PyAny>, String)>> {
    let (mut inside_a_body, mut place) = (false, None);
    let mut frames = frames(py).peekable();
    while let Some(frame) = frames.next() {
        let code = frame.getattr(intern!(py, "f_code"))?;
        let flags: i32 = code.getattr(intern!(py, "co_flags"))?.extract()?;
        let file = code.getattr(intern!(py, "co_filename"))?.cast_into::<PyString>()?;
        let is_of_contextlib = is_contextlib(&file)?;
        let is_body = flags & (CO_GENERATOR | CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR) != 0;
        if inside_a_body && !is_body && !is_of_contextlib {
            return Ok(None);
        }
        inside_a_body |= is_body;
        if place.is_none() && !is_own(&file) {
            let line: u32 = frame.getattr(intern!(py, "f_lineno"))?.extract()?;
            place = Some(format!("{file}:{line}"));
        }
        if flags & CO_ASYNC_GENERATOR == 0 {
            continue;
        }
        let driver = frames.peek().map(|driver| {
            let code = driver.getattr(intern!(py, "f_code"))?;
            is_contextlib(code.getattr(intern!(py, "co_filename"))?.cast::<PyString>()?)
        });
        if !driver.transpose()?.unwrap_or(false) {
            return Ok(Some((frame, place.unwrap_or_default())));
        }
    }
    Ok(None)
}

fn is_contextlib(file: &Bound<'_, PyString>) -> PyResult<bool> {
    static FILE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = file.py();
    let known = FILE.get_or_try_init(py, || {
        let manager = py.import("contextlib")?.getattr("contextmanager")?;
        Ok::<_, PyErr>(manager.getattr("__code__")?.getattr("co_filename")?.unbind())
    })?;
    known.bind(py).eq(file)
}

/// Whether a file is the group's.
fn is_own(file: &Bound<'_, PyString>) -> bool {
    file.to_string_lossy().ends_with("thistledown/_group.py")
}
