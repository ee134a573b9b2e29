//! A floor without processes, which keeps books of its own: what the caller of a policy can see. Each request of the
//! policy is held against them, so a policy that breaks a rule fails at the request that breaks it.

use std::collections::{BTreeMap, VecDeque};

use thistledown_workers::policy::{ActorId, Floor, JobId, JobSpec, Nanos, WorkerId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Queued,
    Offered(WorkerId),
    Begun(WorkerId),
    Ended,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) spec: JobSpec,
    pub(crate) number: u64,
    /// How many jobs wait above it.
    pub(crate) depth: u16,
    pub(crate) state: State,
    pub(crate) retries_left: u32,
    pub(crate) begins: u32,
    /// It is being stopped: its reply will not count.
    pub(crate) stopped: bool,
    /// And because it was cancelled.
    pub(crate) cancelled: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Worker {
    pub(crate) ready: bool,
    pub(crate) waiting: bool,
    pub(crate) leaving: bool,
    pub(crate) killed: bool,
    /// Offered, not begun.
    pub(crate) lane: VecDeque<JobId>,
    pub(crate) begun: Vec<JobId>,
    pub(crate) busy_since: Option<Nanos>,
    /// Takes no frame now.
    pub(crate) full: bool,
    pub(crate) done: u64,
    /// It is there for actors, and for nothing else.
    pub(crate) host: bool,
}

impl Worker {
    pub(crate) fn jobs(&self) -> usize {
        self.lane.len() + self.begun.len()
    }

    pub(crate) fn is_free(&self) -> bool {
        !self.host && self.ready && !self.waiting && !self.leaving && !self.killed && self.jobs() == 0
    }

    fn is_busy(&self) -> bool {
        !self.host && self.ready && !self.waiting && !self.leaving && (self.jobs() > 0 || self.killed)
    }
}

#[derive(Debug)]
pub(crate) struct FakeFloor {
    pub(crate) size: usize,
    pub(crate) concurrency: usize,
    pub(crate) max_tasks: Option<u64>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    /// Where each actor lives, once it has been given a call.
    pub(crate) actors: BTreeMap<ActorId, Option<WorkerId>>,
    /// A job that is being submitted: its name is not known yet.
    pub(crate) incoming: Option<(JobSpec, u64, u16)>,
    /// Every offer that was taken, in order.
    pub(crate) offers: Vec<(WorkerId, JobId)>,
    /// Jobs that should have come before one that was offered, unless they end in the same step.
    pub(crate) passed_over: Vec<JobId>,
}

impl FakeFloor {
    pub(crate) fn register(&mut self, id: JobId) {
        if let Some((spec, number, depth)) = self.incoming.take() {
            let state = State::Queued;
            let job = Job {
                spec,
                number,
                depth,
                state,
                retries_left: spec.retries,
                begins: 0,
                stopped: false,
                cancelled: false,
            };
            assert!(self.jobs.insert(id, job).is_none(), "the name of a job was used before");
        }
    }

    pub(crate) fn job(&mut self, id: JobId) -> &mut Job {
        self.jobs.get_mut(&id).expect("the job is in the books")
    }

    pub(crate) fn worker(&mut self, id: WorkerId) -> &mut Worker {
        self.workers.get_mut(&id).expect("the worker is in the books")
    }

    pub(crate) fn busy(&self) -> usize {
        self.workers.values().filter(|worker| worker.is_busy()).count()
    }

    /// Whether only weightless jobs run, in every worker that may run jobs.
    pub(crate) fn is_full_of_weightless(&self) -> bool {
        let mut running = self.workers.values().filter(|worker| worker.is_busy());
        let is_plain = |id: &JobId| !self.jobs[id].spec.weightless;
        self.busy() >= self.size
            && !running.any(|worker| worker.lane.iter().chain(&worker.begun).any(is_plain))
    }

    /// The jobs of its key that have to end before a job.
    fn blockers(&self, job: &Job) -> impl Iterator<Item = JobId> {
        let (key, number) = (job.spec.key, job.number);
        let blocks = move |other: &Job| {
            key.is_some() && other.spec.key == key && other.number < number && other.state != State::Ended
        };
        self.jobs.iter().filter(move |(_, other)| blocks(other)).map(|(&id, _)| id)
    }

    fn is_runnable(&self, job: &Job) -> bool {
        job.state == State::Queued && job.spec.actor.is_none() && self.blockers(job).next().is_none()
    }

