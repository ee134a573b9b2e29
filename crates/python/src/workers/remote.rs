//! What a task of a worker process is on this side: an outcome that arrives as bytes, in a thread that knows no Python.
//!
//! Whoever asks for the outcome unpacks it. The kernel hears of the task only when somebody waits for its end, and a
//! thread that may call Python only when somebody has asked to be called.

use std::sync::{Arc, LazyLock};

use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_exchange::Broken;
use thistledown_kernel::{JoinRefused, ScopeId, TaskId};
use thistledown_runtime::Lock;
use thistledown_workers::{Cancel, Customer, Death, Gone, Opened, Outcome, Parcel, Refusal, Verb};

use crate::actor::far;
use crate::errors;
use crate::outside::outside;
use crate::payload::{WORLD, Waker};
use crate::stop::{Settling, Stop};
use crate::tally;
use crate::task::{self, Task};
use crate::window;
use crate::workers::ends::{self, Face};
use crate::workers::freight;
use crate::workers::herald;
use crate::workers::pool::Source;
use crate::workers::upstream::Blocked;

/// How it ended, with what is in a blob already mapped, so that no descriptor is held.
#[derive(Debug)]
pub(crate) enum Ended {
    Value(Opened),
    Error(Opened),
    Cancelled,
    TimedOut(std::time::Duration),
    Died(Death),
    Refused(Refusal),
    /// Its actor is no more.
    Gone(Gone),
    /// Its actor has as many calls as it may have.
    Full,
    /// How the actor has ended, for who wanted to know; or that it has, for who wanted just that.
    Over(Gone),
    /// The process in which its actor lived is gone, or has it no more.
    HomeGone(Broken),
    /// It did not get through: the system's number for why.
    Lost(Option<i32>),
    /// It was read, and is kept by its task.
    Read {
        is_error: bool,
        is_cancelled: bool,
    },
}

#[derive(Default)]
struct State {
    ended: Option<Arc<Ended>>,
    /// Its source's name for it.
    job: Option<u64>,
    /// The kernel's name for it, once somebody has waited.
    party: Option<TaskId>,
    /// Whom to tell in Python, once somebody has asked.
    watched: Option<Py<Task>>,
    /// The name of its task, which nobody holds any more.
    unheld: Option<String>,
    /// What keeps the channels in its arguments.
    tickets: Vec<thistledown_exchange::Ticket>,
    /// Why the wait for it can never end, until whose wait it is has been told.
    deadlock: Option<String>,
}

/// Who is to be told of an end.
#[derive(Default)]
struct Told {
    /// The kernel; with whether it failed.
    party: Option<(TaskId, bool)>,
    watched: Option<Py<Task>>,
    /// It failed, and nobody holds its task.
    lost: Option<(String, Arc<Ended>)>,
    /// It failed, and somebody holds its task, who may ask.
    failed_held: bool,
}

/// Held while tasks are ended, so that no fork finds one half ended.
static SETTLING: LazyLock<Lock<()>> = LazyLock::new(|| Lock::new(()));

/// Held by whoever ends tasks.
pub(crate) fn settling() -> Settling {
    Settling::new(SETTLING.lock())
}

/// Waits until nobody ends tasks, and lets nobody do it.
pub(crate) fn lock_for_fork() {
    std::mem::forget(SETTLING.lock());
}

/// Ends what [`lock_for_fork`] has begun, in the parent and in the child.
///
/// # Safety
/// Only after [`lock_for_fork`] in this thread, and once in each process.
#[allow(unsafe_code, reason = "the guard cannot live across a fork, so the lock is released by hand")]
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: the caller holds the lock, by the contract above.
    unsafe { SETTLING.force_unlock() };
}

