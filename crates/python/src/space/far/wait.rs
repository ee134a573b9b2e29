//! Something that was asked of a space that is elsewhere, and who waits for it.
//!
//! Asked again in the turn of the next owner, until it is told something, or given up. Who takes what it was told has
//! concluded it: nothing is asked after that.

use std::sync::Arc;
use std::time::Duration;

use rustix_futex_sync::{Condvar, Mutex};
use thistledown_exchange::{Asked, Broken, Parcel, Told, Waiter};
use thistledown_kernel::{Moment, SpotId, TaskId};
use thistledown_space::{Act, OperationId, TransactionId};

use crate::current::{Current, Run};
use crate::payload::WORLD;
use crate::space::far::FarSpace;
use crate::space::far::line::Owner;
use crate::space::hub::{VERB, code};

/// Something is on its way that will come: a clock that jumps waits for it.
fn hope() -> Option<TaskId> {
    let run = Current::run().filter(|run| run.clock.is_virtual())?;
    let runner = Some(run.runner);
    Some(WORLD.with(|kernel| kernel.add_elsewhere(runner)))
}

fn end(hope: Option<TaskId>) {
    hope.into_iter().for_each(|id| WORLD.with(|kernel| kernel.finish(id)));
}

fn call(spot: SpotId) {
    WORLD.with(|kernel| kernel.call(spot));
}

struct State {
    /// The turn in which it was asked last.
    turn: u64,
    told: Option<Told>,
    /// What it was told was taken, or it was given up.
    is_concluded: bool,
    /// It was told something, or that nothing is there.
    is_heard: bool,
    /// How long it is until it is to look, as it was just said.
    left: Option<Duration>,
    /// When it is to look.
    looks: Option<Moment>,
    hope: Option<TaskId>,
}

pub(crate) struct FarWait {
    pub(super) number: u64,
    pub(super) within: Option<TransactionId>,
    pub(crate) spot: SpotId,
    body: Parcel,
    operation: Option<OperationId>,
    state: Mutex<State>,
    /// Something was heard.
    heard: Condvar,
    /// Held while it is asked, so that who is told something finds here what he takes or declines.
    asked: Mutex<Option<Asked>>,
    pub(crate) space: Arc<FarSpace>,
}

/// It, as it was asked in one turn.
struct InTurn {
    wait: Arc<FarWait>,
    turn: u64,
}

impl Waiter for InTurn {
    fn told(&self, told: Told) {
        let lost = match &told {
            Told::Broken(Broken::Forked) => None,
            Told::Broken(why) => Some(*why),
            Told::Refusal { code: code::CLOSED, .. } => {
                Some(Broken::NoObject { pid: self.wait.space.id().owner.pid })
            }
            _ => None,
        };
        match lost.filter(|_| self.wait.space.is_on_file()) {
            Some(why) => {
                self.wait.lose(self.turn);
                self.wait.space.lose(self.turn, why);
            }
            None => self.wait.hear(self.turn, told),
        }
    }
}

impl FarWait {
    pub(super) fn new(
        number: u64,
        within: Option<TransactionId>,
        (operation, body): (Option<OperationId>, Parcel),
        space: &Arc<FarSpace>,
    ) -> Arc<Self> {
        let state = State {
            turn: 0,
            told: None,
            is_concluded: false,
            is_heard: false,
            left: None,
            looks: None,
            hope: hope(),
        };
        Arc::new(Self {
            number,
            within,
            spot: WORLD.with(|kernel| kernel.open_outside_spot()),
            body,
            operation,
            state: Mutex::new(state),
            heard: Condvar::new(),
            asked: Mutex::new(None),
            space: Arc::clone(space),
        })
    }

