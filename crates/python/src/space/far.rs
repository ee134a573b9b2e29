//! A space that another process has: what is asked of it, and who waits for what comes of that.
//!
//! Waits are at spots of this process's kernel, which the thread of the exchange calls; it never takes the interpreter's
//! lock. A space on a file may have several owners, one after the other: what was asked of one that is gone is asked again
//! of the next, by the same operation id, so that it happens once.
//!
//! No lock here is held while the space is asked, but that of the wait which is asked for.

pub(crate) mod line;
pub(crate) mod wait;
pub(crate) mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use rustix_futex_sync::{Condvar, Mutex};
use thistledown_exchange::{
    Asked, Broken, Exchange, Handle, Listener, ObjectId, Parcel, Ticket, TicketId, Told, Waiter,
};
use thistledown_kernel::Moment;
pub(crate) use thistledown_space::Act;
use thistledown_space::{
    Ask, ClaimId, CodecError, How, News, OperationId, Refused, Template, TransactionId, Tuple, Wanted,
    decode_given,
};

use crate::channel::{door, tickets};
use crate::current::{Current, Run};
use crate::errors;
use crate::outside::outside;
use crate::payload::WORLD;
use crate::space::far::line::{Gone, Line, Owner};
use crate::space::far::wait::FarWait;
use crate::space::far::watch::{FarWatch, Next};
use crate::space::file::Place;
use crate::space::home::Home;
use crate::space::hub::{Hub, VERB, bytes_of, code, parcel};
use crate::space::{cannot_be_written, refused};

/// Names of waits, watches and operations, for all spaces.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Why a space of another process cannot be used.
pub(crate) fn broken(why: Broken) -> PyErr {
    let words = match why {
        Broken::Forked => "the space belongs to the process that this one was forked from: use `td.go`, whose workers can have it"
            .into(),
        why => format!("the space is gone: {why}"),
    };
    Python::attach(|py| errors::space_broken(py, words))
}

/// What came is not what was asked for; only another version says such things.
pub(crate) fn garbled(error: CodecError) -> PyErr {
    Python::attach(|py| {
        errors::space_broken(py, format!("the space's process has answered with nonsense: {error}"))
    })
}

/// Why something that was asked was not done.
pub(crate) fn refusal(why: u16, body: &Parcel) -> PyErr {
    let words = || String::from_utf8_lossy(&bytes_of(body).unwrap_or_default()).into_owned();
    match why {
        code::CLAIM_OVER => refused(Refused::ClaimOver),
        code::TRANSACTION_OVER => refused(Refused::TransactionOver),
        code::FILE | code::CLOSED => Python::attach(|py| errors::space_broken(py, words())),
        _ => errors::wrong_value(words()),
    }
}

/// The time that goes with what is asked: that of a clock of tests.
fn now() -> Option<Duration> {
    let is_virtual = Current::run().is_some_and(|run| run.clock.is_virtual());
    is_virtual.then(|| Run::now().since(Moment::default()))
}

/// A space of another process.
pub(crate) struct FarSpace {
    line: Mutex<Line>,
    /// The line has another owner, or none.
    changed: Condvar,
    waits: Mutex<HashMap<u64, Weak<FarWait>>>,
    watches: Mutex<HashMap<u64, Arc<FarWatch>>>,
    ticket: Mutex<Option<Ticket>>,
    /// The file that it is on, which this process has opened.
    file: Weak<Place>,
    /// The name of this process in operations.
    asker: u64,
    /// What was given up, until an owner has heard of it.
    owed: Mutex<HashMap<Owed, Option<Asked>>>,
    claims: Mutex<HashSet<ClaimId>>,
    me: Weak<Self>,
}

/// Where a space is.
#[derive(Clone)]
pub(crate) enum Seat {
    /// In this process.
    Here(Arc<Home>),
    /// In another one.
    Far(Arc<FarSpace>),
}

