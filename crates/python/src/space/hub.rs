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

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix_futex_sync::Mutex;
use thistledown_exchange::{Object, Parcel, Party, Post, RequestId, WeakExchange};
use thistledown_kernel::Moment;
use thistledown_ledger::{Error, Ledger, Mark, Told};
use thistledown_runtime::{Far, Look, Name, Pending, SharedSpace};
use thistledown_space::{
    Act, Ask, ClaimId, CodecError, How, News, Refused, Ticket, TransactionId, Wanted, WatchId, encode_given,
    encode_tuples,
};

use crate::current::Run;
use crate::payload::WORLD;
use crate::space::home::Home;

/// Why something was not done.
pub(crate) mod code {
    pub(crate) const CLAIM_OVER: u16 = 1;
    pub(crate) const TRANSACTION_OVER: u16 = 2;
    /// The file cannot be written; the body says more.
    pub(crate) const FILE: u16 = 3;
    /// It cannot be told; the body says why.
    pub(crate) const WORDS: u16 = 4;
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

/// Somebody who waits for a tuple.
struct Wait {
    request: RequestId,
    /// His number for it.
    number: u64,
    wanted: Arc<Wanted>,
    ticket: Option<Ticket>,
    turn: Turn,
}

struct Watch {
    party: Party,
    /// Their number for it.
    number: u64,
    id: WatchId,
    turn: Turn,
}

/// Who is called while somebody looks for him is looked for once more.
#[derive(Default)]
struct Turn {
    is_busy: bool,
    again: bool,
}

impl Turn {
    fn begin(&mut self) -> bool {
        self.again = self.is_busy;
        !std::mem::replace(&mut self.is_busy, true)
    }

    /// True: once more.
    fn end(&mut self) -> bool {
        self.is_busy = false;
        std::mem::take(&mut self.again)
    }
}

/// What was offered, and is taken or not.
enum Offered {
    Write(u64),
    Look(Arc<Wanted>, Look),
}

/// What is done when it is in the file.
enum Job {
    Write { request: RequestId, number: u64, pending: Pending },
    Look { request: RequestId, wanted: Arc<Wanted>, look: Look },
    Settle { request: RequestId, pending: Pending },
    Renew { request: RequestId, mark: Option<Arc<Mark>> },
}

impl Job {
    fn state(&self) -> Option<Result<(), Error>> {
        match self {
            Self::Write { pending, .. } | Self::Settle { pending, .. } => pending.state(),
            Self::Look { look, .. } => look.pending.as_ref().map_or(Some(Ok(())), Pending::state),
            Self::Renew { mark, .. } => mark.as_ref().map_or(Some(Ok(())), |mark| mark.state()),
        }
    }
}

/// Where a job and the news that it is in the file meet; whichever comes last does the rest.
struct Slot {
    hub: Weak<Hub>,
    job: Mutex<(Option<Job>, bool)>,
}

impl Slot {
    fn told(self: &Arc<Self>) -> Told {
        let slot = Arc::clone(self);
        Box::new(move || {
            let job = {
                let mut job = slot.job.lock();
                job.1 = true;
                job.0.take()
            };
            if let (Some(job), Some(hub)) = (job, slot.hub.upgrade()) {
                hub.with_post(|post| hub.done(job, post));
            }
        })
    }

    fn put(&self, job: Job) -> Option<Job> {
        let mut kept = self.job.lock();
        if kept.1 || job.state().is_some() {
            return Some(job);
        }
        kept.0 = Some(job);
        None
    }
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
    parties: HashMap<Party, Belongings>,
    spoilt: HashSet<ClaimId>,
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
        hub
    }

    pub(crate) fn shared(&self) -> &Arc<SharedSpace> {
        &self.shared
    }

