//! The state as a whole, and the life of a job: submitted, replied, gone.

use std::collections::VecDeque;

use slotmap::SlotMap;

use super::actors::Actor;
use super::deadlines::{Deadlines, Due};
use super::ids::{ActorId, JobId, WorkerId};
use super::job::{Job, JobSpec, State};
use super::keys::Keys;
use super::line::Entry;
use super::prefetch::Pace;
use super::queue::Queue;
use super::terms::{Action, Config, Ending, Floor, JobState, NEVER, Nanos, Refused, Statistics, Verdict};
use super::worker::{Phase, Worker};

/// Whether new jobs are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    /// Only nested jobs of those that are here.
    Closed,
    Broken,
}

/// The policy. See the [module's page](super).
#[derive(Debug)]
pub struct Policy {
    pub(super) config: Config,
    pub(super) door: Door,
    pub(super) jobs: SlotMap<JobId, Job>,
    pub(super) workers: SlotMap<WorkerId, Worker>,
    pub(super) actors: SlotMap<ActorId, Actor>,
    /// How many of the workers have actors.
    pub(super) hosts: usize,
    /// Actors that have no worker yet.
    pub(super) homeless: VecDeque<ActorId>,
    /// Workers whose only actor has ended.
    pub(super) needless: Vec<WorkerId>,
    /// Actors of which a call has gone, so that there is room for another.
    pub(super) needy: Vec<ActorId>,
    pub(super) plain: Queue,
    pub(super) weightless: Queue,
    pub(super) keys: Keys,
    /// Ready, not waiting, not killed, without jobs. Who got its last job done last is at the end.
    pub(super) idle: Vec<WorkerId>,
    /// How many workers are ready and do not wait.
    pub(super) active: usize,
    pub(super) starting: usize,
    /// How many jobs are with workers besides each worker's first.
    pub(super) behind: usize,
    /// No plain job that is offered and not known to have begun has a lower priority.
    pub(super) lowest_offered: i32,
    pub(super) pace: Pace,
    pub(super) deadlines: Deadlines,
    /// A worker with nothing had no room: when to offer again.
    pub(super) offer_at: Nanos,
    /// Starts have failed: when to try again. Zero when none has.
    pub(super) start_at: Nanos,
    /// There are workers too many: when to retire them.
    pub(super) spare_at: Nanos,
    /// Failed starts in a row.
    pub(super) failures: u32,
    /// After how many of them the jobs go.
    pub(super) patience: u32,
    pub(super) actions: Vec<Action>,
    pub(super) counted: Statistics,
}

impl Policy {
    /// A policy without workers and jobs. Limits of zero are taken for one.
    #[must_use]
    pub fn new(mut config: Config) -> Self {
        config.size = config.size.max(1);
        config.max_workers = config.max_workers.max(1);
        config.concurrency = config.concurrency.max(1);
        config.max_tasks_per_child = config.max_tasks_per_child.map(|lifetime| lifetime.max(1));
        Self {
            config,
            door: Door::Open,
            jobs: SlotMap::with_key(),
            workers: SlotMap::with_key(),
            actors: SlotMap::with_key(),
            hosts: 0,
            homeless: VecDeque::new(),
            needless: Vec::new(),
            needy: Vec::new(),
            plain: Queue::default(),
            weightless: Queue::default(),
            keys: Keys::default(),
            idle: Vec::new(),
            active: 0,
            starting: 0,
            behind: 0,
            lowest_offered: i32::MAX,
            pace: Pace::new(config.prefetch_budget),
            deadlines: Deadlines::default(),
            offer_at: NEVER,
            start_at: 0,
            spare_at: NEVER,
            failures: 0,
            patience: super::crew::MAX_FAILED_STARTS,
            actions: Vec::new(),
            counted: Statistics::default(),
        }
    }

    /// A new job.
    ///
    /// # Errors
    /// When no more jobs are taken.
    pub fn submit(&mut self, floor: &mut impl Floor, spec: JobSpec, now: Nanos) -> Result<JobId, Refused> {
        match self.door {
            Door::Open => self.admit(floor, spec, 0, now),
            Door::Closed => Err(Refused::Closed),
            Door::Broken => Err(Refused::Broken),
        }
    }

