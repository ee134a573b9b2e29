//! Actors: each lives in one worker, and its calls are jobs that go there alone, in the order of submission.
//!
//! The workers that have them run nothing else and have no slot, so that a job which waits for an actor never waits for
//! its own place. Calls are laid ahead, [`AHEAD`] of each actor, since none of them could go anywhere else; which method
//! waits and which does not is the worker's affair, which runs the calls of one actor one at a time. So here a call that
//! was laid may or may not have begun.
//!
//! What it is not: it knows no object, no class and no handle, and not how a call is told that its actor is no more.

use std::collections::VecDeque;

use super::ids::{ActorId, JobId, WorkerId};
use super::job::{Job, JobSpec, State, Stop};
use super::line::{Entry, Line};
use super::machine::{Door, Policy};
use super::terms::{Action, Ending, Floor, NEVER, Nanos, Refused};
use super::worker::{Phase, Worker};

/// So many calls of an actor are laid in the lane of its worker at the same time.
const AHEAD: usize = 64;

/// A worker in whose lane there is no room is asked again after so long.
const ASK_AGAIN: Nanos = 1_000_000;

/// What is asked for an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActorSpec {
    /// It has a worker for itself.
    pub own: bool,
    /// How many calls may wait or run at the same time.
    pub mailbox: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It takes calls.
    Open,
    /// It ends with its last call.
    Stopping,
    /// Its worker goes on without it, as soon as its last call has ended.
    Killed,
}

#[derive(Debug)]
pub(super) struct Actor {
    pub(super) spec: ActorSpec,
    pub(super) standing: Standing,
    /// Where it lives. None: nowhere yet.
    pub(super) host: Option<WorkerId>,
    /// Calls that were not laid.
    line: Line,
    /// Calls that were, in that order. The worker runs the first.
    pub(super) laid: VecDeque<JobId>,
    /// How many calls there are in all, and how many have ended; what makes it is the first.
    pub(super) calls: usize,
    pub(super) ended: u64,
    /// Nothing is laid.
    pub(super) halted: bool,
}

impl Actor {
    fn is_open(&self) -> bool {
        self.standing == Standing::Open
    }

    /// Whether this call was laid before all others that there are.
    pub(super) fn is_first(&self, job: JobId) -> bool {
        self.laid.front() == Some(&job)
    }
}

impl Policy {
    /// A new actor. What makes it what it is, is its first call. `by`: a job of this worker asks for it, which may do so
    /// after `close`.
    ///
    /// # Errors
    /// When no more are taken.
    pub fn open(&mut self, spec: ActorSpec, by: Option<WorkerId>, now: Nanos) -> Result<ActorId, Refused> {
        let is_nested = by.is_some_and(|worker| self.depth_below(worker).is_some());
        match self.door {
            Door::Broken => return Err(Refused::Broken),
            Door::Closed if !is_nested => return Err(Refused::Closed),
            Door::Open | Door::Closed => {}
        }
        let needs_worker = spec.own || self.shared_hosts() < self.config.size;
        if needs_worker && self.hosts + self.homeless.len() >= self.config.max_workers {
            return Err(Refused::TooMany);
        }
        let actor = Actor {
            spec,
            standing: Standing::Open,
            host: None,
            line: Line::default(),
            laid: VecDeque::new(),
            calls: 0,
            ended: 0,
            halted: false,
        };
        let id = self.actors.insert(actor);
        self.homeless.push_back(id);
        self.house_actors(now);
        Ok(id)
    }

    /// Finds workers for the actors that have none, as far as workers can be started now.
    pub(super) fn house_actors(&mut self, now: Nanos) {
        if self.start_at > now || self.door == Door::Broken {
            return;
        }
        while let Some(&id) = self.homeless.front() {
            let Some(actor) = self.actors.get(id) else {
                self.homeless.pop_front();
                continue;
            };
            let own = actor.spec.own;
            // After a failure one try at a time has to show that it goes again.
            let may_start = self.failures == 0 || !self.starts_hosts();
            let shares = !own && (self.shared_hosts() >= self.config.size || !may_start);
            let host = match shares.then(|| self.fewest_actors()).flatten() {
                Some(host) => host,
                None if may_start && self.hosts < self.config.max_workers => self.start_host(own),
                None => return,
            };
            self.homeless.pop_front();
            if let Some(host) = self.workers.get_mut(host).and_then(|worker| worker.host.as_mut()) {
                host.actors.push(id);
            }
            if let Some(actor) = self.actors.get_mut(id) {
                actor.host = Some(host);
            }
            self.needy.push(id);
        }
    }

