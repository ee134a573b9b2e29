//! The mailbox of an actor in a worker process: what is asked of it becomes a job, as a call of a function does.
//!
//! What it knows is where the actor's pool is, and what the actor is called there. So it can be made again in another
//! process that has a way to that pool. Whose it is, and when nobody holds it any more, is known to `_boxes_workers`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use rustix_futex_sync::Mutex;
use thistledown_exchange::Ticket as Ticketed;
use thistledown_workers::{Closed, Engine, Errand, Function, Name, Order, Parcel, Verb};

use crate::channel::tickets;
use crate::current::seconds;
use crate::errors;
use crate::outside::outside;
use crate::root;
use crate::tally;
use crate::task::Task;
use crate::workers::child::{ATTRIBUTE, METHOD};
use crate::workers::freight;
use crate::workers::imports;
use crate::workers::pool::{Pool, Source};
use crate::workers::remote::{Asked, Remote};
use crate::workers::settle::Ticket;

/// A method, as the workers know it, and what its calls are called after.
#[derive(Clone)]
struct Method {
    function: Arc<Function>,
    words: Arc<str>,
}

/// The mailbox of an actor in a worker process.
#[pyclass(frozen, module = "thistledown._core", weakref)]
pub(crate) struct Mailbox {
    source: Source,
    actor: u64,
    /// What people call the actor.
    name: Arc<str>,
    /// Of each call.
    timeout: Option<Duration>,
    methods: Mutex<HashMap<String, Method>>,
    attributes: Mutex<HashMap<String, Method>>,
}

#[pymethods]
impl Mailbox {
    /// Of an actor that was made, or will be, by this number in this pool.
    #[new]
    #[pyo3(signature = (pool, actor, name, timeout))]
    fn new(pool: &Bound<'_, Pool>, actor: u64, name: &str, timeout: Option<f64>) -> PyResult<Self> {
        let timeout = timeout.map(|timeout| seconds(timeout, "timeout")).transpose()?.flatten();
        Ok(Self {
            source: pool.get().source(),
            actor,
            name: name.into(),
            timeout,
            methods: Mutex::default(),
            attributes: Mutex::default(),
        })
    }

