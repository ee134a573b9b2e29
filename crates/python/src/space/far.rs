//! A space that another process has: what is asked of it, and who waits for what comes of that.
//!
//! Waits are at spots of this process's kernel, which the thread of the exchange calls; it never takes the interpreter's
//! lock. What is seen by a watch comes by itself, and is kept here.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use rustix_futex_sync::{Condvar, Mutex};
use thistledown_exchange::{
    Asked, Broken, Handle, Listener, ObjectId, Parcel, Ticket, TicketId, Told, Waiter,
};
use thistledown_kernel::{Moment, SpotId, TaskId};
pub(crate) use thistledown_space::Act;
use thistledown_space::{
    Ask, ClaimId, CodecError, Missed, News, Refused, Template, TransactionId, Tuple, Wanted, decode_given,
};

use crate::channel::{door, tickets};
use crate::current::{Current, Run};
use crate::errors;
use crate::outside::outside;
use crate::payload::WORLD;
use crate::space::home::Home;
use crate::space::hub::{Hub, VERB, bytes_of, code};
use crate::space::{cannot_be_written, refused};

/// Names of waits and watches, for all spaces.
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
        code::FILE => Python::attach(|py| errors::space_broken(py, words())),
        _ => errors::wrong_value(words()),
    }
}

/// The time that goes with what is asked: that of a clock of tests.
fn now() -> Option<Duration> {
    let is_virtual = Current::run().is_some_and(|run| run.clock.is_virtual());
    is_virtual.then(|| Run::now().since(Moment::default()))
}

/// Something is on its way that will come: a clock that jumps waits for it.
fn hope() -> Option<TaskId> {
    let run = Current::run().filter(|run| run.clock.is_virtual())?;
    let runner = Some(run.runner);
    Some(WORLD.with(|kernel| kernel.add_elsewhere(runner)))
}

fn call(spot: SpotId) {
    WORLD.with(|kernel| kernel.call(spot));
}

/// A space of another process.
pub(crate) struct FarSpace {
    id: ObjectId,
    /// Set right after it is made, before anybody else knows it.
    handle: OnceLock<Handle>,
    waits: Mutex<HashMap<u64, Weak<FarWait>>>,
    watches: Mutex<HashMap<u64, Arc<FarWatch>>>,
    broken: Mutex<Option<Broken>>,
    ticket: Mutex<Option<Ticket>>,
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
    let far = Arc::new(FarSpace {
        id,
        handle: OnceLock::new(),
        waits: Mutex::default(),
        watches: Mutex::default(),
        broken: Mutex::default(),
        ticket: Mutex::default(),
    });
    let listener: Arc<dyn Listener> = Arc::clone(&far) as _;
    match exchange.hold(id, ticket, Some(Arc::downgrade(&listener))) {
        Ok(handle) => drop(far.handle.set(handle)),
        Err(why) => *far.broken.lock() = Some(why),
    }
    Ok(Seat::Far(far))
}

impl FarSpace {
    pub(crate) fn id(&self) -> ObjectId {
        self.id
    }

    fn handle(&self) -> PyResult<&Handle> {
        let known = *self.broken.lock();
        let why = || broken(known.unwrap_or(Broken::NoObject { pid: self.id.owner.pid }));
        self.handle.get().ok_or_else(why)
    }

    /// What names it for another process, and keeps it until that has it.
    pub(crate) fn ticket(&self) -> PyResult<(ObjectId, TicketId)> {
        Ok((self.id, tickets::ticket(self.handle()?, &self.ticket).map_err(broken)?))
    }

    fn body(act: Act) -> PyResult<Parcel> {
        let bytes = Ask { now: now(), act }.to_bytes().map_err(cannot_be_written)?;
        Parcel::new(&bytes, &[]).map_err(|error| errors::system(&error))
    }

    /// Asks, and waits for what comes of it in this thread. An offer is taken.
    pub(crate) fn ask(&self, py: Python<'_>, act: Act) -> PyResult<Vec<u8>> {
        let (handle, body) = (self.handle()?, Self::body(act)?);
        match outside(py, || handle.ask_and_wait(VERB, &body)).map_err(broken)? {
            Told::Answer(body) | Told::Offer(body) => bytes_of(&body).map_err(garbled),
            Told::Refusal { code, body } => Err(refusal(code, &body)),
            Told::Broken(why) => Err(broken(why)),
        }
    }

