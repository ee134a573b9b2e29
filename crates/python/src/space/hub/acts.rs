//! What is asked of a space from elsewhere, act by act.

use std::sync::Arc;

use thistledown_exchange::{Party, Post, RequestId};
use thistledown_runtime::{Look, Recalled};
use thistledown_space::{Act, OperationId, encode_tuples};

use crate::payload::WORLD;
use crate::space::hub::again::Named;
use crate::space::hub::waits::Wait;
use crate::space::hub::written::{Job, Offered};
use crate::space::hub::{Hub, code};

impl Hub {
    pub(super) fn act(
        &self,
        request: RequestId,
        operation: Option<OperationId>,
        act: Act,
        post: &mut Post<'_>,
    ) {
        let Some(act) = self.begin(request, operation, act) else { return };
        if let Act::Forsake = act {
            self.forsake(operation);
        }
        self.act_begun(request, operation, act, post);
    }

    /// It is noted that this is being done.
    pub(super) fn act_begun(
        &self,
        request: RequestId,
        operation: Option<OperationId>,
        act: Act,
        post: &mut Post<'_>,
    ) {
        let now = self.now();
        if let Some(recalled) = operation.and_then(|asked| self.shared.recall(&WORLD, now, asked)) {
            return self.again(request, (recalled, operation), act, post);
        }
        match act {
            Act::Write(tuple, lease, Some(id)) => {
                let written = self
                    .shared
                    .with(&WORLD, now, |space, outside| space.write_within(id, tuple, lease, outside));
                match written {
                    Ok(()) => self.answer(request, &[], post),
                    Err(why) => self.refuse_as(request, why, post),
                }
            }
            Act::Write(tuple, lease, None) => {
                let slot = self.slot();
                match self.shared.begin_numbered(&WORLD, now, (tuple, lease), operation, self.told(&slot)) {
                    Ok((number, pending)) => {
                        self.when_written(&slot, Job::Write { request, number, pending, operation }, post);
                    }
                    Err(error) => {
                        self.refuse(request, code::WORDS, &error.to_string(), post);
                        self.over(operation, post);
                    }
                }
            }
            Act::Look(wanted, waits) => self.look(request, (wanted, waits), operation, post),
            Act::All(template) => {
                let mut found = Vec::new();
                self.shared.with(&WORLD, now, |space, outside| {
                    space.visit(&template, outside, &mut |tuple| found.push(Arc::clone(tuple)));
                });
                match encode_tuples(&found) {
                    Ok(bytes) => self.answer(request, &bytes, post),
                    Err(error) => self.refuse(request, code::WORDS, &error.to_string(), post),
                }
            }
            Act::Count(template) => {
                let count = self.shared.with(&WORLD, now, |space, outside| space.count(&template, outside));
                self.answer(request, &(count as u64).to_le_bytes(), post);
            }
            Act::Watch(template, number, capacity) => {
                let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
                self.watch(request.party, number, template, capacity);
                self.answer(request, &[], post);
            }
            Act::Confirm(claim) => {
                let slot = self.slot();
                match self.shared.begin_confirm(&WORLD, now, claim, operation, self.told(&slot)) {
                    Ok(pending) => {
                        self.with_belongings(request.party, |has| has.claims.remove(&claim));
                        self.when_written(&slot, Job::Settle { request, pending, operation }, post);
                    }
                    Err(why) => {
                        self.refuse_as(request, why, post);
                        self.over(operation, post);
                    }
                }
            }
            Act::Renew(claim, lease) => {
                let slot = self.slot();
                match self.shared.renew(&WORLD, now, (claim, lease), self.told(&slot)) {
                    Ok(mark) => self.when_written(&slot, Job::Note { request, mark }, post),
                    Err(why) => self.refuse_as(request, why, post),
                }
            }
            Act::Begin => {
                let id = self.shared.with(&WORLD, now, |space, _| space.begin());
                self.with_belongings(request.party, |has| has.transactions.insert(id));
                self.answer(request, &id.number().to_le_bytes(), post);
            }
            Act::Commit(id) => {
                let slot = self.slot();
                self.with_belongings(request.party, |has| has.transactions.remove(&id));
                match self.shared.begin_commit(&WORLD, now, id, operation, self.told(&slot)) {
                    Ok(pending) => {
                        self.when_written(&slot, Job::Settle { request, pending, operation }, post);
                    }
                    Err(why) => {
                        self.refuse_as(request, why, post);
                        self.over(operation, post);
                    }
                }
            }
            // What it was, if it was heard, was given up before this.
            Act::Forsake => self.answer_when_undone(request, post),
            Act::GiveBack(claim) => {
                self.with_belongings(request.party, |has| has.claims.remove(&claim));
                self.shared.give_back(&WORLD, now, claim);
                self.answer_when_undone(request, post);
            }
            told => {
                self.hear(request.party, told, post);
                self.answer(request, &[], post);
            }
        }
    }

