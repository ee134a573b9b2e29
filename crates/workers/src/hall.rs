//! The hall: everything that the lock of a pool guards. What happens is told to the policy, and what it decides is done.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thistledown_wire::{Answer, End, Reply, SpawnOptions};

use crate::bell::Bell;
use crate::clock;
use crate::desk::{Desk, Job, Owner};
use crate::engine::{Config, Order};
use crate::function::Functions;
use crate::name::Name;
use crate::outcome::{Cause, Outcome, Refusal};
use crate::parcel::Parcel;
use crate::policy::{
    Action, Cancel, Ending, JobId, JobSpec, JobState, Policy, Statistics, Verdict, WorkerId,
};
use crate::worker::Worker;
use crate::zygote::{Launch, News, Zygote};

/// How often the thread looks while tiny tasks stream.
const STREAM: Duration = Duration::from_millis(1);

/// How often it looks at the memory of tasks that have a limit.
const MEMORY: Duration = Duration::from_millis(20);

/// How often a task is told to stop.
const STOPPING: Duration = Duration::from_millis(50);

/// What is heard of a worker at a time.
const FRAMES: usize = 4096;

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
    /// When the workers were told to leave.
    pub(crate) leaving: Option<Instant>,
    /// The pool's thread, for whoever waits for its end.
    pub(crate) thread: Option<JoinHandle<()>>,
    /// Rung when the thread has something to do; there while it runs.
    bell: Option<Arc<Bell>>,
}

impl<C> Hall<C> {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            policy: Policy::new(config.policy()),
            desk: Desk::default(),
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
            leaving: None,
            thread: None,
            bell: None,
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

    /// The bell to ring, if the thread is to look at once.
    pub(crate) fn take_wish(&mut self) -> Option<Arc<Bell>> {
        let is_late = self.sleeps_until > 0 && self.next_due().is_some_and(|due| due < self.sleeps_until);
        let wakes = std::mem::take(&mut self.wish) || is_late;
        if wakes {
            // Once is enough.
            self.sleeps_until = 0;
        }
        wakes.then(|| self.bell.clone()).flatten()
    }

    /// When the thread has to look again, whoever says something or not.
    pub(crate) fn next_due(&mut self) -> Option<u64> {
        let mut soon: Option<Duration> = None;
        let mut at_most = |pace: Duration| soon = Some(soon.map_or(pace, |soon| soon.min(pace)));
        for worker in self.desk.workers.values() {
            if worker.streams() || worker.has_unsent() {
                at_most(STREAM);
            }
            if worker.hung_up.is_some() {
                at_most(HANG_UP);
            }
        }
        if self.desk.watches_memory() {
            at_most(MEMORY);
        }
        if self.leaving.is_some() {
            at_most(HANG_UP);
        }
        if !self.stopping.is_empty() {
            at_most(STOPPING);
        }
        let soon = soon.map(|soon| clock::now() + u64::try_from(soon.as_nanos()).unwrap_or(u64::MAX));
        [soon, self.policy.next_deadline()].into_iter().flatten().min()
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.policy.statistics()
    }

    pub(crate) fn processes(&self) -> Vec<i32> {
        self.desk.workers.values().filter_map(Worker::pid).collect()
    }

    pub(crate) fn is_running_job(&self, job: JobId) -> bool {
        let Some(JobState::Offered(worker)) = self.policy.state(job) else { return false };
        {
            let running = self.desk.workers.get(worker).and_then(|worker| worker.region.running());
            self.desk.jobs.get(job).is_some_and(|job| job.function.weightless)
                || running.is_some_and(|(running, _)| running == job.number())
        }
    }