    fn start_host(&mut self, own: bool) -> WorkerId {
        let host = self.workers.insert(Worker::starting_host(own));
        self.hosts += 1;
        self.actions.push(Action::Start(host));
        host
    }

    fn starts_hosts(&self) -> bool {
        self.workers.values().any(|worker| worker.host.is_some() && worker.phase == Phase::Starting)
    }

    /// The workers that actors share.
    fn sharers(&self) -> impl Iterator<Item = (WorkerId, usize)> {
        self.workers.iter().filter_map(|(id, worker)| {
            let host = worker.host.as_ref().filter(|host| !host.own)?;
            (!worker.killed && worker.phase != Phase::Leaving).then_some((id, host.actors.len()))
        })
    }

    fn shared_hosts(&self) -> usize {
        self.sharers().count()
    }

    fn fewest_actors(&self) -> Option<WorkerId> {
        self.sharers().min_by_key(|&(_, actors)| actors).map(|(id, _)| id)
    }

    /// A call of an actor.
    pub(super) fn admit_call(
        &mut self,
        floor: &mut impl Floor,
        id: ActorId,
        spec: JobSpec,
        depth: u16,
        now: Nanos,
    ) -> Result<JobId, Refused> {
        let Some(actor) = self.actors.get_mut(id) else { return Err(Refused::Over) };
        if !(actor.is_open() || (spec.last && actor.standing == Standing::Stopping)) {
            return Err(Refused::Over);
        }
        // The first makes it what it is, and was asked by nobody.
        let limit = actor.spec.mailbox + usize::from(actor.ended == 0);
        if actor.calls >= limit && !spec.last {
            return Err(Refused::Full);
        }
        if spec.last {
            actor.standing = Standing::Stopping;
            actor.halted = false;
        }
        actor.calls += 1;
        let sequence = self.counted.submitted;
        self.counted.submitted += 1;
        let job = self.jobs.insert(Job::new(spec, sequence, depth));
        self.enqueue(job);
        self.feed(floor, id, now);
        Ok(job)
    }

    /// Puts a call at its place among those that were not laid.
    pub(super) fn enlist_call(&mut self, id: ActorId, entry: Entry) {
        if let Some(actor) = self.actors.get_mut(id) {
            actor.laid.retain(|&job| job != entry.job);
            actor.line.insert(entry);
        }
    }

    /// Lays calls of an actor in the lane of its worker, as many as go there now.
    fn feed(&mut self, floor: &mut impl Floor, id: ActorId, now: Nanos) {
        while let Some((host, job)) = self.next_call(id) {
            if !floor.offer(host, job) {
                return self.is_hungry(host, id, now);
            }
            let Some(actor) = self.actors.get_mut(id) else { return };
            actor.line.remove_first();
            actor.laid.push_back(job);
            actor.halted = self.jobs.get(job).is_some_and(|call| call.spec.halts);
            let (Some(worker), Some(call)) = (self.workers.get_mut(host), self.jobs.get_mut(job)) else {
                return;
            };
            worker.jobs.push_back(job);
            call.state = State::Offered(host);
            if let Some(timeout) = call.spec.timeout {
                self.set_deadline(job, now.saturating_add(timeout));
            }
        }
    }

    /// The call that is to be laid next, and where. A call with a time of its own is alone.
    fn next_call(&mut self, id: ActorId) -> Option<(WorkerId, JobId)> {
        let actor = self.actors.get_mut(id)?;
        let host = actor.host.filter(|host| self.workers.get(*host).is_some_and(Worker::takes_calls))?;
        let room = actor.laid.len() < AHEAD && !actor.halted;
        let job = actor.line.first(|job| self.jobs.contains_key(job)).filter(|_| room)?.job;
        let is_alone = |job: JobId| self.jobs.get(job).is_some_and(|job| job.spec.timeout.is_some());
        let last = actor.laid.back().copied();
        last.is_none_or(|last| !is_alone(job) && !is_alone(last)).then_some((host, job))
    }

    /// There is no room for the calls of an actor: they are laid when another has ended, or after a while.
    fn is_hungry(&mut self, host: WorkerId, id: ActorId, now: Nanos) {
        let Some(host) = self.workers.get_mut(host).and_then(|worker| worker.host.as_mut()) else { return };
        if !host.hungry.contains(&id) {
            host.hungry.push_back(id);
        }
        self.offer_at = self.offer_at.min(now.saturating_add(ASK_AGAIN));
    }

