//! A box of another process, as this one has it: what is asked of it goes there, and is a task here.
//!
//! The task ends by what the exchange's thread hears, which knows no Python; whoever asks for its outcome unpacks it, as
//! that of any task of a worker process. In a worker, whoever waits for it gives up the worker's place meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use rustix_futex_sync::Mutex;
use thistledown_exchange::{Asked, Broken, Handle, Parcel, Ticket, Told, Waiter};
use thistledown_workers::{Cancel, Outcome};

use super::counter::{self, code, verb};
use crate::channel::{door, tickets};
use crate::errors;
use crate::root;
use crate::task::Task;
use crate::trail::calls;
use crate::trail::written::{Origin, Trail};
use crate::workers::freight;
use crate::workers::herald::Needed;
use crate::workers::remote::{Remote, Way};
use crate::workers::settle::settling;
use crate::workers::upstream::{self, Waiting};

/// A box of another process.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Far {
    handle: Result<Arc<Handle>, Broken>,
    /// What people call the actor.
    name: Arc<str>,
    needed: Arc<Needed>,
    /// For handles in functions, and whatever a program pickles itself.
    ticket: Mutex<Option<Ticket>>,
}

/// The process's number of what it has asked.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Something that is asked of a box of another process.
pub(crate) struct Call {
    actor: Arc<str>,
    /// The method or attribute.
    what: Box<str>,
    number: u64,
    verb: u8,
    /// When.
    asked_at: u64,
    /// Somebody has waited for it.
    is_awaited: AtomicBool,
    /// It is asked back, and there is no answer yet.
    is_asked_back: AtomicBool,
    open: Mutex<Open>,
    /// In a worker, while somebody waits for it: another may have the worker's place.
    waiting: Mutex<Option<Waiting>>,
    _needed: Arc<Needed>,
}

/// What is needed until the answer is there.
#[derive(Default)]
struct Open {
    handle: Option<Arc<Handle>>,
    asked: Option<Asked>,
    /// It is asked back, since the wait for it can never end.
    asked_back: Option<Asked>,
    /// It is asked back, and fails with this when the other process says that it was cancelled there, which may come before
    /// the answer.
    error: Option<Parcel>,
}

impl Call {
    pub(crate) fn actor(&self) -> &str {
        &self.actor
    }

    /// If it only wants to hear of an end: it is over, and the other process says nothing more. False: it asks for
    /// something, and is stopped there.
    pub(crate) fn withdraw(&self) -> bool {
        let is_watch = self.verb == verb::WATCH;
        if is_watch {
            self.close();
        }
        is_watch
    }

    /// Has it stopped. It ends when the other process says so.
    pub(crate) fn cancel(&self) -> Cancel {
        let handle = {
            let mut open = self.open.lock();
            // From now on that is why it ends.
            open.error = None;
            open.handle.clone()
        };
        let Some(handle) = handle else { return Cancel::TooLate };
        let number = Parcel::Inline(Arc::from(self.number.to_le_bytes()));
        match handle.tell(verb::CANCEL, &number) {
            Ok(_) => Cancel::Asked,
            Err(_) => Cancel::TooLate,
        }
    }

    /// What people call it: the actor's name, and what is asked.
    pub(crate) fn called(&self) -> String {
        format!("{}.{}", self.actor, self.what)
    }

    /// Somebody waits for it.
    pub(crate) fn note_wait(&self, remote: &Arc<Remote>) {
        if !self.is_awaited.swap(true, Ordering::Relaxed) {
            calls::note(remote);
        }
    }

