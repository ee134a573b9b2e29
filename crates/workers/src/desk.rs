//! The desk: what the policy decides about, as it really is. The policy's `Floor`, made of workers and jobs.

use std::collections::HashMap;
use std::io;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset, WouldBlock};
use std::sync::Arc;

use slotmap::SecondaryMap;
use smallvec::SmallVec;
use thistledown_wire::{Answer, End};

use crate::bell::Bell;
use crate::function::Function;
use crate::outcome::Outcome;
use crate::parcel::Parcel;
use crate::policy::{Floor, JobId, WorkerId};
use crate::worker::Worker;

/// Who is told of a job's end.
#[derive(Debug)]
pub(crate) enum Owner<C> {
    /// A customer of this process.
    Customer(C),
    /// A task in a worker, which knows it by this number.
    Worker(WorkerId, u64),
}

/// A job: what is to be done.
#[derive(Debug)]
pub(crate) struct Job<C> {
    pub(crate) owner: Owner<C>,
    pub(crate) function: Arc<Function>,
    pub(crate) call: Parcel,
    pub(crate) limits: Option<Box<Limits>>,
}

/// What few jobs have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) timeout: Option<std::time::Duration>,
    pub(crate) memory: Option<u64>,
}

/// A worker whose memory is looked at: what it had when its task began, and how much more it may have.
#[derive(Debug)]
struct MemoryWatch {
    worker: WorkerId,
    job: JobId,
    before: u64,
    limit: u64,
}

/// Jobs and workers.
pub(crate) struct Desk<C> {
    pub(crate) jobs: SecondaryMap<JobId, Job<C>>,
    pub(crate) workers: SecondaryMap<WorkerId, Worker>,
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
    /// Calls of jobs that are over, with blobs. Giving back their memory takes long, so that is done last, without the lock.
    pub(crate) spent: Vec<Parcel>,
}

impl<C> Default for Desk<C> {
    fn default() -> Self {
        Self {
            jobs: SecondaryMap::new(),
            workers: SecondaryMap::new(),
            started: HashMap::new(),
            incoming: None,
            watches: Vec::new(),
            touched: SmallVec::new(),
            unsent: Vec::new(),
            ended: Vec::new(),
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
        let offered = match at.offer(job, &what.function, &what.call) {
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
            if let Some(limit) = what.limits.as_ref().and_then(|limits| limits.memory) {
                let before = at.process.memory().unwrap_or(0);
                self.watches.push(MemoryWatch { worker, job, before, limit });
            }
        }
        offered
    }

    fn take_back(&mut self, worker: WorkerId, job: JobId) -> bool {
        let has_blob = self.jobs.get(job).is_some_and(|job| job.call.needs_blob());
        let taken = self.workers.get_mut(worker).is_some_and(|worker| worker.take_back(job, has_blob));
        if taken {
            self.watches.retain(|watch| watch.job != job);
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
        self.watches.retain(|watch| watch.job != job);
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

    /// Tells an owner what came of its job.
    pub(crate) fn conclude(&mut self, owner: Owner<C>, outcome: Outcome) {
        match owner {
            Owner::Customer(customer) => self.ended.push((customer, outcome)),
            Owner::Worker(worker, reference) => {
                let Some(worker) = self.workers.get_mut(worker) else { return };
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

    /// The jobs that tasks of a worker have started, which is gone.
    pub(crate) fn take_started_by(&mut self, worker: WorkerId) -> Vec<JobId> {
        self.started.remove(&worker).unwrap_or_default().into_values().collect()
    }
}