/// The space that this names, in this process too.
pub(crate) fn find(id: ObjectId, ticket: Option<TicketId>) -> PyResult<Seat> {
    let exchange = door::open()?;
    if id.owner == exchange.address() {
        let hub = exchange.object(id.number).and_then(|object| object.downcast::<Hub>().ok());
        let gone = Broken::NoObject { pid: id.owner.pid };
        let hub = hub.ok_or_else(|| broken(gone))?;
        let handle = exchange.hold(id, ticket, None).map_err(broken)?;
        return Ok(Seat::Here(Home::find(&hub, handle)));
    }
    let far = FarSpace::new(&exchange, id, Weak::new());
    if let Err(why) = far.move_to(&exchange, id, ticket) {
        far.fail(Gone::Broken(why));
    }
    Ok(Seat::Far(far))
}

/// Hears the owner of one turn.
struct Ear {
    space: Weak<FarSpace>,
    turn: u64,
}

impl Listener for Ear {
    fn noted(&self, _verb: u8, body: Parcel) {
        let Some(space) = self.space.upgrade() else { return };
        if let Ok(news) = bytes_of(&body).and_then(|bytes| News::from_bytes(&bytes)) {
            space.hear(self.turn, news);
        }
    }

    fn broken(&self, why: Broken) {
        if let Some(space) = self.space.upgrade() {
            space.lose(self.turn, why);
        }
    }
}

impl FarSpace {
    /// A space of which nobody is asked anything yet.
    pub(crate) fn new(exchange: &Exchange, id: ObjectId, file: Weak<Place>) -> Arc<Self> {
        let line = Line { turn: 0, id, owner: Owner::Between, listener: None };
        let asker = exchange.address().nonce;
        Arc::new_cyclic(|me| Self {
            line: Mutex::new(line),
            changed: Condvar::new(),
            waits: Mutex::default(),
            watches: Mutex::default(),
            ticket: Mutex::default(),
            file,
            asker,
            owed: Mutex::default(),
            claims: Mutex::default(),
            me: Weak::clone(me),
        })
    }

    pub(crate) fn id(&self) -> ObjectId {
        self.line.lock().id
    }

    fn is_on_file(&self) -> bool {
        self.file.strong_count() > 0
    }

    fn owner(&self) -> (u64, Owner) {
        let line = self.line.lock();
        (line.turn, line.owner.clone())
    }

    /// The owner, whom it waits for if there is none now.
    fn owner_or_next(&self) -> Result<(u64, Arc<Handle>), Gone> {
        let mut line = self.line.lock();
        loop {
            match &line.owner {
                Owner::Known(handle) => return Ok((line.turn, Arc::clone(handle))),
                Owner::Gone(gone) => return Err(gone.clone()),
                Owner::Between => line = self.changed.wait(line),
            }
        }
    }

    /// From now on this is who is asked; [`Self::introduce`] asks again whatever was asked of an earlier owner.
    pub(crate) fn move_to(
        &self,
        exchange: &Exchange,
        id: ObjectId,
        ticket: Option<TicketId>,
    ) -> Result<(), Broken> {
        let turn = self.line.lock().turn + 1;
        let listener: Arc<dyn Listener> = Arc::new(Ear { space: Weak::clone(&self.me), turn });
        let handle = Arc::new(exchange.hold(id, ticket, Some(Arc::downgrade(&listener)))?);
        if handle.is_here() {
            exchange.listen(id.number, Arc::downgrade(&listener));
        }
        let next = Line { turn, id, owner: Owner::Known(Arc::clone(&handle)), listener: Some(listener) };
        let before = {
            let mut line = self.line.lock();
            match line.owner {
                // It was closed meanwhile.
                Owner::Gone(_) => next,
                _ => std::mem::replace(&mut *line, next),
            }
        };
        self.changed.notify_all();
        drop(before);
        let ticket = self.ticket.lock().take();
        drop(ticket);
        Ok(())
    }

    /// Tells the next owner what this process has, wants, and wants no more.
    pub(crate) fn introduce(&self) {
        let Owner::Known(handle) = self.owner().1 else { return };
        let claims: Vec<ClaimId> = self.claims.lock().iter().copied().collect();
        claims.into_iter().for_each(|claim| self.tell(Act::Keep(claim)));
        let owed: Vec<Owed> = self.owed.lock().keys().copied().collect();
        owed.into_iter().for_each(|owed| self.owe(owed));
        let watches: Vec<_> = self.watches.lock().values().cloned().collect();
        watches.into_iter().for_each(|watch| watch.resume(&handle));
        let mut waits: Vec<_> = self.waits.lock().values().filter_map(Weak::upgrade).collect();
        // In the order in which they came.
        waits.sort_unstable_by_key(|wait| wait.number);
        waits.into_iter().for_each(|wait| wait.ask());
    }