    /// Takes or claims what is there now: it is this process's when what is given with it says so.
    pub(crate) fn look_now(&self, py: Python<'_>, wanted: &Arc<Wanted>) -> PyResult<Option<(Given, Asked)>> {
        let (handle, body) = (self.handle()?, Self::body(Act::Look(Arc::clone(wanted), None))?);
        let (asked, told) = outside(py, || handle.ask_and_hear(VERB, &body)).map_err(broken)?;
        match told {
            Told::Offer(body) => {
                let given = bytes_of(&body).and_then(|bytes| decode_given(&bytes)).map_err(garbled)?;
                Ok(Some((given, asked)))
            }
            Told::Answer(_) => Ok(None),
            Told::Refusal { code, body } => Err(refusal(code, &body)),
            Told::Broken(why) => Err(broken(why)),
        }
    }

    /// Tells it something, if it is there.
    pub(crate) fn tell(&self, act: Act) {
        if let (Ok(handle), Ok(body)) = (self.handle(), Self::body(act)) {
            // Who is gone need not be told.
            let _ = handle.tell(VERB, &body);
        }
    }

    /// Asks for something that may take long; `act` gets its number.
    pub(crate) fn begin(
        self: &Arc<Self>,
        within: Option<TransactionId>,
        act: impl FnOnce(u64) -> Act,
    ) -> PyResult<Arc<FarWait>> {
        let handle = self.handle()?;
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let body = Self::body(act(number))?;
        let spot = WORLD.with(|kernel| kernel.open_outside_spot());
        let state = WaitState { told: None, is_heard: false, left: None, looks: None, hope: hope() };
        let wait = Arc::new(FarWait {
            number,
            within,
            spot,
            state: Mutex::new(state),
            heard: Condvar::new(),
            asked: Mutex::new(None),
            space: Arc::clone(self),
        });
        self.waits.lock().insert(number, Arc::downgrade(&wait));
        let waiter: Arc<dyn Waiter> = Arc::clone(&wait) as _;
        match handle.ask(VERB, &body, waiter) {
            Ok(asked) => {
                *wait.asked.lock() = Some(asked);
                Ok(wait)
            }
            Err(why) => {
                wait.end();
                Err(broken(why))
            }
        }
    }

    pub(crate) fn watch(
        &self,
        py: Python<'_>,
        template: Template,
        capacity: usize,
    ) -> PyResult<Arc<FarWatch>> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let spot = WORLD.with(|kernel| kernel.open_outside_spot());
        let watch = Arc::new(FarWatch { number, spot, capacity, seen: Mutex::default() });
        self.watches.lock().insert(number, Arc::clone(&watch));
        let asked = self.ask(py, Act::Watch(template, number, capacity as u64));
        if let Err(error) = asked {
            self.unwatch(&watch);
            return Err(error);
        }
        Ok(watch)
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

