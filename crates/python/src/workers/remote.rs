//! What a task of a worker process is on this side: an outcome that arrives as bytes, in a thread that knows no Python.
//!
//! Whoever asks for the outcome unpacks it. The kernel hears of the task only when somebody waits for its end, and a
//! thread that may call Python only when somebody has asked to be called.

use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{JoinRefused, ScopeId, TaskId};
use thistledown_workers::{Cancel, Gone, Outcome, Verb};

use crate::actor::far;
use crate::errors;
use crate::outside::outside;
use crate::payload::{WORLD, Waker};
use crate::stop::Stop;
use crate::task::{self, Task};
use crate::workers::ended::{self, Ended};
use crate::workers::ends::Face;
use crate::workers::pool::Source;
use crate::workers::settle::settling;
use crate::workers::upstream::Blocked;

#[derive(Default)]
pub(super) struct State {
    pub(super) ended: Option<Arc<Ended>>,
    /// Its source's name for it.
    job: Option<u64>,
    /// The kernel's name for it, once somebody has waited.
    pub(super) party: Option<TaskId>,
    /// Whom to tell in Python, once somebody has asked.
    pub(super) watched: Option<Py<Task>>,
    /// The name of its task, which nobody holds any more.
    pub(super) unheld: Option<String>,
    /// What keeps the channels in its arguments.
    pub(super) tickets: Vec<thistledown_exchange::Ticket>,
    /// Why the wait for it can never end, until whose wait it is has been told.
    deadlock: Option<String>,
}

/// A task in another process.
pub(crate) struct Remote {
    pub(super) state: Mutex<State>,
    runner: Runs,
    /// What is asked of an actor.
    asked: Option<Asked>,
    /// What it is in Python.
    face: Face,
}

/// Who runs it.
enum Runs {
    Pool(Source),
    /// The process in which an actor lives, by way of the exchange.
    Home(Arc<far::Call>),
}

impl Runs {
    fn is_running(&self, job: u64) -> bool {
        match self {
            Self::Pool(source) => source.is_running(job),
            Self::Home(_) => true,
        }
    }

    fn cancel(&self, job: u64) -> Cancel {
        match self {
            Self::Pool(source) => source.cancel(job),
            Self::Home(call) => call.cancel(),
        }
    }
}

