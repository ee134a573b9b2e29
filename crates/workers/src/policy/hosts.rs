//! The workers that have actors: who lives where, and what becomes of the actors when one is ready or dead.
//!
//! These workers run nothing else and have no slot, so that a job which waits for an actor never waits for its own place.
//! An actor has one for itself, or lives with others in one of as many as the pool has slots, where there are the fewest.
//! One that has no worker is among the homeless, in the order in which they came, and none of its calls is anywhere else.
//!
//! What it is not: it looks at no call, and starts no worker that jobs are for (`crew`).

use super::ids::{ActorId, WorkerId};
use super::machine::{Door, Policy};
use super::terms::{Action, Ending, Floor, Nanos};
use super::worker::{Phase, Worker};

impl Policy {
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

    pub(super) fn shared_hosts(&self) -> usize {
        self.sharers().count()
    }

    fn fewest_actors(&self) -> Option<WorkerId> {
        self.sharers().min_by_key(|&(_, actors)| actors).map(|(id, _)| id)
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

    /// Workers whose only actor has ended are told to leave.
    pub(super) fn retire_needless(&mut self, now: Nanos) {
        while let Some(host) = self.needless.pop() {
            self.retire(host, now);
        }
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

    /// The actors that live in a worker; nothing when it is none for them.
    #[must_use]
    pub fn actors_in(&self, worker: WorkerId) -> Option<&[ActorId]> {
        Some(self.workers.get(worker)?.host.as_ref()?.actors.as_slice())
    }
}
