//! Which event loop runs in this thread, and its guest; all guests of this process.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyWeakrefReference;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{RunnerId, TaskId};

use crate::asyncio::guest::Guest;
use crate::payload::WORLD;
use crate::task::Task;

thread_local! {
    /// The loop that ran here last, and its guest.
    static KNOWN: RefCell<Option<(usize, Py<PyWeakrefReference>)>> = const { RefCell::new(None) };
}

/// The loop that runs in this thread.
fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let get = match GET.get(py) {
        Some(get) => get.bind(py),
        // Where nobody has imported it, no loop runs.
        None if !py.import("sys")?.getattr("modules")?.contains("asyncio.events")? => return Ok(None),
        None => GET.import(py, "asyncio.events", "_get_running_loop")?,
    };
    let running = get.call0()?;
    Ok((!running.is_none()).then_some(running))
}

/// The guests of this process that have not ended.
static GUESTS: Mutex<Vec<(RunnerId, Py<PyWeakrefReference>)>> = Mutex::new(Vec::new());

/// How many they are, for who must not take long to find that there are none. Changed with the list.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// One more.
pub(crate) fn note(runner: RunnerId, guest: Py<PyWeakrefReference>) {
    GUESTS.lock().push((runner, guest));
    COUNT.fetch_add(1, Ordering::Relaxed);
}

/// It has ended.
pub(crate) fn strike_out(runner: RunnerId) {
    let mut guests = GUESTS.lock();
    let at = guests.iter().position(|(known, _)| *known == runner);
    let ended = at.map(|at| guests.swap_remove(at));
    drop(guests);
    if ended.is_some() {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
    drop(ended);
}

/// The guests of this process.
pub(crate) fn all(py: Python<'_>) -> Vec<Bound<'_, Guest>> {
    let known: Vec<_> = GUESTS.lock().iter().map(|(_, guest)| guest.clone_ref(py)).collect();
    let there = known.iter().filter_map(|weak| weak.bind(py).upgrade_as::<Guest>().ok().flatten());
    there.filter(|guest| !guest.get().has_ended()).collect()
}

/// In a forked child: the loops are the parent's.
pub(crate) fn forget() {
    if let Some(mut guests) = GUESTS.try_lock() {
        guests.clear();
        COUNT.store(0, Ordering::Relaxed);
    }
}

/// The guest of the loop that runs in this thread; it is made when it is asked for first.
pub(crate) fn here(py: Python<'_>) -> PyResult<Option<Bound<'_, Guest>>> {
    let Some(event_loop) = running_loop(py)? else { return Ok(None) };
    let place = event_loop.as_ptr() as usize;
    let known = KNOWN.with_borrow(|known| {
        known.as_ref().filter(|(known, _)| *known == place).map(|(_, guest)| guest.clone_ref(py))
    });
    if let Some(guest) = known.and_then(|weak| weak.bind(py).upgrade_as::<Guest>().ok().flatten())
        && guest.get().event_loop.is(&event_loop)
        && !guest.get().has_ended()
    {
        return Ok(Some(guest));
    }
    let made = py.import("thistledown._asyncio")?.call_method1("guest_of", (&event_loop,))?;
    let guest = made.cast_into::<Guest>()?;
    let weak = PyWeakrefReference::new(&guest)?.unbind();
    let old = KNOWN.replace(Some((place, weak)));
    drop(old);
    Ok(Some(guest))
}

/// Whether there are any in this process.
pub(crate) fn are_there() -> bool {
    COUNT.load(Ordering::Relaxed) > 0
}

/// The guest of the loop that runs in this thread, if there is one already.
fn there(py: Python<'_>) -> PyResult<Option<Bound<'_, Guest>>> {
    if !are_there() {
        return Ok(None);
    }
    let Some(event_loop) = running_loop(py)? else { return Ok(None) };
    Ok(all(py).into_iter().find(|guest| guest.get().event_loop.is(&event_loop)))
}

/// Whether the loop that runs in this thread runs one of these tasks: whoever blocks the thread until that has ended would
/// wait for ever.
pub(crate) fn runs_one<'py>(
    py: Python<'py>,
    tasks: impl IntoIterator<Item = Bound<'py, Task>>,
) -> PyResult<bool> {
    let Some(guest) = there(py)? else { return Ok(false) };
    let runner = Some(guest.get().run(py).runner);
    let tasks: Vec<TaskId> = tasks.into_iter().map(|task| task.get().id()).collect();
    Ok(WORLD.with(|kernel| tasks.into_iter().any(|task| kernel.runner_of(task) == runner)))
}

/// Whether waiting for one of these in plain code would stop the loop that runs it.
#[pyfunction]
#[pyo3(signature = (tasks, /))]
pub(crate) fn would_stop_loop(tasks: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = tasks.py();
    if !are_there() {
        return Ok(false);
    }
    let each: PyResult<Vec<_>> = tasks.try_iter()?.collect();
    runs_one(py, each?.into_iter().filter_map(|task| task.cast_into::<Task>().ok()))
}
