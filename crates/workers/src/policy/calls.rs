//! The calls of actors: jobs with one place where they may go, laid there ahead of their turn.
//!
//! Calls are laid ahead, [`AHEAD`] of each actor, since none of them could go anywhere else; which method waits and which
//! does not is the worker's affair, which runs the calls of one actor one at a time. So here a call that was laid may or
//! may not have begun. A call stands in the line of its actor or is laid, and never both; what is laid is in the order of
//! the line. One with a time of its own is laid alone, so that its time begins with it.
//!
//! What it is not: it does not look for workers (`hosts`), and ends no call for which there was no reply (`ends`).

use super::actors::Standing;
use super::ids::{ActorId, JobId, WorkerId};
use super::job::{Job, JobSpec, State};
use super::line::Entry;
use super::machine::Policy;
use super::terms::{Ending, Floor, Nanos, Refused};
use super::worker::Worker;

/// So many calls of an actor are laid in the lane of its worker at the same time.
const AHEAD: usize = 64;

/// A worker in whose lane there is no room is asked again after so long.
const ASK_AGAIN: Nanos = 1_000_000;

impl Policy {
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
    pub(super) fn feed(&mut self, floor: &mut impl Floor, id: ActorId, now: Nanos) {
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

    /// How many calls of an actor have not ended. Nothing when it has ended itself.
    #[must_use]
    pub fn calls(&self, id: ActorId) -> Option<usize> {
        Some(self.actors.get(id)?.calls)
    }
}
