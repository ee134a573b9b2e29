//! A policy on its fake floor. The rig plays the processes, holds every answer and action against the books, and
//! after every step sees to it that no work is left lying that somebody could do.

use std::collections::{BTreeMap, VecDeque};

use thistledown_workers::policy::{
    Action, ActorId, ActorSpec, Cancel, Config, Ending, JobId, JobSpec, JobState, Nanos, Policy, Refused,
    Verdict, WorkerId,
};

use crate::floor::{FakeFloor, State, Worker};

pub(crate) const MICROSECOND: Nanos = 1_000;
pub(crate) const MILLISECOND: Nanos = 1_000_000;
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// How a job ended, by whatever way it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Replied,
    Removed,
    Otherwise(Ending),
}

pub(crate) struct Rig {
    pub(crate) policy: Policy,
    pub(crate) floor: FakeFloor,
    pub(crate) now: Nanos,
    pub(crate) config: Config,
    pub(crate) ends: BTreeMap<JobId, End>,
    /// Asked for, in order.
    pub(crate) starting: VecDeque<WorkerId>,
    /// What had to be done in the last step, apart from ends.
    pub(crate) actions: Vec<Action>,
    /// How actors ended.
    pub(crate) overs: BTreeMap<ActorId, Ending>,
    submitted: u64,
    failures: bool,
    broken: bool,
}

impl Rig {
    pub(crate) fn new(config: Config) -> Self {
        let floor = FakeFloor {
            size: config.size,
            concurrency: config.concurrency,
            max_tasks: config.max_tasks_per_child,
            jobs: BTreeMap::new(),
            workers: BTreeMap::new(),
            actors: BTreeMap::new(),
            incoming: None,
            offers: Vec::new(),
            passed_over: Vec::new(),
        };
        Self {
            policy: Policy::new(config),
            floor,
            now: SECOND,
            config,
            ends: BTreeMap::new(),
            starting: VecDeque::new(),
            actions: Vec::new(),
            overs: BTreeMap::new(),
            submitted: 0,
            failures: false,
            broken: false,
        }
    }

    /// So many workers that have nothing, and as many that may run jobs. Nothing is known of what jobs take.
    pub(crate) fn with_workers(config: Config) -> (Self, Vec<WorkerId>) {
        let mut rig = Self::new(config);
        let weightless = JobSpec { weightless: true, solo: true, ..JobSpec::default() };
        let jobs: Vec<JobId> = (0..config.size).map(|_| rig.submit(weightless)).collect();
        let workers: Vec<WorkerId> = jobs.iter().map(|_| rig.hire()).collect();
        workers.iter().for_each(|&worker| assert!(rig.begin(worker).is_some()));
        for job in jobs {
            assert_eq!(rig.reply(job, 0), Verdict::Final);
        }
        rig.floor.offers.clear();
        (rig, workers)
    }

    // --- events ---------------------------------------------------------------------------------------

    pub(crate) fn submit(&mut self, spec: JobSpec) -> JobId {
        self.try_submit(None, spec).expect("the door is open")
    }

    pub(crate) fn plain(&mut self) -> JobId {
        self.submit(JobSpec::default())
    }

    pub(crate) fn try_submit(&mut self, parent: Option<WorkerId>, spec: JobSpec) -> Result<JobId, Refused> {
        let with = parent.into_iter().flat_map(|parent| {
            let with = [State::Offered(parent), State::Begun(parent)];
            self.floor.jobs.values().filter(move |job| with.contains(&job.state))
        });
        let depth = with.map(|job| job.depth + 1).max().unwrap_or(0);
        self.floor.incoming = Some((spec, self.submitted, depth));
        let answer = match parent {
            None => self.policy.submit(&mut self.floor, spec, self.now),
            Some(worker) => self.policy.submit_nested(&mut self.floor, worker, spec, self.now),
        };
        if let Ok(id) = answer {
            self.floor.register(id);
            self.submitted += 1;
        }
        self.floor.incoming = None;
        self.check();
        answer
    }

    /// The first of the workers that were asked for is ready.
    pub(crate) fn hire(&mut self) -> WorkerId {
        let worker = self.starting.pop_front().expect("a worker was asked for");
        self.floor.worker(worker).ready = true;
        self.policy.ready(&mut self.floor, worker, self.now);
        self.check();
        worker
    }

    /// The first of the workers that were asked for could not be started.
    pub(crate) fn fail_start(&mut self) {
        let worker = self.starting.pop_front().expect("a worker was asked for");
        self.failures = true;
        self.policy.start_failed(&mut self.floor, worker, self.now);
        self.floor.workers.remove(&worker);
        self.check();
    }

