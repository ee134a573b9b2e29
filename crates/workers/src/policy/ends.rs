//! The ends of actors: each ends once, with all of its calls, and its worker goes with it when it was there for it alone.
//!
//! One that was asked to stop ends with its last call (`calls`). All other ends are here: it was killed, it could not be
//! made, its worker has died, its pool has closed, or it has moved to where the pool does not reach it. A worker that has
//! other actors survives a kill: what it has begun of this one's is stopped as if it were cancelled, and the end waits
//! for that.
//!
//! What it is not: it ends no worker; those that are needless now are noted, and told to leave by `hosts`.

use super::actors::Standing;
use super::ids::{ActorId, JobId, WorkerId};
use super::job::{State, Stop};
use super::machine::Policy;
use super::terms::{Action, Ending, Floor, NEVER, Nanos};
use super::worker::Worker;

impl Policy {
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

    /// The first call of an actor has failed: there is none.
    pub fn unmade(&mut self, floor: &mut impl Floor, id: ActorId, now: Nanos) {
        self.end_actor(id, Ending::Unmade, Ending::Unmade);
        self.dispatch(floor, None, now);
    }

    /// An actor that stands still lives elsewhere from now on, where this pool does not reach it. What it was asked
    /// meanwhile is refused, as what comes later is.
    pub fn moved_out(&mut self, floor: &mut impl Floor, id: ActorId, now: Nanos) {
        if self.actors.get(id).is_some_and(|actor| actor.halted) {
            self.end_actor(id, Ending::Stopped, Ending::Stopped);
            self.dispatch(floor, None, now);
        }
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

    /// Ends an actor with all of its calls, wherever they are.
    pub(super) fn end_actor(&mut self, id: ActorId, calls: Ending, ending: Ending) {
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

    /// An actor has ended, and has no calls. Its worker goes when it was for it alone.
    pub(super) fn over(&mut self, id: ActorId, ending: Ending) {
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

    /// Whether an actor was killed, and has a call that goes on.
    #[must_use]
    pub fn is_killed(&self, id: ActorId) -> bool {
        self.actors.get(id).is_some_and(|actor| actor.standing == Standing::Killed)
    }
}
