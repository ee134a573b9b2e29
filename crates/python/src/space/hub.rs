//! A space that other processes use, in the process that has it: what they ask, and what becomes of it.
//!
//! Who waits elsewhere is enlisted in the space as all others are, so all are served in one order. What is found for him is
//! held, and offered; he commits to it in his own process, with everything else that he waits for, or it is back in its
//! place. A write is done when it is offered, and is taken back if whoever asked for it has given up by then.
//!
//! A process that is gone has given up what it waited for, its transactions are rolled back, and its claims are over at
//! once: nobody is there who could confirm them.
//!
//! No lock here is held while the space is used, or the exchange; so each of these calls may lead to another. Nothing here
//! takes the interpreter's lock.

mod acts;
mod again;
mod waits;
mod watches;
mod written;

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix_futex_sync::Mutex;
use thistledown_exchange::{Address, Object, Parcel, Party, Post, RequestId, WeakExchange};
use thistledown_kernel::Moment;
use thistledown_ledger::{Error, Ledger};
use thistledown_runtime::{Far, Look, SharedSpace};
use thistledown_space::{Act, Ask, ClaimId, CodecError, News, OperationId, Refused, TransactionId};

use crate::current::Run;
use crate::payload::WORLD;
use crate::space::home::Home;
use crate::space::hub::again::Doing;
use crate::space::hub::waits::Wait;
use crate::space::hub::watches::Watch;
use crate::space::hub::written::Offered;

/// Why something was not done.
pub(crate) mod code {
    pub(crate) const CLAIM_OVER: u16 = 1;
    pub(crate) const TRANSACTION_OVER: u16 = 2;
    /// The file cannot be written; the body says more.
    pub(crate) const FILE: u16 = 3;
    /// It cannot be told; the body says why.
    pub(crate) const WORDS: u16 = 4;
    /// The file is closed here: another process may have it.
    pub(crate) const CLOSED: u16 = 5;
}

/// All that is asked and told is of one kind; its body says what.
pub(crate) const VERB: u8 = 0;

/// Bytes as a body.
pub(crate) fn parcel(bytes: &[u8]) -> Parcel {
    // What there is no memory for is not had.
    Parcel::new(bytes, &[]).unwrap_or_else(|_| Parcel::empty())
}

/// The bytes of a body.
pub(crate) fn bytes_of(body: &Parcel) -> Result<Vec<u8>, CodecError> {
    Ok(body.open().map_err(|_| CodecError::Truncated)?.head().to_vec())
}

/// What a process has, and loses with its end.
#[derive(Default)]
struct Belongings {
    claims: HashSet<ClaimId>,
    transactions: HashSet<TransactionId>,
    /// By their numbers.
    watches: HashMap<u64, u64>,
}

#[derive(Default)]
struct State {
    last: u64,
    /// What was asked and has not ended, and the wait that it is.
    open: HashMap<RequestId, Option<u64>>,
    waits: HashMap<u64, Wait>,
    watches: HashMap<u64, Watch>,
    offered: HashMap<RequestId, Offered>,
    /// What must be done once though it is asked twice, until it is over.
    doing: HashMap<OperationId, Doing>,
    parties: HashMap<Party, Belongings>,
    spoilt: HashSet<ClaimId>,
    /// Processes that have ended, of which something is being done still.
    ended: HashSet<u64>,
    /// The latest time of who has a clock of tests.
    now: Option<Duration>,
}

/// A space, as others use it.
pub(crate) struct Hub {
    number: u64,
    shared: Arc<SharedSpace>,
    exchange: WeakExchange,
    pub(crate) home: Mutex<Weak<Home>>,
    state: Mutex<State>,
    me: Weak<Self>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(number: u64, shared: Arc<SharedSpace>, exchange: WeakExchange) -> Arc<Self> {
        let hub = Arc::new_cyclic(|me| Self {
            number,
            shared,
            exchange,
            home: Mutex::default(),
            state: Mutex::default(),
            me: Weak::clone(me),
        });
        let far: Weak<dyn Far> = Weak::<Self>::clone(&hub.me);
        hub.shared.share(far);
        // Who has waited since before then learns that others may write what he waits for.
        hub.shared.with(&WORLD, Run::now(), |space, outside| space.call_all(outside));
        hub
    }

    pub(crate) fn shared(&self) -> &Arc<SharedSpace> {
        &self.shared
    }

    /// Its file is closed: whoever waits will not get anything from here.
    pub(crate) fn close(&self) {
        let (waits, parties): (Vec<Wait>, Vec<Party>) = {
            let mut state = self.state.lock();
            let waits = state.waits.drain().map(|(_, wait)| wait).collect();
            (waits, state.parties.keys().copied().collect())
        };
        let Some(Err(why)) = self.shared.ledger().map(Ledger::check) else { return };
        self.with_post(|post| {
            for wait in waits {
                self.refuse_file(wait.request, &why, post);
            }
            for party in parties {
                self.note(party, &News::Closed, post);
            }
        });
    }

