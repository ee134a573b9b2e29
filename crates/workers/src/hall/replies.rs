//! What workers say, heard and heeded. It may be nonsense: then the worker is killed, and nobody else is hurt.

use std::io;
use std::time::Duration;

use thistledown_wire::{Answer, End, Errand, Reply, SpawnOptions, Verb};

use super::Hall;
use crate::clock;
use crate::desk::Owner;
use crate::name::Name;
use crate::outcome::{Cause, Outcome, Refusal};
use crate::parcel::Parcel;
use crate::policy::{ActorId, Cancel, JobId, Verdict, WorkerId};
use crate::tag::Tag;
use crate::terms::Order;
use crate::view::Span;

/// What to write, when an actor waits for another one in its own worker.
const HELD: &str = "\n  the method that waits is a plain one: it holds the thread of its worker, and actors of the same worker cannot go \
                    on meanwhile; write it as `async def`, and `await` what it waits for";

/// What is heard of a worker at a time.
const FRAMES: usize = 4096;

impl<C> Hall<C> {
    /// Hears what a worker says. True: it said something.
    pub(crate) fn hear_worker(&mut self, id: WorkerId, now: u64) -> bool {
        let mut heard = false;
        // Somebody who talks as fast as he is listened to has to let the others speak.
        for _ in 0..FRAMES {
            let Some(worker) = self.desk.workers.get_mut(id) else { break };
            let heeded = match worker.next_reply() {
                Ok(None) => break,
                Ok(Some((reply, body))) => {
                    heard = true;
                    self.heed(id, reply, body, now)
                }
                Err(error) => Err(error),
            };
            if heeded.is_err() {
                if let Some(worker) = self.desk.workers.get_mut(id) {
                    worker.cause.get_or_insert(Cause::Garbled);
                    worker.kill();
                }
                break;
            }
        }
        heard
    }

    /// Heeds one reply.
    fn heed(&mut self, id: WorkerId, reply: Reply, body: Vec<u8>, now: u64) -> io::Result<()> {
        match reply {
            Reply::Ready => {
                let Some(worker) = self.desk.workers.get_mut(id) else { return Ok(()) };
                worker.is_ready = true;
                // The worker may be faster than the zygote's word of it. Who gets tasks is one whose process is known.
                if worker.process.pid().is_some() {
                    self.policy.ready(&mut self.desk, id, now);
                }
            }
            Reply::Failed => self.give_up(Refusal::Initializer(Parcel::new(&body, &[])?), now),
            Reply::Done { id: job, end, retry, nanos, blob } => {
                let parcel = self.parcel(id, Tag::Task(job), blob, body)?;
                let outcome = match end {
                    End::Value => Outcome::Value(parcel),
                    End::Cancelled => Outcome::Cancelled,
                    _ => Outcome::Error(parcel),
                };
                let job = JobId::from_number(job);
                if self.spans.are_wanted(now) {
                    self.note_span(id, job, nanos, !matches!(outcome, Outcome::Value(_)));
                }
                let is_error = end != End::Value;
                let errand = self.desk.jobs.get(job).and_then(|job| job.errand).filter(|_| is_error);
                let verdict = self.policy.replied(&mut self.desk, id, job, nanos, retry, now);
                if let Some(worker) = self.desk.workers.get_mut(id) {
                    worker.forget(job);
                }
                let error = match &outcome {
                    Outcome::Error(error) => Some(error.clone()),
                    _ => None,
                };
                match verdict {
                    Verdict::Final => self.desk.finish(job, outcome),
                    _ => self.desk.drop_unread(outcome),
                }
                if let Some(Errand { actor, verb }) = errand {
                    self.failed(ActorId::from_number(actor), verb, error, now);
                }
            }
            Reply::Spawn { .. } => self.spawn(id, reply, body, now)?,
            Reply::CancelSpawned { reference } => match self.desk.started_as(id, reference) {
                Some(job) => drop(self.cancel(job, now)),
                None => {
                    self.unwatch_by(id, reference);
                    self.ask_no_more(id, reference);
                }
            },
            Reply::Waiting => self.policy.waiting(&mut self.desk, id, now),
            Reply::Resumed => self.policy.resumed(&mut self.desk, id, now),
            Reply::Say => self.said.push(body),
            Reply::Blocked { id: job, reference, holds } => {
                self.blocked(id, JobId::from_number(job), reference, holds, now);
            }
            Reply::Kill { actor } => self.kill_actor(actor, now),
            Reply::Tie { actor } => self.tie(id, actor),
            Reply::Trail { reference } => {
                if let Some(job) = self.desk.started_as(id, reference) {
                    self.trail(job, body);
                }
            }
        }
        self.act();
        Ok(())
    }