    /// What a trail of waits begins with; nothing while nobody waits for it.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let origin = Origin { asked_at: self.asked_at, pid: std::process::id(), number: self.number };
        self.is_awaited.load(Ordering::Relaxed).then_some(origin)
    }

    /// Asks what it waits for.
    pub(crate) fn ask_about(&self, trail: &Trail) {
        let Some(handle) = self.open.lock().handle.clone() else { return };
        let written = [&self.number.to_le_bytes()[..], &trail.to_bytes()].concat();
        // When the other process is gone, so is the call.
        let _ = handle.tell(verb::TRAIL, &Parcel::Inline(written.into()));
    }

    /// The wait for it can never end: it is taken back, if it has not begun, and then who waits is told.
    pub(crate) fn take_back(&self, remote: &Arc<Remote>, refused: Refused) {
        let Some(handle) = self.open.lock().handle.clone() else { return };
        if self.is_asked_back.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Refused::Member { error, .. } = &refused {
            self.open.lock().error = Some(error.clone());
        }
        let number = Parcel::Inline(Arc::from(self.number.to_le_bytes()));
        let answered = Arc::new(AskedBack { remote: Arc::downgrade(remote), refused });
        match handle.ask(verb::TAKE_BACK, &number, answered) {
            Ok(asked) => {
                let old = self.open.lock().asked_back.replace(asked);
                drop(old);
                if remote.is_done() {
                    self.close();
                }
            }
            Err(_) => remote.have_looked(),
        }
    }

    /// It is over: the actor is not kept for it any more.
    fn close(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        drop(open);
        let waiting = self.waiting.lock().take();
        drop(waiting);
    }

    pub(crate) fn is_awaited(&self) {
        if let Some(upstream) = upstream::get().filter(|_| self.verb != verb::WATCH) {
            let mut waiting = self.waiting.lock();
            upstream.is_awaited_elsewhere(&mut waiting);
        }
    }
}

/// What is refused, when the wait for a call can never end. `was_behind`: when it was looked, the call had not begun. If it
/// has since, the wait can end after all, and nobody is told.
pub(crate) enum Refused {
    Wait {
        was_behind: bool,
    },
    /// The call itself, which fails with this error: who waits for a group hears of its members' ends.
    Member {
        was_behind: bool,
        error: Parcel,
    },
}

/// Who hears whether a call that was asked back will not begin.
struct AskedBack {
    remote: Weak<Remote>,
    refused: Refused,
}

impl Waiter for AskedBack {
    fn told(&self, told: Told) {
        let Some(remote) = self.remote.upgrade() else { return };
        let (is_back, is_there) = match told {
            Told::Answer(answer) | Told::Offer(answer) => (answer.inline().first() == Some(&1), true),
            Told::Refusal { .. } | Told::Broken(_) => (false, false),
        };
        let Some(Way::Home(call)) = remote.way() else { return };
        call.is_asked_back.store(false, Ordering::Relaxed);
        if !is_back {
            call.open.lock().error = None;
        }
        match &self.refused {
            Refused::Wait { was_behind: true } if !is_back => drop(remote.take_deadlock()),
            Refused::Wait { .. } => remote.have_looked(),
            Refused::Member { was_behind: false, error } if is_there && !is_back => {
                // It has begun, and is stopped there: nobody hears of its end.
                let _ = call.cancel();
                let settling = settling();
                Remote::settle_all([(Arc::clone(&remote), Outcome::Error(error.clone()))]);
                drop(settling);
            }
            Refused::Member { .. } => {}
        }
    }
}

/// Who hears the answer.
struct Answered {
    remote: Arc<Remote>,
    call: Arc<Call>,
}

impl Waiter for Answered {
    fn told(&self, told: Told) {
        let error = self.call.open.lock().error.take();
        self.call.close();
        let settling = settling();
        let remote = Arc::clone(&self.remote);
        let outcome = match told {
            Told::Answer(value) | Told::Offer(value) => Outcome::Value(value),
            Told::Refusal { code: code::CANCELLED, .. } => error.map_or(Outcome::Cancelled, Outcome::Error),
            Told::Refusal { code: code::FULL, .. } => Outcome::Full,
            Told::Refusal { body, .. } => Outcome::Error(body),
            // Who wants it to end has got that.
            Told::Broken(_) if self.call.verb == verb::STOP => Outcome::Value(freight::nothing()),
            Told::Broken(why) => {
                Remote::settle_without_home(remote, why);
                return drop(settling);
            }
        };
        Remote::settle_all([(remote, outcome)]);
        drop(settling);
    }
}

