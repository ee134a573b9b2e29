//! The hall: everything that the lock of a pool guards. What happens is told to the policy, and what it decides is done.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thistledown_wire::Answer;

use crate::bell::Bell;
use crate::clock;
use crate::desk::{Desk, Job};
use crate::function::Functions;
use crate::outcome::{Cause, Gone, Outcome, Refusal};
use crate::parcel::Parcel;
use crate::policy::{
    Action, ActorId, Cancel, Ending, JobId, JobSpec, JobState, Policy, Refused, Statistics, WorkerId,
};
use crate::terms::Config;
use crate::view::Spans;
use crate::zygote::{Launch, Zygote};

mod actors;
mod due;
mod kept;
mod lives;
mod obituaries;
mod replies;
mod trail;

pub use trail::LONGEST_TRAIL;

/// A worker whose socket is closed and that has not ended is killed after this.
pub(crate) const HANG_UP: Duration = Duration::from_millis(200);

/// What the lock guards.
pub(crate) struct Hall<C> {
    pub(crate) policy: Policy,
    pub(crate) desk: Desk<C>,
    pub(crate) functions: Functions,
    pub(crate) zygote: Option<Zygote>,
    pub(crate) launch: Option<Launch>,
    pub(crate) said: Vec<Vec<u8>>,
    /// What workers wrote to their standard error, on its way to that of this process.
    pub(crate) stderr: Vec<u8>,
    /// How many threads wait for the pool to be idle or over.
    pub(crate) waiters: usize,
    /// Workers to be forked.
    starts: Vec<WorkerId>,
    /// The thread is to look at once.
    wish: bool,
    /// When it wakes by itself; 0 while it is awake.
    pub(crate) sleeps_until: u64,
    refusal: Option<Refusal>,
    /// Why the last worker was not started.
    failed_start: Refusal,
    actions: Vec<Action>,
    /// Plain tasks that were told to stop: they are told again until they have ended.
    stopping: Vec<(WorkerId, JobId)>,
    closing: bool,
    /// Names of actors that outlive them.
    kept: kept::Kept<C>,
    /// Actors that end with a worker in which they do not live.
    ties: HashMap<WorkerId, Vec<u64>>,
    /// How workers have ended, and who wants to hear of it.
    obituaries: obituaries::Obituaries<C>,
    /// When the workers were told to leave.
    pub(crate) leaving: Option<Instant>,
    /// The pool's thread, for whoever waits for its end.
    pub(crate) thread: Option<JoinHandle<()>>,
    /// Rung when the thread has something to do; there while it runs.
    bell: Option<Arc<Bell>>,
    pub(crate) spans: Spans,
}