    /// Has the actor made: by what is called, with what. The task ends when it is.
    #[pyo3(signature = (pool, own, mailbox, memory, function, args, kwargs))]
    #[allow(clippy::too_many_arguments, reason = "each is something else")]
    fn make(
        &self,
        pool: &Bound<'_, Pool>,
        own: bool,
        mailbox: u32,
        memory: Option<u64>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<Py<Task>> {
        let py = function.py();
        imports::check(py)?;
        pool.get().begin(function)?;
        let named = pool.get().named(function)?;
        let (call, tickets) = self.pack(args, kwargs)?;
        let order = Order { memory, ..Order::new(Name::given(&self.name), named.number, call) };
        self.send(py, Verb::Make { own, mailbox }, order, tickets, &self.name)
    }

    /// Has a method called.
    #[pyo3(signature = (method, args, kwargs))]
    fn call(
        &self,
        method: &Bound<'_, PyString>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<Py<Task>> {
        let py = method.py();
        imports::check(py)?;
        let known = self.known(py, &self.methods, METHOD, method.to_str()?)?;
        let task = self.call_of(py, Verb::Call, known, self.pack(args, kwargs)?)?;
        tally::told_to_go_in_worker(task.bind(py));
        Ok(task)
    }

    /// Has an attribute read.
    fn read(&self, attribute: &Bound<'_, PyString>) -> PyResult<Py<Task>> {
        let py = attribute.py();
        let task = self.read_untold(py, attribute.to_str()?)?;
        tally::told_to_go_in_worker(task.bind(py));
        Ok(task)
    }

    /// A task that ends when the actor is there: something is read that every object has. No observer is told.
    fn begun(&self, py: Python<'_>) -> PyResult<Py<Task>> {
        self.read_untold(py, "__module__")
    }

    /// Has the actor give itself, pickled; then it stands still.
    fn give(&self, py: Python<'_>) -> PyResult<Py<Task>> {
        self.ask_plainly(py, Verb::Give)
    }

    /// Has it end after what was asked before. The task ends with it, however that comes about.
    fn stop(&self, py: Python<'_>) -> PyResult<Py<Task>> {
        self.ask_plainly(py, Verb::Stop)
    }

    /// A task that gives how the actor has ended, in a word, and the error, when it has. Never fails.
    fn watch(&self, py: Python<'_>) -> PyResult<Py<Task>> {
        self.ask_plainly(py, Verb::Watch)
    }

    /// Nobody wants to hear of the end any more by this task, which ``watch`` has given.
    fn unwatch(&self, watch: &Bound<'_, Task>) {
        let Some(remote) = watch.get().remote() else { return };
        outside(watch.py(), || match &self.source {
            Source::Own(engine) => {
                let is_he = |ticket: &Ticket| Arc::ptr_eq(&ticket.0, &remote);
                engine.upgrade().into_iter().for_each(|engine| engine.unwatch_actor(self.actor, is_he));
            }
            Source::Above(_) => drop(remote.stop()),
        });
    }

    /// After ``give``: what it was asked, the other one answers, which lives in the same pool; None: it does so itself.
    #[pyo3(signature = (other))]
    fn moved(&self, py: Python<'_>, other: Option<&Self>) {
        if let Source::Own(engine) = &self.source {
            let to = other.map(|other| other.actor);
            outside(py, || {
                engine.upgrade().into_iter().for_each(|engine| engine.moved_actor(self.actor, to))
            });
        }
    }

    /// After ``give``: it lives on outside of this pool. What it was asked since is refused.
    fn moved_out(&self, py: Python<'_>) {
        if let Source::Own(engine) = &self.source {
            outside(py, || {
                engine.upgrade().into_iter().for_each(|engine| engine.moved_actor_out(self.actor))
            });
        }
    }

    /// By this number an actor can be asked that has one of its own, and the next when it has died: what is asked between
    /// them waits. False: this process is not the pool's own, and keeps nothing.
    fn keep(&self, py: Python<'_>, mailbox: u32) -> bool {
        let Source::Own(engine) = &self.source else { return false };
        outside(py, || {
            engine.upgrade().into_iter().for_each(|engine| engine.keep_actor(self.actor, mailbox as usize));
        });
        true
    }

    /// After ``keep``: this actor is asked from now on; None: there will be none.
    #[pyo3(signature = (actor))]
    fn renew(&self, py: Python<'_>, actor: Option<&Self>) {
        if let Source::Own(engine) = &self.source {
            let actor = actor.map(|actor| actor.actor);
            outside(py, || {
                engine.upgrade().into_iter().for_each(|engine| engine.renew_actor(self.actor, actor));
            });
        }
    }

    /// Whether what is packed in this thread now goes to the pool that the actor lives in, and nowhere else.
    #[getter]
    fn is_bound_for(&self) -> bool {
        tickets::is_bound_for(self.source.number())
    }

    /// Ends it now.
    fn kill(&self, py: Python<'_>) {
        outside(py, || match &self.source {
            Source::Own(engine) => {
                engine.upgrade().into_iter().for_each(|engine| engine.kill_actor(self.actor))
            }
            Source::Above(upstream) => upstream.kill_actor(self.actor),
        });
    }

    /// It ends when this process does. One of a pool of this process does so anyway.
    fn tie(&self, py: Python<'_>) {
        if let Source::Above(upstream) = &self.source {
            outside(py, || upstream.tie_actor(self.actor));
        }
    }
}

/// A call as a parcel, and what keeps the channels in it.
type Packed = (Parcel, Vec<Ticketed>);

impl Mailbox {
    fn pack(&self, args: &Bound<'_, PyTuple>, kwargs: &Bound<'_, PyDict>) -> PyResult<Packed> {
        let kwargs = Some(kwargs).filter(|kwargs| !kwargs.is_empty());
        let pack = || tickets::collect(|| freight::pack_call(args, kwargs, None));
        tickets::bound_for(self.source.number(), pack)
    }

    fn read_untold(&self, py: Python<'_>, attribute: &str) -> PyResult<Py<Task>> {
        imports::check(py)?;
        let known = self.known(py, &self.attributes, ATTRIBUTE, attribute)?;
        let call = freight::pack_call(&PyTuple::empty(py), None, None)?;
        self.call_of(py, Verb::Call, known, (call, Vec::new()))
    }

    fn known(
        &self,
        py: Python<'_>,
        known: &Mutex<HashMap<String, Method>>,
        kind: u8,
        name: &str,
    ) -> PyResult<Method> {
        if let Some(method) = known.lock().get(name) {
            return Ok(method.clone());
        }
        let body = [&[kind], name.as_bytes()].concat();
        let function = self.function(py, &body)?;
        let method = Method { function, words: format!("{}.{name}", self.name).into() };
        known.lock().insert(name.to_owned(), method.clone());
        Ok(method)
    }