    /// The owner of this turn is gone: of a file the next one is looked for.
    pub(crate) fn lose(&self, turn: u64, why: Broken) {
        let place = self.file.upgrade().filter(|_| why != Broken::Forked);
        let Some(place) = place else { return self.fail(Gone::Broken(why)) };
        let before = {
            let mut line = self.line.lock();
            if line.turn != turn || !matches!(line.owner, Owner::Known(_)) {
                return;
            }
            (std::mem::replace(&mut line.owner, Owner::Between), line.listener.take())
        };
        drop(before);
        place.find_next();
    }

    /// There is no owner, and there will be none.
    pub(crate) fn fail(&self, gone: Gone) {
        let before = {
            let mut line = self.line.lock();
            if matches!(line.owner, Owner::Gone(_)) {
                return;
            }
            (std::mem::replace(&mut line.owner, Owner::Gone(gone.clone())), line.listener.take())
        };
        self.changed.notify_all();
        drop(before);
        let watches: Vec<_> = self.watches.lock().values().cloned().collect();
        watches.into_iter().for_each(|watch| watch.call());
        let waits: Vec<_> = self.waits.lock().values().filter_map(Weak::upgrade).collect();
        waits.into_iter().for_each(|wait| wait.fail(self.told_gone(&gone)));
    }

    fn told_gone(&self, gone: &Gone) -> Told {
        match gone {
            Gone::Broken(why) => Told::Broken(*why),
            Gone::File(error) => {
                Told::Refusal { code: code::FILE, body: parcel(error.to_string().as_bytes()) }
            }
            Gone::Words(words) => Told::Refusal { code: code::FILE, body: parcel(words.as_bytes()) },
        }
    }

    /// What names it for another process, and keeps it until that has it.
    pub(crate) fn ticket(&self, py: Python<'_>) -> PyResult<(ObjectId, TicketId)> {
        let (_, handle) = outside(py, || self.owner_or_next()).map_err(|gone| gone.error())?;
        Ok((handle.id(), tickets::ticket(&handle, &self.ticket).map_err(broken)?))
    }

    /// What an act is called that must happen once though it is asked twice.
    fn operation(&self, act: &Act) -> Option<OperationId> {
        let has_name = match act {
            Act::Write(_, _, None) | Act::Confirm(_) | Act::Commit(_) => true,
            Act::Look(wanted, _) => wanted.within.is_none() && wanted.how != How::Read,
            _ => false,
        };
        let number = || NUMBERS.fetch_add(1, Ordering::Relaxed);
        (has_name && self.is_on_file()).then(|| OperationId { asker: self.asker, number: number() })
    }

    fn body(operation: Option<OperationId>, act: Act) -> PyResult<Parcel> {
        let bytes = Ask { now: now(), operation, act }.to_bytes().map_err(cannot_be_written)?;
        Parcel::new(&bytes, &[]).map_err(|error| errors::system(&error))
    }

    /// Asks, and sleeps until it is told; again, until somebody has told. An offer stands until what is asked is dropped.
    fn ask_and_hear(&self, py: Python<'_>, body: &Parcel) -> PyResult<(Asked, Told)> {
        let heard = outside(py, || {
            loop {
                let (turn, handle) = self.owner_or_next()?;
                let lost = match handle.ask_and_hear(VERB, body) {
                    Ok((_, Told::Broken(why))) => why,
                    Ok((_, Told::Refusal { code: code::CLOSED, .. })) if self.is_on_file() => {
                        Broken::NoObject { pid: handle.id().owner.pid }
                    }
                    Ok(heard) => return Ok(heard),
                    Err(why) => why,
                };
                self.lose(turn, lost);
            }
        });
        heard.map_err(|gone: Gone| gone.error())
    }