    /// A worker claims what is next in its lane, if it can.
    pub(crate) fn begin(&mut self, id: WorkerId) -> Option<JobId> {
        let worker = self.floor.workers.get_mut(&id)?;
        let &job = worker.lane.front()?;
        let books = self.floor.jobs.get_mut(&job)?;
        // Of the calls of an actor one runs, and others may have been taken, to stand behind it; here they stay in the lane.
        let is_held = match books.spec.actor {
            None => !books.spec.weightless && !worker.begun.is_empty(),
            Some(actor) => {
                let begun = worker.begun.clone();
                begun.iter().any(|job| self.floor.jobs[job].spec.actor == Some(actor))
            }
        };
        let worker = self.floor.worker(id);
        if worker.waiting || is_held {
            return None;
        }
        let books = self.floor.job(job);
        books.state = State::Begun(id);
        books.begins += 1;
        assert!(books.begins <= 1 + books.spec.retries, "begun too often: {books:?}");
        let (key, number) = (books.spec.key.filter(|_| books.spec.actor.is_none()), books.number);
        let now = self.now;
        let worker = self.floor.worker(id);
        worker.lane.pop_front();
        worker.begun.push(job);
        worker.busy_since = Some(now);
        if key.is_some() {
            let others =
                self.floor.jobs.iter().filter(|(other, books)| **other != job && books.spec.key == key);
            for (_, other) in others {
                assert!(!matches!(other.state, State::Begun(_)), "two of a key at the same time");
                assert!(other.state == State::Ended || other.number > number, "a key lost its order");
            }
        }
        Some(job)
    }

    pub(crate) fn reply(&mut self, job: JobId, took: Nanos) -> Verdict {
        self.reply_as(job, took, false)
    }

    pub(crate) fn reply_as(&mut self, id: JobId, took: Nanos, retry: bool) -> Verdict {
        let books = self.floor.job(id);
        let State::Begun(worker_id) = books.state else { panic!("has not begun: {books:?}") };
        let is_again =
            retry && books.spec.actor.is_none() && !books.stopped && books.retries_left > 0 && !self.broken;
        let books = self.floor.job(id);
        books.state = if is_again { State::Queued } else { State::Ended };
        books.retries_left -= u32::from(is_again);
        let stopped = books.stopped;
        let worker = self.floor.worker(worker_id);
        worker.begun.retain(|&job| job != id);
        worker.done += 1;
        worker.busy_since = None;
        self.failures = false;
        worker.waiting &= !worker.begun.is_empty();
        let verdict = self.policy.replied(&mut self.floor, worker_id, id, took, retry, self.now);
        match verdict {
            Verdict::Final => self.ended(id, End::Replied),
            Verdict::Again => assert!(is_again),
            Verdict::Overruled(_) => assert!(stopped),
            Verdict::Stray => panic!("its reply was taken for a stray one"),
        }
        assert_eq!(verdict == Verdict::Again, is_again);
        assert_eq!(matches!(verdict, Verdict::Overruled(_)), stopped);
        self.check();
        verdict
    }

    pub(crate) fn cancel(&mut self, id: JobId) -> Cancel {
        let books = self.floor.job(id);
        let before = books.state;
        let is_timed_out = books.stopped && !books.cancelled;
        if let State::Begun(_) = before {
            books.stopped = true;
            books.cancelled = !is_timed_out;
        }
        let answer = self.policy.cancel(&mut self.floor, id, self.now);
        let expected = match before {
            State::Begun(_) if is_timed_out => Cancel::TooLate,
            State::Queued | State::Offered(_) => Cancel::Removed,
            State::Begun(_) => Cancel::Asked,
            State::Ended => Cancel::TooLate,
        };
        assert_eq!(answer, expected);
        if answer == Cancel::Removed {
            self.ended(id, End::Removed);
        }
        self.check();
        answer
    }

    pub(crate) fn wait(&mut self, worker: WorkerId) {
        self.floor.worker(worker).waiting = true;
        self.policy.waiting(&mut self.floor, worker, self.now);
        let lane = &self.floor.workers[&worker].lane;
        assert!(lane.is_empty(), "left lying before a worker that waits: {lane:?}");
        self.check();
    }

    pub(crate) fn resume(&mut self, worker: WorkerId) {
        self.floor.worker(worker).waiting = false;
        self.policy.resumed(&mut self.floor, worker, self.now);
        self.check();
    }

