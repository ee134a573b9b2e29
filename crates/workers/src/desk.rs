//! The desk: what the policy decides about, as it really is. The policy's `Floor`, made of workers and jobs.

use std::collections::HashMap;
use std::io;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset, WouldBlock};
use std::sync::Arc;

use slotmap::SecondaryMap;
use smallvec::SmallVec;
use thistledown_wire::{Answer, End, Errand, Verb};

use crate::actors::Actors;
use crate::bell::Bell;
use crate::function::Function;
use crate::name::Name;
use crate::outcome::{Gone, Outcome};
use crate::parcel::Parcel;
use crate::policy::{Deadlock, Floor, JobId, WorkerId};
use crate::worker::Worker;

/// Jobs of a cycle that are named.
const LISTED: usize = 20;

/// Who is told of a job's end.
#[derive(Debug)]
pub(crate) enum Owner<C> {
    /// A customer of this process.
    Customer(C),
    /// A task in a worker, which knows it by this number.
    Worker(WorkerId, u64),
    /// A task whose worker has died, with this process id: nobody asks any more, and only a failure is told.
    Nobody(Option<i32>),
}

/// A job: what is to be done.
#[derive(Debug)]
pub(crate) struct Job<C> {
    pub(crate) owner: Owner<C>,
    pub(crate) name: Name,
    pub(crate) function: Arc<Function>,
    pub(crate) call: Parcel,
    /// What is asked of which actor, by the policy's name.
    pub(crate) errand: Option<Errand>,
    pub(crate) limits: Option<Box<Limits>>,
}

/// What few jobs have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) timeout: Option<std::time::Duration>,
    pub(crate) memory: Option<u64>,
    /// The memory is that of an actor, as long as it lives.
    pub(crate) is_for_life: bool,
}

/// A worker whose memory is looked at: what it had when its task began, and how much more it may have.
#[derive(Debug)]
struct MemoryWatch {
    worker: WorkerId,
    /// None: for as long as the worker lives.
    job: Option<JobId>,
    before: u64,
    limit: u64,
}

/// Jobs and workers.
pub(crate) struct Desk<C> {
    pub(crate) jobs: SecondaryMap<JobId, Job<C>>,
    pub(crate) workers: SecondaryMap<WorkerId, Worker>,
    pub(crate) actors: Actors<C>,
    /// The jobs that tasks of workers have started, by what these call them.
    started: HashMap<WorkerId, HashMap<u64, JobId>>,
    /// The job that is being submitted: it may be offered before its name has come back.
    pub(crate) incoming: Option<Job<C>>,
    watches: Vec<MemoryWatch>,
    /// Workers that were given something since they were last rung for.
    touched: SmallVec<[WorkerId; 8]>,
    /// Jobs that cannot be offered, and why: there is no memory for a blob.
    pub(crate) unsent: Vec<(JobId, io::Error)>,
    /// What came of the jobs of customers.
    pub(crate) ended: Vec<(C, Outcome)>,
    /// Jobs that have failed, and that nobody asks for: the process that had started each, and how it ended.
    pub(crate) orphaned: Vec<(Option<i32>, Outcome)>,
    /// What jobs have returned that nobody will read.
    pub(crate) unread: Vec<Parcel>,
    /// Calls of jobs that are over, with blobs. Giving back their memory takes long, so that is done last, without the lock.
    pub(crate) spent: Vec<Parcel>,
}

impl<C> Default for Desk<C> {
    fn default() -> Self {
        Self {
            jobs: SecondaryMap::new(),
            workers: SecondaryMap::new(),
            actors: Actors::default(),
            started: HashMap::new(),
            incoming: None,
            watches: Vec::new(),
            touched: SmallVec::new(),
            unsent: Vec::new(),
            ended: Vec::new(),
            orphaned: Vec::new(),
            unread: Vec::new(),
            spent: Vec::new(),
        }
    }
}