    /// Who hears that something is undone does not ask the next owner to undo it: so all of that is in the file by then.
    /// What was on its way into the file when it was given up, is undone when it is there: so that is waited for first.
    fn answer_when_undone(&self, request: RequestId, post: &mut Post<'_>) {
        let slot = self.slot();
        let mark = self.shared.flush(self.told(&slot));
        self.when_written(&slot, Job::Undo { request, mark }, post);
    }

    /// It is done, and whoever asked has not heard so: he hears what came of it, or it is undone.
    fn again(
        &self,
        request: RequestId,
        (recalled, operation): (Recalled, Option<OperationId>),
        act: Act,
        post: &mut Post<'_>,
    ) {
        let named = |row| operation.map(|operation| Named { operation, row });
        let offered = match (recalled, &act) {
            (Recalled::Look(look), Act::Look(wanted, _)) => {
                let wanted = Arc::clone(wanted);
                return self.done(Job::Look { request, wanted, look }, post);
            }
            (Recalled::Look(Look { pending, .. }), _) => {
                pending.into_iter().for_each(|pending| self.shared.undo(&WORLD, self.now(), pending));
                return self.answer_when_undone(request, post);
            }
            (Recalled::Written(number, row), Act::Forsake) => {
                self.shared.retract(&WORLD, self.now(), number, Some(row));
                return self.answer_when_undone(request, post);
            }
            (Recalled::Done(row), Act::Forsake) => {
                self.shared.forget(row);
                return self.answer_when_undone(request, post);
            }
            (Recalled::Written(number, row), _) => Some(Offered::Write(number, named(row))),
            (Recalled::Done(row), _) => named(row).map(Offered::Settled),
        };
        if let Some(offered) = offered {
            self.offer(request, offered, &[], post);
        }
    }

    pub(super) fn hear(&self, party: Party, act: Act, post: &mut Post<'_>) {
        let now = self.now();
        match act {
            Act::RollBack(id) => {
                self.with_belongings(party, |has| has.transactions.remove(&id));
                self.shared.with(&WORLD, now, |space, outside| space.roll_back(id, outside));
            }
            Act::Unwatch(number) => {
                if let Some(ours) = self.with_belongings(party, |has| has.watches.remove(&number)) {
                    self.unwatch(ours);
                }
            }
            Act::Heard(number, count) => self.heard_of(party, number, count, post),
            Act::LookAgain(number) => {
                let is_his = |wait: &Wait| wait.request.party == party && wait.number == number;
                let ours = {
                    let state = self.state.lock();
                    state.waits.iter().find(|(_, wait)| is_his(wait)).map(|(ours, _)| *ours)
                };
                if let Some(ours) = ours {
                    self.serve(ours, post);
                }
            }
            Act::Keep(claim) => drop(self.with_belongings(party, |has| has.claims.insert(claim))),
            Act::Spoilt(claim) => {
                self.state.lock().spoilt.insert(claim);
            }
            _ => {}
        }
    }
}