    /// What a watch saw next. None: nothing yet.
    pub(crate) fn next_seen(&self, watch: &FarWatch) -> PyResult<Result<Option<Tuple>, Missed>> {
        let (next, is_more) = {
            let mut seen = watch.seen.lock();
            let next = match std::mem::take(&mut seen.missed) {
                0 => Ok(seen.tuples.pop_front()),
                missed => Err(Missed(missed)),
            };
            (next, !seen.tuples.is_empty())
        };
        if is_more {
            call(watch.spot);
        }
        let why = *self.broken.lock();
        match (next, why) {
            (Ok(None), Some(why)) => Err(broken(why)),
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
}

impl Listener for FarSpace {
    fn noted(&self, _verb: u8, body: Parcel) {
        let Ok(news) = bytes_of(&body).and_then(|bytes| News::from_bytes(&bytes)) else { return };
        match news {
            News::Enlisted(number, left) => {
                let wait = self.waits.lock().get(&number).and_then(Weak::upgrade);
                wait.into_iter().for_each(|wait| wait.enlisted(left));
            }
            News::Seen(number, tuple) => self.see(number, |watch, seen| {
                if seen.tuples.len() == watch.capacity {
                    seen.tuples.pop_front();
                    seen.missed += 1;
                }
                seen.tuples.push_back(tuple);
            }),
            News::Missed(number, count) => self.see(number, |_, seen| seen.missed += count),
        }
    }

    fn broken(&self, why: Broken) {
        *self.broken.lock() = Some(why);
        let watches: Vec<_> = self.watches.lock().values().cloned().collect();
        watches.into_iter().for_each(|watch| watch.call());
    }
}

impl FarSpace {
    fn see(&self, number: u64, work: impl FnOnce(&FarWatch, &mut Seen)) {
        let watch = self.watches.lock().get(&number).cloned();
        if let Some(watch) = watch {
            work(&watch, &mut watch.seen.lock());
            watch.call();
        }
    }
}

/// A tuple that is offered, and what holds it.
pub(crate) type Given = (Tuple, Option<ClaimId>);

/// A number that was answered.
pub(crate) fn number(bytes: &[u8]) -> PyResult<usize> {
    let number = bytes.try_into().map(u64::from_le_bytes).map_err(|_| garbled(CodecError::Truncated))?;
    usize::try_from(number).map_err(|_| garbled(CodecError::Truncated))
}

/// What a watch has seen and not shown.
#[derive(Default)]
struct Seen {
    tuples: VecDeque<Tuple>,
    missed: u64,
}

/// A watch of a space that is elsewhere.
pub(crate) struct FarWatch {
    number: u64,
    pub(crate) spot: SpotId,
    capacity: usize,
    seen: Mutex<Seen>,
}

impl FarWatch {
    /// All who wait look.
    fn call(&self) {
        WORLD.with(|kernel| while kernel.call(self.spot) {});
    }
}

struct WaitState {
    told: Option<Told>,
    /// It was told something, or that nothing is there.
    is_heard: bool,
    /// How long it is until it is to look, as it was just said.
    left: Option<Duration>,
    /// When it is to look.
    looks: Option<Moment>,
    hope: Option<TaskId>,
}

/// Something that was asked of a space that is elsewhere, and who waits for it.
pub(crate) struct FarWait {
    number: u64,
    within: Option<TransactionId>,
    pub(crate) spot: SpotId,
    state: Mutex<WaitState>,
    /// Something was heard.
    heard: Condvar,
    asked: Mutex<Option<Asked>>,
    space: Arc<FarSpace>,
}

impl FarWait {
    /// Sleeps until it is told something, or that nothing is there.
    pub(crate) fn listen(&self) {
        let mut state = self.state.lock();
        while !state.is_heard {
            state = self.heard.wait(state);
        }
    }

    pub(crate) fn take_told(&self) -> Option<Told> {
        self.state.lock().told.take()
    }

    /// Takes what was offered.
    pub(crate) fn accept(&self) {
        if let Some(asked) = self.asked.lock().take() {
            asked.accept();
        }
    }

    fn revoke(&self) {
        let asked = self.asked.lock().take();
        drop(asked);
        self.told(Told::Refusal { code: code::TRANSACTION_OVER, body: Parcel::empty() });
    }

    /// When it is to look by itself.
    pub(crate) fn looks(&self) -> Moment {
        let mut state = self.state.lock();
        if let Some(left) = state.left.take() {
            state.looks = Some(Run::now().after(left));
        }
        state.looks.unwrap_or(Moment::NEVER)
    }

    /// It is over, however it ended: what was offered and not taken goes back.
    pub(crate) fn end(&self) {
        self.space.waits.lock().remove(&self.number);
        let asked = self.asked.lock().take();
        drop(asked);
        let hope = self.state.lock().hope.take();
        end(hope);
        WORLD.with(|kernel| kernel.drop_spot(self.spot));
    }

    /// Has the space look, if that is due.
    pub(crate) fn look_if_due(&self) {
        {
            let mut state = self.state.lock();
            if state.looks.is_none_or(|at| at > Run::now()) {
                return;
            }
            state.looks = None;
        }
        let hope = hope();
        let old = std::mem::replace(&mut self.state.lock().hope, hope);
        end(old);
        self.space.tell(Act::LookAgain(self.number));
    }

    fn enlisted(&self, left: Option<Duration>) {
        let hope = {
            let mut state = self.state.lock();
            (state.left, state.looks, state.is_heard) = (left, None, true);
            state.hope.take()
        };
        self.heard.notify_all();
        call(self.spot);
        end(hope);
    }
}

fn end(hope: Option<TaskId>) {
    hope.into_iter().for_each(|id| WORLD.with(|kernel| kernel.finish(id)));
}

impl Waiter for FarWait {
    fn told(&self, told: Told) {
        let hope = {
            let mut state = self.state.lock();
            (state.told, state.is_heard) = (Some(told), true);
            state.hope.take()
        };
        self.heard.notify_all();
        call(self.spot);
        end(hope);
    }
}
