//! What stands for a box before other processes: an object of the exchange, which takes what they ask as letters.
//!
//! A letter comes in a thread that knows no Python, and is read by the herald's, in the order in which it came. What it
//! asks becomes a message to the box, as any other; the end of its task is the answer. So the messages of one process
//! stand in the order in which it sent them, among those of this one.
//!
//! The object keeps the box, and is kept by the handles of other processes, and by tickets. A [`Counter`] is the box's own,
//! and keeps neither. Nothing is undone when whoever has asked is gone: what was sent was sent; only a watch is over.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix_futex_sync::Mutex;
use thistledown_exchange::{
    Exchange, Object, ObjectId, Parcel, Party, Post, RequestId, Ticket, WeakExchange,
};

use crate::channel::{door, tickets};
use crate::errors;
use crate::task::Task;
use crate::workers::freight;
use crate::workers::herald::{self, Needed};

/// What is asked and told. The other kinds of message are known to `_boxes_far` alone.
pub(super) mod verb {
    pub(crate) const STOP: u8 = 2;
    pub(crate) const WATCH: u8 = 3;
    /// Told, with an error or nothing.
    pub(crate) const KILL: u8 = 4;
    /// Told, with the number of what was asked.
    pub(crate) const CANCEL: u8 = 5;
}

/// Why there is no answer: an error, which is the body; or it was cancelled.
pub(super) mod code {
    pub(crate) const ERROR: u16 = 0;
    pub(crate) const CANCELLED: u16 = 1;
}

/// A box, as other processes see it.
struct Served {
    target: Py<PyAny>,
    exchange: WeakExchange,
    /// What is begun, by who asked and his number of it.
    begun: Mutex<HashMap<(Party, u64), Py<Task>>>,
    /// Who is told of the end of the box.
    watches: Mutex<HashMap<RequestId, Py<PyAny>>>,
    _needed: Needed,
}

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
    fn asked(&self, request: RequestId, verb: u8, body: Parcel, _post: &mut Post<'_>) {
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
            What::Asked(request, verb, body) => Self::pass_on(py, &served, request, verb, &body),
            What::Told(party, verb::CANCEL, body) => {
                let number = body.inline().try_into().map(u64::from_le_bytes).unwrap_or_default();
                let task = served.begun.lock().get(&(party, number)).map(|task| task.clone_ref(py));
                task.map_or(Ok(()), |task| task.call_method0(py, intern!(py, "cancel")).map(drop))
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
        let letter = Bound::new(py, Letter { served: Arc::clone(served), request, verb })?;
        let opened = body.open().map_err(|error| errors::system(&error));
        let call = opened.and_then(|opened| freight::unpack_message_call(py, &opened));
        let passed = call.and_then(|call| {
            let args = (&served.target, &letter, call.args, call.kwargs, call.more);
            py.import("thistledown._boxes_far")?.call_method1(intern!(py, "received"), args)
        });
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
}

impl Letter {
    fn post(&self, answer: impl FnOnce(&mut Post<'_>)) {
        // Without an exchange nobody waits.
        if let Some(exchange) = self.served.exchange.upgrade() {
            answer(&mut exchange.post());
        }
    }
}

#[pymethods]
impl Letter {
    /// The message is this task, and has this number with whoever asked.
    fn _begun(&self, number: u64, task: Py<Task>) {
        self.served.begun.lock().insert((self.request.party, number), task);
    }

    /// The task has ended: that is the answer.
    fn _answer(&self, number: u64, task: &Bound<'_, Task>) -> PyResult<()> {
        let known = self.served.begun.lock().remove(&(self.request.party, number));
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
        let served = Arc::new(Served {
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