    /// What the workers are sent instead of a function.
    fn function(&self, py: Python<'_>, body: &[u8]) -> PyResult<Arc<Function>> {
        let function = match &self.source {
            Source::Own(engine) => {
                let engine = self.engine(engine)?;
                if engine.is_forked() {
                    return Err(self.refused(py, Closed::Forked, false));
                }
                engine.function(body, false)
            }
            Source::Above(upstream) => upstream.function(body, false),
        };
        function.map_err(|error| errors::system(&error))
    }

    fn engine(&self, engine: &Weak<Engine<Ticket>>) -> PyResult<Arc<Engine<Ticket>>> {
        engine
            .upgrade()
            .ok_or_else(|| errors::misuse(format!("the pool that {} lived in is gone", self.name)))
    }

    fn ask_plainly(&self, py: Python<'_>, verb: Verb) -> PyResult<Py<Task>> {
        let what = match verb {
            Verb::Stop => "the stop of",
            Verb::Watch => "a watch of",
            _ => "the move of",
        };
        let function = self.function(py, &[METHOD])?;
        let call = freight::pack_call(&PyTuple::empty(py), None, None)?;
        let words: Arc<str> = format!("{what} {}", self.name).into();
        self.call_of(py, verb, Method { function, words }, (call, Vec::new()))
    }

    fn call_of(
        &self,
        py: Python<'_>,
        verb: Verb,
        method: Method,
        (call, tickets): Packed,
    ) -> PyResult<Py<Task>> {
        let timeout = self.timeout.filter(|_| verb == Verb::Call);
        let words = method.words;
        let order = Order { timeout, ..Order::new(Name::given(""), method.function, call) };
        self.send(py, verb, order, tickets, &words)
    }

    fn send(
        &self,
        py: Python<'_>,
        verb: Verb,
        mut order: Order,
        tickets: Vec<Ticketed>,
        words: &Arc<str>,
    ) -> PyResult<Py<Task>> {
        order.errand = Some(Errand { actor: self.actor, verb });
        let asked = Asked { actor: Arc::clone(&self.name), verb };
        let remote = Remote::asked(self.source.clone(), asked);
        remote.keep(tickets);
        let origin = PyString::new(py, words).unbind();
        let task = Task::make(py, Some(origin))?;
        Task::set_remote(&task, Arc::clone(&remote));
        // The engine does not hold it, so the collector has to know it.
        root::track(task.as_ptr());
        match verb {
            Verb::Make { .. } => {}
            Verb::Stop | Verb::Give => order.name = Name::given(words),
            Verb::Call | Verb::Watch => order.name = Name::numbered(words, task.get().serial()),
        }
        let engine = match &self.source {
            Source::Above(upstream) => {
                upstream.submit(py, order, &remote)?;
                count(&remote);
                return Ok(task.unbind());
            }
            Source::Own(engine) => self.engine(engine)?,
        };
        let submitted = engine.submit(order, Ticket(Arc::clone(&remote)));
        if submitted.is_ok() {
            count(&remote);
        }
        match submitted {
            Ok(Some(job)) => {
                remote.set_job(job.number());
                Ok(task.unbind())
            }
            // It was answered at once. What asks for the end has got what it wants.
            Ok(None) if matches!(verb, Verb::Stop | Verb::Watch) => Ok(task.unbind()),
            Ok(None) => match task.get().outcome(py) {
                Some(Err(refused)) => Err(refused),
                _ => Ok(task.unbind()),
            },
            Err((closed, _)) => Err(self.refused(py, closed, matches!(verb, Verb::Make { .. }))),
        }
    }

    fn refused(&self, py: Python<'_>, closed: Closed, is_new: bool) -> PyErr {
        match closed {
            Closed::Forked => errors::misuse(format!(
                "actor {} belongs to the process that this one was forked from: make one of this process by \
                 `td.actor(Class, ...)`",
                self.name
            )),
            Closed::Full => errors::mailbox_full(py, &self.name),
            Closed::ShutDown if is_new => errors::misuse("cannot schedule new futures after shutdown"),
            Closed::ShutDown => errors::actor_gone(py, &self.name, &thistledown_workers::Gone::Closed)
                .map_or_else(|error| error, |error| PyErr::from_value(error.into_bound(py))),
        }
    }
}

/// It was told to go.
fn count(remote: &Remote) {
    if remote.is_counted() {
        tally::WORKERS.start();
    }
}
