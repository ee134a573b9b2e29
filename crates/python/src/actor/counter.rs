//! What stands for a box before other processes: an object of the exchange, which takes what they ask as letters.
//!
//! A letter comes in a thread that knows no Python, and is read by the herald's, in the order in which it came. What it
//! asks becomes a message to the box, as any other; the end of its task is the answer. So the messages of one process
//! stand in the order in which it sent them, among those of this one. The herald reads what is asked, and not with which
//! arguments, which may be slow to come out of their pickles: that is done in the turn of a weightless actor's message. No
//! more letters lie before the herald than the mailbox has room for.
//!
//! The object keeps the box, and is kept by the handles of other processes, and by tickets. A [`Counter`] is the box's own,
//! and keeps neither. Nothing is undone when whoever has asked is gone: what was sent was sent; only a watch is over.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use rustix_futex_sync::Mutex;
use thistledown_exchange::{
    Exchange, Object, ObjectId, Parcel, Party, Post, RequestId, Ticket, WeakExchange,
};
use thistledown_workers::Opened;

use super::message;
use crate::channel::{door, tickets};
use crate::errors;
use crate::task::Task;
use crate::trail;
use crate::trail::written::Trail;
use crate::workers::freight::{self, Call};
use crate::workers::herald::{self, Needed};

/// What is asked and told. The other kinds of message are known to `_boxes_far` alone.
pub(super) mod verb {
    pub(crate) const READ: u8 = 1;
    pub(crate) const STOP: u8 = 2;
    pub(crate) const WATCH: u8 = 3;
    /// Told, with an error or nothing.
    pub(crate) const KILL: u8 = 4;
    /// Told, with the number of what was asked.
    pub(crate) const CANCEL: u8 = 5;
    /// Told, with the number of what was asked, and a trail of waits that goes on from there.
    pub(crate) const TRAIL: u8 = 6;
    /// Asked, with the number of what was asked: it never begins, if it has not. In the answer is a byte: 1, if it ends
    /// so.
    pub(crate) const TAKE_BACK: u8 = 7;
}

/// Why there is no answer: an error, which is the body; or it was cancelled.
pub(super) mod code {
    pub(crate) const ERROR: u16 = 0;
    pub(crate) const CANCELLED: u16 = 1;
    /// So many letters lie there that more are not taken.
    pub(crate) const FULL: u16 = 2;
}

/// A box, as other processes see it.
struct Served {
    target: Py<PyAny>,
    exchange: WeakExchange,
    /// How many letters may lie before the herald, and how many do.
    limit: usize,
    lying: AtomicUsize,
    /// What is begun, by who asked and his number of it.
    begun: Mutex<HashMap<(Party, u64), Py<Task>>>,
    /// Who is told of the end of the box.
    watches: Mutex<HashMap<RequestId, Py<PyAny>>>,
    _needed: Needed,
}

impl Served {
    /// What is begun by the number in front of these bytes, and the rest of them.
    fn begun<'a>(&self, py: Python<'_>, party: Party, bytes: &'a Parcel) -> Option<(Py<Task>, &'a [u8])> {
        let (number, rest) = bytes.inline().split_first_chunk()?;
        let begun = self.begun.lock();
        let task = begun.get(&(party, u64::from_le_bytes(*number)))?;
        Some((task.clone_ref(py), rest))
    }

    fn post(&self, answer: impl FnOnce(&mut Post<'_>)) {
        // Without an exchange nobody waits.
        if let Some(exchange) = self.exchange.upgrade() {
            answer(&mut exchange.post());
        }
    }
}

/// Letters that may lie before the herald, if the box does not say: `_boxes.MAILBOX`.
const MAILBOX: usize = 100_000;

struct Window(Arc<Served>);

/// What the herald is to read.
pub(crate) struct Mail {
    served: Arc<Served>,
    what: What,
}

enum What {
    Asked(RequestId, u8, Parcel),
    Told(Party, u8, Parcel),
    Withdrawn(RequestId),
    /// Nobody elsewhere has it any more: the box is let go, in a thread that may do so.
    Over,
}

impl Window {
    fn deliver(&self, what: What) {
        herald::deliver(Mail { served: Arc::clone(&self.0), what });
    }
}

impl Object for Window {
    fn asked(&self, request: RequestId, verb: u8, body: Parcel, post: &mut Post<'_>) {
        let is_message = !matches!(verb, verb::STOP | verb::WATCH | verb::TAKE_BACK);
        if self.0.lying.fetch_add(1, Ordering::Relaxed) >= self.0.limit && is_message {
            self.0.lying.fetch_sub(1, Ordering::Relaxed);
            return post.refuse(request, code::FULL, &Parcel::empty());
        }
        self.deliver(What::Asked(request, verb, body));
    }