    /// A new job, by a job that is with this worker. It goes before those that nobody waits for; otherwise the place of a
    /// job that waits would go to the next one that will. And it is taken after `close`, too: what was accepted before may
    /// need it to come to its end.
    ///
    /// # Errors
    /// When no more jobs are taken.
    pub fn submit_nested(
        &mut self,
        floor: &mut impl Floor,
        worker: WorkerId,
        spec: JobSpec,
        now: Nanos,
    ) -> Result<JobId, Refused> {
        let Some(depth) = self.depth_below(worker) else {
            return self.submit(floor, spec, now);
        };
        match self.door {
            Door::Open | Door::Closed => self.admit(floor, spec, depth, now),
            Door::Broken => Err(Refused::Broken),
        }
    }

    /// How deep a job stands that one of this worker starts.
    pub(super) fn depth_below(&self, worker: WorkerId) -> Option<u16> {
        let jobs = self.workers.get(worker).into_iter().flat_map(|worker| &worker.jobs);
        let parents = jobs.filter_map(|job| self.jobs.get(*job));
        parents.map(|parent| parent.depth.saturating_add(1)).max()
    }

    fn admit(
        &mut self,
        floor: &mut impl Floor,
        spec: JobSpec,
        depth: u16,
        now: Nanos,
    ) -> Result<JobId, Refused> {
        if let Some(actor) = spec.actor {
            return self.admit_call(floor, actor, spec, depth, now);
        }
        let sequence = self.counted.submitted;
        self.counted.submitted += 1;
        let id = self.jobs.insert(Job::new(spec, sequence, depth));
        if spec.key.is_none_or(|key| self.keys.join(key, Entry { sequence, job: id })) {
            self.enqueue(id);
            if self.is_first(id) {
                self.dispatch(floor, None, now);
            } else {
                self.start_more(now);
            }
        }
        Ok(id)
    }

    /// Puts a job in the queue of its kind, at its place.
    pub(super) fn enqueue(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.state = State::Queued;
        job.begun = false;
        job.blocked_on = None;
        if let Some(actor) = job.spec.actor {
            let entry = Entry { sequence: job.sequence, job: id };
            return self.enlist_call(actor, entry);
        }
        let entry = Entry { sequence: job.rank(), job: id };
        let queue = if job.spec.weightless { &mut self.weightless } else { &mut self.plain };
        queue.insert(job.spec.priority, entry);
    }

    fn is_first(&mut self, id: JobId) -> bool {
        let weightless = self.jobs.get(id).is_some_and(|job| job.spec.weightless);
        let queue = if weightless { &mut self.weightless } else { &mut self.plain };
        queue.first(|job| self.jobs.contains_key(job)).is_some_and(|(_, first)| first == id)
    }

    /// A job's reply has come from its worker; it took so many nanoseconds. `retry`: it asks to be tried again.
    pub fn replied(
        &mut self,
        floor: &mut impl Floor,
        worker: WorkerId,
        id: JobId,
        took: Nanos,
        retry: bool,
        now: Nanos,
    ) -> Verdict {
        if !self.detach(worker, id) {
            return Verdict::Stray;
        }
        let Some(job) = self.jobs.get_mut(id) else { return Verdict::Stray };
        let (spec, stop) = (job.spec, job.stop);
        let again = retry
            && spec.actor.is_none()
            && stop.is_none()
            && job.retries_left > 0
            && self.door != Door::Broken;
        self.counted.replied += 1;
        self.forget_failures();
        if !spec.weightless && spec.actor.is_none() {
            self.pace.learn(took);
        }
        if again {
            self.try_again(id);
        } else {
            self.remove(id);
        }
        self.after_reply(worker, now);
        let verdict = match stop.map(super::job::Stop::ending) {
            Some(ending) => {
                self.actions.push(Action::End(id, ending));
                Verdict::Overruled(ending)
            }
            None if again => Verdict::Again,
            None => Verdict::Final,
        };
        match spec.actor {
            Some(_) => self.after_call(floor, worker, now),
            None => self.dispatch(floor, Some(worker), now),
        }
        verdict
    }