/// Where it runs, for a trail of waits.
pub(crate) enum Way<'a> {
    Pool(&'a Source, u64),
    Home(&'a Arc<far::Call>),
}

/// Something is asked of an actor.
pub(crate) struct Asked {
    /// What people call it.
    pub(crate) actor: Arc<str>,
    pub(crate) verb: Verb,
}

impl Remote {
    pub(crate) fn new(source: Source) -> Arc<Self> {
        Self::run_by(Runs::Pool(source), None)
    }

    /// Something that is asked of an actor.
    pub(crate) fn asked(source: Source, asked: Asked) -> Arc<Self> {
        Self::run_by(Runs::Pool(source), Some(asked))
    }

    /// Something that is asked of an actor in a process that is reached through the exchange.
    pub(crate) fn far(call: Arc<far::Call>) -> Arc<Self> {
        Self::run_by(Runs::Home(call), None)
    }

    fn run_by(runner: Runs, asked: Option<Asked>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), runner, asked, face: Face::default() })
    }

    /// Whether it is counted among the tasks of workers: a call is, and what else is asked of an actor is not, nor what runs
    /// in the process of another actor, where it is counted.
    pub(crate) fn is_counted(&self) -> bool {
        let is_call = self.asked.as_ref().is_none_or(|asked| asked.verb == Verb::Call);
        is_call && matches!(self.runner, Runs::Pool(_))
    }

    /// Whether it only wants to hear of an end.
    pub(crate) fn is_watch(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.verb == Verb::Watch)
    }

    /// What it came to, as Python objects.
    pub(crate) fn unpack(&self, py: Python<'_>, ended: &Ended, name: &str) -> Option<task::Outcome> {
        if let (Runs::Home(call), Ended::HomeGone(why)) = (&self.runner, ended) {
            return Some(task::Outcome::Error(errors::home_gone(py, call.actor(), *why)));
        }
        if let (Runs::Home(call), Ended::Full) = (&self.runner, ended) {
            let full = errors::mailbox_full(py, call.actor());
            return Some(task::Outcome::Error(full.into_value(py).into_any()));
        }
        let Some(asked) = &self.asked else { return ended.unpack(py, name) };
        let made = match ended {
            Ended::Over(_) if asked.verb == Verb::Stop => Ok(task::Outcome::Value(py.None())),
            Ended::Over(gone) => errors::actor_ending(py, &asked.actor, gone).map(task::Outcome::Value),
            Ended::Gone(gone) => errors::actor_gone(py, &asked.actor, gone).map(task::Outcome::Error),
            Ended::Full => {
                Ok(task::Outcome::Error(errors::mailbox_full(py, &asked.actor).into_value(py).into_any()))
            }
            Ended::Died(death) => {
                errors::actor_gone(py, &asked.actor, &Gone::Died(death.clone())).map(task::Outcome::Error)
            }
            other => return other.unpack(py, name),
        };
        Some(made.unwrap_or_else(|error| task::Outcome::Error(error.into_value(py).into_any())))
    }

    /// How it ended, by what was asked.
    pub(super) fn read(&self, outcome: Outcome) -> Ended {
        match (self.asked.as_ref().map(|asked| asked.verb), outcome) {
            (Some(Verb::Watch | Verb::Stop), Outcome::Gone(gone)) => Ended::Over(gone),
            (Some(Verb::Watch | Verb::Stop), Outcome::Died(death)) => Ended::Over(Gone::Died(death)),
            (Some(Verb::Watch | Verb::Stop), Outcome::Refused(refusal)) => {
                Ended::Over(Gone::NoWorkers(refusal))
            }
            (_, outcome) => ended::read(outcome),
        }
    }

    /// What it is in Python from now on; null when that is no more.
    pub(crate) fn set_task(&self, task: *mut ffi::PyObject) {
        self.face.set(task);
    }

    /// What it is in Python.
    pub(crate) fn task(&self, py: Python<'_>) -> Option<Py<Task>> {
        self.face.get(py)
    }

    /// What keeps the channels in its arguments, until it has ended.
    pub(crate) fn keep(&self, tickets: Vec<thistledown_exchange::Ticket>) {
        if !tickets.is_empty() {
            self.state.lock().tickets = tickets;
        }
    }

    /// Its source's name for it.
    pub(crate) fn set_job(&self, job: u64) {
        self.state.lock().job = Some(job);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state.lock().ended.is_some()
    }

    pub(crate) fn ended(&self) -> Option<Arc<Ended>> {
        self.state.lock().ended.clone()
    }

    /// What it came to was read, and is kept elsewhere.
    pub(crate) fn forget_outcome(&self) {
        let mut state = self.state.lock();
        let read = state
            .ended
            .as_ref()
            .map(|ended| Ended::Read { is_error: ended.is_error(), is_cancelled: ended.is_cancelled() });
        let old = state.ended.take();
        state.ended = read.map(Arc::new);
        drop(state);
        drop(old);
    }

    pub(crate) fn is_running(&self) -> bool {
        let state = self.state.lock();
        let job = state.job.filter(|_| state.ended.is_none());
        drop(state);
        job.is_some_and(|job| self.runner.is_running(job))
    }

    /// Whether it has begun, as far as this process knows.
    pub(crate) fn has_begun(&self) -> bool {
        match self.way() {
            Some(Way::Pool(source, job)) => source.has_begun(job),
            _ => true,
        }
    }

    /// Stops it. False: it has ended.
    pub(crate) fn cancel(self: &Arc<Self>, py: Python<'_>) -> bool {
        outside(py, || self.stop())
    }

    /// The same for those who need no interpreter.
    pub(crate) fn stop(self: &Arc<Self>) -> bool {
        let state = self.state.lock();
        let job = state.job.filter(|_| state.ended.is_none());
        drop(state);
        if let Runs::Home(call) = &self.runner
            && job.is_some()
            && call.withdraw()
        {
            let settling = settling();
            Self::settle_all([(Arc::clone(self), Outcome::Cancelled)]);
            drop(settling);
            return true;
        }
        job.is_some_and(|job| self.runner.cancel(job) != Cancel::TooLate)
    }

    /// Makes it a member of a scope. One that has ended does what its end would have done.
    pub(crate) fn join(self: &Arc<Self>, scope: ScopeId) -> Result<(), JoinRefused> {
        let party = self.known_party();
        let stop = Waker::Stop(Stop::Task(Arc::downgrade(self)));
        match party.map(|party| WORLD.with(|kernel| kernel.join(party, scope, stop))) {
            None | Some(Err(JoinRefused::NotElsewhere)) => {
                if self.ended().is_some_and(|ended| ended.is_error()) {
                    WORLD.with(|kernel| kernel.cancel_scope(scope));
                }
                Ok(())
            }
            Some(joined) => joined,
        }
    }

    /// Nobody holds its task any more. False: it has ended.
    pub(crate) fn let_go(&self, name: String) -> bool {
        let mut state = self.state.lock();
        let lives = state.ended.is_none();
        state.unheld = lives.then_some(name);
        lives
    }

    /// The kernel's name for it, for whoever waits for its end.
    pub(crate) fn party(self: &Arc<Self>) -> TaskId {
        // Nobody has the other name: a wait for it is over at once.
        let Some(party) = self.known_party() else { return TaskId::from_number(0) };
        self.is_awaited();
        if let Runs::Home(call) = &self.runner {
            call.note_wait(self);
        }
        party
    }

    /// The same, if anybody has asked before.
    pub(crate) fn party_if_known(&self) -> Option<TaskId> {
        self.state.lock().party
    }

    /// The same as [`Self::party`]; nothing when it has ended.
    fn known_party(&self) -> Option<TaskId> {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return None;
        }
        Some(*state.party.get_or_insert_with(|| WORLD.with(|kernel| kernel.add_elsewhere(None))))
    }

    /// In a worker: whoever waits gives up his place, so that what he waits for finds one.
    pub(crate) fn is_awaited(&self) {
        let job = self.state.lock().job;
        match (&self.runner, job) {
            (Runs::Pool(Source::Above(upstream)), Some(job)) => upstream.is_awaited(job),
            (Runs::Home(call), Some(_)) => call.is_awaited(),
            _ => {}
        }
    }

    /// Python is to be told of its end. False: it has ended.
    pub(crate) fn watch(&self, task: Py<Task>) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        state.watched = Some(task);
        drop(state);
        self.is_awaited();
        true
    }

    /// Who waits for it cannot go on before it has ended; see [`Task::blocks`].
    pub(crate) fn blocks(&self, task: Option<TaskId>) -> Option<Blocked> {
        let job = self.state.lock().job?;
        match &self.runner {
            Runs::Pool(Source::Above(upstream)) => upstream.blocked(job, task),
            Runs::Pool(Source::Own(_)) | Runs::Home(_) => None,
        }
    }

    /// The same, of a wait that was said before.
    pub(crate) fn bound(&self, task: TaskId) -> Option<Blocked> {
        let job = self.state.lock().job?;
        match &self.runner {
            Runs::Pool(Source::Above(upstream)) => upstream.bound(job, task),
            Runs::Pool(Source::Own(_)) | Runs::Home(_) => None,
        }
    }

    /// The wait for it can never end: everybody who waits looks, and whose wait it is, is told.
    pub(crate) fn deadlocked(&self, words: String) {
        self.explain(words);
        self.have_looked();
    }

    /// Why the wait for it can never end. Who waits is not told yet.
    pub(crate) fn explain(&self, words: String) {
        self.state.lock().deadlock = Some(words);
    }

    /// Everybody who waits looks.
    pub(crate) fn have_looked(&self) {
        let party = self.state.lock().party.take();
        party.into_iter().for_each(|party| WORLD.with(|kernel| kernel.finish(party)));
    }

    /// Where it runs, if it was sent there.
    pub(crate) fn way(&self) -> Option<Way<'_>> {
        let job = self.state.lock().job?;
        Some(match &self.runner {
            Runs::Pool(source) => Way::Pool(source, job),
            Runs::Home(call) => Way::Home(call),
        })
    }

    /// Whether it is asked of an actor that is reached through the exchange.
    pub(crate) fn is_far(&self) -> bool {
        matches!(self.runner, Runs::Home(_))
    }

    /// Why the wait for it can never end, for the one whose wait it is. Nothing, if it has ended after all, but for being
    /// taken back.
    pub(crate) fn take_deadlock(&self) -> Option<String> {
        let mut state = self.state.lock();
        let words = state.deadlock.take();
        words.filter(|_| state.ended.as_ref().is_none_or(|ended| ended.is_cancelled()))
    }
}
