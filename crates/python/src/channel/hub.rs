//! A shared channel itself, in the process that made it: the state machine and its lock.

use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};

use rustix_futex_sync::Mutex;
use thistledown_exchange::channel::speech::{OPEN, given, heard, number};
use thistledown_exchange::channel::{Act, Machine};
use thistledown_exchange::{Object, Parcel, Party, Post, RequestId, WeakExchange};
use thistledown_kernel::SpotId;

use crate::channel::shared::Shared;
use crate::payload::WORLD;
use crate::workers::freight;

/// The channel itself.
pub(super) struct Hub {
    number: u64,
    pub(super) machine: Mutex<Machine<Parcel>>,
    /// The port of its own process.
    pub(super) here: OnceLock<Weak<Shared>>,
    /// Who has asked how it stands, and has still to hear of something before.
    asking: Mutex<Vec<RequestId>>,
    exchange: WeakExchange,
}

impl Hub {
    pub(super) fn new(number: u64, machine: Machine<Parcel>, exchange: WeakExchange) -> Self {
        let (machine, asking) = (Mutex::new(machine), Mutex::default());
        Self { number, machine, here: OnceLock::new(), asking, exchange }
    }

    /// Does something with the machine, and passes on what comes of it: to this process's port at once, so that all comes
    /// in one order; to others through the post.
    pub(super) fn change<R>(
        &self,
        post: &mut Post<'_>,
        work: impl FnOnce(&mut Machine<Parcel>, &mut Vec<Act<Parcel>>) -> R,
    ) -> R {
        let here = self.here.get().and_then(Weak::upgrade);
        let result = {
            let mut machine = self.machine.lock();
            let mut acts = Vec::new();
            let result = work(&mut machine, &mut acts);
            while !acts.is_empty() {
                let mut says = Vec::new();
                for (party, act) in std::mem::take(&mut acts) {
                    if !party.is_here() {
                        let (verb, body) = given(&act);
                        post.note(party, self.number, verb, &body);
                    } else if let Some(here) = &here {
                        here.port.lock().hear(act, &mut says, &mut call);
                    }
                }
                says.into_iter().for_each(|say| machine.hear(Party::HERE, say, &mut acts));
            }
            self.answer(&machine, post);
            result
        };
        WORLD.with(|_| ());
        result
    }
}

impl Hub {
    /// Answers those who have been given all that they have asked for, so far as it is there.
    fn answer(&self, machine: &Machine<Parcel>, post: &mut Post<'_>) {
        let mut asking = self.asking.lock();
        if asking.is_empty() {
            return;
        }
        let state = number((machine.len() as u64) << 1 | u64::from(machine.is_closed()));
        let answered = asking.extract_if(.., |request| machine.is_settled(request.party));
        answered.for_each(|request| post.answer(request, &state));
    }
}

/// Calls who waits at a spot. Whether he hears it now or when he begins to wait is the same.
pub(super) fn call(spot: &Option<SpotId>) {
    if let Some(spot) = *spot {
        WORLD.with_left(|kernel| kernel.call(spot));
    }
}

impl Object for Hub {
    fn asked(&self, request: RequestId, _verb: u8, _body: Parcel, post: &mut Post<'_>) {
        let machine = self.machine.lock();
        self.asking.lock().push(request);
        self.answer(&machine, post);
    }

    fn withdrawn(&self, request: RequestId, _post: &mut Post<'_>) {
        self.asking.lock().retain(|asking| *asking != request);
    }

    fn accepted(&self, _request: RequestId, _post: &mut Post<'_>) {}

    fn declined(&self, _request: RequestId, _post: &mut Post<'_>) {}

    fn told(&self, party: Party, verb: u8, body: Parcel, post: &mut Post<'_>) {
        if verb == OPEN {
            self.change(post, |machine, acts| machine.attach(party, acts));
        } else if let Some(say) = heard(verb, body) {
            self.change(post, |machine, acts| machine.hear(party, say, acts));
        }
    }

    fn detached(&self, party: Party, post: &mut Post<'_>) {
        self.change(post, |machine, acts| machine.detach(party, acts));
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// What lies in it nobody will receive: the handles in that keep nothing any more. Nothing is touched in a forked child.
impl Drop for Hub {
    fn drop(&mut self) {
        let Some(exchange) = self.exchange.upgrade().filter(|exchange| !exchange.is_forked()) else { return };
        let left = self.machine.get_mut().take_left();
        exchange.revoke(left.iter().filter_map(|message| message.look(freight::kept_by)).flatten());
    }
}
