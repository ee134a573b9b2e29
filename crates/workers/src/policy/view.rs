//! The policy as it stands, for whoever asks.

use std::collections::VecDeque;

use super::actors::Standing;
use super::ids::{ActorId, JobId, WorkerId};
use super::machine::Policy;
use super::worker::Phase;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerPhase {
    /// It was asked for, and has not reported.
    Starting,
    /// It has nothing.
    Idle,
    /// It has jobs.
    Busy,
    /// Its job waits for another one, and it has given up its slot.
    Waiting,
    /// It was told to leave, or is being killed.
    Leaving,
}

/// What an actor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorPhase {
    /// It has no worker that is ready.
    Starting,
    /// It has no call.
    Idle,
    /// It has calls.
    Busy,
    /// It has given itself, and stands still until it lives elsewhere.
    Moving,
    /// It ends with its last call.
    Stopping,
    /// It was killed, and has a call that goes on.
    Killed,
}

/// An actor, as the policy knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActorSeen {
    /// Which.
    pub id: ActorId,
    /// Where it lives, once it lives somewhere, and whether that worker is for it alone.
    pub host: Option<WorkerId>,
    /// See [`Self::host`].
    pub own: bool,
    /// What it does.
    pub phase: ActorPhase,
    /// How many calls it has, that which runs included; how many it may have; how many have ended.
    pub calls: usize,
    /// See [`Self::calls`].
    pub mailbox: usize,
    /// See [`Self::calls`]. What makes it is none of them.
    pub ended: u64,
    /// The first of its calls that its worker has.
    pub first: Option<JobId>,
}

impl Policy {
    /// Every actor.
    pub fn actors_seen(&self) -> impl Iterator<Item = ActorSeen> {
        self.actors.iter().map(|(id, actor)| {
            let host = actor.host.and_then(|host| self.workers.get(host));
            let phase = match actor.standing {
                Standing::Killed => ActorPhase::Killed,
                Standing::Stopping => ActorPhase::Stopping,
                Standing::Open if host.is_none_or(|host| host.phase == Phase::Starting) => {
                    ActorPhase::Starting
                }
                Standing::Open if actor.halted => ActorPhase::Moving,
                Standing::Open if actor.calls == 0 => ActorPhase::Idle,
                Standing::Open => ActorPhase::Busy,
            };
            ActorSeen {
                id,
                host: actor.host,
                own: actor.spec.own,
                phase,
                calls: actor.calls,
                mailbox: actor.spec.mailbox,
                ended: actor.ended.saturating_sub(1),
                first: actor.laid.front().copied(),
            }
        })
    }

    /// Every worker, what it does, and the jobs that it was given.
    pub fn workers_seen(&self) -> impl Iterator<Item = (WorkerId, WorkerPhase, &VecDeque<JobId>)> {
        self.workers.iter().map(|(id, worker)| {
            let phase = match worker.phase {
                _ if worker.killed => WorkerPhase::Leaving,
                Phase::Leaving => WorkerPhase::Leaving,
                Phase::Starting => WorkerPhase::Starting,
                Phase::Ready if worker.waiting => WorkerPhase::Waiting,
                Phase::Ready if worker.jobs.is_empty() => WorkerPhase::Idle,
                Phase::Ready => WorkerPhase::Busy,
            };
            (id, phase, &worker.jobs)
        })
    }

    /// The jobs that are with no worker, in the order of submission.
    #[must_use]
    pub fn unbegun(&self) -> Vec<JobId> {
        let mut unbegun: Vec<(u64, JobId)> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.worker().is_none())
            .map(|(id, job)| (job.sequence, id))
            .collect();
        unbegun.sort_unstable();
        unbegun.into_iter().map(|(_, id)| id).collect()
    }
}