    fn withdrawn(&self, request: RequestId, _post: &mut Post<'_>) {
        self.deliver(What::Withdrawn(request));
    }

    fn accepted(&self, _request: RequestId, _post: &mut Post<'_>) {}

    fn declined(&self, _request: RequestId, _post: &mut Post<'_>) {}

    fn told(&self, party: Party, verb: u8, body: Parcel, _post: &mut Post<'_>) {
        self.deliver(What::Told(party, verb, body));
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.deliver(What::Over);
    }
}

impl Mail {
    /// Does what it asks.
    pub(crate) fn read(self, py: Python<'_>) {
        let Self { served, what } = self;
        let done = match what {
            What::Asked(request, verb::TAKE_BACK, body) => {
                served.lying.fetch_sub(1, Ordering::Relaxed);
                let begun = served.begun(py, request.party, &body);
                let is_back = begun.is_some_and(|(task, _)| message::take_back(task.bind(py)));
                served.post(|post| post.answer(request, &Parcel::Inline(Arc::from([u8::from(is_back)]))));
                Ok(())
            }
            What::Told(party, verb::TRAIL, body) => {
                if let Some((task, written)) = served.begun(py, party, &body)
                    && let Some(trail) = Trail::from_bytes(written)
                {
                    trail::follow(task.bind(py), trail);
                }
                Ok(())
            }
            What::Asked(request, verb, body) => {
                served.lying.fetch_sub(1, Ordering::Relaxed);
                Self::pass_on(py, &served, request, verb, &body)
            }
            What::Told(party, verb::CANCEL, body) => {
                let begun = served.begun(py, party, &body);
                begun.map_or(Ok(()), |(task, _)| task.call_method0(py, intern!(py, "cancel")).map(drop))
            }
            What::Told(_, verb::KILL, body) => killed(py, &served, &body),
            What::Withdrawn(request) => {
                let heard = served.watches.lock().remove(&request);
                let unwatch = |heard| served.target.call_method1(py, intern!(py, "unwatch"), (heard,));
                heard.map_or(Ok(()), |heard| unwatch(heard).map(drop))
            }
            What::Told(..) | What::Over => Ok(()),
        };
        if let Err(error) = done {
            error.write_unraisable(py, Some(served.target.bind(py)));
        }
    }

    fn pass_on(
        py: Python<'_>,
        served: &Arc<Served>,
        request: RequestId,
        verb: u8,
        body: &Parcel,
    ) -> PyResult<()> {
        let opened = body.open().map_err(|error| errors::system(&error));
        let read = opened.and_then(|opened| Ok((freight::read_address(&opened)?, opened)));
        let (address, opened, unread) = match read {
            Ok((address, opened)) => (address, Some(opened), None),
            Err(error) => (<(u64, String)>::default(), None, Some(error)),
        };
        let (number, what) = address;
        let opened = Mutex::new(opened);
        let letter = Letter { served: Arc::clone(served), request, verb, number, what, opened };
        let letter = Bound::new(py, letter)?;
        let passed = unread.map_or_else(
            || {
                let far = py.import("thistledown._boxes_far")?;
                far.call_method1(intern!(py, "received"), (&served.target, &letter)).map(drop)
            },
            Err,
        );
        if let Err(error) = passed {
            letter.get().fail(error.value(py));
        }
        Ok(())
    }
}

fn killed(py: Python<'_>, served: &Served, body: &Parcel) -> PyResult<()> {
    let error = match body.open().map_err(|error| errors::system(&error))?.head() {
        [] => None,
        packed => Some(errors::from_worker(py, packed)?),
    };
    served.target.call_method1(py, intern!(py, "kill"), (error,)).map(drop)
}

/// What another process has asked, until it is answered.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Letter {
    served: Arc<Served>,
    request: RequestId,
    #[pyo3(get, name = "_verb")]
    verb: u8,
    /// By which who has asked knows it.
    #[pyo3(get, name = "_number")]
    number: u64,
    /// The method or attribute.
    #[pyo3(get, name = "_what")]
    what: String,
    /// Its arguments, until they are read.
    opened: Mutex<Option<Opened>>,
}

impl Letter {
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// Whether an attribute is asked for.
    pub(super) fn reads(&self) -> bool {
        self.verb == verb::READ
    }

    /// Reads its arguments, once.
    pub(super) fn open<'py>(&self, py: Python<'py>) -> PyResult<Call<'py>> {
        let opened = self.opened.lock().take();
        let opened = opened.ok_or_else(|| errors::misuse("the letter was read before"))?;
        freight::unpack_letter(py, &opened)
    }

    fn post(&self, answer: impl FnOnce(&mut Post<'_>)) {
        self.served.post(answer);
    }
}

