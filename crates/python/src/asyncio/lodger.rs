//! Who gives the turns of a guest, in the name of its run. Each turn is, for asyncio, one of a stand-in for the task.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use pyo3::prelude::*;
use thistledown_kernel::Turn;
use thistledown_runtime::{Flow, Host, Rest};

use crate::asyncio::foreign;
use crate::current::Run;
use crate::payload::{Held, Snake};
use crate::run;
use crate::turn;

/// Gives the turns of a guest.
pub(crate) struct Lodger<'a, 'py> {
    py: Python<'py>,
    run: &'a Rc<Run>,
    event_loop: &'a Py<PyAny>,
    /// What goes on to whoever runs the loop.
    pub(crate) ending: Option<PyErr>,
}

impl<'a, 'py> Lodger<'a, 'py> {
    pub(crate) fn new(py: Python<'py>, run: &'a Rc<Run>, event_loop: &'a Py<PyAny>) -> Self {
        Self { py, run, event_loop, ending: None }
    }
}

impl Host<Snake> for Lodger<'_, '_> {
    fn turn(&mut self, turn: Turn<Held, Py<PyAny>>) -> Rest<Held> {
        let py = self.py;
        let mut turn = match foreign::before(py, turn) {
            Ok(turn) => turn,
            Err(rest) => return rest,
        };
        let stand_in = foreign::enter(py, self.event_loop, &mut turn.body);
        let rest = turn::give(py, self.run, turn);
        let left = stand_in.and_then(|stand_in| {
            if let Rest::Waits(_) = rest {
                stand_in.get().interrupt();
            }
            foreign::leave(py, self.event_loop, &stand_in)
        });
        if let Rest::Ended = rest {
            self.ending = run::take_ending();
        }
        if let Err(error) = left {
            self.ending.get_or_insert(error);
        }
        rest
    }

    fn idle(&mut self, sleep: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
        crate::outside::outside(self.py, sleep)
    }

    fn pulse(&mut self) -> Flow {
        self.flow()
    }

    fn flow(&mut self) -> Flow {
        if self.ending.is_some() || self.run.forked.get() { Flow::Abandon } else { Flow::GoOn }
    }

    fn stuck(&mut self) -> Option<Duration> {
        None
    }
}
