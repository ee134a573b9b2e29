//! A pool as it stands, for whoever asks: its workers, what each runs, and what waits.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock;
use crate::hall::Hall;
use crate::policy::{ActorId, ActorSeen, JobId, WorkerPhase};
use crate::worker::Worker;

/// A job as it stands.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Which, for [`crate::Engine::cancel`].
    pub id: JobId,
    /// What people call it.
    pub name: String,
    /// Nanoseconds since it began, if it is known to run.
    pub runs_for: Option<u64>,
    /// The job that has to end before it goes on, or begins.
    pub waits_for: Option<String>,
}

/// A job that a worker has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// The worker's process.
    pub pid: i32,
    /// What people call the job.
    pub name: String,
    /// When its reply was read, in nanoseconds of [`crate::now`].
    pub ended: u64,
    /// How many nanoseconds it took in the worker.
    pub took: u64,
    /// It failed or was cancelled.
    pub failed: bool,
}

/// The last jobs that workers have ended, while somebody looks; without anybody, a number to compare with the time.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    /// Until when somebody is known to look.
    until: u64,
    last: VecDeque<Span>,
}

/// So many of them are kept, the newest.
const SPANS: usize = 2_000;

impl Spans {
    /// Whether somebody looks.
    #[inline]
    pub(crate) fn are_wanted(&self, now: u64) -> bool {
        now < self.until
    }

    pub(crate) fn add(&mut self, span: Span) {
        if self.last.len() >= SPANS {
            self.last.pop_front();
        }
        self.last.push_back(span);
    }

    /// Those that were read after this moment. They are kept from now on for so long.
    pub(crate) fn after(&mut self, moment: u64, keep: Duration, now: u64) -> Vec<Span> {
        if !self.are_wanted(now) {
            self.last.clear();
        }
        self.until = now.saturating_add(u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX));
        self.last.iter().filter(|span| span.ended > moment).cloned().collect()
    }
}

/// An actor as it stands.
#[derive(Clone, Debug)]
pub struct ActorView {
    /// What its maker named it.
    pub number: u64,
    /// What people call it.
    pub name: String,
    /// How it stands.
    pub seen: ActorSeen,
    /// The process that it lives in.
    pub pid: Option<i32>,
    /// The first of its calls that its worker has, which has begun if it is known to run.
    pub first: Option<JobView>,
}

/// A worker as it stands.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// Its process, once it is known to be born.
    pub pid: Option<i32>,
    /// What it does.
    pub phase: WorkerPhase,
    /// Its descriptor from which its lines are to be read, if it was asked and can say.
    pub lines: Option<u32>,
    /// What it was given and has not ended, in that order.
    pub jobs: Vec<JobView>,
    /// The actors that live in it, by name, each with how many calls it has; nothing: it is not there for actors.
    pub actors: Option<Vec<(String, usize)>>,
}

/// A pool as it stands.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// How many workers run at a time.
    pub size: usize,
    /// It takes no more jobs.
    pub is_closing: bool,
    /// Its workers.
    pub workers: Vec<WorkerView>,
    /// The first jobs that are with no worker.
    pub queued: Vec<JobView>,
    /// How many of these there are in all.
    pub queued_count: usize,
}

impl<C> Hall<C> {
    /// How it stands, with so many of the jobs that are with no worker. Workers that have jobs are asked for their lines.
    pub(crate) fn view(&self, size: usize, limit: usize) -> PoolView {
        let now = clock::now();
        let workers = self.policy.workers_seen().map(|(id, phase, jobs)| {
            let worker = self.desk.workers.get(id);
            let job = |job: &JobId| self.job_view(*job, self.runs_for(worker, *job, now));
            let jobs: Vec<JobView> = jobs.iter().map(job).collect();
            let lines = worker.filter(|_| !jobs.is_empty()).and_then(Worker::ask_lines);
            let actors = self.policy.actors_in(id);
            let calls = |actor: &ActorId| (self.actor_name(*actor), self.policy.calls(*actor).unwrap_or(0));
            let actors = actors.map(|actors| actors.iter().map(calls).collect());
            WorkerView { pid: worker.and_then(|worker| worker.process.pid()), phase, lines, jobs, actors }
        });
        let workers = workers.collect();
        let waiting = self.policy.unbegun();
        let queued = waiting.iter().take(limit).map(|&job| self.job_view(job, None)).collect();
        PoolView { size, is_closing: self.is_closing(), workers, queued, queued_count: waiting.len() }
    }

    /// So many of the actors, those with the most calls first.
    pub(crate) fn actors(&self, limit: usize) -> Vec<ActorView> {
        let now = clock::now();
        let mut seen: Vec<ActorSeen> = self.policy.actors_seen().collect();
        seen.sort_by_key(|actor| std::cmp::Reverse(actor.calls));
        seen.truncate(limit);
        let view = |seen: ActorSeen| {
            let worker = seen.host.and_then(|host| self.desk.workers.get(host));
            let first = seen.first.map(|job| self.job_view(job, self.runs_for(worker, job, now)));
            let number = self.desk.actors.lives.get(seen.id).map_or(0, |life| life.number);
            let pid = worker.and_then(|worker| worker.process.pid());
            ActorView { number, name: self.actor_name(seen.id), seen, pid, first }
        };
        seen.into_iter().map(view).collect()
    }

    /// For how many nanoseconds a job runs, if this worker is known to run it.
    fn runs_for(&self, worker: Option<&Worker>, job: JobId, now: u64) -> Option<u64> {
        let (running, since) = worker.and_then(|worker| worker.region.running())?;
        (running == job.number()).then(|| now.saturating_sub(since))
    }

    fn actor_name(&self, actor: ActorId) -> String {
        let life = self.desk.actors.lives.get(actor);
        life.map_or_else(|| "an actor".to_owned(), |life| life.name.to_string())
    }

    fn job_view(&self, job: JobId, runs_for: Option<u64>) -> JobView {
        let name = |job| self.desk.jobs.get(job).map(|job| job.name.to_string());
        JobView {
            id: job,
            name: name(job).unwrap_or_else(|| "a task".to_owned()),
            runs_for,
            waits_for: self.policy.waits_for(job).and_then(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(ended: u64) -> Span {
        Span { pid: 1, name: String::new(), ended, took: 1, failed: false }
    }

    #[test]
    fn spans_are_kept_while_somebody_looks_and_the_newest_of_them() {
        let mut spans = Spans::default();
        assert!(!spans.are_wanted(5), "nobody has looked");
        assert!(spans.after(0, Duration::from_nanos(100), 10).is_empty());
        assert!(spans.are_wanted(109) && !spans.are_wanted(110));
        (0..=SPANS as u64).for_each(|ended| spans.add(span(ended)));
        let known = |spans: Vec<Span>| spans.iter().map(|span| span.ended).collect::<Vec<_>>();
        let newest = SPANS as u64;
        assert_eq!(known(spans.after(newest - 2, Duration::from_nanos(100), 20)), [newest - 1, newest]);
        assert_eq!(spans.last.front().map(|span| span.ended), Some(1), "the oldest was let go");
        assert!(spans.after(0, Duration::ZERO, 500).is_empty(), "nobody has looked for long");
        assert!(!spans.are_wanted(500));
    }
}