    pub(crate) fn die(&mut self, id: WorkerId) {
        self.starting.retain(|&worker| worker != id);
        let worker = self.floor.worker(id);
        let was_ready = std::mem::take(&mut worker.ready);
        let (is_surprise, host) = (!worker.leaving && !worker.killed, worker.host);
        let did_something = worker.done > 0 || !worker.begun.is_empty();
        let lane: Vec<JobId> = if host { std::mem::take(&mut worker.lane).into() } else { Vec::new() };
        let lost = [worker.begun.clone(), lane].concat();
        if is_surprise && (!host || !was_ready || did_something) {
            self.failures = !did_something;
        }
        for job in lost {
            let books = self.floor.job(job);
            // Actors end with their workers, and so do all of their calls.
            let again = !host && !books.stopped && books.retries_left > 0 && !self.broken;
            books.state = if again { State::Queued } else { State::Ended };
            books.retries_left -= u32::from(again);
        }
        self.policy.died(&mut self.floor, id, self.now);
        let lane = self.floor.workers.remove(&id).map(|worker| worker.lane);
        assert_eq!(lane, Some(VecDeque::new()), "lost with a worker");
        self.check();
    }

    /// So much time passes.
    pub(crate) fn pass(&mut self, time: Nanos) {
        self.now += time;
        self.policy.tick(&mut self.floor, self.now);
        let now = self.now;
        let next = self.policy.next_deadline();
        self.check();
        assert!(next.is_none_or(|next| next > now), "a tick left something due: {next:?} at {now}");
    }

    /// Time passes until something is due, if anything is.
    pub(crate) fn pass_until_due(&mut self) -> bool {
        let Some(next) = self.policy.next_deadline() else { return false };
        self.pass(next.saturating_sub(self.now));
        true
    }

    pub(crate) fn break_down(&mut self) {
        self.broken = true;
        self.tell(|policy, floor, now| policy.broken(floor, now));
    }

    pub(crate) fn kill_all(&mut self) {
        self.starting.clear();
        for worker in self.floor.workers.values_mut() {
            worker.lane.clear();
            worker.begun.clear();
            worker.waiting = false;
            worker.leaving = true;
        }
        self.tell(|policy, _, _| policy.kill_all());
    }

    /// A new actor.
    pub(crate) fn open(&mut self, own: bool, mailbox: usize) -> Result<ActorId, Refused> {
        let opened = self.policy.open(ActorSpec { own, mailbox }, None, self.now);
        if let Ok(actor) = opened {
            assert!(self.floor.actors.insert(actor, None).is_none());
        }
        self.check();
        opened
    }

    /// An actor that its first call has made: with that in its worker, which is ready.
    pub(crate) fn actor(&mut self, own: bool) -> (ActorId, WorkerId) {
        let actor = self.open(own, 1_000).expect("the door is open");
        let make = self.call(actor);
        if self.worker_of(make).is_none() {
            self.hire();
        }
        let worker = self.place_of(make);
        assert_eq!(self.begin(worker), Some(make));
        assert_eq!(self.reply(make, 0), Verdict::Final);
        (actor, worker)
    }

    pub(crate) fn call(&mut self, actor: ActorId) -> JobId {
        self.submit(JobSpec { actor: Some(actor), ..JobSpec::default() })
    }

    pub(crate) fn stop(&mut self, actor: ActorId) -> Result<JobId, Refused> {
        self.try_submit(None, JobSpec { actor: Some(actor), last: true, ..JobSpec::default() })
    }

    pub(crate) fn kill_actor(&mut self, actor: ActorId) {
        self.tell(|policy, floor, now| policy.kill_actor(floor, actor, now));
    }

    /// Any other event, by itself.
    pub(crate) fn tell(&mut self, event: impl FnOnce(&mut Policy, &mut FakeFloor, Nanos)) {
        event(&mut self.policy, &mut self.floor, self.now);
        self.check();
    }

    // --- what is seen ---------------------------------------------------------------------------------

    pub(crate) fn end(&self, job: JobId) -> Option<End> {
        self.ends.get(&job).copied()
    }

    /// Who was offered what since the last look.
    pub(crate) fn take_offers(&mut self) -> Vec<(WorkerId, JobId)> {
        std::mem::take(&mut self.floor.offers)
    }

    pub(crate) fn offered_jobs(&mut self) -> Vec<JobId> {
        self.take_offers().into_iter().map(|(_, job)| job).collect()
    }

    pub(crate) fn worker_of(&self, job: JobId) -> Option<WorkerId> {
        match self.policy.state(job)? {
            JobState::Queued => None,
            JobState::Offered(worker) => Some(worker),
        }
    }

    pub(crate) fn place_of(&self, job: JobId) -> WorkerId {
        self.worker_of(job).expect("it is with a worker")
    }

    fn ended(&mut self, job: JobId, end: End) {
        let before = self.ends.insert(job, end);
        assert_eq!(before, None, "ended twice, the second time by {end:?}");
        self.floor.job(job).state = State::Ended;
    }

