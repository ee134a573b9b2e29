//! Waiting in a plain thread: the same protocol as in a task, with the thread asleep on its own pipe.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::IntoPyDict;
use thistledown_kernel::{Event, Kernel, Moment, TaskId, Wake, Want};
use thistledown_runtime::{Clock, Parked, Parker};

use crate::asyncio::loops;
use crate::current::{Current, seconds};
use crate::errors;
use crate::net::descriptor;
use crate::operation::{Operation, Wants};
use crate::outside::outside;
use crate::payload::{WORLD, Waker};
use crate::survey::{self, Awaited};
use crate::task::Task;
use crate::thread_scope;
use crate::workers::place::Place;

thread_local! {
    static PARKER: RefCell<Option<Parker>> = const { RefCell::new(None) };
    /// Found not to be the main thread.
    static NOT_MAIN: Cell<bool> = const { Cell::new(false) };
}

/// In a forked child: the parker's pipe is shared with the parent.
pub(crate) fn forget_parker() {
    PARKER.set(None);
    // Whichever thread has forked is the main one here.
    NOT_MAIN.set(false);
}

/// Waits for the operation and gives what it gives.
pub(crate) fn wait(operation: &Bound<'_, Operation>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
    if Current::run().is_some() {
        return Err(errors::misuse(
            "waiting here would stop the thread that runs the weightless tasks: write `await op` (in a generator \
             task `yield from op`)",
        ));
    }
    if loops::are_there() && waits_for_own(operation)? {
        return Err(errors::misuse(
            "waiting here would stop the event loop that runs the task which is waited for: write `await op`",
        ));
    }
    if timeout.is_none()
        && operation.get().is_own()
        && loops::runs_here(operation.py())?
        && thread_scope::is_bound(operation.py())?
    {
        return operation.get().attempt(operation.py())?.ok_or_else(stops_loop);
    }
    if timeout.is_some_and(|timeout| timeout <= 0.0) {
        operation.get().hurry();
    }
    let waits = || Awaited::Operation(operation.clone().unbind());
    let mut held = None;
    until(timeout, |parker, deadline| {
        if deadline.is_none() && held.is_none() && operation.get().is_for_group() {
            held = thread_scope::holds(operation.py());
        }
        attempt(operation.py(), operation.get(), &waits, parker, deadline)
    })
}

/// What nothing but this process can bring would most often be brought by the loop that stands still here.
#[cold]
fn stops_loop() -> PyErr {
    errors::misuse(
        "waiting here would stop the event loop of this thread, and with it whoever could bring about what is waited for: \
         write `await op`, or give a limit, as `op.wait(1.0)`",
    )
}

/// Whether the loop that runs in this thread runs a task that the operation waits for.
#[cold]
fn waits_for_own(operation: &Bound<'_, Operation>) -> PyResult<bool> {
    let py = operation.py();
    let mut targets = Vec::new();
    operation.get().targets(py, &mut targets);
    loops::runs_one(py, targets.into_iter().filter_map(|(_, what)| what.into_bound(py).cast_into().ok()))
}

/// Waits for the end of a task, and leaves its outcome where it is.
pub(crate) fn wait_for_end(task: &Bound<'_, Task>, timeout: Option<f64>) -> PyResult<()> {
    let waits = || Awaited::Task(task.clone().unbind());
    let (py, task) = (task.py(), task.get());
    let (mut blocked, mut held) = (None, None);
    until(timeout, |parker, deadline| {
        if !task.is_done() {
            thread_scope::check(py)?;
            let mut wants = Wants::new(None);
            wants.push(Want::End(task.id()));
            if deadline.is_none() && held.is_none() && blocked.is_none() && thread_scope::is_bound(py)? {
                (blocked, held) = (task.blocks(None), task.holds(py)?);
            }
            sleep_for(py, wants, &waits, parker, deadline)?;
            if (blocked.is_some() || held.is_some())
                && let Some(words) = task.take_deadlock()
            {
                return Err(errors::deadlock(py, words));
            }
            let party = task.id();
            if !task.is_done() && !WORLD.with(|kernel| kernel.is_live(party)) {
                return Err(errors::misuse("the run of the task was given up before the task had ended"));
            }
        }
        Ok(task.is_done().then_some(()))
    })
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
    waits: &dyn Fn() -> Awaited,
    parker: &mut Parker,
    deadline: Option<Moment>,
) -> PyResult<Option<Py<PyAny>>> {
    thread_scope::check(py)?;
    if let Some(value) = operation.attempt(py)? {
        return Ok(Some(value));
    }
    let mut wants = Wants::new(None);
    operation.want(py, &mut wants)?;
    let (branch, event) = sleep_for(py, wants, waits, parker, deadline)?;
    operation.conclude(py, branch, event)
}

