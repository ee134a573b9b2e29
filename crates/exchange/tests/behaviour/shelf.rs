//! An object to try it with: a shelf from which values are taken, one by one, each by one taker.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thistledown_exchange::{
    Address, Broken, Exchange, Handle, Object, ObjectId, Parcel, Party, Post, RequestId, Told, Waiter,
};

pub(crate) const TAKE: u8 = 1;
pub(crate) const ECHO: u8 = 2;
pub(crate) const REFUSE: u8 = 3;
pub(crate) const PUT: u8 = 4;
pub(crate) const ATTACHED: u8 = 5;

/// Asks, and sleeps until it is told. What is offered is taken.
pub(crate) fn ask_and_wait(handle: &Handle, verb: u8, body: &Parcel) -> Result<Told, Broken> {
    let hearing = handle.ask_to_hear(verb, body)?;
    match hearing.sleep(Duration::from_secs(60)).expect("an answer") {
        Told::Broken(why) => Err(why),
        told => {
            if matches!(told, Told::Offer(_)) {
                hearing.into_asked().accept();
            }
            Ok(told)
        }
    }
}

#[derive(Default)]
struct State {
    values: VecDeque<Parcel>,
    offered: BTreeMap<RequestId, Parcel>,
    takers: VecDeque<RequestId>,
    log: Vec<String>,
    /// Something is kept for processes until they have ended.
    keeps: bool,
}

#[derive(Default)]
pub(crate) struct Shelf {
    number: u64,
    state: Mutex<State>,
}

impl Shelf {
    fn change(&self, post: &mut Post<'_>, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        change(&mut state);
        while !state.takers.is_empty()
            && let Some(value) = state.values.pop_front()
        {
            let taker = state.takers.pop_front().unwrap();
            match post.offer(taker, &value) {
                true => drop(state.offered.insert(taker, value)),
                false => state.values.push_front(value),
            }
        }
    }

    pub(crate) fn values(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().values.iter().map(bytes).collect()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    pub(crate) fn keep(&self) {
        self.state.lock().unwrap().keeps = true;
    }

    /// Waits until it has logged this, however long that takes.
    pub(crate) fn until_logged(&self, what: &str) {
        until(|| self.log().iter().any(|line| line == what));
    }
}

/// Looks again and again; the runner of the tests has the time limit.
pub(crate) fn until(holds: impl Fn() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

impl Object for Shelf {
    fn asked(&self, request: RequestId, verb: u8, body: Parcel, post: &mut Post<'_>) {
        match verb {
            TAKE => self.change(post, |state| {
                state.takers.push_back(request);
                state.log.push("asked".into());
            }),
            REFUSE => post.refuse(request, 7, &body),
            _ => post.answer(request, &body),
        }
    }

    fn withdrawn(&self, request: RequestId, post: &mut Post<'_>) {
        self.change(post, |state| {
            state.takers.retain(|taker| *taker != request);
            state.log.push("withdrawn".into());
        });
    }

    fn accepted(&self, request: RequestId, post: &mut Post<'_>) {
        self.change(post, |state| {
            state.offered.remove(&request).expect("it was offered");
            state.log.push("accepted".into());
        });
    }

    fn declined(&self, request: RequestId, post: &mut Post<'_>) {
        self.change(post, |state| {
            let value = state.offered.remove(&request).expect("it was offered");
            state.values.push_front(value);
            state.log.push("declined".into());
        });
    }

    fn told(&self, _party: Party, _verb: u8, body: Parcel, post: &mut Post<'_>) {
        self.change(post, |state| state.values.push_back(body));
    }

    fn attached(&self, party: Party, post: &mut Post<'_>) {
        post.note(party, self.number, ATTACHED, &Parcel::empty());
        self.state.lock().unwrap().log.push("attached".into());
    }

    fn detached(&self, _party: Party, _post: &mut Post<'_>) {
        self.state.lock().unwrap().log.push("detached".into());
    }

    fn keeps_for(&self, _process: Address) -> bool {
        self.state.lock().unwrap().keeps
    }

    fn ended(&self, process: Address, _post: &mut Post<'_>) {
        self.state.lock().unwrap().log.push(format!("{} has ended", process.pid));
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A waiter that keeps what it is told.
pub(crate) struct Ear(Mutex<Sender<Told>>);

impl Waiter for Ear {
    fn told(&self, told: Told) {
        let _ = self.0.lock().unwrap().send(told);
    }
}

pub(crate) fn ear() -> (Arc<Ear>, Receiver<Told>) {
    let (sender, receiver) = channel();
    (Arc::new(Ear(Mutex::new(sender))), receiver)
}

/// What was told next.
pub(crate) fn hear(told: &Receiver<Told>) -> Told {
    told.recv_timeout(Duration::from_secs(60)).expect("something is told")
}

pub(crate) fn parcel(bytes: &[u8]) -> Parcel {
    Parcel::new(bytes, &[]).unwrap()
}

pub(crate) fn bytes(parcel: &Parcel) -> Vec<u8> {
    parcel.open().unwrap().head().to_vec()
}

pub(crate) fn offered(told: Told) -> Vec<u8> {
    match told {
        Told::Offer(value) => bytes(&value),
        other => panic!("no offer: {other:?}"),
    }
}

/// A shelf with these values, and what keeps it.
pub(crate) fn shelf(exchange: &Exchange, values: &[&[u8]]) -> (Arc<Shelf>, Handle) {
    let mut made = None;
    let handle = exchange.publish(|id| {
        let shelf = Arc::new(Shelf { number: id.number, ..Shelf::default() });
        made = Some(Arc::clone(&shelf));
        shelf
    });
    let shelf = made.unwrap();
    for value in values {
        handle.tell(PUT, &parcel(value)).unwrap();
    }
    (shelf, handle)
}

/// A handle from another exchange.
pub(crate) fn far(id: ObjectId) -> (Exchange, Handle) {
    let exchange = Exchange::start().unwrap();
    let handle = exchange.hold(id, None, None).unwrap();
    (exchange, handle)
}