#[pymethods]
impl Far {
    /// What was pickled of a box: the box itself in its own process, and there nothing when it is no more.
    #[staticmethod]
    fn _of(py: Python<'_>, name: &[u8], actor: &str) -> PyResult<Py<PyAny>> {
        let (id, ticket) =
            tickets::read(name).ok_or_else(|| errors::wrong_value("this is no pickled actor"))?;
        let exchange = door::open()?;
        let held = exchange.hold(id, Some(ticket), None);
        if id.owner == exchange.address() {
            return Ok(counter::target(py, &exchange, id).unwrap_or_else(|| py.None()));
        }
        let needed = Arc::new(Needed::new(py)?);
        let far = Self { handle: held.map(Arc::new), name: actor.into(), needed, ticket: Mutex::default() };
        Ok(Bound::new(py, far)?.into_any().unbind())
    }

    /// Asks for something. The arguments are for whoever reads the letter.
    #[pyo3(signature = (verb, what, args, kwargs))]
    fn _ask(
        &self,
        verb: u8,
        what: Bound<'_, PyString>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Task>> {
        let py = what.py();
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
        let words = what.to_str()?;
        let (body, kept) = tickets::collect(|| freight::pack_letter(number, words, args, kwargs))?;
        let call = Arc::new(Call {
            actor: Arc::clone(&self.name),
            what: words.into(),
            number,
            verb,
            asked_at: thistledown_workers::now(),
            is_awaited: AtomicBool::new(false),
            is_asked_back: AtomicBool::new(false),
            open: Mutex::new(Open { handle: self.handle.clone().ok(), ..Open::default() }),
            waiting: Mutex::default(),
            _needed: Arc::clone(&self.needed),
        });
        let remote = Remote::far(Arc::clone(&call));
        remote.keep(kept);
        remote.set_job(number);
        let origin = PyString::new(py, &format!("{}.{what}", self.name)).unbind();
        let task = Task::make(py, Some(origin))?;
        Task::set_remote(&task, Arc::clone(&remote));
        // Nothing else holds it, so the collector has to know it.
        root::track(task.as_ptr());
        if upstream::get().is_some_and(|upstream| upstream.runs_weightless()) {
            call.is_awaited();
        }
        let waiter = Arc::new(Answered { remote: Arc::clone(&remote), call: Arc::clone(&call) });
        let handle = self.handle.as_ref().map_err(|why| *why);
        match handle.and_then(|handle| handle.ask(verb, &body, Arc::clone(&waiter) as Arc<dyn Waiter>)) {
            Ok(asked) => {
                call.open.lock().asked = Some(asked);
                if remote.is_done() {
                    call.close();
                }
            }
            Err(why) => waiter.told(Told::Broken(why)),
        }
        Ok(task.unbind())
    }

    /// Ends the actor, because of this error.
    #[pyo3(signature = (error))]
    fn _kill(&self, error: Option<&Bound<'_, PyAny>>) {
        let body = error.map_or_else(Parcel::empty, freight::pack_error);
        if let Ok(handle) = &self.handle {
            // When its process is gone, so is the actor.
            let _ = handle.tell(verb::KILL, &body);
        }
    }

    /// The process that it lives in.
    #[getter]
    fn _pid(&self) -> u32 {
        match &self.handle {
            Ok(handle) => handle.id().owner.pid,
            Err(Broken::Gone { pid } | Broken::NoObject { pid } | Broken::OtherVersion { pid }) => *pid,
            Err(_) => 0,
        }
    }

    /// What is pickled for a handle of it.
    fn _reference<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let handle = self.handle.as_ref().map_err(|why| *why);
        let named = handle.and_then(|handle| Ok((handle.id(), tickets::ticket(handle, &self.ticket)?)));
        match named {
            Ok((id, ticket)) => Ok(PyBytes::new(py, &tickets::written(id, ticket))),
            Err(why) => Err(PyErr::from_value(errors::home_gone(py, &self.name, why).into_bound(py))),
        }
    }
}