    /// Takes a job; `by` is the worker whose task starts it.
    pub(crate) fn submit(
        &mut self,
        spec: JobSpec,
        job: Job<C>,
        by: Option<WorkerId>,
        now: u64,
    ) -> Option<JobId> {
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
                Some(id)
            }
            Err(refused) => {
                let refusal = self.refusal.clone().unwrap_or_else(|| Refusal::Start(refused.to_string()));
                if let Some(job) = incoming {
                    self.desk.conclude(job.owner, Outcome::Refused(refusal));
                }
                None
            }
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
        self.act();
    }

    pub(crate) fn kill(&mut self) {
        (self.closing, self.wish) = (true, true);
        self.desk.workers.values_mut().for_each(|worker| worker.cause = Some(Cause::Killed));
        self.policy.kill_all();
        self.act();
    }

    /// There will be no workers: whatever is here and whatever comes ends with this.
    fn give_up(&mut self, refusal: Refusal, now: u64) {
        self.refusal.get_or_insert(refusal);
        self.policy.broken(&mut self.desk, now);
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
        let weightless = self.desk.jobs.get(job).is_some_and(|job| job.function.weightless);
        let Some(worker) = self.desk.workers.get_mut(id) else { return };
        match weightless {
            true => worker.answer(Answer::Cancel { id: job.number() }, Parcel::empty()),
            false => {
                worker.interrupt(job);
                self.stopping.push((id, job));
            }
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
        };
        self.desk.finish(job, outcome);
    }

    /// Forks the workers that are wanted.
    pub(crate) fn start_workers(&mut self, bell: &Bell, now: u64) {
        for id in std::mem::take(&mut self.starts) {
            let Err(error) = self.start_worker(id, bell) else { continue };
            let launch = self.launch.as_ref().filter(|_| self.zygote.is_none());
            let program = launch.and_then(|launch| launch.command.first());
            let what = program.map_or_else(|| "a worker".to_owned(), |program| program.display().to_string());
            self.failed_start = Refusal::Start(format!("{what} does not start: {error}"));
            self.policy.start_failed(&mut self.desk, id, now);
            self.act();
        }
    }

    fn start_worker(&mut self, id: WorkerId, bell: &Bell) -> io::Result<()> {
        let zygote = match &self.zygote {
            Some(zygote) => zygote,
            None => {
                let launch = self.launch.as_ref().ok_or_else(|| io::Error::other("nothing to launch"))?;
                self.zygote.insert(Zygote::launch(launch)?)
            }
        };
        let (worker, estate) = Worker::new()?;
        zygote.fork(id.number(), &worker.descriptors(&estate, bell))?;
        self.desk.workers.insert(id, worker);
        Ok(())
    }

    /// Hears what the zygote says.
    pub(crate) fn hear_zygote(&mut self, now: u64) {
        while let Some(zygote) = &self.zygote {
            let news = match zygote.hear() {
                Ok(None) => return,
                Ok(Some(news)) => news,
                Err(_) => News::Gone,
            };
            match news {
                News::Born(number, pid, process) => {
                    if let Some(worker) = self.desk.workers.get_mut(WorkerId::from_number(number)) {
                        worker.born(pid, process);
                    }
                }
                News::Unborn(number, words) => {
                    self.failed_start = Refusal::Start(format!("a worker does not start: {words}"));
                    self.bury(WorkerId::from_number(number), None, now);
                }
                News::Died(number, status) => self.bury(WorkerId::from_number(number), Some(status), now),
                News::Broken(words) => self.refuse(&words, now),
                News::Gone => self.zygote_gone(now),
            }
            self.act();
        }
    }

    /// The zygote is gone: a new one makes the next workers. Those that it had finish what they do; how they end then, is
    /// said by nobody.
    fn zygote_gone(&mut self, now: u64) {
        drop(self.zygote.take());
        for worker in self.desk.workers.values_mut() {
            worker.is_orphan = true;
        }
        let gone = |worker: &Worker| worker.pid().is_none() || worker.hung_up.is_some();
        let gone: Vec<WorkerId> =
            self.desk.workers.iter().filter(|(_, worker)| gone(worker)).map(|(id, _)| id).collect();
        gone.into_iter().for_each(|worker| self.bury(worker, None, now));
    }

    /// A worker has ended: first what it said before, then what it left.
    pub(crate) fn bury(&mut self, id: WorkerId, status: Option<i32>, now: u64) {
        if !self.desk.workers.contains_key(id) {
            return;
        }
        self.hear_worker(id, now);
        if let Some(worker) = self.desk.workers.get_mut(id) {
            // Its last words. Whatever has inherited its standard error may go on for ever.
            (0..4).take_while(|_| !worker.read_stderr(&mut self.stderr)).for_each(drop);
            worker.status = status;
            if !worker.is_ready && status.is_some() {
                self.failed_start = Refusal::Stillborn(worker.death());
            }
        }
        self.policy.died(&mut self.desk, id, now);
        self.act();
        for job in self.desk.take_started_by(id) {
            let _ = self.cancel(job, now);
        }
        self.desk.workers.remove(id);
    }

    /// Hears what a worker says. True: it said something.
    pub(crate) fn hear_worker(&mut self, id: WorkerId, now: u64) -> bool {
        let mut heard = false;
        // Somebody who talks as fast as he is listened to has to let the others speak.
        for _ in 0..FRAMES {
            let Some(worker) = self.desk.workers.get_mut(id) else { break };
            let reply = worker.next_reply();
            match reply {
                Ok(None) => break,
                Ok(Some((reply, body))) => {
                    heard = true;
                    if self.heed(id, reply, body, now).is_err() {
                        self.garbled(id);
                        break;
                    }
                }
                Err(_) => {
                    self.garbled(id);
                    break;
                }
            }
        }
        heard
    }

    fn garbled(&mut self, id: WorkerId) {
        if let Some(worker) = self.desk.workers.get_mut(id) {
            worker.cause.get_or_insert(Cause::Garbled);
            worker.kill();
        }
    }

    /// Heeds one reply.
    fn heed(&mut self, id: WorkerId, reply: Reply, body: Vec<u8>, now: u64) -> io::Result<()> {
        match reply {
            Reply::Ready => {
                if let Some(worker) = self.desk.workers.get_mut(id) {
                    worker.is_ready = true;
                }
                self.policy.ready(&mut self.desk, id, now);
            }
            Reply::Failed => self.give_up(Refusal::Initializer(Parcel::new(&body, &[])?), now),
            Reply::Done { id: job, end, retry, nanos, blob } => {
                let parcel = self.parcel(id, job, blob, body)?;
                let job = JobId::from_number(job);
                let verdict = self.policy.replied(&mut self.desk, id, job, nanos, retry, now);
                if let Some(worker) = self.desk.workers.get_mut(id) {
                    worker.forget(job);
                }
                if verdict == Verdict::Final {
                    self.desk.finish(
                        job,
                        match end {
                            End::Value => Outcome::Value(parcel),
                            End::Cancelled => Outcome::Cancelled,
                            _ => Outcome::Error(parcel),
                        },
                    );
                }
            }
            Reply::Spawn { .. } => self.spawn(id, reply, body, now)?,
            Reply::CancelSpawned { reference } => {
                if let Some(job) = self.desk.started_as(id, reference) {
                    let _ = self.cancel(job, now);
                }
            }
            Reply::Waiting => self.policy.waiting(&mut self.desk, id, now),
            Reply::Resumed => self.policy.resumed(&mut self.desk, id, now),
            Reply::Say => self.said.push(body),
            Reply::Blocked { id: job, reference } => self.blocked(id, JobId::from_number(job), reference),
        }
        self.act();
        Ok(())
    }

    /// A job cannot go on before one that it has started has ended; or it goes on after all.
    fn blocked(&mut self, id: WorkerId, job: JobId, reference: u64) {
        let Some(on) = self.desk.started_as(id, reference) else { return self.policy.unblocked(id, job) };
        let Err(deadlock) = self.policy.blocked(id, job, on) else { return };
        let words = self.desk.explain(&deadlock, |job| match self.policy.state(job) {
            Some(JobState::Offered(worker)) => Some(worker),
            _ => None,
        });
        if let Some(worker) = self.desk.workers.get_mut(id) {
            worker.answer(Answer::Deadlock { reference }, Parcel::words(words.as_bytes()));
        }
    }

    fn parcel(&mut self, id: WorkerId, tag: u64, blob: Option<u64>, body: Vec<u8>) -> io::Result<Parcel> {
        match (blob, self.desk.workers.get(id)) {
            (Some(head), Some(worker)) => Ok(match worker.receive_blob(tag)? {
                Some(blob) => Parcel::Blob(blob.into(), head),
                None => Parcel::Lost(rustix::io::Errno::MFILE),
            }),
            _ => Ok(Parcel::Inline(body.into())),
        }
    }

    /// A task in a worker starts one of its own.
    fn spawn(&mut self, id: WorkerId, reply: Reply, body: Vec<u8>, now: u64) -> io::Result<()> {
        let Reply::Spawn {
            reference,
            function_length,
            name_length,
            function_blob,
            weightless,
            options,
            blob,
        } = reply
        else {
            return Ok(());
        };
        let SpawnOptions { timeout_nanos, memory, retries, priority, key } = options.unwrap_or_default();
        let length = function_length as usize;
        let named = length + usize::from(name_length);
        if named > body.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a function or a name is longer than its frame",
            ));
        }
        let function = match function_blob {
            None => self.functions.intern(&body[..length], weightless)?,
            Some(head) => {
                let tag = crate::tag::Tag::Function(reference as u32).number();
                let opened = self.parcel(id, tag, Some(head), Vec::new())?.open()?;
                self.functions.intern(opened.head(), weightless)?
            }
        };
        let call =
            self.parcel(id, crate::tag::Tag::Answer(reference).number(), blob, body[named..].to_vec())?;
        let timeout = timeout_nanos.map(std::time::Duration::from_nanos);
        let name = Name::given(&String::from_utf8_lossy(&body[length..named]));
        let order = Order { name, function, call, priority, key, timeout, memory, retries };
        let spec = order.spec();
        if let Some(job) = self.submit(spec, order.into_job(Owner::Worker(id, reference)), Some(id), now) {
            self.desk.note_started(id, reference, job);
        }
        Ok(())
    }

    /// Tells those again that were told to stop and run on: a signal that comes between two things is heard by neither.
    fn tell_again(&mut self) {
        let Self { desk, stopping, .. } = self;
        stopping.retain(|(worker, job)| {
            let Some(worker) = desk.workers.get_mut(*worker).filter(|_| desk.jobs.contains_key(*job)) else {
                return false;
            };
            if worker.region.running().is_some_and(|(running, _)| running == job.number()) {
                worker.interrupt(*job);
            }
            true
        });
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: u64) {
        self.tell_again();
        self.policy.tick(&mut self.desk, now);
        self.act();
        for (worker, limit) in self.desk.grown() {
            if let Some(worker) = self.desk.workers.get_mut(worker) {
                worker.cause = Some(Cause::Memory(limit));
                worker.kill();
            }
        }
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