#[pymethods]
impl Letter {
    /// Its arguments, and what goes with them.
    fn _read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let call = self.open(py)?;
        (call.args, call.kwargs, call.more).into_pyobject(py)
    }

    /// The message is this task.
    fn _begun(&self, task: Py<Task>) {
        self.served.begun.lock().insert((self.request.party, self.number), task);
    }

    /// The task has ended: that is the answer.
    fn _answer(&self, task: &Bound<'_, Task>) -> PyResult<()> {
        let known = self.served.begun.lock().remove(&(self.request.party, self.number));
        drop(known);
        match task.get().outcome(task.py()) {
            None => {}
            Some(Ok(value)) => self.give(value.bind(task.py())),
            Some(Err(_)) if task.call_method0(intern!(task.py(), "cancelled"))?.is_truthy()? => {
                self.post(|post| post.refuse(self.request, code::CANCELLED, &Parcel::empty()));
            }
            Some(Err(error)) => self.fail(error.value(task.py())),
        }
        Ok(())
    }

    /// The answer is this value.
    #[pyo3(name = "_give")]
    fn give(&self, value: &Bound<'_, PyAny>) {
        match freight::pack_result(value) {
            Ok(parcel) => self.post(|post| post.answer(self.request, &parcel)),
            Err(error) => self.fail(error.value(value.py())),
        }
    }

    /// The answer is this error.
    #[pyo3(name = "_fail")]
    fn fail(&self, error: &Bound<'_, pyo3::exceptions::PyBaseException>) {
        let packed = freight::pack_error(error);
        self.post(|post| post.refuse(self.request, code::ERROR, &packed));
    }

    /// Who asked is to hear of the end of the box by this. When he does not wait any more, it is taken back.
    fn _watches(&self, heard: Py<PyAny>) {
        let old = self.served.watches.lock().insert(self.request, heard);
        drop(old);
    }

    /// He has heard.
    fn _heard(&self) {
        let heard = self.served.watches.lock().remove(&self.request);
        drop(heard);
    }
}

/// A box's own: the object that stands for it, as long as other processes have it.
#[pyclass(frozen, module = "thistledown._core")]
#[derive(Default)]
pub(crate) struct Counter {
    id: Mutex<Option<ObjectId>>,
    /// For handles in functions, and whatever a program pickles itself.
    ticket: Mutex<Option<Ticket>>,
}

#[pymethods]
impl Counter {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// What is pickled for a handle of this box.
    fn _reference<'py>(&self, target: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let py = target.py();
        let exchange = door::open()?;
        let known = *self.id.lock();
        let handle = match known.and_then(|id| exchange.hold(id, None, None).ok()) {
            Some(handle) => handle,
            None => self.publish(&exchange, target)?,
        };
        let ticket = tickets::ticket(&handle, &self.ticket).map_err(|why| errors::misuse(why.to_string()))?;
        Ok(PyBytes::new(py, &tickets::written(handle.id(), ticket)))
    }

    /// Whether handles that are nowhere keep the box.
    #[getter]
    fn _is_lasting(&self) -> bool {
        self.ticket.lock().is_some()
    }

    /// The box has ended: handles that are nowhere keep it no more.
    fn _close(&self) {
        let ticket = self.ticket.lock().take();
        drop(ticket);
    }
}

impl Counter {
    fn publish(
        &self,
        exchange: &Exchange,
        target: Bound<'_, PyAny>,
    ) -> PyResult<thistledown_exchange::Handle> {
        let options = target.getattr(intern!(target.py(), "options"))?;
        let limit = options.get_item(intern!(target.py(), "mailbox")).and_then(|limit| limit.extract());
        let served = Arc::new(Served {
            limit: limit.unwrap_or(MAILBOX),
            lying: AtomicUsize::new(0),
            _needed: Needed::new(target.py())?,
            target: target.unbind(),
            exchange: exchange.downgrade(),
            begun: Mutex::default(),
            watches: Mutex::default(),
        });
        let handle = exchange.publish(|_| Arc::new(Window(served)));
        *self.id.lock() = Some(handle.id());
        Ok(handle)
    }
}

/// The box that an object of this process stands for.
pub(super) fn target(py: Python<'_>, exchange: &Exchange, id: ObjectId) -> Option<Py<PyAny>> {
    let object = exchange.object(id.number)?;
    let window = object.downcast::<Window>().ok()?;
    Some(window.0.target.clone_ref(py))
}