impl<C> Floor for Desk<C> {
    fn offer(&mut self, worker: WorkerId, job: JobId) -> bool {
        if !self.jobs.contains_key(job)
            && let Some(incoming) = self.incoming.take()
        {
            self.jobs.insert(job, incoming);
        }
        let (Some(at), Some(what)) = (self.workers.get_mut(worker), self.jobs.get(job)) else { return false };
        let offered = match at.offer(job, &what.function, &what.call, what.errand) {
            Ok(()) => true,
            // There will be room later; or it is dead, and will be buried.
            Err(error) if matches!(error.kind(), WouldBlock | BrokenPipe | ConnectionReset) => false,
            // No memory or no descriptor for a blob: this one cannot be sent, and nobody has to stand behind it.
            Err(error) => {
                self.unsent.push((job, error));
                false
            }
        };
        if offered {
            if !self.touched.contains(&worker) {
                self.touched.push(worker);
            }
            if let Some(limits) = &what.limits
                && let Some(limit) = limits.memory
            {
                let before = at.process.memory().unwrap_or(0);
                let job = (!limits.is_for_life).then_some(job);
                self.watches.push(MemoryWatch { worker, job, before, limit });
            }
        }
        offered
    }

    fn take_back(&mut self, worker: WorkerId, job: JobId) -> bool {
        let has_blob = self.jobs.get(job).is_some_and(|job| job.call.needs_blob());
        let taken = self.workers.get_mut(worker).is_some_and(|worker| worker.take_back(job, has_blob));
        if taken {
            self.watches.retain(|watch| watch.job != Some(job));
        }
        taken
    }

    fn busy_since(&self, worker: WorkerId) -> Option<u64> {
        self.workers.get(worker)?.region.running().map(|(_, since)| since)
    }
}

impl<C> Desk<C> {
    /// The job is over: whoever owns it is told.
    pub(crate) fn finish(&mut self, job: JobId, outcome: Outcome) {
        self.watches.retain(|watch| watch.job != Some(job));
        let Some(job) = self.jobs.remove(job) else { return };
        if let Owner::Worker(worker, reference) = job.owner
            && let Some(started) = self.started.get_mut(&worker)
        {
            started.remove(&reference);
        }
        if job.call.needs_blob() {
            self.spent.push(job.call);
        }
        self.conclude(job.owner, outcome);
    }

    /// Nobody is told how a job has ended.
    pub(crate) fn drop_unread(&mut self, outcome: Outcome) {
        if let Outcome::Value(value) = outcome {
            self.unread.push(value);
        }
    }

    /// Tells an owner what came of its job.
    pub(crate) fn conclude(&mut self, owner: Owner<C>, outcome: Outcome) {
        match owner {
            Owner::Customer(customer) => self.ended.push((customer, outcome)),
            Owner::Nobody(_) if matches!(outcome, Outcome::Value(_) | Outcome::Cancelled) => {
                self.drop_unread(outcome)
            }
            Owner::Nobody(process) => self.orphaned.push((process, outcome)),
            Owner::Worker(worker, reference) => {
                let Some(worker) = self.workers.get_mut(worker) else { return self.drop_unread(outcome) };
                let (end, parcel) = match outcome {
                    Outcome::Value(parcel) => (End::Value, parcel),
                    Outcome::Error(parcel) => (End::Error, parcel),
                    Outcome::Cancelled => (End::Cancelled, Parcel::empty()),
                    Outcome::TimedOut(after) => {
                        (End::TimedOut, Parcel::words(&after.as_nanos().to_le_bytes()))
                    }
                    Outcome::Unsent(_) => {
                        (End::Refused, Parcel::words(b"there was no memory or no descriptor to send it"))
                    }
                    Outcome::Died(death) => (End::Died, Parcel::words(&death.encode())),
                    Outcome::Refused(refusal) => (End::Refused, Parcel::words(refusal.words().as_bytes())),
                    Outcome::Full => (End::Full, Parcel::empty()),
                    Outcome::Gone(gone) => match gone {
                        Gone::Stopped => (End::Stopped, Parcel::empty()),
                        Gone::Closed => (End::Closed, Parcel::empty()),
                        Gone::Killed => (End::Killed, Parcel::empty()),
                        Gone::Unmade(error) => (End::Unmade, error),
                        Gone::Died(death) => (End::Died, Parcel::words(&death.encode())),
                        Gone::NoWorkers(refusal) => (End::Refused, Parcel::words(refusal.words().as_bytes())),
                        Gone::Unknown => (End::Unknown, Parcel::empty()),
                    },
                };
                let blob = parcel.head_in_blob();
                worker.answer(Answer::Ended { reference, end, blob }, parcel);
            }
        }
    }

    /// The bells of the workers that were given something and sleep.
    pub(crate) fn take_rings(&mut self) -> SmallVec<[Arc<Bell>; 8]> {
        let touched = std::mem::take(&mut self.touched);
        let rings = touched.into_iter().filter_map(|worker| {
            let worker = self.workers.get_mut(worker)?;
            worker.stream();
            worker.wants_ring()
        });
        rings.collect()
    }