    pub(super) fn has_hungry(&self) -> bool {
        self.hosts > 0
            && self.workers.values().any(|worker| {
                worker.takes_calls() && worker.host.as_ref().is_some_and(|host| !host.hungry.is_empty())
            })
    }

    /// Lays what found no room before.
    pub(super) fn feed_hungry(&mut self, floor: &mut impl Floor, now: Nanos) {
        let hosts: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| worker.host.is_some()).map(|(id, _)| id).collect();
        hosts.into_iter().for_each(|host| self.feed_host(floor, host, now));
    }

    /// Lays what there is room for since another call has gone.
    pub(super) fn feed_needy(&mut self, floor: &mut impl Floor, now: Nanos) {
        while let Some(actor) = self.needy.pop() {
            self.feed(floor, actor, now);
        }
    }

    fn feed_host(&mut self, floor: &mut impl Floor, host: WorkerId, now: Nanos) {
        let hungry = |policy: &mut Self| policy.workers.get_mut(host)?.host.as_mut()?.hungry.pop_front();
        let count = self
            .workers
            .get(host)
            .and_then(|worker| worker.host.as_ref())
            .map_or(0, |host| host.hungry.len());
        for _ in 0..count {
            let Some(actor) = hungry(self) else { return };
            self.feed(floor, actor, now);
        }
    }

    /// A call has ended by its reply.
    pub(super) fn after_call(&mut self, floor: &mut impl Floor, host: WorkerId, now: Nanos) {
        if let Some(host) = self.workers.get_mut(host).and_then(|worker| worker.host.as_mut())
            && host.held_by.is_some_and(|holder| !self.jobs.contains_key(holder))
        {
            host.held_by = None;
        }
        self.house_actors(now);
        self.feed_needy(floor, now);
        self.feed_host(floor, host, now);
        self.retire_needless(now);
        self.start_more(now);
        self.finish_closing(now);
    }

    /// A call whose time was over before it began is laid once more.
    pub(super) fn lay_again(&mut self, floor: &mut impl Floor, actor: ActorId, job: JobId, now: Nanos) {
        self.enqueue(job);
        self.feed(floor, actor, now);
    }

    /// A call is no more; it was here.
    pub(super) fn call_is_gone(&mut self, id: ActorId, job: JobId, state: State) {
        let Some(actor) = self.actors.get_mut(id) else { return };
        actor.calls -= 1;
        actor.ended += 1;
        match state {
            State::Queued | State::Held => actor.line.forget(|job| self.jobs.contains_key(job)),
            State::Offered(_) if actor.is_first(job) => drop(actor.laid.pop_front()),
            State::Offered(_) => actor.laid.retain(|&other| other != job),
        }
        if !actor.line.is_empty() {
            self.needy.push(id);
        }
        if actor.calls == 0 {
            match actor.standing {
                Standing::Open => {}
                Standing::Stopping => self.over(id, Ending::Stopped),
                Standing::Killed => self.over(id, Ending::Killed),
            }
        }
    }

    /// An actor has ended, and has no calls. Its worker goes when it was for it alone.
    fn over(&mut self, id: ActorId, ending: Ending) {
        let Some(actor) = self.actors.remove(id) else { return };
        self.actions.push(Action::Over(id, ending));
        let Some(host_id) = actor.host else { return self.homeless.retain(|&other| other != id) };
        let Some(host) = self.workers.get_mut(host_id).and_then(|worker| worker.host.as_mut()) else {
            return;
        };
        host.actors.retain(|&other| other != id);
        host.hungry.retain(|&other| other != id);
        if host.own {
            self.needless.push(host_id);
        } else if ending == Ending::Stopped {
            // What told it to end there may have been taken back, and one that has moved was told nothing.
            self.actions.push(Action::Discard(host_id, id));
        }
    }

    /// Ends an actor with all of its calls, wherever they are.
    fn end_actor(&mut self, id: ActorId, calls: Ending, ending: Ending) {
        let Some(actor) = self.actors.get_mut(id) else { return };
        let mut left: Vec<JobId> = actor.laid.iter().copied().collect();
        while let Some(entry) = actor.line.first(|job| self.jobs.contains_key(job)) {
            left.push(entry.job);
            actor.line.remove_first();
        }
        actor.laid.clear();
        let host = actor.host;
        for job in left {
            self.set_deadline(job, NEVER);
            if let Some(worker) = host.and_then(|host| self.workers.get_mut(host)) {
                worker.jobs.retain(|&other| other != job);
            }
            let ended = self.jobs.remove(job);
            let stop = ended.and_then(|job| job.stop).map(Stop::ending);
            self.actions.push(Action::End(job, stop.unwrap_or(calls)));
        }
        self.over(id, ending);
    }

    /// Ends every actor.
    pub(super) fn end_actors(&mut self, calls: Ending, ending: Ending) {
        let actors: Vec<ActorId> = self.actors.keys().collect();
        actors.into_iter().for_each(|id| self.end_actor(id, calls, ending));
        self.needless.clear();
    }

    /// Ends every actor that has no worker.
    pub(super) fn end_homeless(&mut self, ending: Ending) {
        for id in std::mem::take(&mut self.homeless) {
            self.end_actor(id, ending, ending);
        }
    }

    /// Ends the actors of a worker.
    pub(super) fn end_actors_of(&mut self, host: WorkerId, ending: Ending) {
        let host = self.workers.get(host).and_then(|worker| worker.host.as_ref());
        let actors = host.map(|host| host.actors.clone()).unwrap_or_default();
        actors.into_iter().for_each(|id| self.end_actor(id, ending, ending));
    }

    /// Workers whose only actor has ended are told to leave.
    pub(super) fn retire_needless(&mut self, now: Nanos) {
        while let Some(host) = self.needless.pop() {
            self.retire(host, now);
        }
    }

    /// A worker takes calls of its actors from now on.
    pub(super) fn host_ready(&mut self, floor: &mut impl Floor, host: WorkerId, now: Nanos) {
        let host = self.workers.get(host).and_then(|worker| worker.host.as_ref());
        let actors = host.map(|host| host.actors.clone()).unwrap_or_default();
        actors.into_iter().for_each(|id| self.feed(floor, id, now));
        self.dispatch(floor, None, now);
    }

    /// A worker with actors is dead, and is not known any more. They end with it, unless it never was ready.
    pub(super) fn host_died(&mut self, floor: &mut impl Floor, id: WorkerId, worker: Worker, now: Nanos) {
        self.hosts -= 1;
        let actors = worker.host.map(|host| host.actors).unwrap_or_default();
        let is_surprise = worker.phase != Phase::Leaving && !worker.killed;
        self.counted.died += u64::from(is_surprise);
        if worker.phase == Phase::Starting && !worker.killed {
            for &actor in actors.iter().rev() {
                self.homeless.push_front(actor);
                if let Some(actor) = self.actors.get_mut(actor) {
                    actor.host = None;
                }
            }
            self.start_failed_once_more(now);
        } else {
            if is_surprise && (worker.done > 0 || !worker.jobs.is_empty()) {
                self.forget_failures();
            }
            actors.into_iter().for_each(|actor| self.end_actor(actor, Ending::Died(id), Ending::Died(id)));
        }
        self.dispatch(floor, None, now);
    }

    /// An actor is to end now, whatever it does. What it has not begun ends at once; what it has begun is stopped, as if it
    /// were cancelled. One that has a worker of its own ends with that.
    pub fn kill_actor(&mut self, floor: &mut impl Floor, id: ActorId, now: Nanos) {
        let Some(actor) = self.actors.get_mut(id).filter(|actor| actor.standing != Standing::Killed) else {
            return;
        };
        actor.standing = Standing::Killed;
        let (own, host) = (actor.spec.own, actor.host);
        match host.filter(|host| self.workers.get(*host).is_some_and(Worker::takes_calls)) {
            None => self.end_actor(id, Ending::Killed, Ending::Killed),
            Some(host) if own => self.kill(floor, host),
            Some(host) => self.evict(floor, host, id, now),
        }
        self.dispatch(floor, None, now);
    }

    /// Ends an actor whose worker has others.
    fn evict(&mut self, floor: &mut impl Floor, host: WorkerId, id: ActorId, now: Nanos) {
        self.actions.push(Action::Discard(host, id));
        let Some(actor) = self.actors.get_mut(id) else { return };
        let laid: Vec<JobId> = actor.laid.iter().copied().collect();
        let mut unbegun = Vec::new();
        while let Some(entry) = actor.line.first(|job| self.jobs.contains_key(job)) {
            actor.line.remove_first();
            actor.laid.push_back(entry.job);
            unbegun.push(entry.job);
        }
        for job in laid {
            match self.withdraw(floor, host, job) {
                true => unbegun.push(job),
                false if self.jobs.get(job).is_some_and(|job| job.stop.is_some()) => {}
                false => self.stop(floor, host, job, Stop::Killed, now),
            }
        }
        for job in unbegun {
            if let Some(job) = self.jobs.get_mut(job) {
                // No longer in the line, where nobody looks for it.
                job.state = State::Offered(host);
            }
            self.end(job, Ending::Killed);
        }
        if self.actors.get(id).is_some_and(|actor| actor.calls == 0) {
            self.over(id, Ending::Killed);
        }
    }

    /// An actor that stands still goes on.
    pub fn resume_actor(&mut self, floor: &mut impl Floor, id: ActorId, now: Nanos) {
        if let Some(actor) = self.actors.get_mut(id) {
            actor.halted = false;
            self.feed(floor, id, now);
        }
    }

    /// An actor that stands still lives elsewhere from now on, where this pool does not reach it. What it was asked
    /// meanwhile is refused, as what comes later is.
    pub fn moved_out(&mut self, floor: &mut impl Floor, id: ActorId, now: Nanos) {
        if self.actors.get(id).is_some_and(|actor| actor.halted) {
            self.end_actor(id, Ending::Stopped, Ending::Stopped);
            self.dispatch(floor, None, now);
        }
    }

    /// What an actor that stands still was asked, is asked of another from now on, behind what that was asked. Gives it, in
    /// order. The one has ended then.
    pub fn hand_over(
        &mut self,
        floor: &mut impl Floor,
        from: ActorId,
        to: ActorId,
        now: Nanos,
    ) -> Vec<JobId> {
        let mut handed = Vec::new();
        let Some(actor) = self.actors.get_mut(from).filter(|actor| actor.halted && actor.laid.is_empty())
        else {
            return handed;
        };
        while let Some(entry) = actor.line.first(|job| self.jobs.contains_key(job)) {
            actor.line.remove_first();
            handed.push(entry.job);
        }
        for &job in &handed {
            let sequence = self.counted.submitted;
            self.counted.submitted += 1;
            if let (Some(call), Some(actor)) = (self.jobs.get_mut(job), self.actors.get_mut(to)) {
                (call.spec.actor, call.sequence) = (Some(to), sequence);
                actor.calls += 1;
                actor.line.insert(Entry { sequence, job });
            }
        }
        self.over(from, Ending::Stopped);
        self.feed(floor, to, now);
        self.dispatch(floor, None, now);
        handed
    }

    /// The first call of an actor has failed: there is none.
    pub fn unmade(&mut self, floor: &mut impl Floor, id: ActorId, now: Nanos) {
        self.end_actor(id, Ending::Unmade, Ending::Unmade);
        self.dispatch(floor, None, now);
    }

    /// The call that has to end before this one goes on, or begins. What no worker has waits for that alone.
    pub(super) fn call_waits_for(&self, id: JobId, job: &Job) -> Option<JobId> {
        let actor = self.actors.get(job.spec.actor?)?;
        let &first = actor.laid.front()?;
        if first != id {
            return Some(first);
        }
        let host = self.workers.get(actor.host?)?.host.as_ref()?;
        host.held_by.filter(|holder| *holder != id && self.jobs.contains_key(*holder)).or(job.blocked_on)
    }

    /// Whether an actor was killed, and has a call that goes on.
    #[must_use]
    pub fn is_killed(&self, id: ActorId) -> bool {
        self.actors.get(id).is_some_and(|actor| actor.standing == Standing::Killed)
    }

    /// Whether a worker is there for one actor alone.
    #[must_use]
    pub fn is_own(&self, worker: WorkerId) -> bool {
        self.workers.get(worker).and_then(|worker| worker.host.as_ref()).is_some_and(|host| host.own)
    }

    /// The worker that an actor lives in, once it has one.
    #[must_use]
    pub fn host(&self, id: ActorId) -> Option<WorkerId> {
        self.actors.get(id)?.host
    }

    /// How many calls of an actor have not ended. Nothing when it has ended itself.
    #[must_use]
    pub fn calls(&self, id: ActorId) -> Option<usize> {
        Some(self.actors.get(id)?.calls)
    }

    /// The actors that live in a worker; nothing when it is none for them.
    #[must_use]
    pub fn actors_in(&self, worker: WorkerId) -> Option<&[ActorId]> {
        Some(self.workers.get(worker)?.host.as_ref()?.actors.as_slice())
    }
}