    /// Takes a job off its worker's list. False: it is not there.
    fn detach(&mut self, worker: WorkerId, id: JobId) -> bool {
        let Some(worker) = self.workers.get_mut(worker) else { return false };
        if worker.jobs.front() == Some(&id) {
            worker.jobs.pop_front();
        } else if let Some(place) = worker.jobs.iter().position(|&job| job == id) {
            worker.jobs.remove(place);
        } else {
            return false;
        }
        if !worker.jobs.is_empty() && worker.host.is_none() {
            self.behind -= 1;
        }
        worker.done += 1;
        true
    }

    /// Queues a job again, with a try less.
    pub(super) fn try_again(&mut self, id: JobId) {
        self.set_deadline(id, NEVER);
        if let Some(job) = self.jobs.get_mut(id) {
            job.retries_left -= 1;
            self.counted.retried += 1;
            self.enqueue(id);
        }
    }

    /// A job that is in no queue and with no worker is gone; the next of its key can go.
    pub(super) fn remove(&mut self, id: JobId) {
        self.set_deadline(id, NEVER);
        let Some(job) = self.jobs.remove(id) else { return };
        if let Some(actor) = job.spec.actor {
            return self.call_is_gone(actor, id, job.state);
        }
        if let Some(key) = job.spec.key
            && let Some(next) = self.keys.leave(key, id, |job| self.jobs.contains_key(job))
            && self.jobs.get(next).is_some_and(|job| job.state == State::Held)
        {
            self.enqueue(next);
        }
    }

    /// The job has ended so, not by its reply.
    pub(super) fn end(&mut self, id: JobId, ending: Ending) {
        self.remove(id);
        self.actions.push(Action::End(id, ending));
    }

    pub(super) fn set_deadline(&mut self, id: JobId, at: Nanos) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let before = std::mem::replace(&mut job.deadline, at);
        if at != NEVER {
            self.deadlines.set(at, Due::Job(id));
        }
        if before != NEVER && before != at {
            let (jobs, workers) = (&self.jobs, &self.workers);
            self.deadlines.forget(|at, due| is_due(jobs, workers, at, due));
        }
    }

    /// Adds what has to be done, in order, to `into`.
    pub fn take_actions(&mut self, into: &mut Vec<Action>) {
        into.append(&mut self.actions);
    }

    /// Where a job is. Nothing when it has ended.
    #[must_use]
    pub fn state(&self, id: JobId) -> Option<JobState> {
        Some(self.jobs.get(id)?.worker().map_or(JobState::Queued, JobState::Offered))
    }

    /// What was asked for a job. Nothing when it has ended.
    #[must_use]
    pub fn spec(&self, id: JobId) -> Option<JobSpec> {
        Some(self.jobs.get(id)?.spec)
    }

    /// How many jobs have not ended.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// How many workers there are, from the wish to start one until it is known to be dead.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Whether every job has ended.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The workers that have no actors.
    pub(super) fn crew(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values().filter(|worker| worker.host.is_none())
    }

    /// How much there is of each thing. Looks at every worker.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let offered = self.workers.values().map(|worker| worker.jobs.len()).sum();
        Statistics {
            queued: self.jobs.len() - offered,
            offered,
            starting: self.starting,
            idle: self.idle.len(),
            busy: self.busy(),
            waiting: self.crew().filter(|worker| worker.waiting).count(),
            leaving: self.crew().filter(|worker| worker.phase == Phase::Leaving).count(),
            hosts: self.hosts,
            actors: self.actors.len(),
            calls: self.actors.values().map(|actor| actor.calls).sum(),
            depth: self.depth(),
            ..self.counted
        }
    }
}

/// Whether this is still due at that moment.
pub(super) fn is_due(
    jobs: &SlotMap<JobId, Job>,
    workers: &SlotMap<WorkerId, Worker>,
    at: Nanos,
    due: Due,
) -> bool {
    match due {
        Due::Job(id) => jobs.get(id).is_some_and(|job| job.deadline == at),
        Due::Worker(id) => workers.get(id).is_some_and(|worker| worker.check_at == at),
    }
}