    /// The workers whose task has grown beyond its limit.
    pub(crate) fn grown(&self) -> Vec<(WorkerId, u64)> {
        let grown = self.watches.iter().filter(|watch| {
            let now = self.workers.get(watch.worker).and_then(|worker| worker.process.memory());
            now.is_some_and(|now| now.saturating_sub(watch.before) > watch.limit)
        });
        grown.map(|watch| (watch.worker, watch.limit)).collect()
    }

    /// Whether the memory of a worker is to be looked at.
    pub(crate) fn watches_memory(&self) -> bool {
        !self.watches.is_empty()
    }

    /// A worker's task has started a job, and calls it so.
    pub(crate) fn note_started(&mut self, worker: WorkerId, reference: u64, job: JobId) {
        if self.jobs.contains_key(job) {
            self.started.entry(worker).or_default().insert(reference, job);
        }
    }

    /// The job that a worker's task has started and calls so.
    pub(crate) fn started_as(&self, worker: WorkerId, reference: u64) -> Option<JobId> {
        self.started.get(&worker)?.get(&reference).copied()
    }

    /// Who waits for whom, in words, when that can never end. `place`: the worker that a job has begun in.
    pub(crate) fn explain(&self, deadlock: &Deadlock, place: impl Fn(JobId) -> Option<WorkerId>) -> String {
        let name = |job: JobId| self.called(job);
        let cycle = match deadlock {
            Deadlock::NoWorkerLeft(job) => {
                return format!(
                    "{} can never begin: the pool has as many worker processes as it may have, {}, and each runs a task \
                     that waits",
                    name(*job),
                    self.workers.len()
                );
            }
            Deadlock::Cycle(cycle) => cycle,
        };
        let next = cycle.iter().skip(1).chain(cycle.first());
        let lines = cycle.iter().zip(next).take(LISTED).map(|(&job, &next)| self.line(job, next, place(job)));
        let lines: Vec<String> = lines.collect();
        let more = cycle.len().saturating_sub(LISTED);
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        let [first, second] = [0, 1].map(|place| cycle.get(place).copied().map_or_else(String::new, name));
        format!("{first} would wait for {second}, which waits for it in turn:\n{}{more}", lines.join("\n"))
    }

    /// That a job waits for another, in words. `place`: the worker that it has begun in.
    pub(crate) fn line(&self, job: JobId, on: JobId, place: Option<WorkerId>) -> String {
        let errand = |job| self.jobs.get(job)?.errand;
        let actor = |job| errand(job).map(|errand| errand.actor);
        let is_task = errand(on).is_none_or(|errand| errand.verb == Verb::Call);
        let (who, next) = (self.who(job, place), self.called(on));
        match place {
            None if actor(job).is_none() => format!("  {who} stands behind {next}, which has the same key"),
            None if actor(job) == actor(on) => format!("  {who} stands behind {next}, in its actor"),
            _ if is_task => format!("  {who} waits for the end of task {next}"),
            _ => format!("  {who} waits for {next}"),
        }
    }

    /// What people call a job, and the worker that it has begun in.
    pub(crate) fn who(&self, job: JobId, place: Option<WorkerId>) -> String {
        let pid = place.and_then(|worker| self.workers.get(worker)?.process.pid());
        let place = pid.map_or_else(String::new, |pid| format!(", in worker {pid},"));
        format!("{}{place}", self.called(job))
    }

    fn called(&self, job: JobId) -> String {
        self.jobs.get(job).map_or_else(|| "a task".into(), |job| job.name.to_string())
    }

    /// A worker is gone, and with it what it held.
    pub(crate) fn remove_worker(&mut self, worker: WorkerId) {
        self.workers.remove(worker);
        self.watches.retain(|watch| watch.worker != worker);
        self.actors.forget_watches_of(worker);
    }

    /// A worker is gone: what its tasks have started goes on, for nobody.
    pub(crate) fn orphan_started_by(&mut self, worker: WorkerId) {
        let process = self.workers.get(worker).and_then(|worker| worker.process.pid());
        for job in self.started.remove(&worker).unwrap_or_default().into_values() {
            if let Some(job) = self.jobs.get_mut(job) {
                job.owner = Owner::Nobody(process);
            }
        }
    }
}