    fn with_post(&self, work: impl FnOnce(&mut Post<'_>)) {
        if let Some(exchange) = self.exchange.upgrade().filter(|exchange| !exchange.is_forked()) {
            work(&mut exchange.post());
        }
    }

    fn now(&self) -> Moment {
        self.state.lock().now.map_or_else(Run::now, Moment::after_epoch)
    }

    fn note(&self, party: Party, news: &News, post: &mut Post<'_>) {
        if let Ok(bytes) = news.to_bytes() {
            post.note(party, self.number, VERB, &parcel(&bytes));
        }
    }

    fn end(&self, request: RequestId) -> bool {
        self.state.lock().open.remove(&request).is_some()
    }

    fn answer(&self, request: RequestId, bytes: &[u8], post: &mut Post<'_>) {
        if self.end(request) {
            post.answer(request, &parcel(bytes));
        }
    }

    fn refuse(&self, request: RequestId, code: u16, words: &str, post: &mut Post<'_>) {
        if self.end(request) {
            post.refuse(request, code, &parcel(words.as_bytes()));
        }
    }

    fn refuse_file(&self, request: RequestId, why: &Error, post: &mut Post<'_>) {
        let code = if matches!(why, Error::Closed { .. }) { code::CLOSED } else { code::FILE };
        self.refuse(request, code, &why.to_string(), post);
    }

    fn refuse_as(&self, request: RequestId, why: Refused, post: &mut Post<'_>) {
        let code = if why == Refused::ClaimOver { code::CLAIM_OVER } else { code::TRANSACTION_OVER };
        self.refuse(request, code, "", post);
    }

    fn heard(&self, body: &Parcel) -> Result<(Option<OperationId>, Act), CodecError> {
        let ask = Ask::from_bytes(&bytes_of(body)?)?;
        if ask.now.is_some() {
            let mut state = self.state.lock();
            state.now = state.now.max(ask.now);
        }
        Ok((ask.operation, ask.act))
    }

    fn with_belongings<R>(&self, party: Party, work: impl FnOnce(&mut Belongings) -> R) -> R {
        work(self.state.lock().parties.entry(party).or_default())
    }
}

impl Far for Hub {
    fn hears(&self) -> bool {
        self.exchange.upgrade().is_some_and(|exchange| !exchange.is_forked())
    }

    fn called(&self, names: Vec<u64>) {
        self.with_post(|post| {
            for name in names {
                if !self.show(name, post) {
                    self.serve(name, post);
                }
            }
        });
    }
}

impl Object for Hub {
    fn asked(&self, request: RequestId, _verb: u8, body: Parcel, post: &mut Post<'_>) {
        self.state.lock().open.insert(request, None);
        if let Some(Err(why)) = self.shared.ledger().map(Ledger::check) {
            return self.refuse_file(request, &why, post);
        }
        match self.heard(&body) {
            Ok((operation, act)) => self.act(request, operation, act, post),
            Err(error) => self.refuse(request, code::WORDS, &error.to_string(), post),
        }
    }

    fn withdrawn(&self, request: RequestId, _post: &mut Post<'_>) {
        let ticket = {
            let mut state = self.state.lock();
            let wait = state.open.remove(&request).flatten().and_then(|ours| state.waits.remove(&ours));
            // Whoever looks for him now sees that he is gone.
            wait.filter(|wait| !wait.turn.is_busy).and_then(|wait| wait.ticket)
        };
        if let Some(ticket) = ticket {
            self.shared.release(&WORLD, self.now(), ticket);
        }
    }

    fn accepted(&self, request: RequestId, post: &mut Post<'_>) {
        let pending = match self.take_offered(request) {
            Some(Offered::Look(_, Look { given, pending: Some(pending) })) => {
                if let Some(claim) = given.claim.filter(|_| pending.is_claim()) {
                    self.with_belongings(request.party, |has| has.claims.insert(claim));
                }
                pending
            }
            Some(Offered::Write(_, Some(named)) | Offered::Settled(named)) => {
                self.shared.forget(named.row);
                return self.over(Some(named.operation), post);
            }
            _ => return,
        };
        let row = pending.row();
        self.shared.finish(&WORLD, self.now(), pending, true);
        row.into_iter().for_each(|row| self.shared.forget(row));
    }

    fn declined(&self, request: RequestId, post: &mut Post<'_>) {
        if let Some(offered) = self.take_offered(request) {
            self.undo(offered, post);
        }
    }

    fn told(&self, party: Party, _verb: u8, body: Parcel, post: &mut Post<'_>) {
        if let Ok((_, act)) = self.heard(&body) {
            self.hear(party, act, post);
        }
    }

    fn attached(&self, party: Party, _post: &mut Post<'_>) {
        self.with_belongings(party, |_| ());
    }

    fn detached(&self, party: Party, _post: &mut Post<'_>) {
        let Some(had) = self.state.lock().parties.remove(&party) else { return };
        let now = self.now();
        had.watches.into_values().for_each(|ours| self.unwatch(ours));
        for id in had.transactions {
            self.shared.with(&WORLD, now, |space, outside| space.roll_back(id, outside));
        }
        had.claims.into_iter().for_each(|claim| self.shared.give_back(&WORLD, now, claim));
    }

    /// What became of its acts, which it may ask for again.
    fn keeps_for(&self, process: Address) -> bool {
        self.state.lock().is_doing_for(process.nonce) || self.shared.knows_of(process.nonce)
    }

    fn ended(&self, process: Address, _post: &mut Post<'_>) {
        self.forget_process(process.nonce);
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