    /// Asks for it in this turn, unless it was or is over. If there is no owner now it is asked when there is.
    pub(super) fn ask(self: &Arc<Self>) {
        loop {
            let (turn, owner) = self.space.owner();
            let handle = match owner {
                Owner::Known(handle) => handle,
                Owner::Between => return,
                Owner::Gone(gone) | Owner::Missed(gone) => {
                    return self.hear(turn, self.space.told_gone(&gone));
                }
            };
            let mut asked = self.asked.lock();
            if !self.begin(turn) {
                return;
            }
            let waiter = Arc::new(InTurn { wait: Arc::clone(self), turn });
            match handle.ask(VERB, &self.body, waiter) {
                Ok(now) => {
                    let before = asked.replace(now);
                    drop(asked);
                    drop(before);
                    return;
                }
                Err(why) => {
                    drop(asked);
                    self.lose(turn);
                    self.space.lose(turn, why);
                }
            }
        }
    }

    fn begin(&self, turn: u64) -> bool {
        let mut state = self.state.lock();
        if state.is_concluded || state.turn >= turn {
            return false;
        }
        (state.turn, state.told) = (turn, None);
        true
    }

    /// What was offered in a turn that is over was not: it is offered again.
    fn lose(&self, turn: u64) {
        let mut state = self.state.lock();
        if state.turn == turn && !state.is_concluded {
            state.told = None;
        }
    }

    fn hear(&self, turn: u64, told: Told) {
        let hope = {
            let mut state = self.state.lock();
            if state.turn > turn || state.is_concluded {
                return;
            }
            (state.told, state.is_heard) = (Some(told), true);
            state.hope.take()
        };
        self.heard.notify_all();
        call(self.spot);
        end(hope);
    }

    /// Nobody has it any more, and it is asked of nobody.
    pub(super) fn fail(&self, told: Told) {
        self.hear(u64::MAX, told);
    }

    /// Sleeps until it is told something, or that nothing is there; or for this long at most.
    pub(crate) fn listen(&self, at_most: Duration) -> Option<()> {
        let state = self.state.lock();
        let (state, _) = self.heard.wait_timeout_while(state, at_most, |state| !state.is_heard);
        state.is_heard.then_some(())
    }

    /// What it was told; from then on it is not asked again.
    pub(crate) fn take_told(&self) -> Option<Told> {
        let mut state = self.state.lock();
        let told = state.told.take();
        state.is_concluded |= told.is_some();
        told
    }

    /// Takes what was offered. If its owner is gone by now, nobody else will be given it.
    pub(crate) fn accept(&self) {
        let asked = self.asked.lock().take();
        if let Some(asked) = asked {
            asked.accept();
        }
    }

    /// Its transaction is over.
    pub(super) fn revoke(&self) {
        let asked = self.asked.lock().take();
        drop(asked);
        self.fail(Told::Refusal { code: code::TRANSACTION_OVER, body: Parcel::empty() });
    }

    /// When it is to look by itself.
    pub(crate) fn looks(&self) -> Moment {
        let mut state = self.state.lock();
        if let Some(left) = state.left.take() {
            state.looks = Some(Run::now().after(left));
        }
        state.looks.unwrap_or(Moment::NEVER)
    }

    /// It is over, however it ended: what was offered and not taken goes back, also with the next owner.
    pub(crate) fn end(&self) {
        self.space.forget_wait(self.number);
        let (hope, was_asked) = {
            let mut state = self.state.lock();
            state.is_concluded = true;
            (state.hope.take(), state.turn > 0)
        };
        let asked = self.asked.lock().take();
        if let (Some(operation), Some(_), true) = (self.operation, &asked, was_asked) {
            drop(asked);
            self.space.forsake(operation);
        }
        end(hope);
        WORLD.with(|kernel| kernel.drop_spot(self.spot));
    }

    /// Has the space look, if that is due.
    pub(crate) fn look_if_due(&self) {
        {
            let mut state = self.state.lock();
            if state.looks.is_none_or(|at| at > Run::now()) {
                return;
            }
            state.looks = None;
        }
        let hope = hope();
        let old = std::mem::replace(&mut self.state.lock().hope, hope);
        end(old);
        self.space.tell(Act::LookAgain(self.number));
    }

    pub(super) fn enlisted(&self, left: Option<Duration>) {
        let hope = {
            let mut state = self.state.lock();
            (state.left, state.looks, state.is_heard) = (left, None, true);
            state.hope.take()
        };
        self.heard.notify_all();
        call(self.spot);
        end(hope);
    }
}