/// Enlists the thread for these wants and sleeps until one is met.
fn sleep_for(
    py: Python<'_>,
    wants: Wants<'_>,
    waits: &dyn Fn() -> Awaited,
    parker: &mut Parker,
    deadline: Option<Moment>,
) -> PyResult<(u16, Event<Py<PyAny>>)> {
    let timer = (0..).zip(&wants.list).filter_map(|(branch, want)| match want {
        Want::Until(at) if *at != Moment::NEVER => Some((*at, branch)),
        _ => None,
    });
    let timer = timer.min_by_key(|&(at, _)| at);
    let place = wants.needs_others.then(Place::of_this_thread).flatten();
    let (watched, list) = (wants.watched, wants.list);
    let waker = Waker::Thread(parker.waker());
    let known = watch_signals(py, parker.descriptor().as_raw_fd())?;
    let restore = || known.and_then(|known| watch_signals(py, known).ok());
    // A wait inside of another one, as a signal's handler may do it, is no wait of the thread's scopes.
    let scoped = thread_scope::party().filter(|&party| !WORLD.with(|kernel| kernel.is_waiting(party)));
    let party = WORLD
        .with(|kernel| {
            let party = match scoped {
                Some(party) => {
                    kernel.set_waker(party, waker);
                    party
                }
                None => kernel.add_thread(waker),
            };
            let leave = |kernel: &mut Kernel<_>| {
                if scoped.is_none() {
                    kernel.finish(party)
                }
            };
            kernel.wait(party, list).map(|()| party).inspect_err(|_| leave(kernel))
        })
        .map_err(|cycle| {
            restore();
            errors::deadlock(py, cycle.to_string())
        })?;
    let noted = survey::note_wait(waits());
    let ended = match py.check_signals() {
        Ok(()) => sleep(py, parker, party, &watched, timer, deadline, place),
        Err(error) => Err(Ended::Struck(error)),
    };
    drop(noted);
    restore();
    let wake = WORLD.with(|kernel| {
        let wake = kernel.withdraw(party);
        match scoped {
            Some(party) => kernel.set_waker(party, Waker::Nobody),
            None => kernel.finish(party),
        }
        wake
    });
    match (wake, ended) {
        // Raised all the same, as it would be if the signal came a moment later.
        (_, Err(Ended::Struck(error))) => Err(error),
        // What was committed meanwhile counts, also when the time is over.
        (Some(Wake::Event { branch, event }), _) => Ok((branch, event)),
        (_, Err(Ended::Late(error))) => Err(error),
        (Some(Wake::Cancelled), Ok(_)) => Err(errors::cancelled(py, "the block is cancelled")),
        (_, Ok(woken)) => Ok(woken),
    }
}

/// Lets each signal write to a descriptor, so that one which comes just before the sleep ends it too. Gives the
/// descriptor before; nothing in any thread but the main one, which alone is told of signals.
///
/// Calls the function in C and, but for the first time, no Python code, in which the very signal could be raised.
fn watch_signals(py: Python<'_>, descriptor: RawFd) -> PyResult<Option<RawFd>> {
    static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if NOT_MAIN.get() {
        return Ok(None);
    }
    // The first import is Python code, in which the signal is raised.
    let set = SET.import(py, "signal", "set_wakeup_fd")?;
    let quiet = [("warn_on_full_buffer", false)].into_py_dict(py)?;
    let known = set.call((descriptor,), Some(&quiet)).and_then(|known| known.extract::<RawFd>());
    NOT_MAIN.set(known.is_err());
    Ok(known.ok())
}

/// How a sleep ended that nothing has woken.
enum Ended {
    /// The time is over, its own or a block's, or the system does not let the thread sleep.
    Late(PyErr),
    /// A signal's handler raised this.
    Struck(PyErr),
}

/// Sleeps until the kernel, a descriptor or the time ends it. A wake by the kernel gives an event of no meaning.
fn sleep(
    py: Python<'_>,
    parker: &mut Parker,
    party: TaskId,
    watched: &[(i32, thistledown_kernel::Direction, u16)],
    timer: Option<(Moment, u16)>,
    deadline: Option<Moment>,
    mut place: Option<Place>,
) -> Result<(u16, Event<Py<PyAny>>), Ended> {
    let fds: Vec<_> = watched.iter().map(|&(fd, direction, _)| (descriptor::borrow(fd), direction)).collect();
    let visitor = thread_scope::blocked_visitor(py).map_err(Ended::Struck)?;
    loop {
        if WORLD.with(|kernel| kernel.is_woken(party)) {
            return Ok((0, Event::Ready));
        }
        let now = Clock::System.now();
        let expires = WORLD.with(|kernel| kernel.next_deadline(party));
        if expires.is_some_and(|at| at <= now) {
            WORLD.with(|kernel| kernel.expire_thread(party, now));
            continue;
        }
        if let Some((at, branch)) = timer
            && at <= now
        {
            return Ok((branch, Event::Elapsed));
        }
        if deadline.is_some_and(|at| at <= now) {
            return Err(Ended::Late(PyTimeoutError::new_err("not done in time")));
        }
        let blocked = visitor.and_then(|visitor| WORLD.with(|kernel| kernel.next_deadline(visitor)));
        if blocked.is_some_and(|at| at <= now) {
            thread_scope::check(py).map_err(Ended::Late)?;
            continue;
        }
        let next = [
            timer.map(|(at, _)| at),
            deadline,
            expires,
            blocked,
            place.as_mut().and_then(|place| place.leave(now)),
        ];
        let next = next.into_iter().flatten().min();
        let timeout: Option<Duration> = next.map(|at| at.since(now));
        let slept = outside(py, || parker.sleep(&fds, timeout));
        match slept.map_err(|error| Ended::Late(errors::system(&error)))? {
            Parked::Ready(index) => return Ok((watched[index].2, Event::Ready)),
            Parked::Interrupted | Parked::Woken => py.check_signals().map_err(Ended::Struck)?,
            Parked::TimedOut => {}
        }
    }
}