    // --- what always holds ----------------------------------------------------------------------------

    fn check(&mut self) {
        let mut actions = Vec::new();
        self.policy.take_actions(&mut actions);
        for &action in &actions {
            self.carry_out(action);
        }
        actions.retain(|action| !matches!(action, Action::End(..) | Action::Over(..)));
        self.actions = actions;
        for passed_over in std::mem::take(&mut self.floor.passed_over) {
            let job = &self.floor.jobs[&passed_over];
            assert_eq!(job.state, State::Ended, "others came before it: {job:?}");
        }
        self.check_books();
        self.check_work();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start(worker) => {
                let host = self.policy.actors_in(worker).is_some();
                assert!(self.floor.workers.insert(worker, Worker { host, ..Worker::default() }).is_none());
                self.starting.push_back(worker);
                let (hosts, crew): (Vec<&Worker>, Vec<&Worker>) =
                    self.floor.workers.values().partition(|worker| worker.host);
                assert!(hosts.len().max(crew.len()) <= self.config.max_workers, "too many workers");
                let starting = self.starting.iter().filter(|id| !self.floor.workers[id].host).count();
                assert!(host || starting <= self.floor.workload(), "nobody has work for it");
            }
            Action::Retire(id) => {
                let worker = self.floor.worker(id);
                let has_jobs = worker.jobs() > 0 && !worker.host;
                assert!(!has_jobs && !worker.leaving, "retired with jobs, or twice: {worker:?}");
                assert!(!worker.killed, "told to leave, and killed before");
                worker.leaving = true;
                self.starting.retain(|&other| other != id);
            }
            Action::Interrupt(worker, job) => {
                assert!(self.floor.workers[&worker].begun.contains(&job), "not there to stop");
                self.floor.job(job).stopped = true;
            }
            Action::Kill(id) => {
                let worker = self.floor.worker(id);
                assert!(!worker.killed, "killed twice");
                worker.killed = true;
                self.starting.retain(|&other| other != id);
            }
            Action::End(job, ending) => {
                self.ended(job, End::Otherwise(ending));
                // What was laid for an actor that is no more, nobody runs.
                for worker in self.floor.workers.values_mut() {
                    worker.lane.retain(|&other| other != job);
                    worker.begun.retain(|&other| other != job || !worker.host);
                }
            }
            Action::Over(actor, ending) => {
                assert!(self.floor.actors.remove(&actor).is_some(), "it ended twice");
                self.overs.insert(actor, ending);
            }
            Action::Discard(worker, _) => assert!(self.floor.workers[&worker].host),
        }
    }

    /// The policy's books say what the floor's say.
    fn check_books(&self) {
        let live = self.floor.jobs.values().filter(|job| job.state != State::Ended).count();
        assert_eq!(self.policy.jobs(), live);
        assert_eq!(self.policy.is_idle(), live == 0);
        assert_eq!(self.policy.workers(), self.floor.workers.len());
        let queued = self.floor.jobs.values().filter(|job| job.state == State::Queued).count();
        let counted = self.policy.statistics();
        assert_eq!((counted.queued, counted.offered), (queued, live - queued));
        let crew = counted.busy + counted.idle + counted.waiting + counted.starting + counted.leaving;
        assert_eq!(crew + counted.hosts, self.floor.workers.len());
        assert_eq!(counted.actors, self.floor.actors.len());
        for (&id, job) in &self.floor.jobs {
            let expected = match job.state {
                State::Queued => Some(JobState::Queued),
                State::Offered(worker) | State::Begun(worker) => Some(JobState::Offered(worker)),
                State::Ended => None,
            };
            assert_eq!(self.policy.state(id), expected, "{job:?}");
        }
    }

    /// No job waits that somebody could run, and no worker is missing that could be started.
    fn check_work(&self) {
        let plain_waits = !self.floor.runnable(false).is_empty();
        let waits = plain_waits || !self.floor.runnable(true).is_empty();
        if !waits || self.floor.workers.values().any(|worker| worker.full) {
            return;
        }
        let free = self.floor.workers.values().any(Worker::is_free);
        let size = self.config.size + usize::from(plain_waits && self.floor.is_full_of_weightless());
        assert!(!free || self.floor.busy() >= size, "a job and a worker wait for each other");
        let crew = || self.floor.workers.values().filter(|worker| !worker.host);
        let slots = crew().filter(|worker| !worker.leaving && !worker.waiting).count();
        let may_start = slots < size && crew().count() < self.config.max_workers;
        let starts = self.starting.iter().any(|id| !self.floor.workers[id].host);
        assert!(self.failures || !may_start || starts, "a job waits, and no worker is started");
    }
}