/// A task in another process.
pub(crate) struct Remote {
    state: Mutex<State>,
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
    fn read(&self, outcome: Outcome) -> Ended {
        match (self.asked.as_ref().map(|asked| asked.verb), outcome) {
            (Some(Verb::Watch | Verb::Stop), Outcome::Gone(gone)) => Ended::Over(gone),
            (Some(Verb::Watch | Verb::Stop), Outcome::Died(death)) => Ended::Over(Gone::Died(death)),
            (Some(Verb::Watch | Verb::Stop), Outcome::Refused(refusal)) => {
                Ended::Over(Gone::NoWorkers(refusal))
            }
            (_, outcome) => read(outcome),
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

    pub(crate) fn take_deadlock(&self) -> Option<String> {
        self.state.lock().deadlock.take()
    }

    /// Ends it. Gives whom to tell. It is counted before anybody can see that it has ended.
    fn end(&self, ended: Ended) -> Told {
        let ended = Arc::new(ended);
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Told::default();
        }
        if self.is_counted() {
            tally::WORKERS.end(1, ended.is_error().into(), ended.is_cancelled().into());
        }
        state.ended = Some(Arc::clone(&ended));
        let unheld = state.unheld.take();
        let tickets = std::mem::take(&mut state.tickets);
        let told = Told {
            party: state.party.take().map(|party| (party, ended.is_error())),
            watched: state.watched.take(),
            failed_held: ended.is_loss() && unheld.is_none(),
            lost: unheld.filter(|_| ended.is_loss()).map(|name| (name, ended)),
        };
        drop(state);
        drop(tickets);
        told
    }

    /// Ends many. Needs no interpreter. Who calls this holds [`settling`].
    pub(crate) fn settle_all(ended: impl IntoIterator<Item = (Arc<Self>, Outcome)>) {
        Self::end_all(ended.into_iter().map(|(remote, outcome)| {
            let ended = remote.read(outcome);
            (remote, ended)
        }));
    }

    /// Ends one of an actor whose process is gone. Who calls this holds [`settling`].
    pub(crate) fn settle_without_home(remote: Arc<Self>, why: Broken) {
        Self::end_all([(remote, Ended::HomeGone(why))]);
    }

    fn end_all(ended: impl IntoIterator<Item = (Arc<Self>, Ended)>) {
        let mut parties = Vec::new();
        let (mut watched, mut lost, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (remote, ended) in ended {
            let told = remote.end(ended);
            parties.extend(told.party);
            watched.extend(told.watched);
            lost.extend(told.lost.map(|(name, ended)| (name, ended, Some(Arc::clone(&remote)))));
            failed.extend(told.failed_held.then(|| Arc::downgrade(&remote)));
        }
        if !failed.is_empty() {
            ends::note(failed);
        }
        if !parties.is_empty() {
            WORLD.with(|kernel| {
                for (party, is_error) in parties {
                    if is_error { kernel.fail(party) } else { kernel.finish(party) }
                }
            });
        }
        if !watched.is_empty() {
            herald::tell(watched);
        }
        if !lost.is_empty() {
            herald::mourn(lost);
        }
    }
}

fn read(outcome: Outcome) -> Ended {
    let open = |parcel: Parcel, make: fn(Opened) -> Ended| match parcel.open() {
        Ok(opened) => make(opened),
        Err(error) => Ended::Lost(error.raw_os_error()),
    };
    match outcome {
        Outcome::Value(parcel) => open(parcel, Ended::Value),
        Outcome::Error(parcel) => open(parcel, Ended::Error),
        Outcome::Cancelled => Ended::Cancelled,
        Outcome::TimedOut(after) => Ended::TimedOut(after),
        Outcome::Unsent(number) => Ended::Lost(number),
        Outcome::Died(death) => Ended::Died(death),
        Outcome::Refused(refusal) => Ended::Refused(refusal),
        Outcome::Gone(gone) => Ended::Gone(gone),
        Outcome::Full => Ended::Full,
    }
}

/// A customer of a pool of this process.
pub(crate) struct Ticket(pub(crate) Arc<Remote>);

impl Customer for Ticket {
    type Settling = Settling;

    fn settling() -> Self::Settling {
        settling()
    }

    fn settle(ended: Vec<(Self, Outcome)>) {
        Remote::settle_all(ended.into_iter().map(|(ticket, outcome)| (ticket.0, outcome)));
    }

    fn orphaned(failed: Vec<(Option<i32>, Outcome)>) {
        let of = |process: Option<i32>| match process {
            Some(process) => format!("of a worker that has died (process {process})"),
            None => "of a worker that has died".to_owned(),
        };
        herald::mourn(
            failed
                .into_iter()
                .map(|(process, outcome)| (of(process), Arc::new(read(outcome)), None))
                .collect(),
        );
    }

    fn hear(said: Vec<Vec<u8>>) {
        herald::pass_on(said);
    }

    fn opened() {
        herald::pool_opened();
        window::user_comes();
    }

    fn closed() {
        herald::pool_closed();
        window::user_goes();
    }
}

impl Ended {
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Read { is_cancelled: true, .. })
    }

    pub(crate) fn is_error(&self) -> bool {
        match self {
            Self::Cancelled | Self::Value(_) | Self::Over(_) => false,
            Self::Read { is_error, .. } => *is_error,
            _ => true,
        }
    }

    /// Whether whoever started it should hear of it, though nobody asks. What goes on in the process that this one was forked
    /// from is told there.
    pub(crate) fn is_loss(&self) -> bool {
        self.is_error() && !matches!(self, Self::Refused(Refusal::Forked))
    }

    /// What it came to, as Python objects.
    pub(crate) fn unpack(&self, py: Python<'_>, name: &str) -> Option<task::Outcome> {
        let unpacked = match self {
            Self::Read { .. } => return None,
            // Of these, and how to say them, knows who has asked.
            Self::Gone(gone) | Self::Over(gone) => errors::actor_gone(py, name, gone),
            Self::Full => Ok(errors::mailbox_full(py, name).into_value(py).into_any()),
            Self::HomeGone(why) => Ok(errors::home_gone(py, name, *why)),
            Self::Value(opened) => match freight::unpack_value(py, opened) {
                Ok(value) => return Some(task::Outcome::Value(value.unbind())),
                Err(error) => Err(error),
            },
            Self::Cancelled => return Some(task::Outcome::Cancelled),
            Self::Error(opened) => errors::from_worker(py, opened.head()),
            Self::TimedOut(after) => Ok(errors::timed_out(py, name, after.as_secs_f64())),
            Self::Died(death) => errors::worker_died(py, name, death),
            Self::Refused(refusal) => errors::refused(py, name, refusal),
            Self::Lost(number) => {
                let why = number
                    .map_or_else(String::new, |number| std::io::Error::from_raw_os_error(number).to_string());
                let words = format!("task {name} or its result did not get through: {why}");
                Err(PyOSError::new_err((*number, words)))
            }
        };
        let error = unpacked.unwrap_or_else(|error| error.into_value(py).into_any());
        Some(task::Outcome::Error(error))
    }
}