    /// Somebody looks: which job a worker has ended, and how long it took, is kept for him.
    fn note_span(&mut self, id: WorkerId, job: JobId, took: u64, failed: bool) {
        let pid = self.desk.workers.get(id).and_then(|worker| worker.process.pid());
        if let (Some(pid), Some(job)) = (pid, self.desk.jobs.get(job)) {
            self.spans.add(Span { pid, name: job.name.to_string(), ended: clock::now(), took, failed });
        }
    }

    /// What was asked of an actor has failed. When it is what makes it, there is none; one that cannot be sent stays.
    fn failed(&mut self, actor: ActorId, verb: Verb, error: Option<Parcel>, now: u64) {
        match verb {
            Verb::Make { .. } => self.unmade(actor, error, now),
            Verb::Give => self.policy.resume_actor(&mut self.desk, actor, now),
            Verb::Call | Verb::Stop | Verb::Watch => {}
        }
    }

    /// A job cannot go on before one that it has started has ended; or it goes on after all.
    fn blocked(&mut self, id: WorkerId, job: JobId, reference: u64, holds: bool, now: u64) {
        let Some(on) = self.desk.started_as(id, reference) else { return self.policy.unblocked(id, job) };
        let Err(deadlock) = self.policy.blocked(id, job, on, holds) else { return };
        let mut words = self.desk.explain(&deadlock, |job| self.policy.begun_in(job));
        if holds && self.policy.actors_in(id).is_some_and(|actors| actors.len() > 1) {
            words.push_str(HELD);
        }
        // Before anybody is told: who is, may end at once, and what stands behind him would begin.
        let taken_back = self.policy.take_back(&mut self.desk, on, now);
        self.act();
        if let Some(worker) = self.desk.workers.get_mut(id) {
            worker.answer(Answer::Deadlock { reference }, Parcel::words(words.as_bytes()));
        }
        if taken_back == Some(Cancel::Removed) {
            self.desk.finish(on, Outcome::Cancelled);
        }
    }

    /// What a frame's body, or the blob that was sent before it, makes.
    fn parcel(&self, id: WorkerId, tag: Tag, blob: Option<u64>, body: Vec<u8>) -> io::Result<Parcel> {
        match (blob, self.desk.workers.get(id)) {
            (Some(head), Some(worker)) => Ok(match worker.receive_blob(tag.number())? {
                Some(blob) => Parcel::Blob(blob.into(), head),
                None => Parcel::Lost(rustix::io::Errno::MFILE),
            }),
            _ => Ok(Parcel::Inline(body.into())),
        }
    }

    /// A task in a worker starts one of its own.
    fn spawn(&mut self, id: WorkerId, reply: Reply, body: Vec<u8>, now: u64) -> io::Result<()> {
        let Reply::Spawn {
            reference,
            name_length,
            function_length,
            function_blob,
            weightless,
            options,
            blob,
        } = reply
        else {
            return Ok(());
        };
        let SpawnOptions { timeout_nanos, memory, retries, priority, key, errand } =
            options.unwrap_or_default();
        let (named, length) = (usize::from(name_length), function_length as usize);
        let Some((name, body)) = body.split_at_checked(named).filter(|(_, body)| length <= body.len()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a function is longer than its frame"));
        };
        let name = Name::given(&String::from_utf8_lossy(name));
        let of_blob = function_blob
            .map(|head| self.parcel(id, Tag::Function(reference as u32), Some(head), Vec::new()))
            .transpose()?;
        let call = self.parcel(id, Tag::Answer(reference), blob, body[length..].to_vec())?;
        let owner = Owner::Worker(id, reference);
        let interned = match of_blob {
            None => self.functions.intern(&body[..length], weightless),
            Some(parcel) => parcel.open().and_then(|opened| self.functions.intern(opened.head(), weightless)),
        };
        let function = match interned {
            Ok(function) => function,
            // This process is short of something, which is not the worker's fault.
            Err(error) if error.raw_os_error().is_some() => {
                self.desk.conclude(owner, Outcome::Unsent(error.raw_os_error()));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let timeout = timeout_nanos.map(Duration::from_nanos);
        let order = Order { name, function, call, priority, key, timeout, memory, retries, errand };
        match self.order(order, owner, Some(id), now) {
            Ok(job) => job.into_iter().for_each(|job| self.desk.note_started(id, reference, job)),
            Err(owner) => self.desk.conclude(owner, Outcome::Full),
        }
        Ok(())
    }
}