    /// Asks, and waits for what comes of it in this thread. An offer is taken.
    pub(crate) fn ask(&self, py: Python<'_>, act: Act) -> PyResult<Vec<u8>> {
        let body = Self::body(self.operation(&act), act)?;
        let (asked, told) = self.ask_and_hear(py, &body)?;
        match told {
            Told::Answer(body) => bytes_of(&body).map_err(garbled),
            Told::Offer(body) => {
                asked.accept();
                bytes_of(&body).map_err(garbled)
            }
            Told::Refusal { code, body } => Err(refusal(code, &body)),
            Told::Broken(why) => Err(broken(why)),
        }
    }

    /// Takes or claims what is there now: it is this process's when what is given with it says so.
    pub(crate) fn look_now(
        self: &Arc<Self>,
        py: Python<'_>,
        wanted: &Arc<Wanted>,
    ) -> PyResult<Option<(Given, Offered)>> {
        let act = Act::Look(Arc::clone(wanted), None);
        let operation = self.operation(&act);
        let (asked, told) = self.ask_and_hear(py, &Self::body(operation, act)?)?;
        match told {
            Told::Offer(body) => {
                let given = bytes_of(&body).and_then(|bytes| decode_given(&bytes)).map_err(garbled)?;
                Ok(Some((given, Offered { asked: Some(asked), operation, space: Arc::clone(self) })))
            }
            Told::Answer(_) => Ok(None),
            Told::Refusal { code, body } => Err(refusal(code, &body)),
            Told::Broken(why) => Err(broken(why)),
        }
    }

    /// Tells it something, if it is there.
    pub(crate) fn tell(&self, act: Act) {
        if let (Owner::Known(handle), Ok(body)) = (self.owner().1, Self::body(None, act)) {
            // Who is gone need not be told.
            let _ = handle.tell(VERB, &body);
        }
    }

    /// What was asked by this name is not wanted any more.
    fn forsake(&self, operation: OperationId) {
        self.owe(Owed::Undoing(operation));
    }

    /// Ends a claim: its tuple comes back.
    pub(crate) fn give_back(&self, claim: ClaimId) {
        self.note_claim(claim, false);
        self.owe(Owed::Claim(claim));
    }

    /// An owner who has done it says so, when that is in the file; else the next one is told.
    fn owe(&self, owed: Owed) {
        // First it is noted: whoever becomes the owner from here on is told by `introduce`.
        let before = self.owed.lock().insert(owed, None);
        drop(before);
        let (turn, owner) = self.owner();
        let (operation, act) = match owed {
            Owed::Undoing(operation) => (Some(operation), Act::Forsake),
            Owed::Claim(claim) => (None, Act::GiveBack(claim)),
        };
        let (Owner::Known(handle), Ok(body)) = (owner, Self::body(operation, act)) else { return };
        let waiter = Arc::new(Owing { space: Weak::clone(&self.me), owed });
        match handle.ask(VERB, &body, waiter) {
            Ok(asked) => {
                if let Some(kept) = self.owed.lock().get_mut(&owed) {
                    *kept = Some(asked);
                }
            }
            Err(why) => self.lose(turn, why),
        }
    }

    /// This process has a claim, or has it no more.
    pub(crate) fn note_claim(&self, claim: ClaimId, is_held: bool) {
        let mut claims = self.claims.lock();
        if is_held {
            claims.insert(claim)
        } else {
            claims.remove(&claim)
        };
    }

    /// Asks for something that may take long; `act` gets its number.
    pub(crate) fn begin(
        self: &Arc<Self>,
        within: Option<TransactionId>,
        act: impl FnOnce(u64) -> Act,
    ) -> PyResult<Arc<FarWait>> {
        if let Owner::Gone(gone) = self.owner().1 {
            return Err(gone.error());
        }
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let act = act(number);
        let operation = self.operation(&act);
        let wait = FarWait::new(number, within, (operation, Self::body(operation, act)?), self);
        self.waits.lock().insert(number, Arc::downgrade(&wait));
        wait.ask();
        Ok(wait)
    }

    fn forget_wait(&self, number: u64) {
        self.waits.lock().remove(&number);
    }

