//! Visits of a guest: when the loop has a round for it, by which it is called, and what is told then.

use std::rc::Rc;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use thistledown_kernel::{Moment, Told};
use thistledown_reactor::Reactor;
use thistledown_runtime::Clock;

use super::Guest;
use crate::asyncio::lodger::Lodger;
use crate::current::Current;
use crate::errors;
use crate::payload::WORLD;

/// How long the other callbacks of the loop wait for a visit that finds always someone ready.
const SLICE: Duration = Duration::from_millis(1);

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
        let given = Self::give_turns(slf, &mut reactor);
        drop(reactor);
        this.visitors.look_again(py)?;
        let rested = Self::rest(slf);
        this.tell_failed(py, false);
        given.and(rested)
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
        for told in told {
            Self::tell(slf, told)?;
        }
        match prospects {
            _ if is_due => Ok(()),
            None => Self::come_soon(slf),
            Some(prospects) => Self::come_at(slf, prospects.timer),
        }
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
        this.event_loop.call_method1(py, intern!(py, "call_soon"), (visit,)).map(drop)
    }

    fn come_at(slf: &Bound<'_, Self>, at: Option<Moment>) -> PyResult<()> {
        let Some(at) = at else { return Ok(()) };
        let (py, this) = (slf.py(), slf.get());
        let old = {
            let mut desk = this.desk.lock();
            // One that comes too early looks again.
            if desk.timer.as_ref().is_some_and(|(known, _)| *known <= at) {
                return Ok(());
            }
            desk.timer.take()
        };
        if let Some((_, handle)) = old {
            handle.call_method0(py, intern!(py, "cancel"))?;
        }
        // Loops count milliseconds; one that is rounded down would find nothing due, many times.
        let delay = (at.since(Clock::System.now()).as_secs_f64() * 1e3).ceil() / 1e3;
        let elapsed = slf.getattr(intern!(py, "_elapsed"))?;
        let handle = this.event_loop.call_method1(py, intern!(py, "call_later"), (delay, elapsed))?;
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