impl<C> Hall<C> {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            policy: Policy::new(config.policy()),
            desk: Desk::default(),
            ties: HashMap::new(),
            functions: Functions::default(),
            zygote: None,
            launch: None,
            said: Vec::new(),
            stderr: Vec::new(),
            waiters: 0,
            starts: Vec::new(),
            wish: false,
            sleeps_until: 0,
            refusal: None,
            failed_start: Refusal::Start("no worker could be started".to_owned()),
            actions: Vec::new(),
            stopping: Vec::new(),
            closing: false,
            kept: kept::Kept::default(),
            obituaries: obituaries::Obituaries::default(),
            leaving: None,
            thread: None,
            bell: None,
            spans: Spans::default(),
        }
    }

    /// The thread is about to start.
    pub(crate) fn begin(&mut self, launch: Launch, bell: Arc<Bell>) {
        self.launch = Some(launch);
        self.bell = Some(bell);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(crate) fn is_running(&self) -> bool {
        self.bell.is_some()
    }

    pub(crate) fn has_jobs(&self) -> bool {
        !self.desk.jobs.is_empty()
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.policy.statistics()
    }

    pub(crate) fn processes(&self) -> Vec<i32> {
        self.desk.workers.values().filter_map(|worker| worker.process.pid()).collect()
    }

    pub(crate) fn is_running_job(&self, job: JobId) -> bool {
        let Some(JobState::Offered(worker)) = self.policy.state(job) else { return false };
        let running = self.desk.workers.get(worker).and_then(|worker| worker.region.running());
        // Of a call that waits it is not known whether it has begun.
        self.desk.jobs.get(job).is_some_and(|job| job.function.weightless && job.errand.is_none())
            || running.is_some_and(|(running, _)| running == job.number())
    }

    /// Kills the worker that runs a plain job now. False: it does not run, or shares its worker with others.
    pub(crate) fn kill_running(&mut self, job: JobId) -> bool {
        let Some(JobState::Offered(worker)) = self.policy.state(job) else { return false };
        let Some(worker) = self.desk.workers.get_mut(worker) else { return false };
        let runs = worker.region.running().is_some_and(|(running, _)| running == job.number());
        if runs {
            worker.kill();
        }
        runs
    }

    /// Takes a job; `by` is the worker whose task starts it.
    pub(crate) fn submit(
        &mut self,
        spec: JobSpec,
        job: Job<C>,
        by: Option<WorkerId>,
        now: u64,
    ) -> Option<JobId> {
        match self.try_submit(spec, job, by, now) {
            Ok(id) => Some(id),
            Err((refused, job)) => {
                let refusal = self.refusal.clone().unwrap_or_else(|| Refusal::Start(refused.to_string()));
                self.desk.conclude(job.owner, Outcome::Refused(refusal));
                None
            }
        }
    }

    /// The same; what is not taken comes back.
    fn try_submit(
        &mut self,
        spec: JobSpec,
        job: Job<C>,
        by: Option<WorkerId>,
        now: u64,
    ) -> Result<JobId, (Refused, Job<C>)> {
        self.desk.incoming = Some(job);
        let submitted = match by {
            None => self.policy.submit(&mut self.desk, spec, now),
            Some(worker) => self.policy.submit_nested(&mut self.desk, worker, spec, now),
        };
        let incoming = self.desk.incoming.take();
        match submitted {
            Ok(id) => {
                if let Some(job) = incoming {
                    self.desk.jobs.insert(id, job);
                }
                self.act();
                Ok(id)
            }
            Err(refused) => Err((refused, incoming.expect("what was refused was offered to nobody"))),
        }
    }

    pub(crate) fn cancel(&mut self, job: JobId, now: u64) -> Cancel {
        let answer = self.policy.cancel(&mut self.desk, job, now);
        if answer == Cancel::Removed {
            self.desk.finish(job, Outcome::Cancelled);
        }
        self.act();
        answer
    }

    pub(crate) fn close(&mut self, cancel: bool, now: u64) {
        (self.closing, self.wish) = (true, true);
        self.policy.close(&mut self.desk, now);
        if cancel {
            self.policy.cancel_all(&mut self.desk, now);
        }
        self.release_all();
        self.act();
    }

    pub(crate) fn kill(&mut self) {
        (self.closing, self.wish) = (true, true);
        self.desk.workers.values_mut().for_each(|worker| worker.cause = Some(Cause::Killed));
        self.policy.kill_all();
        self.release_all();
        self.act();
    }

    /// There will be no workers: whatever is here and whatever comes ends with this.
    fn give_up(&mut self, refusal: Refusal, now: u64) {
        self.refusal.get_or_insert(refusal);
        self.policy.broken(&mut self.desk, now);
        self.release_all();
        self.act();
    }

    pub(crate) fn refuse(&mut self, words: &str, now: u64) {
        self.give_up(Refusal::Start(words.to_owned()), now);
    }

    /// In a forked child: nothing of this is here.
    pub(crate) fn desert(&mut self) -> Vec<(C, Outcome)> {
        self.desk.workers.clear();
        self.zygote.take().into_iter().for_each(Zygote::desert);
        self.bell = None;
        self.thread = None;
        let jobs: Vec<JobId> = self.desk.jobs.keys().collect();
        for job in jobs {
            self.desk.finish(job, Outcome::Refused(Refusal::Forked));
        }
        for watcher in self.desk.actors.take_watchers().into_iter().chain(self.take_worker_watchers()) {
            self.desk.conclude(watcher, Outcome::Refused(Refusal::Forked));
        }
        self.release_all();
        self.desk.spent.clear();
        std::mem::take(&mut self.desk.ended)
    }

    /// Does what the policy has decided.
    pub(crate) fn act(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        self.policy.take_actions(&mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Start(worker) => {
                    self.starts.push(worker);
                    self.wish = true;
                }
                Action::Retire(worker) => match self.desk.workers.get_mut(worker) {
                    Some(worker) => worker.tell_to_leave(),
                    None => self.starts.retain(|start| *start != worker),
                },
                Action::Interrupt(worker, job) => self.interrupt(worker, job),
                Action::Kill(worker) => {
                    if let Some(worker) = self.desk.workers.get_mut(worker) {
                        worker.cause.get_or_insert(Cause::Stubborn);
                        worker.kill();
                    }
                }
                Action::End(job, ending) => self.end(job, ending),
                Action::Over(actor, ending) => self.over_actor(actor, ending),
                Action::Discard(worker, actor) => self.discard(worker, actor),
            }
        }
        self.actions = actions;
        for (job, error) in std::mem::take(&mut self.desk.unsent) {
            if self.policy.cancel(&mut self.desk, job, clock::now()) != Cancel::TooLate {
                self.desk.finish(job, Outcome::Unsent(error.raw_os_error()));
            }
        }
    }

    fn interrupt(&mut self, id: WorkerId, job: JobId) {
        let Some(what) = self.desk.jobs.get(job) else { return };
        // Of a call only its worker knows whether it waits, as a weightless task does, or has the thread.
        let (is_call, weightless) = (what.errand.is_some(), what.function.weightless);
        let Some(worker) = self.desk.workers.get_mut(id) else { return };
        if is_call || weightless {
            worker.answer(Answer::Cancel { id: job.number() }, Parcel::empty());
        }
        if is_call || !weightless {
            worker.interrupt(job);
            self.stopping.push((id, job));
        }
    }

    fn end(&mut self, job: JobId, ending: Ending) {
        let refused = || Outcome::Refused(self.refusal.clone().unwrap_or_else(|| self.failed_start.clone()));
        let outcome = match ending {
            Ending::Cancelled => Outcome::Cancelled,
            Ending::TimedOut => {
                let limits = self.desk.jobs.get(job).and_then(|job| job.limits.as_ref());
                Outcome::TimedOut(limits.and_then(|limits| limits.timeout).unwrap_or_default())
            }
            Ending::Died(worker) => match self.desk.workers.get_mut(worker) {
                Some(worker) => Outcome::Died(worker.death()),
                None => refused(),
            },
            Ending::NoWorkers => refused(),
            Ending::Killed => Outcome::Gone(Gone::Killed),
            Ending::Stopped => Outcome::Gone(Gone::Stopped),
            Ending::Closed => Outcome::Gone(Gone::Closed),
            Ending::Unmade => {
                let errand = self.desk.jobs.get(job).and_then(|job| job.errand);
                let actor = errand.map(|errand| ActorId::from_number(errand.actor));
                Outcome::Gone(actor.map_or(Gone::Killed, |actor| self.why_unmade(actor)))
            }
        };
        self.desk.finish(job, outcome);
    }

    /// Nothing is left to be done, and nobody may bring more.
    pub(crate) fn is_over(&self) -> bool {
        self.closing && self.desk.jobs.is_empty()
    }

    /// The thread is about to end.
    pub(crate) fn over(&mut self) {
        self.bell = None;
    }
}