    pub(crate) fn watch(
        &self,
        py: Python<'_>,
        template: Template,
        capacity: usize,
    ) -> PyResult<Arc<FarWatch>> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let body = Self::body(None, Act::Watch(template, number, capacity as u64))?;
        let watch = Arc::new(FarWatch::new(number, capacity, body.clone()));
        self.watches.lock().insert(number, Arc::clone(&watch));
        match self.ask_and_hear(py, &body) {
            Ok((_, Told::Refusal { code, body })) => {
                self.unwatch(&watch);
                Err(refusal(code, &body))
            }
            Ok(_) => Ok(watch),
            Err(error) => {
                self.unwatch(&watch);
                Err(error)
            }
        }
    }

    /// Ends a watch. False: it had ended before.
    pub(crate) fn unwatch(&self, watch: &FarWatch) -> bool {
        let was_there = self.watches.lock().remove(&watch.number).is_some();
        if was_there {
            self.tell(Act::Unwatch(watch.number));
            WORLD.with(|kernel| kernel.drop_spot(watch.spot));
        }
        was_there
    }

    /// What a watch saw next.
    pub(crate) fn next_seen(&self, watch: &FarWatch) -> PyResult<Next> {
        match (watch.next(), self.owner().1) {
            (Next::Nothing | Next::Gap, Owner::Gone(gone)) => Err(gone.error()),
            (next, _) => Ok(next),
        }
    }

    /// A transaction is about to end: whoever waits in it is told so, and what he was offered is back before it has ended.
    pub(crate) fn leave(&self, id: TransactionId) {
        let waits: Vec<_> = self.waits.lock().values().filter_map(Weak::upgrade).collect();
        waits.into_iter().filter(|wait| wait.within == Some(id)).for_each(|wait| wait.revoke());
    }

    pub(crate) fn is_watched(&self, watch: &FarWatch) -> bool {
        self.watches.lock().contains_key(&watch.number)
    }

    fn hear(&self, turn: u64, news: News) {
        let watch = |number| self.watches.lock().get(&number).cloned();
        match news {
            News::Enlisted(number, left) => {
                let wait = self.waits.lock().get(&number).and_then(Weak::upgrade);
                wait.into_iter().for_each(|wait| wait.enlisted(left));
            }
            News::Seen(number, tuple) => watch(number).into_iter().for_each(|watch| watch.see(tuple.clone())),
            News::Missed(number, count) => watch(number).into_iter().for_each(|watch| watch.miss(count)),
            News::Closed if self.is_on_file() => {
                self.lose(turn, Broken::NoObject { pid: self.id().owner.pid });
            }
            News::Closed => {}
        }
    }
}

/// What an owner has to do before it is as if it had never been.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Owed {
    /// To undo what was asked by this name.
    Undoing(OperationId),
    /// To end this claim.
    Claim(ClaimId),
}

/// Hears that it is done.
struct Owing {
    space: Weak<FarSpace>,
    owed: Owed,
}

impl Waiter for Owing {
    fn told(&self, told: Told) {
        let knows = matches!(told, Told::Answer(_) | Told::Offer(_));
        if let Some(space) = self.space.upgrade().filter(|_| knows) {
            let kept = space.owed.lock().remove(&self.owed);
            drop(kept);
        }
    }
}

/// A tuple that is offered, and what holds it.
pub(crate) type Given = (Tuple, Option<ClaimId>);

/// What keeps a tuple for this process, until it is taken; or, dropped, gives it back, also with the next owner.
pub(crate) struct Offered {
    asked: Option<Asked>,
    operation: Option<OperationId>,
    space: Arc<FarSpace>,
}

impl Offered {
    pub(crate) fn accept(mut self) {
        if let Some(asked) = self.asked.take() {
            asked.accept();
        }
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        if let Some(asked) = self.asked.take() {
            drop(asked);
            self.operation.into_iter().for_each(|operation| self.space.forsake(operation));
        }
    }
}

/// A number that was answered.
pub(crate) fn number(bytes: &[u8]) -> PyResult<usize> {
    let number = bytes.try_into().map(u64::from_le_bytes).map_err(|_| garbled(CodecError::Truncated))?;
    usize::try_from(number).map_err(|_| garbled(CodecError::Truncated))
}
