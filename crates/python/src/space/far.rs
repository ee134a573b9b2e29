//! A space that another process has: what is asked of it, and who waits for what comes of that.
//!
//! Waits are at spots of this process's kernel, which the thread of the exchange calls; it never takes the interpreter's
//! lock. A space on a file may have several owners, one after the other: what was asked of one that is gone is asked again
//! of the next, by the same operation id, so that it happens once.
//!
//! No lock here is held while the space is asked, but that of the wait which is asked for.

mod asking;
pub(crate) mod line;
mod owed;
pub(crate) mod wait;
pub(crate) mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use rustix_futex_sync::{Condvar, Mutex};
use thistledown_exchange::{
    Asked, Broken, Exchange, Handle, Listener, ObjectId, Parcel, Ticket, TicketId, Told,
};
use thistledown_kernel::Moment;
pub(crate) use thistledown_space::Act;
use thistledown_space::{ClaimId, CodecError, News, Refused, TransactionId};

use crate::channel::{door, tickets};
use crate::current::{Current, Run};
use crate::errors;
use crate::outside::outside_until;
pub(crate) use crate::space::far::asking::Given;
use crate::space::far::line::{Gone, Line, Owner};
use crate::space::far::owed::Owed;
use crate::space::far::wait::FarWait;
use crate::space::far::watch::FarWatch;
use crate::space::file::Place;
use crate::space::home::Home;
use crate::space::hub::{Hub, bytes_of, code, parcel};
use crate::space::refused;

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
    /// By which each owner of a file knows this process: that name is the exchange's, so it is kept between two owners.
    exchange: Mutex<Option<Exchange>>,
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
        let kept = (file.strong_count() > 0).then(|| exchange.clone());
        Arc::new_cyclic(|me| Self {
            line: Mutex::new(line),
            changed: Condvar::new(),
            waits: Mutex::default(),
            watches: Mutex::default(),
            ticket: Mutex::default(),
            file,
            asker,
            exchange: Mutex::new(kept),
            owed: Mutex::default(),
            claims: Mutex::default(),
            me: Weak::clone(me),
        })
    }

    pub(crate) fn id(&self) -> ObjectId {
        self.line.lock().id
    }

    /// The name of this process in operations.
    pub(super) fn asker(&self) -> u64 {
        self.asker
    }

    fn is_on_file(&self) -> bool {
        self.file.strong_count() > 0
    }

    fn owner(&self) -> (u64, Owner) {
        let line = self.line.lock();
        (line.turn, line.owner.clone())
    }

    /// The owner, whom it waits for if there is none now, for this long at most.
    fn owner_for(&self, at_most: Duration) -> Option<Result<(u64, Arc<Handle>), Gone>> {
        self.look_again();
        let line = self.line.lock();
        let is_between = |line: &mut Line| matches!(line.owner, Owner::Between);
        let (line, _) = self.changed.wait_timeout_while(line, at_most, is_between);
        match &line.owner {
            Owner::Known(handle) => Some(Ok((line.turn, Arc::clone(handle)))),
            Owner::Gone(gone) | Owner::Missed(gone) => Some(Err(gone.clone())),
            Owner::Between => None,
        }
    }

    /// No owner could be had, and that may be over by now: it is looked for once more.
    fn look_again(&self) {
        let place = {
            let mut line = self.line.lock();
            let place = self.file.upgrade().filter(|_| matches!(line.owner, Owner::Missed(_)));
            if place.is_some() {
                line.owner = Owner::Between;
            }
            place
        };
        if let Some(place) = place {
            place.find_next();
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
        self.end_line(Owner::Gone(gone.clone()), gone);
        let exchange = self.exchange.lock().take();
        drop(exchange);
    }

    /// No owner can be had now: who waits is told so, and who asks next looks once more.
    pub(crate) fn miss(&self, gone: Gone) {
        self.end_line(Owner::Missed(gone.clone()), gone);
    }

    fn end_line(&self, end: Owner, gone: Gone) {
        let before = {
            let mut line = self.line.lock();
            if matches!(line.owner, Owner::Gone(_)) {
                return;
            }
            (std::mem::replace(&mut line.owner, end), line.listener.take())
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
        let owner = outside_until(py, |at_most| self.owner_for(at_most))?;
        let (_, handle) = owner.map_err(|gone| gone.error())?;
        Ok((handle.id(), tickets::ticket(&handle, &self.ticket).map_err(broken)?))
    }

    /// Asks for something that may take long; `act` gets its number.
    pub(crate) fn begin(
        self: &Arc<Self>,
        within: Option<TransactionId>,
        act: impl FnOnce(u64) -> Act,
    ) -> PyResult<Arc<FarWait>> {
        self.look_again();
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

    /// A transaction is about to end: whoever waits in it is told so, and what he was offered is back before it has ended.
    pub(crate) fn leave(&self, id: TransactionId) {
        let waits: Vec<_> = self.waits.lock().values().filter_map(Weak::upgrade).collect();
        waits.into_iter().filter(|wait| wait.within == Some(id)).for_each(|wait| wait.revoke());
    }

    fn hear(&self, turn: u64, news: News) {
        let watch = |number| self.watches.lock().get(&number).cloned();
        match news {
            News::Enlisted(number, left) => {
                let wait = self.waits.lock().get(&number).and_then(Weak::upgrade);
                wait.into_iter().for_each(|wait| wait.enlisted(left));
            }
            News::Seen(number, tuple) => watch(number).into_iter().for_each(|watch| {
                watch.see(tuple.clone());
                self.heard_of(&watch);
            }),
            News::Missed(number, count) => watch(number).into_iter().for_each(|watch| {
                watch.miss(count);
                self.heard_of(&watch);
            }),
            News::Closed if self.is_on_file() => {
                self.lose(turn, Broken::NoObject { pid: self.id().owner.pid });
            }
            News::Closed => {}
        }
    }
}

/// A number that was answered.
pub(crate) fn number(bytes: &[u8]) -> PyResult<usize> {
    let number = bytes.try_into().map(u64::from_le_bytes).map_err(|_| garbled(CodecError::Truncated))?;
    usize::try_from(number).map_err(|_| garbled(CodecError::Truncated))
}
