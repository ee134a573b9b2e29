//! What is asked of actors, and what becomes of them.

use thistledown_wire::{Answer, Errand, Verb};

use super::Hall;
use crate::desk::Owner;
use crate::outcome::{Cause, Gone, Outcome, Refusal};
use crate::parcel::Parcel;
use crate::policy::{ActorId, ActorSpec, Ending, JobId, Refused, WorkerId};
use crate::terms::Order;

impl<C> Hall<C> {
    /// Takes an order; `by` is the worker whose task gives it.
    ///
    /// # Errors
    /// The actor has as many calls as it may have; the owner comes back.
    pub(crate) fn order(
        &mut self,
        order: Order,
        owner: Owner<C>,
        by: Option<WorkerId>,
        now: u64,
    ) -> Result<Option<JobId>, Owner<C>> {
        let mut spec = order.spec();
        let Some(errand) = order.errand else {
            return Ok(self.submit(spec, order.into_job(owner), by, now));
        };
        let actor = match errand.verb {
            Verb::Make { own, mailbox } => match self.make(errand.actor, own, mailbox, &order, by, now) {
                Ok(actor) => actor,
                Err(refused) => {
                    let refusal = self.refusal(refused);
                    self.desk.conclude(owner, Outcome::Refused(refusal));
                    return Ok(None);
                }
            },
            Verb::Call | Verb::Give | Verb::Stop | Verb::Watch => match self.desk.actors.find(errand.actor) {
                Some(actor) => actor,
                None => {
                    let gone = self.desk.actors.grave(errand.actor);
                    if let Some((_, owner)) = self.ask_later(order, owner, by)? {
                        self.desk.conclude(owner, Outcome::Gone(gone));
                    }
                    return Ok(None);
                }
            },
        };
        // One that is to be stopped and ends with its pool anyway need not be told.
        if errand.verb == Verb::Watch {
            self.desk.actors.watch(errand.actor, actor, owner);
            return Ok(None);
        }
        if errand.verb == Verb::Stop && self.closing && by.is_none() {
            if let Some(life) = self.desk.actors.lives.get_mut(actor) {
                life.watchers.push(owner);
            }
            return Ok(None);
        }
        (spec.actor, spec.last) = (Some(actor), errand.verb == Verb::Stop);
        spec.halts = errand.verb == Verb::Give;
        let mut job = order.into_job(owner);
        job.errand = Some(Errand { actor: actor.number(), verb: errand.verb });
        if let Some(limits) = job.limits.as_mut() {
            limits.is_for_life = matches!(errand.verb, Verb::Make { .. });
        }
        match self.try_submit(spec, job, by, now) {
            Ok(id) => Ok(Some(id)),
            Err((Refused::Full, job)) => Err(job.owner),
            Err((refused, job)) => {
                let outcome = match refused {
                    Refused::Over => Outcome::Gone(self.why_over(actor)),
                    refused => Outcome::Refused(self.refusal(refused)),
                };
                self.desk.conclude(job.owner, outcome);
                Ok(None)
            }
        }
    }

    fn make(
        &mut self,
        number: u64,
        own: bool,
        mailbox: u32,
        order: &Order,
        by: Option<WorkerId>,
        now: u64,
    ) -> Result<ActorId, Refused> {
        // By chance there never are two of a name; a worker that talks nonsense may say one twice.
        if self.desk.actors.find(number).is_some() {
            return Err(Refused::Over);
        }
        // A limit of memory is one of a process, so nobody else is in it.
        let spec = ActorSpec { own: own || order.memory.is_some(), mailbox: mailbox as usize };
        let actor = self.policy.open(spec, by, now)?;
        self.desk.actors.born(actor, number, order.name.clone());
        Ok(actor)
    }

    fn refusal(&self, refused: Refused) -> Refusal {
        self.refusal.clone().unwrap_or_else(|| Refusal::Start(refused.to_string()))
    }

    /// Why an actor that has not ended takes no calls.
    fn why_over(&self, actor: ActorId) -> Gone {
        if self.policy.is_killed(actor) { Gone::Killed } else { Gone::Stopped }
    }

    /// An actor is to end at once.
    pub(crate) fn kill_actor(&mut self, number: u64, now: u64) {
        let Some(actor) = self.desk.actors.find(number) else { return };
        let host = self.policy.host(actor).filter(|host| self.policy.is_own(*host));
        if let Some(worker) = host.and_then(|host| self.desk.workers.get_mut(host)) {
            worker.cause.get_or_insert(Cause::Dismissed);
        }
        self.policy.kill_actor(&mut self.desk, actor, now);
        self.act();
    }

