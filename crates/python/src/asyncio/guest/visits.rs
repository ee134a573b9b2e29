//! Visits of a guest: when the loop has a round for it, by which it is called, and what is told then.

use std::rc::Rc;
use std::time::Duration;

use pyo3::call::PyCallArgs;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use thistledown_kernel::{Moment, Told};
use thistledown_reactor::Reactor;
use thistledown_runtime::Clock;

use super::Guest;
use crate::asyncio::lodger::Lodger;
use crate::context;
use crate::current::Current;
use crate::errors;
use crate::payload::WORLD;

/// How long the other callbacks of the loop wait for a visit that finds always someone ready.
const SLICE: Duration = Duration::from_millis(1);

/// What struck on the way through several things that are all to be done: the first error goes on, the others are put off.
///
/// What the loop is asked for is Python code, and Ctrl-C is raised in whichever that is.
struct Struck<'a, 'py> {
    guest: &'a Bound<'py, Guest>,
    first: PyResult<()>,
}

impl<'a, 'py> Struck<'a, 'py> {
    fn new(guest: &'a Bound<'py, Guest>) -> Self {
        Self { guest, first: Ok(()) }
    }

    fn note(&mut self, done: PyResult<()>) {
        match done {
            Err(error) if self.first.is_err() => {
                errors::put_off(self.guest.py(), error, Some(self.guest.as_any()));
            }
            Err(error) => self.first = Err(error),
            Ok(()) => {}
        }
    }

    fn passed_on(self) -> PyResult<()> {
        self.first
    }
}

/// While it lives, wakes of the guest's runner ring nobody: what there is to do is looked for when it goes.
pub(crate) struct Busy<'a, 'py>(&'a Bound<'py, Guest>);

impl<'a, 'py> Busy<'a, 'py> {
    pub(crate) fn new(guest: &'a Bound<'py, Guest>) -> Self {
        let runner = guest.get().run.get(guest.py()).runner;
        WORLD.with(|kernel| kernel.unpark(runner));
        Self(guest)
    }
}

impl Drop for Busy<'_, '_> {
    fn drop(&mut self) {
        if let Err(error) = Guest::rest(self.0) {
            errors::put_off(self.0.py(), error, Some(self.0.as_any()));
        }
    }
}

impl Guest {
    /// A visit.
    pub(super) fn pay_visit(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        // Inside of a task's turn somebody runs the loop again: the turn is not over.
        let Ok(mut reactor) = this.reactor.get(py).try_borrow_mut() else {
            // Its end sees to the next visit.
            this.desk.lock().soon = false;
            return Ok(());
        };
        if this.has_ended() {
            return Ok(());
        }
        {
            let mut desk = this.desk.lock();
            desk.soon = false;
            desk.visits += 1;
        }
        let runner = this.run.get(py).runner;
        WORLD.with(|kernel| kernel.unpark(runner));
        let mut struck = Struck::new(slf);
        struck.note(Self::give_turns(slf, &mut reactor));
        drop(reactor);
        struck.note(this.visitors.look_again(py));
        struck.note(Self::rest(slf));
        this.tell_failed(py, false);
        struck.passed_on()
    }

    /// After anything was done: passes on what there is to tell, and sees to it that the next visit comes in time.
    fn rest(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let runner = this.run.get(py).runner;
        let is_due = this.desk.lock().soon;
        let (told, prospects) = WORLD.with(|kernel| {
            let told = kernel.take_told(runner);
            (told, if is_due { None } else { kernel.park(runner) })
        });
        // The kernel has forgotten them: whatever strikes on the way, each is told.
        let mut struck = Struck::new(slf);
        for told in told {
            struck.note(Self::tell(slf, told));
        }
        struck.note(match prospects {
            _ if is_due => Ok(()),
            None => Self::come_soon(slf),
            Some(prospects) => Self::come_at(slf, prospects.timer),
        });
        struck.passed_on()
    }

    fn tell(slf: &Bound<'_, Self>, told: Told) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let held = match told.committed {
            true => this.desk.lock().held.remove(&told.visitor),
            false => None,
        };
        if let Some(held) = held {
            let future = held.future.bind(py);
            if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                future.call_method1(intern!(py, "set_result"), (py.None(),))?;
            }
        }
        if told.cancelled && this.visitors.ask_to_end(py, told.visitor)? {
            // It has its turn in the loop just now.
            Self::come_soon(slf)?;
        }
        Ok(())
    }

    /// The loop's next round begins with a visit.
    pub(crate) fn come_soon(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if std::mem::replace(&mut this.desk.lock().soon, true) {
            return Ok(());
        }
        let runner = this.run.get(py).runner;
        WORLD.with(|kernel| kernel.unpark(runner));
        let visit = slf.getattr(intern!(py, "visit"))?;
        this.ask_loop(py, intern!(py, "call_soon"), (visit,)).map(drop).inspect_err(|_| {
            this.desk.lock().soon = false;
            this.ring(py);
        })
    }

    /// The loop could not be asked for a visit, or nobody knows whether it was: it sees the descriptor.
    fn ring(&self, py: Python<'_>) {
        self.run.get(py).shared.waker.wake();
    }

    /// Calls a method of the loop's that keeps the caller's context: nobody's, as what is asked for is for all.
    fn ask_loop<'py>(
        &self,
        py: Python<'py>,
        method: &Bound<'py, PyString>,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<Py<PyAny>> {
        context::inside(&context::empty(py)?, || self.event_loop.call_method1(py, method, arguments))
    }

    /// Sees to it that the loop's timer for us is over when it is needed, and that there is none when it is not.
    fn come_at(slf: &Bound<'_, Self>, at: Option<Moment>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let old = {
            let mut desk = this.desk.lock();
            // One that comes too early looks again.
            match (&desk.timer, at) {
                (Some((known, _)), Some(at)) if *known <= at => return Ok(()),
                _ => desk.timer.take(),
            }
        };
        let mut struck = Struck::new(slf);
        if let Some((_, handle)) = old {
            struck.note(handle.call_method0(py, intern!(py, "cancel")).map(drop));
        }
        if let Some(at) = at {
            struck.note(Self::set_timer(slf, at).inspect_err(|_| this.ring(py)));
        }
        struck.passed_on()
    }

    fn set_timer(slf: &Bound<'_, Self>, at: Moment) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        // Loops count milliseconds; one that is rounded down would find nothing due, many times.
        let delay = (at.since(Clock::System.now()).as_secs_f64() * 1e3).ceil() / 1e3;
        let elapsed = slf.getattr(intern!(py, "_elapsed"))?;
        let handle = this.ask_loop(py, intern!(py, "call_later"), (delay, elapsed))?;
        this.desk.lock().timer = Some((at, handle));
        Ok(())
    }

    /// Gives turns, in the name of the run.
    fn give_turns(slf: &Bound<'_, Self>, reactor: &mut Reactor) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let run = this.run.get(py);
        let outer = Current::change(py, Some(Rc::clone(run)), None);
        let mut host = Lodger::new(py, run, &this.event_loop);
        let visited = thistledown_runtime::visit(
            &WORLD,
            run.runner,
            reactor,
            &run.clock,
            &this.watched,
            &mut host,
            SLICE,
        );
        let ending = host.ending.take();
        Current::change(py, outer.0, outer.1);
        match ending {
            Some(error) => Err(error),
            None => visited.map(drop).map_err(|error| errors::system(&error)),
        }
    }
}