    /// The jobs of one kind that could go to a worker, first things first.
    pub(crate) fn runnable(&self, weightless: bool) -> Vec<JobId> {
        let mut jobs: Vec<(i32, u64, JobId)> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.spec.weightless == weightless && self.is_runnable(job))
            .map(|(&id, job)| (-job.spec.priority, job.number, id))
            .collect();
        jobs.sort_unstable();
        jobs.into_iter().map(|(_, _, id)| id).collect()
    }

    /// How many jobs could go to workers that have nothing, if there were any.
    pub(crate) fn workload(&self) -> usize {
        let crew = self.workers.values().filter(|worker| !worker.host);
        let behind: usize = crew.map(|worker| worker.jobs().saturating_sub(1)).sum();
        behind + self.runnable(false).len() + self.runnable(true).len()
    }

    fn note_passed_over(&mut self, worker: WorkerId, id: JobId) {
        let job = &self.jobs[&id];
        let rank = |job: &Job| (-job.spec.priority, std::cmp::Reverse(job.depth), job.number);
        let comes_before = |other: &JobId| rank(&self.jobs[other]) < rank(job);
        let mut passed_over: Vec<JobId> = self.blockers(job).collect();
        passed_over.extend(self.runnable(job.spec.weightless).into_iter().filter(comes_before));
        if !job.spec.weightless && self.workers[&worker].jobs() > 0 {
            // Nothing is laid behind while there are several priorities, or while the other kind comes first.
            let differs = |other: &JobId| self.jobs[other].spec.priority != job.spec.priority;
            passed_over.extend(self.runnable(false).into_iter().filter(differs));
            passed_over.extend(self.runnable(true).into_iter().filter(comes_before));
        }
        self.passed_over.extend(passed_over);
    }

    fn is_alone(spec: &JobSpec) -> bool {
        spec.solo || (!spec.weightless && (spec.key.is_some() || spec.timeout.is_some()))
    }

    /// A call goes where its actor lives, behind all earlier ones; one that has a time is alone.
    fn check_call(&mut self, actor: ActorId, worker: WorkerId, id: JobId) {
        let home = self.actors.get_mut(&actor).expect("an actor that lives");
        assert_eq!(*home.get_or_insert(worker), worker, "an actor has moved");
        let host = &self.workers[&worker];
        assert!(host.host && host.ready && !host.killed && !host.leaving, "it takes no calls: {host:?}");
        let job = &self.jobs[&id];
        let mut passed_over = Vec::new();
        for (&other_id, other) in &self.jobs {
            if other.spec.actor != Some(actor) || other.state == State::Ended || other_id == id {
                continue;
            }
            if other.number > job.number {
                assert_eq!(other.state, State::Queued, "calls lost their order: {job:?}, {other:?}");
            } else if other.state == State::Queued {
                passed_over.push(other_id);
            } else {
                let has_time = job.spec.timeout.is_some() || other.spec.timeout.is_some();
                assert!(!has_time, "not alone: {job:?}, {other:?}");
                assert!(!other.spec.last || job.spec.last, "called after its end: {job:?}");
            }
        }
        self.passed_over.extend(passed_over);
    }

    fn check_offer(&self, worker: WorkerId, id: JobId) {
        let job = &self.jobs[&id];
        let spec = &job.spec;
        let worker = &self.workers[&worker];
        assert!(
            worker.ready && !worker.waiting && !worker.leaving && !worker.killed,
            "{worker:?} takes nothing"
        );
        if worker.jobs() == 0 {
            let may_run = self.busy() < self.size || (!spec.weightless && self.is_full_of_weightless());
            assert!(may_run, "more than {} workers run jobs", self.size);
        } else {
            let may_take = spec.weightless || self.busy() <= self.size;
            assert!(may_take, "something was laid behind, with too many workers");
        }
        for other in worker.lane.iter().chain(&worker.begun) {
            let other = &self.jobs[other];
            assert_eq!(other.spec.weightless, spec.weightless, "kinds are mixed");
            assert!(!Self::is_alone(spec) && !Self::is_alone(&other.spec), "not alone: {spec:?}, {other:?}");
            assert!(spec.weightless || !other.stopped, "laid behind a job that is being stopped");
        }
        if spec.weightless {
            assert!(worker.jobs() < self.concurrency, "more weightless jobs than may share a worker");
        } else {
            assert!(worker.jobs() < 64, "laid too deep");
        }
        let given = worker.done + worker.jobs() as u64;
        assert!(self.max_tasks.is_none_or(|max| given < max), "more jobs than a worker lives for");
    }
}

impl Floor for FakeFloor {
    fn offer(&mut self, worker: WorkerId, job: JobId) -> bool {
        if !self.jobs.contains_key(&job) {
            self.register(job);
        }
        match self.jobs[&job].spec.actor {
            Some(actor) => self.check_call(actor, worker, job),
            None => {
                assert!(!self.workers[&worker].host, "a job without an actor, where actors live");
                self.check_offer(worker, job);
                self.note_passed_over(worker, job);
            }
        }
        let lane = self.worker(worker);
        if lane.full {
            return false;
        }
        lane.lane.push_back(job);
        self.job(job).state = State::Offered(worker);
        self.offers.push((worker, job));
        true
    }

    fn take_back(&mut self, worker: WorkerId, job: JobId) -> bool {
        let Some(books) = self.workers.get_mut(&worker) else { panic!("nobody knows {worker:?}") };
        let Some(place) = books.lane.iter().position(|&other| other == job) else { return false };
        books.lane.remove(place);
        self.job(job).state = State::Queued;
        true
    }

    fn busy_since(&self, worker: WorkerId) -> Option<Nanos> {
        self.workers[&worker].busy_since
    }
}