    /// From now on an actor ends when this worker does, in which somebody is who answers for it.
    pub(super) fn tie(&mut self, worker: WorkerId, actor: u64) {
        let tied = self.ties.entry(worker).or_default();
        // As many as live, and the one that comes.
        tied.retain(|known| self.desk.actors.find(*known).is_some());
        tied.push(actor);
    }

    /// A worker is gone, and so are the actors that end with it.
    pub(super) fn end_tied(&mut self, worker: WorkerId, now: u64) {
        for actor in self.ties.remove(&worker).unwrap_or_default() {
            self.kill_actor(actor, now);
        }
    }

    /// What makes an actor has failed with this; nothing: it was stopped.
    pub(crate) fn unmade(&mut self, actor: ActorId, error: Option<Parcel>, now: u64) {
        if let Some(life) = self.desk.actors.lives.get_mut(actor) {
            life.unmade = error;
        }
        self.policy.unmade(&mut self.desk, actor, now);
    }

    /// An actor that has given itself lives on as another one of this pool, or goes on itself when there is none.
    pub(crate) fn moved(&mut self, from: u64, to: Option<u64>, now: u64) {
        let Some(from_id) = self.desk.actors.find(from) else { return };
        match to.and_then(|to| self.desk.actors.find(to)) {
            None => self.policy.resume_actor(&mut self.desk, from_id, now),
            Some(to_id) => {
                self.desk.actors.move_in(from, from_id, to_id);
                let handed = self.policy.hand_over(&mut self.desk, from_id, to_id, now);
                for job in handed {
                    if let Some(errand) = self.desk.jobs.get_mut(job).and_then(|job| job.errand.as_mut()) {
                        errand.actor = to_id.number();
                    }
                }
            }
        }
        self.act();
    }

    /// An actor that has given itself lives elsewhere.
    pub(crate) fn moved_out(&mut self, actor: u64, now: u64) {
        if let Some(id) = self.desk.actors.find(actor) {
            self.policy.moved_out(&mut self.desk, id, now);
            self.act();
        }
    }

    /// A customer does not want to hear of the end of an actor any more.
    pub(crate) fn unwatch(&mut self, number: u64, is_he: impl Fn(&C) -> bool) {
        let is_owner = |owner: &Owner<C>| matches!(owner, Owner::Customer(customer) if is_he(customer));
        if let Some(owner) = self.desk.actors.unwatch(number, is_owner) {
            self.desk.conclude(owner, Outcome::Cancelled);
        }
    }

    /// A worker's task does not.
    pub(super) fn unwatch_by(&mut self, worker: WorkerId, reference: u64) {
        if let Some(owner) = self.desk.actors.unwatch_by(worker, reference) {
            self.desk.conclude(owner, Outcome::Cancelled);
        }
    }

    /// A worker has to let go of an actor.
    pub(super) fn discard(&mut self, worker: WorkerId, actor: ActorId) {
        if let Some(worker) = self.desk.workers.get_mut(worker) {
            worker.answer(Answer::Discard { actor: actor.number() }, Parcel::empty());
        }
    }

    /// An actor has ended.
    pub(super) fn over_actor(&mut self, actor: ActorId, ending: Ending) {
        let gone = match ending {
            Ending::Stopped => Gone::Stopped,
            Ending::Closed => Gone::Closed,
            Ending::Killed | Ending::Cancelled | Ending::TimedOut => Gone::Killed,
            Ending::Unmade => self.why_unmade(actor),
            Ending::NoWorkers => Gone::NoWorkers(self.why_no_workers()),
            Ending::Died(worker) => match self.desk.workers.get_mut(worker) {
                Some(worker) => Gone::Died(worker.death()),
                None => Gone::NoWorkers(self.why_no_workers()),
            },
        };
        for watcher in self.desk.actors.bury(actor, gone.clone()) {
            self.desk.conclude(watcher, Outcome::Gone(gone.clone()));
        }
    }

    /// What came of a call whose actor could not be made.
    pub(super) fn why_unmade(&self, actor: ActorId) -> Gone {
        let error = self.desk.actors.lives.get(actor).and_then(|life| life.unmade.clone());
        error.map_or(Gone::Killed, Gone::Unmade)
    }

    fn why_no_workers(&self) -> Refusal {
        self.refusal.clone().unwrap_or_else(|| self.failed_start.clone())
    }
}
