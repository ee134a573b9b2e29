//! A worker as the policy sees it.

use std::collections::VecDeque;

use super::ids::{ActorId, JobId};
use super::terms::{NEVER, Nanos};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Asked for; it has not reported.
    Starting,
    /// It takes jobs.
    Ready,
    /// Told to leave, or killed with all the others.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) phase: Phase,
    /// Its job waits for a nested one: it gave up its slot.
    pub(super) waiting: bool,
    /// It is being killed: nothing more for it.
    pub(super) killed: bool,
    /// What it has is weightless. Means nothing while it has nothing.
    pub(super) weightless: bool,
    /// What it has takes nothing beside it or behind it.
    pub(super) exclusive: bool,
    /// What was offered to it and has not ended, in that order. A plain worker runs the first.
    pub(super) jobs: VecDeque<JobId>,
    /// How many of its jobs have ended.
    pub(super) done: u64,
    /// When to look whether its job runs for long or, when it was told to leave, whether it has left.
    pub(super) check_at: Nanos,
    /// It has actors, and so runs nothing else and has no slot.
    pub(super) host: Option<Host>,
}

/// What there is to know of a worker that has actors.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// It has one, and will have no other.
    pub(super) own: bool,
    pub(super) actors: Vec<ActorId>,
    /// Those for whose calls there was no room.
    pub(super) hungry: VecDeque<ActorId>,
    /// The call that its one thread runs and that waits, so that no other can go on.
    pub(super) held_by: Option<JobId>,
}

impl Worker {
    pub(super) fn starting() -> Self {
        Self {
            phase: Phase::Starting,
            waiting: false,
            killed: false,
            weightless: false,
            exclusive: false,
            jobs: VecDeque::new(),
            done: 0,
            check_at: NEVER,
            host: None,
        }
    }

    /// One for actors: to everybody who looks for room it is full.
    pub(super) fn starting_host(own: bool) -> Self {
        let host = Some(Host { own, ..Host::default() });
        Self { weightless: true, exclusive: true, host, ..Self::starting() }
    }

    /// It takes calls of its actors.
    pub(super) fn takes_calls(&self) -> bool {
        self.phase == Phase::Ready && !self.killed
    }

    /// It has a slot: it runs jobs, or could.
    pub(super) fn is_active(&self) -> bool {
        self.phase == Phase::Ready && !self.waiting
    }

    /// It has jobs and may take more of their kind, up to `limit` at a time and `lifetime` in all.
    pub(super) fn takes_more(&self, weightless: bool, limit: usize, lifetime: Option<u64>) -> bool {
        self.is_active()
            && !self.killed
            && !self.exclusive
            && self.weightless == weightless
            && !self.jobs.is_empty()
            && self.jobs.len() < limit
            && lifetime.is_none_or(|lifetime| self.done + (self.jobs.len() as u64) < lifetime)
    }
}