    /// Its file is closed: whoever waits will not get anything.
    pub(crate) fn close(&self) {
        let waits: Vec<Wait> = self.state.lock().waits.drain().map(|(_, wait)| wait).collect();
        let Some(Err(why)) = self.shared.ledger().map(Ledger::check) else { return };
        self.with_post(|post| {
            for wait in waits {
                self.refuse(wait.request, code::FILE, &why.to_string(), post);
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

    fn slot(&self) -> Arc<Slot> {
        Arc::new(Slot { hub: Weak::clone(&self.me), job: Mutex::default() })
    }

    /// What is told when something is in the file, for a space that has one.
    fn told(&self, slot: &Arc<Slot>) -> Option<Told> {
        self.shared.ledger().map(|_| slot.told())
    }

    fn when_written(&self, slot: &Slot, job: Job, post: &mut Post<'_>) {
        if let Some(job) = slot.put(job) {
            self.done(job, post);
        }
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

    fn refuse_as(&self, request: RequestId, why: Refused, post: &mut Post<'_>) {
        let code = if why == Refused::ClaimOver { code::CLAIM_OVER } else { code::TRANSACTION_OVER };
        self.refuse(request, code, "", post);
    }

    fn heard(&self, body: &Parcel) -> Result<Act, CodecError> {
        let ask = Ask::from_bytes(&bytes_of(body)?)?;
        if ask.now.is_some() {
            let mut state = self.state.lock();
            state.now = state.now.max(ask.now);
        }
        Ok(ask.act)
    }

    fn act(&self, request: RequestId, act: Act, post: &mut Post<'_>) {
        let now = self.now();
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
                match self.shared.begin_numbered(&WORLD, now, (tuple, lease), self.told(&slot)) {
                    Ok((number, pending)) => {
                        self.when_written(&slot, Job::Write { request, number, pending }, post);
                    }
                    Err(error) => self.refuse(request, code::WORDS, &error.to_string(), post),
                }
            }
            Act::Look(wanted, waits) => self.look(request, wanted, waits, post),
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
                match self.shared.begin_confirm(&WORLD, now, claim, self.told(&slot)) {
                    Ok(pending) => {
                        self.with_belongings(request.party, |has| has.claims.remove(&claim));
                        self.when_written(&slot, Job::Settle { request, pending }, post);
                    }
                    Err(why) => self.refuse_as(request, why, post),
                }
            }
            Act::Renew(claim, lease) => {
                let slot = self.slot();
                match self.shared.renew(&WORLD, now, (claim, lease), self.told(&slot)) {
                    Ok(mark) => self.when_written(&slot, Job::Renew { request, mark }, post),
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
                match self.shared.begin_commit(&WORLD, now, id, self.told(&slot)) {
                    Ok(pending) => self.when_written(&slot, Job::Settle { request, pending }, post),
                    Err(why) => self.refuse_as(request, why, post),
                }
            }
            told => {
                self.hear(request.party, told, post);
                self.answer(request, &[], post);
            }
        }
    }

    fn hear(&self, party: Party, act: Act, post: &mut Post<'_>) {
        let now = self.now();
        match act {
            Act::GiveBack(claim) => {
                self.with_belongings(party, |has| has.claims.remove(&claim));
                self.shared.give_back(&WORLD, now, claim);
            }
            Act::RollBack(id) => {
                self.with_belongings(party, |has| has.transactions.remove(&id));
                self.shared.with(&WORLD, now, |space, outside| space.roll_back(id, outside));
            }
            Act::Unwatch(number) => {
                if let Some(ours) = self.with_belongings(party, |has| has.watches.remove(&number)) {
                    self.unwatch(ours);
                }
            }
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
            Act::Spoilt(claim) => {
                self.state.lock().spoilt.insert(claim);
            }
            _ => {}
        }
    }

    fn with_belongings<R>(&self, party: Party, work: impl FnOnce(&mut Belongings) -> R) -> R {
        work(self.state.lock().parties.entry(party).or_default())
    }

    fn look(&self, request: RequestId, wanted: Arc<Wanted>, waits: Option<u64>, post: &mut Post<'_>) {
        if let Some(number) = waits {
            let ours = {
                let mut state = self.state.lock();
                state.last += 1;
                let ours = state.last;
                let turn = Turn::default();
                state.waits.insert(ours, Wait { request, number, wanted, ticket: None, turn });
                state.open.insert(request, Some(ours));
                ours
            };
            return self.serve(ours, post);
        }
        let slot = self.slot();
        match self.shared.look(&WORLD, self.now(), (&wanted, None), || self.told(&slot)) {
            Ok(Some(look)) => self.when_written(&slot, Job::Look { request, wanted, look }, post),
            Ok(None) => self.answer(request, &[], post),
            Err(why) => self.refuse_as(request, why, post),
        }
    }

    /// Looks for somebody who waits: he is given what there is, or waits on.
    fn serve(&self, ours: u64, post: &mut Post<'_>) {
        loop {
            let (request, wanted, ticket) = {
                let mut state = self.state.lock();
                let Some(wait) = state.waits.get_mut(&ours) else { return };
                if !wait.turn.begin() {
                    return;
                }
                (wait.request, Arc::clone(&wait.wanted), wait.ticket)
            };
            let (slot, now) = (self.slot(), self.now());
            let look = self.shared.look(&WORLD, now, (&wanted, ticket), || self.told(&slot));
            if let Ok(None) = look {
                let at = self.shared.enlist_far(&WORLD, now, &wanted, ticket, ours);
                let left = (at.looks != Moment::NEVER).then(|| at.looks.since(now));
                let goes_on = {
                    let mut state = self.state.lock();
                    state.waits.get_mut(&ours).map(|wait| {
                        wait.ticket = Some(at.ticket);
                        (wait.turn.end(), wait.number)
                    })
                };
                match goes_on {
                    Some((true, _)) => continue,
                    Some((false, number)) => self.note(request.party, &News::Enlisted(number, left), post),
                    None => self.shared.release(&WORLD, now, at.ticket),
                }
                return;
            }
            self.state.lock().waits.remove(&ours);
            match look {
                // Whether he has given up meanwhile is seen there.
                Ok(Some(look)) => self.when_written(&slot, Job::Look { request, wanted, look }, post),
                Ok(None) => {}
                Err(why) => self.refuse_as(request, why, post),
            }
            if let Some(ticket) = ticket {
                self.shared.release(&WORLD, now, ticket);
            }
            return;
        }
    }

    /// It is in the file, or could not be written.
    fn done(&self, job: Job, post: &mut Post<'_>) {
        let state = job.state().unwrap_or(Ok(()));
        let now = self.now();
        match job {
            Job::Write { request, number, pending } => {
                self.shared.finish(&WORLD, now, pending, state.is_ok());
                match state {
                    Ok(()) => self.offer(request, Offered::Write(number), &[], post),
                    Err(error) => self.refuse(request, code::FILE, &error.to_string(), post),
                }
            }
            Job::Look { request, wanted, look } => {
                match (state, encode_given(&look.given.tuple, look.given.claim)) {
                    (Ok(()), Ok(bytes)) => self.offer(request, Offered::Look(wanted, look), &bytes, post),
                    (Ok(()), Err(error)) => {
                        self.undo(Offered::Look(wanted, look));
                        self.refuse(request, code::WORDS, &error.to_string(), post);
                    }
                    (Err(error), _) => {
                        if let Some(pending) = look.pending {
                            self.shared.finish(&WORLD, now, pending, false);
                        }
                        self.refuse(request, code::FILE, &error.to_string(), post);
                    }
                }
            }
            Job::Settle { request, pending } => {
                self.shared.finish(&WORLD, now, pending, state.is_ok());
                self.answer_or_refuse(request, state, post);
            }
            Job::Renew { request, .. } => self.answer_or_refuse(request, state, post),
        }
    }

    fn answer_or_refuse(&self, request: RequestId, state: Result<(), Error>, post: &mut Post<'_>) {
        match state {
            Ok(()) => self.answer(request, &[], post),
            Err(error) => self.refuse(request, code::FILE, &error.to_string(), post),
        }
    }

    fn offer(&self, request: RequestId, offered: Offered, bytes: &[u8], post: &mut Post<'_>) {
        let refused = {
            let mut state = self.state.lock();
            match state.open.remove(&request) {
                Some(_) => {
                    state.offered.insert(request, offered);
                    None
                }
                None => Some(offered),
            }
        };
        if let Some(offered) = refused {
            return self.undo(offered);
        }
        if !post.offer(request, &parcel(bytes))
            && let Some(offered) = self.take_offered(request)
        {
            self.undo(offered);
        }
    }

    fn take_offered(&self, request: RequestId) -> Option<Offered> {
        self.state.lock().offered.remove(&request)
    }

    /// It has not happened.
    fn undo(&self, offered: Offered) {
        let now = self.now();
        match offered {
            Offered::Write(number) => self.shared.retract(&WORLD, now, number),
            Offered::Look(wanted, Look { given, pending: None }) => {
                // What its own transaction has written is there again.
                if let Some(id) = wanted.within.filter(|_| wanted.how == How::Take) {
                    // If that is over meanwhile, it is gone with it.
                    let _ = self.shared.with(&WORLD, now, |space, outside| {
                        space.write_within(id, given.tuple, None, outside)
                    });
                }
            }
            Offered::Look(_, Look { given, pending: Some(pending) }) => {
                let is_spoilt = given.claim.is_some_and(|claim| self.state.lock().spoilt.remove(&claim));
                match is_spoilt {
                    true => self.shared.put_last(&WORLD, now, pending),
                    false => self.shared.undo(&WORLD, now, pending),
                }
            }
        }
    }

    fn watch(&self, party: Party, number: u64, template: thistledown_space::Template, capacity: usize) {
        let ours = {
            let mut state = self.state.lock();
            state.last += 1;
            state.last
        };
        let id =
            self.shared.with(&WORLD, self.now(), |space, _| space.watch(template, capacity, Name::Far(ours)));
        let mut state = self.state.lock();
        state.watches.insert(ours, Watch { party, number, id, turn: Turn::default() });
        state.parties.entry(party).or_default().watches.insert(number, ours);
    }

    fn unwatch(&self, ours: u64) {
        let watch = self.state.lock().watches.remove(&ours);
        if let Some(watch) = watch {
            self.shared.with(&WORLD, self.now(), |space, _| space.unwatch(watch.id));
        }
    }

    /// Tells what a watch has seen. False: there is no such watch.
    fn show(&self, ours: u64, post: &mut Post<'_>) -> bool {
        loop {
            let (party, number, id) = {
                let mut state = self.state.lock();
                let Some(watch) = state.watches.get_mut(&ours) else { return false };
                if !watch.turn.begin() {
                    return true;
                }
                (watch.party, watch.number, watch.id)
            };
            loop {
                let seen =
                    self.shared.with(&WORLD, self.now(), |space, outside| space.next_seen(id, outside));
                match seen {
                    Ok(Some(tuple)) => self.note(party, &News::Seen(number, tuple), post),
                    Err(missed) => self.note(party, &News::Missed(number, missed.0), post),
                    Ok(None) => break,
                }
            }
            let again = self.state.lock().watches.get_mut(&ours).is_some_and(|watch| watch.turn.end());
            if !again {
                return true;
            }
        }
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
            return self.refuse(request, code::FILE, &why.to_string(), post);
        }
        match self.heard(&body) {
            Ok(act) => self.act(request, act, post),
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

    fn accepted(&self, request: RequestId, _post: &mut Post<'_>) {
        let Some(Offered::Look(_, Look { given, pending: Some(pending) })) = self.take_offered(request)
        else {
            return;
        };
        if let Some(claim) = given.claim.filter(|_| pending.is_claim()) {
            self.with_belongings(request.party, |has| has.claims.insert(claim));
        }
        self.shared.finish(&WORLD, self.now(), pending, true);
    }

    fn declined(&self, request: RequestId, _post: &mut Post<'_>) {
        if let Some(offered) = self.take_offered(request) {
            self.undo(offered);
        }
    }

    fn told(&self, party: Party, _verb: u8, body: Parcel, post: &mut Post<'_>) {
        if let Ok(act) = self.heard(&body) {
            self.hear(party, act, post);
        }
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

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
