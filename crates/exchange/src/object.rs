//! What can be asked: the trait of objects, and the post by which they answer.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use rustix_futex_sync::Mutex;
use thistledown_parcel::Parcel;

use crate::address::{Address, Party};
use crate::connection::Connection;
use crate::core::Core;
use crate::desk::{Desk, Told};
use crate::frame::Response;

/// Which request, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// Who asked.
    pub party: Party,
    /// His name for it.
    pub number: u64,
}

/// An object that other processes use.
///
/// Its methods are called by the thread of the exchange, for other processes, and by whoever asks in its own process; by
/// several at a time. They must not block, nor take a lock that is held around a call of the exchange.
///
/// Answers go through the [`Post`], at once or later, through one of [`Exchange::post`](crate::Exchange::post): then to each
/// request exactly one of `answer` and `refuse`, or any number of rounds of `offer` and [`Object::declined`], of which
/// the last ends in [`Object::accepted`]. What is put into the post while a lock of the object's is held goes out in that
/// order; it leaves, and local waiters are told, when the post is dropped, which is to be after the lock is released.
pub trait Object: Send + Sync {
    /// Somebody asks for something.
    fn asked(&self, request: RequestId, verb: u8, body: Parcel, post: &mut Post<'_>);

    /// It is not wanted any more: who asked has stopped to wait, or is gone. No answer to it is heard.
    fn withdrawn(&self, request: RequestId, post: &mut Post<'_>);

    /// What was offered was taken. The request is over.
    fn accepted(&self, request: RequestId, post: &mut Post<'_>);

    /// What was offered was not taken, and whoever asked does not wait any more, or is gone. The request is over, and what
    /// was offered is the object's again.
    fn declined(&self, request: RequestId, post: &mut Post<'_>);

    /// Somebody tells it something that has no answer.
    fn told(&self, _party: Party, _verb: u8, _body: Parcel, _post: &mut Post<'_>) {}

    /// A process has its first handle from now on. It hears what is noted to it.
    fn attached(&self, _party: Party, _post: &mut Post<'_>) {}

    /// A process has no handle any more, or is gone. Its requests were withdrawn and declined before, if it is gone, and all
    /// that it has told was heard.
    fn detached(&self, _party: Party, _post: &mut Post<'_>) {}

    /// Whether it keeps something for a process, which has no handle any more, until that has ended.
    fn keeps_for(&self, _process: Address) -> bool {
        false
    }

    /// A process for which it keeps something has ended.
    fn ended(&self, _process: Address, _post: &mut Post<'_>) {}

    /// Itself, for [`Exchange::object`](crate::Exchange::object).
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// What a request was asked of.
struct Open {
    object: Arc<dyn Object>,
    offered: bool,
}

/// Each stands there once; what is no more, not at all.
pub(crate) fn add_keeper(keepers: &mut Vec<Weak<dyn Object>>, keeper: Weak<dyn Object>) {
    keepers.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&keeper));
    keepers.push(keeper);
}

/// A process that asks, as its owner sees it.
pub(crate) struct Client {
    pub(crate) party: Party,
    /// Its own process has none.
    pub(crate) connection: Option<Arc<Connection>>,
    open: Mutex<HashMap<u64, Open>>,
    /// Its handles, by object.
    pub(crate) handles: Mutex<HashMap<u64, usize>>,
    /// Who it is, when it has said so.
    pub(crate) address: OnceLock<Address>,
    /// Objects of which it has no handle any more, and that keep something for it until it has ended.
    keepers: Mutex<Vec<Weak<dyn Object>>>,
}

impl Client {
    pub(crate) fn new(party: Party, connection: Option<Arc<Connection>>) -> Self {
        let (open, handles, keepers) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { party, connection, open, handles, address: OnceLock::new(), keepers }
    }

    /// Passes a question on.
    pub(crate) fn ask(
        &self,
        object: Arc<dyn Object>,
        number: u64,
        verb: u8,
        body: Parcel,
        post: &mut Post<'_>,
    ) {
        let request = RequestId { party: self.party, number };
        self.open.lock().insert(number, Open { object: Arc::clone(&object), offered: false });
        object.asked(request, verb, body, post);
    }

    /// Whoever asked says what becomes of it: he takes what was offered, or does not, or does not wait any more.
    pub(crate) fn settle(&self, number: u64, is_taken: bool, post: &mut Post<'_>) {
        let removed = self.open.lock().remove(&number);
        let Some(Open { object, offered }) = removed else { return };
        let request = RequestId { party: self.party, number };
        match (offered, is_taken) {
            (true, true) => object.accepted(request, post),
            (true, false) => object.declined(request, post),
            (false, _) => object.withdrawn(request, post),
        }
    }

    /// It is gone.
    pub(crate) fn settle_all(&self, post: &mut Post<'_>) {
        let mut left: Vec<u64> = self.open.lock().keys().copied().collect();
        // The last first: what goes back to the front then stands there as it did.
        left.sort_unstable_by(|one, other| other.cmp(one));
        left.into_iter().for_each(|number| self.settle(number, false, post));
    }

    /// It has no handle to an object any more.
    pub(crate) fn detach(&self, object: &Arc<dyn Object>, post: &mut Post<'_>) {
        object.detached(self.party, post);
        if self.address.get().is_some_and(|address| object.keeps_for(*address)) {
            add_keeper(&mut self.keepers.lock(), Arc::downgrade(object));
        }
    }

    /// The objects that keep something for it.
    pub(crate) fn take_keepers(&self) -> Vec<Weak<dyn Object>> {
        std::mem::take(&mut *self.keepers.lock())
    }

    /// Notes an offer. False: nobody waits for it.
    fn offer(&self, number: u64) -> bool {
        self.open.lock().get_mut(&number).is_some_and(|open| !std::mem::replace(&mut open.offered, true))
    }

    /// Notes the end of a request. False: nobody waits for it.
    fn end(&self, number: u64) -> bool {
        self.open.lock().remove(&number).is_some()
    }
}

/// How an object answers. What was put into it leaves when it is dropped.
pub struct Post<'a> {
    core: &'a Core,
    touched: Vec<Arc<Connection>>,
    here: Vec<(u64, Told)>,
    notes: Vec<(u64, u8, Parcel)>,
}

impl std::fmt::Debug for Post<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post").field("touched", &self.touched.len()).finish_non_exhaustive()
    }
}

impl<'a> Post<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Self { core, touched: Vec::new(), here: Vec::new(), notes: Vec::new() }
    }

    /// Offers what was asked for. False: nobody waits for it any more, and [`Object::withdrawn`] is or was called.
    pub fn offer(&mut self, request: RequestId, value: &Parcel) -> bool {
        let Some(client) = self.core.client(request.party) else { return false };
        if !client.offer(request.number) {
            return false;
        }
        let message = Response::Offer { request: request.number, blob: value.head_in_blob() };
        self.put(&client, message, value, || (request.number, Told::Offer(value.clone())));
        true
    }

    /// Ends a request with what came of it.
    pub fn answer(&mut self, request: RequestId, value: &Parcel) {
        let Some(client) = self.core.client(request.party) else { return };
        if client.end(request.number) {
            let message = Response::Answer { request: request.number, blob: value.head_in_blob() };
            self.put(&client, message, value, || (request.number, Told::Answer(value.clone())));
        }
    }

    /// Ends a request without.
    pub fn refuse(&mut self, request: RequestId, code: u16, value: &Parcel) {
        let Some(client) = self.core.client(request.party) else { return };
        if client.end(request.number) {
            let blob = value.head_in_blob();
            let message = Response::Refuse { request: request.number, code, blob };
            self.put(&client, message, value, || {
                (request.number, Told::Refusal { code, body: value.clone() })
            });
        }
    }

    /// Tells a process something about an object, if it has a handle. In the owner's own process its
    /// [`Listener`](crate::Listener) is the one of [`Exchange::listen`](crate::Exchange::listen).
    pub fn note(&mut self, party: Party, object: u64, verb: u8, body: &Parcel) {
        if party.is_here() {
            self.notes.push((object, verb, body.clone()));
            return;
        }
        let Some(client) = self.core.client(party) else { return };
        let message = Response::Note { object, verb, blob: body.head_in_blob() };
        if let Some(connection) = &client.connection {
            connection.put(message, body);
            self.touch(connection);
        }
    }

    fn put(&mut self, client: &Client, message: Response, body: &Parcel, told: impl FnOnce() -> (u64, Told)) {
        match &client.connection {
            None => self.here.push(told()),
            Some(connection) => {
                connection.put(message, body);
                self.touch(connection);
            }
        }
    }

    pub(crate) fn touch(&mut self, connection: &Arc<Connection>) {
        if !self.touched.iter().any(|known| known.number == connection.number) {
            self.touched.push(Arc::clone(connection));
        }
    }

    /// Tells who waits in this process.
    pub(crate) fn tell_here(&mut self, desk: &Desk) {
        while !self.here.is_empty() || !self.notes.is_empty() {
            for (object, verb, body) in std::mem::take(&mut self.notes) {
                self.core.note_here(object, verb, body);
            }
            for (request, told) in std::mem::take(&mut self.here) {
                desk.tell(request, told);
            }
        }
    }
}

impl Drop for Post<'_> {
    fn drop(&mut self) {
        for connection in std::mem::take(&mut self.touched) {
            self.core.send(&connection);
        }
        let core = self.core;
        self.tell_here(&core.desk);
    }
}
