//! Actors: each lives in one worker, and its calls are jobs that go there alone, in the order of submission.
//!
//! Here stand what is known of one, its beginning, and how it goes on as another. Where it lives is in `hosts`, how its
//! calls get there in `calls`, and how it ends in `ends`.
//!
//! What it is not: it knows no object, no class and no handle, and not how a call is told that its actor is no more.

use std::collections::VecDeque;

use super::ids::{ActorId, JobId, WorkerId};
use super::line::{Entry, Line};
use super::machine::{Door, Policy};
use super::terms::{Ending, Floor, Nanos, Refused};

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
    pub(super) line: Line,
    /// Calls that were, in that order. The worker runs the first.
    pub(super) laid: VecDeque<JobId>,
    /// How many calls there are in all, and how many have ended; what makes it is the first.
    pub(super) calls: usize,
    pub(super) ended: u64,
    /// Nothing is laid.
    pub(super) halted: bool,
}

impl Actor {
    pub(super) fn is_open(&self) -> bool {
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

    /// An actor that stands still goes on.
    pub fn resume_actor(&mut self, floor: &mut impl Floor, id: ActorId, now: Nanos) {
        if let Some(actor) = self.actors.get_mut(id) {
            actor.halted = false;
            self.feed(floor, id, now);
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
}
