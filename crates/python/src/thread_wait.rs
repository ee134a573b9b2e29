//! Waiting in a plain thread: the same protocol as in a task, with the thread asleep on its own pipe.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::IntoPyDict;
use thistledown_kernel::{Event, Moment, TaskId, Wake, Want};
use thistledown_runtime::{Clock, Parked, Parker};

use crate::current::{Current, seconds};
use crate::descriptor;
use crate::errors;
use crate::operation::{Operation, Wants};
use crate::outside::outside;
use crate::payload::{WORLD, Waker};
use crate::task::Task;

thread_local! {
    static PARKER: RefCell<Option<Parker>> = const { RefCell::new(None) };
    /// Found not to be the main thread.
    static NOT_MAIN: Cell<bool> = const { Cell::new(false) };
}

/// In a forked child: the parker's pipe is shared with the parent.
pub(crate) fn forget_parker() {
    PARKER.set(None);
}

/// Waits for the operation and gives what it gives.
pub(crate) fn wait(py: Python<'_>, operation: &Operation, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
    if Current::run().is_some() {
        return Err(errors::misuse(
            "waiting here would stop the thread that runs the weightless tasks: write `await op` (in a generator \
             task `yield from op`)",
        ));
    }
    wait_anywhere(py, operation, timeout)
}

/// Waits for the end of a task, and leaves its outcome where it is.
pub(crate) fn wait_for_end(py: Python<'_>, task: &Task, timeout: Option<f64>) -> PyResult<()> {
    until(timeout, |parker, deadline| {
        if !task.is_done() {
            let mut wants = Wants::new(None);
            wants.push(Want::End(task.id()));
            sleep_for(py, wants, parker, deadline)?;
            let party = task.id();
            if !task.is_done() && !WORLD.with(|kernel| kernel.is_live(party)) {
                return Err(errors::misuse("the run of the task was given up before the task had ended"));
            }
        }
        Ok(task.is_done().then_some(()))
    })
}

fn wait_anywhere(py: Python<'_>, operation: &Operation, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
    until(timeout, |parker, deadline| attempt(py, operation, parker, deadline))
}

/// Does something with this thread's parker until it gives something, or the time is over.
fn until<T>(
    timeout: Option<f64>,
    mut step: impl FnMut(&mut Parker, Option<Moment>) -> PyResult<Option<T>>,
) -> PyResult<T> {
    let deadline = match timeout {
        Some(value) => seconds(if value < 0.0 { 0.0 } else { value }, "timeout")?
            .map(|duration| Clock::System.now().after(duration)),
        None => None,
    };
    let mut parker = PARKER.take().map_or_else(Parker::new, Ok).map_err(|error| errors::system(&error))?;
    let result = loop {
        match step(&mut parker, deadline) {
            Ok(None) => {}
            Ok(Some(value)) => break Ok(value),
            Err(error) => break Err(error),
        }
    };
    PARKER.set(Some(parker));
    result
}

fn attempt(
    py: Python<'_>,
    operation: &Operation,
    parker: &mut Parker,
    deadline: Option<Moment>,
) -> PyResult<Option<Py<PyAny>>> {
    if let Some(value) = operation.attempt(py)? {
        return Ok(Some(value));
    }
    let mut wants = Wants::new(None);
    operation.want(py, &mut wants)?;
    let (branch, event) = sleep_for(py, wants, parker, deadline)?;
    operation.conclude(py, branch, event)
}

/// Enlists the thread for these wants and sleeps until one is met.
fn sleep_for(
    py: Python<'_>,
    wants: Wants<'_>,
    parker: &mut Parker,
    deadline: Option<Moment>,
) -> PyResult<(u16, Event<Py<PyAny>>)> {
    let timer = (0..).zip(&wants.list).filter_map(|(branch, want)| match want {
        Want::Until(at) if *at != Moment::NEVER => Some((*at, branch)),
        _ => None,
    });
    let timer = timer.min_by_key(|&(at, _)| at);
    let (watched, list) = (wants.watched, wants.list);
    let waker = Waker::Thread(parker.waker());
    let party = WORLD
        .with(|kernel| {
            let party = kernel.add_thread(waker);
            kernel.wait(party, list).map(|()| party).inspect_err(|_| kernel.finish(party))
        })
        .map_err(|cycle| errors::deadlock(py, cycle.to_string()))?;
    let known = watch_signals(py, parker.descriptor().as_raw_fd());
    let ended = py.check_signals().and_then(|()| sleep(py, parker, party, &watched, timer, deadline));
    if let Some(known) = known {
        watch_signals(py, known);
    }
    let wake = WORLD.with(|kernel| {
        let wake = kernel.withdraw(party);
        kernel.finish(party);
        wake
    });
    // What was committed meanwhile counts, whatever else happened.
    match wake {
        Some(Wake::Event { branch, event }) => Ok((branch, event)),
        _ => ended,
    }
}

/// Lets each signal write to a descriptor, so that one which comes just before the sleep ends it too. Gives the
/// descriptor before; nothing in any thread but the main one, which alone is told of signals.
///
/// Calls the function in C and no Python code, in which the very signal could be raised and be lost.
fn watch_signals(py: Python<'_>, descriptor: RawFd) -> Option<RawFd> {
    static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if NOT_MAIN.get() {
        return None;
    }
    let set = SET.import(py, "signal", "set_wakeup_fd").ok()?;
    let quiet = [("warn_on_full_buffer", false)].into_py_dict(py).ok()?;
    let known = set.call((descriptor,), Some(&quiet)).and_then(|known| known.extract::<RawFd>());
    NOT_MAIN.set(known.is_err());
    known.ok()
}

/// Sleeps until the kernel, a descriptor or the time ends it. A wake by the kernel gives an event of no meaning.
fn sleep(
    py: Python<'_>,
    parker: &mut Parker,
    party: TaskId,
    watched: &[(i32, thistledown_kernel::Direction, u16)],
    timer: Option<(Moment, u16)>,
    deadline: Option<Moment>,
) -> PyResult<(u16, Event<Py<PyAny>>)> {
    let fds: Vec<_> = watched.iter().map(|&(fd, direction, _)| (descriptor::borrow(fd), direction)).collect();
    loop {
        if WORLD.with(|kernel| kernel.is_woken(party)) {
            return Ok((0, Event::Ready));
        }
        let now = Clock::System.now();
        if let Some((at, branch)) = timer
            && at <= now
        {
            return Ok((branch, Event::Elapsed));
        }
        if deadline.is_some_and(|at| at <= now) {
            return Err(PyTimeoutError::new_err("not done in time"));
        }
        let next = [timer.map(|(at, _)| at), deadline].into_iter().flatten().min();
        let timeout: Option<Duration> = next.map(|at| at.since(now));
        let slept = outside(py, || parker.sleep(&fds, timeout)).map_err(|error| errors::system(&error))?;
        match slept {
            Parked::Ready(index) => return Ok((watched[index].2, Event::Ready)),
            Parked::Interrupted | Parked::Woken => py.check_signals()?,
            Parked::TimedOut => {}
        }
    }
}
