//! A worker process's main thread: it takes tasks, runs them, and says what came of each.
//!
//! Plain tasks run here one after the other. When the first weightless one comes, Python is asked to run a loop
//! (`_worker.weightless`), which takes further ones through `next_job` until there are none.
#![allow(unsafe_code, reason = "descriptors are taken that the process was born with")]

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use rustix_futex_sync::Mutex;
use thistledown_workers::{End, Errand, Given, Inheritance, Opened, Parcel, Reply, Verb, now};

use crate::body;
use crate::channel::tickets;
use crate::context;
use crate::current::Current;
use crate::errors;
use crate::outside::outside;
use crate::workers::freight::{self, Call, pickling};
use crate::workers::imports::Importing;
use crate::workers::options::is_retried;
use crate::workers::pool::UPSTREAM;
use crate::workers::traces::Traces;
use crate::workers::upstream::{self, Upstream};

/// A function that the parent has sent.
enum Known {
    Packed(Parcel),
    Made(Py<PyAny>),
    /// No function, but the name of a method of actors.
    Method(Py<PyString>),
    /// The same, of an attribute.
    Attribute(Py<PyString>),
}

/// What stands in front of the name of a method, or of an attribute, instead of a pickle.
pub(crate) const METHOD: u8 = 0xff;
pub(crate) const ATTRIBUTE: u8 = 0xfe;

/// The worker's end of everything.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Child {
    child: Arc<thistledown_workers::Child>,
    upstream: Arc<Upstream>,
    functions: Mutex<HashMap<u32, Known>>,
    /// The actors that live here.
    actors: Mutex<HashMap<u64, Py<PyAny>>>,
    has_actors: AtomicBool,
    /// A plain task that came while weightless ones ran: it waits for the end of their run.
    next_plain: Mutex<Option<Taken>>,
    /// The task that was told to stop last, and has been stopped.
    stopped: AtomicU64,
    /// How many weightless tasks run.
    weightless: AtomicUsize,
    /// What was set when the first task came.
    traces: OnceLock<Traces>,
}

/// A weightless task of this worker.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Job {
    task: Taken,
    /// What came with it beside its arguments, once it has begun.
    more: Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl Job {
    /// Its number.
    #[getter]
    fn id(&self) -> u64 {
        self.task.id
    }

    /// The actor that is asked; None: it is a task of the pool.
    #[getter]
    fn actor(&self) -> Option<u64> {
        self.task.errand.map(|errand| errand.actor)
    }
}

/// A task that was taken.
struct Taken {
    id: u64,
    function: u32,
    call: Parcel,
    /// It is asked of an actor.
    errand: Option<Errand>,
}

/// What a task gave.
struct Finished {
    end: End,
    parcel: Parcel,
    retry: bool,
}

/// What a function's number means to an actor.
enum Asked<'py> {
    Method(Bound<'py, PyString>),
    Attribute(Bound<'py, PyString>),
    /// What makes it.
    Function,
}

/// A call of a method: of which instance, and what the method is called.
struct Called<'py> {
    instance: Bound<'py, PyAny>,
    name: Bound<'py, PyString>,
}

impl Called<'_> {
    /// Whether it is a coroutine or generator function of its class.
    fn waits(&self) -> bool {
        let found = self.instance.get_type().getattr(&self.name);
        found.is_ok_and(|method| body::makes_body(&method).unwrap_or(false))
    }
}

enum Next {
    Plain(Taken),
    Weightless(Taken),
    /// Something is asked of an actor.
    Call(Taken),
    Nothing,
}

#[pymethods]
impl Child {
    #[new]
    fn new(
        region: RawFd,
        control: RawFd,
        work_bell: RawFd,
        answers_bell: RawFd,
        parent_bell: RawFd,
        lifeline: RawFd,
    ) -> PyResult<Self> {
        // SAFETY: the caller gives up descriptors that are his, as the process was born with them.
        let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
        let inherited = Inheritance {
            region: own(region),
            control: own(control),
            work_bell: own(work_bell),
            answers_bell: own(answers_bell),
            parent_bell: own(parent_bell),
            lifeline: own(lifeline),
        };
        // SAFETY: a worker is made of a region once, right after it was forked.
        let child = unsafe { thistledown_workers::Child::adopt(inherited) };
        let child = Arc::new(child.map_err(|error| errors::system(&error))?);
        let upstream = upstream::set(Arc::clone(&child));
        Ok(Self {
            child,
            upstream,
            functions: Mutex::default(),
            actors: Mutex::default(),
            has_actors: AtomicBool::new(false),
            next_plain: Mutex::default(),
            stopped: AtomicU64::new(0),
            weightless: AtomicUsize::new(0),
            traces: OnceLock::new(),
        })
    }

    /// The worker takes tasks from now on.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        self.reply(py, &Reply::Ready, &[])
    }

    /// The worker cannot be made ready; the packed error says why.
    fn failed(&self, py: Python<'_>, error: &[u8]) -> PyResult<()> {
        self.reply(py, &Reply::Failed, error)
    }

    /// Something for the parent's program to hear.
    fn say(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        self.reply(py, &Reply::Say, data)
    }

    /// Whether the task that runs is to be stopped now: the parent wants it, and it was not yet. The parent says it again
    /// until the task has ended.
    fn interrupted(&self) -> bool {
        if self.upstream.is_unstoppable() || !self.child.region().is_interrupted() {
            return false;
        }
        let running = self.child.region().running();
        running.is_some_and(|(task, _)| self.stopped.swap(task, Ordering::Relaxed) != task)
    }

    /// Counts what ran here: plain tasks, and the times that weightless ones did.
    fn task(&self) -> u64 {
        self.upstream.task()
    }

    /// What stopped the task was lost, in a finalizer or another callback whose errors go nowhere: it is not stopped.
    fn not_stopped(&self) {
        self.stopped.store(0, Ordering::Relaxed);
    }

    /// The parent may ask at which line this process stands: it is sent a signal, and reads from this descriptor.
    fn shows_lines(&self, descriptor: u32) {
        self.child.region().show_lines(descriptor);
    }

    /// Runs tasks until there will be no more.
    fn serve(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let _ = this.traces.set(Traces::keep(py)?);
        loop {
            if this.has_actors.load(Ordering::Relaxed) {
                // Whatever was taken has ended.
                this.upstream.forget_cancelled();
                this.discard(py);
            }
            let next = this.next_plain.lock().take();
            match next.map_or_else(|| this.next(), |job| Ok(Next::Plain(job)))? {
                Next::Plain(job) => this.run(py, &job, None)?,
                Next::Weightless(job) => {
                    this.upstream.listen(py)?;
                    let worker = py.import(intern!(py, "thistledown._worker"))?;
                    let job = this.take(job);
                    worker.call_method1(intern!(py, "weightless"), (slf, job))?;
                }
                Next::Call(job) => {
                    this.take_actors(py)?;
                    let called = this.called(py, &job);
                    if called.as_ref().is_some_and(Called::waits) {
                        let worker = py.import(intern!(py, "thistledown._worker_actors"))?;
                        worker.call_method1(intern!(py, "serve"), (slf, this.take_call(job)))?;
                    } else {
                        this.run(py, &job, called)?;
                    }
                }
                Next::Nothing if this.child.region().is_to_leave() => return Ok(()),
                Next::Nothing => {
                    let slept = outside(py, || this.child.sleep_for_work());
                    py.check_signals()?;
                    if !slept.map_err(|error| errors::system(&error))? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A weightless task that is there now. None: there is none, and from now on the bell rings when one comes; or a plain
    /// one is next, which is run when the weightless ones have ended.
    fn next_job(&self) -> PyResult<Option<Job>> {
        let mut next_plain = self.next_plain.lock();
        while next_plain.is_none() {
            match self.next()? {
                Next::Weightless(task) => return Ok(Some(self.take(task))),
                Next::Plain(job) => *next_plain = Some(job),
                Next::Call(task) => return Ok(Some(self.take_call(task))),
                Next::Nothing => {
                    // Hushed before the last look, so that nothing that comes now goes unheard.
                    self.child.work_bell().hush();
                    if self.child.listens_for_work() {
                        break;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether a call of an actor may wait in its middle, and let others run. One that does not is run by `run_here`.
    fn may_wait(&self, py: Python<'_>, job: &Job) -> bool {
        self.called(py, &job.task).is_some_and(|called| called.waits())
    }

    /// Runs a call of an actor that has the thread for itself while it runs, in the middle of a run of others.
    fn run_here(&self, py: Python<'_>, job: &Job) -> PyResult<()> {
        // What runs in this thread otherwise does not exist for it: it may wait, and start a run of its own.
        let outer = Current::change(py, None, None);
        let ran = self.run(py, &job.task, self.called(py, &job.task));
        Current::change(py, outer.0, outer.1);
        ran
    }

    /// A call of an actor will wait, as a weightless task.
    fn waits_now(&self) {
        self.count();
    }

    /// A call that was taken and has not begun will not be run.
    fn drop_job(&self, py: Python<'_>, job: &Job) -> PyResult<()> {
        let stopped = Finished { end: End::Cancelled, parcel: Parcel::empty(), retry: false };
        self.finish(py, job.task.id, 0, stopped)
    }

    /// Lets go of the actors that were killed.
    fn discard(&self, py: Python<'_>) {
        while let Some(actor) = self.upstream.next_discarded() {
            let instance = self.actors.lock().remove(&actor);
            // Dropping it may run foreign code, so no lock is held.
            instance.into_iter().for_each(|instance| drop(instance.into_bound(py)));
        }
    }

    /// What a weightless task calls: the function, its arguments, and what goes with them.
    fn begin<'py>(&self, py: Python<'py>, job: &Job) -> PyResult<Bound<'py, PyTuple>> {
        let (function, call, _) = self.open(py, &job.task, self.called(py, &job.task))?;
        *job.more.lock() = call.more.clone().map(Bound::unbind);
        let more = call.more.unwrap_or_else(|| py.None().into_bound(py));
        (function, call.args, call.kwargs, more).into_pyobject(py)
    }

    /// Rung when work comes, or a weightless task is to be cancelled.
    fn bell(&self) -> RawFd {
        self.child.work_bell().as_fd().as_raw_fd()
    }

    /// The number of a weightless task that is to be cancelled; None when there is none.
    fn next_cancelled(&self) -> Option<u64> {
        self.upstream.next_cancelled()
    }

    /// A weightless task is this one of the kernel's from now on.
    fn began(&self, job: &Job, task: &Bound<'_, crate::task::Task>) {
        self.upstream.set_job(task.get().id(), Some(job.task.id));
    }

    /// It has ended.
    fn ended(&self, task: &Bound<'_, crate::task::Task>) {
        self.upstream.set_job(task.get().id(), None);
    }

    /// A weightless task has returned this.
    fn done(&self, py: Python<'_>, job: &Job, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.untrace(py);
        let finished = success(py, value);
        self.leave();
        self.finish(py, job.task.id, 0, finished)
    }

    /// A weightless task has raised this.
    fn failed_job(&self, py: Python<'_>, job: &Job, error: &Bound<'_, PyBaseException>) -> PyResult<()> {
        self.untrace(py);
        let more = job.more.lock().as_ref().map(|more| more.bind(py).clone());
        let finished = failure(py, &PyErr::from_value(error.clone().into_any()), more.as_ref());
        self.leave();
        self.finish(py, job.task.id, 0, finished)
    }
}

impl Child {
    /// The next task that is there.
    fn next(&self) -> PyResult<Next> {
        loop {
            let given = self.child.next_work().map_err(|error| errors::system(&error))?;
            let old = match given {
                None => return Ok(Next::Nothing),
                Some(Given::Function { id, body }) => self.functions.lock().insert(id, Known::Packed(body)),
                Some(Given::Forget { id }) => self.functions.lock().remove(&id),
                Some(Given::Task { id, function, weightless, call }) => {
                    let job = Taken { id, function, call, errand: None };
                    return Ok(if weightless { Next::Weightless(job) } else { Next::Plain(job) });
                }
                Some(Given::Call { id, function, errand, call }) => {
                    return Ok(Next::Call(Taken { id, function, call, errand: Some(errand) }));
                }
            };
            // Dropping it may run foreign code, so no lock is held.
            drop(old);
        }
    }

    /// A weightless task that was taken.
    fn take(&self, task: Taken) -> Job {
        self.count();
        self.take_call(task)
    }

    /// A call of an actor that was taken.
    fn take_call(&self, task: Taken) -> Job {
        Job { task, more: Mutex::default() }
    }

    /// A weightless task begins.
    fn count(&self) {
        if self.weightless.fetch_add(1, Ordering::Relaxed) == 0 {
            self.upstream.task_begins();
        }
    }

    /// From now on actors live here: their calls can be cancelled by an answer, as weightless tasks are.
    fn take_actors(&self, py: Python<'_>) -> PyResult<()> {
        if !self.has_actors.swap(true, Ordering::Relaxed) {
            self.upstream.take_actors();
            self.upstream.listen(py)?;
        }
        Ok(())
    }

    /// The method that is called, when this is a call of an actor that lives here.
    fn called<'py>(&self, py: Python<'py>, job: &Taken) -> Option<Called<'py>> {
        let errand = job.errand.filter(|errand| errand.verb == Verb::Call)?;
        let Ok(Asked::Method(name)) = self.asked(py, job.function) else { return None };
        Some(Called { instance: self.actor(py, errand.actor)?, name })
    }

    fn actor<'py>(&self, py: Python<'py>, actor: u64) -> Option<Bound<'py, PyAny>> {
        self.actors.lock().get(&actor).map(|instance| instance.bind(py).clone())
    }

    /// Does what is asked of an actor, if it is no call.
    fn attend<'py>(
        &self,
        py: Python<'py>,
        job: &Taken,
        errand: Errand,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if errand.verb == Verb::Stop {
            let instance = self.actors.lock().remove(&errand.actor);
            instance.into_iter().for_each(|instance| drop(instance.into_bound(py)));
            return Ok(Some(py.None().into_bound(py)));
        }
        let instance = || {
            self.actor(py, errand.actor)
                .ok_or_else(|| errors::misuse("the actor does not live here any more"))
        };
        if errand.verb == Verb::Give {
            let moves = py.import(intern!(py, "thistledown._moves"))?;
            return moves.call_method1(intern!(py, "pickled"), (instance()?,)).map(Some);
        }
        match self.asked(py, job.function)? {
            Asked::Attribute(name) => instance()?.getattr(name).map(Some),
            // With arguments it is a call, as any other.
            Asked::Method(_) | Asked::Function => Ok(None),
        }
    }

    /// What a function's number means to an actor.
    fn asked<'py>(&self, py: Python<'py>, id: u32) -> PyResult<Asked<'py>> {
        let packed = match self.functions.lock().get(&id) {
            Some(Known::Method(name)) => return Ok(Asked::Method(name.bind(py).clone())),
            Some(Known::Attribute(name)) => return Ok(Asked::Attribute(name.bind(py).clone())),
            Some(Known::Packed(parcel)) => parcel.clone(),
            Some(Known::Made(_)) | None => return Ok(Asked::Function),
        };
        let Some((&kind @ (METHOD | ATTRIBUTE), name)) = packed.inline().split_first() else {
            return Ok(Asked::Function);
        };
        let name = PyString::from_bytes(py, name)?;
        let (known, asked) = match kind {
            METHOD => (Known::Method(name.clone().unbind()), Asked::Method(name)),
            _ => (Known::Attribute(name.clone().unbind()), Asked::Attribute(name)),
        };
        let old = self.functions.lock().insert(id, known);
        drop(old);
        Ok(asked)
    }

    /// A weightless task is over.
    fn leave(&self) {
        if self.weightless.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.upstream.task_is_over();
        }
    }

    /// Runs a plain task; `called` is what it calls, if that is a method of an actor.
    fn run(&self, py: Python<'_>, job: &Taken, called: Option<Called<'_>>) -> PyResult<()> {
        let began = now();
        self.upstream.task_begins();
        self.child.region().begin(job.id, began);
        if self.child.region().is_interrupted() {
            // It was to be stopped before it began: the signal has come already, and found nothing that ran.
            self.child.region().end();
            self.upstream.task_is_over();
            let stopped = Finished { end: End::Cancelled, parcel: Parcel::empty(), retry: false };
            return self.finish(py, job.id, 0, stopped);
        }
        let (mut more, mut memory) = (None, None);
        // In a context of its own: what a task sets there, no later one sees.
        let ended = context::copy(py).and_then(|own| {
            context::inside(&own, || {
                if called.is_none()
                    && let Some(errand) = job.errand
                    && let Some(value) = self.attend(py, job, errand)?
                {
                    return Ok(value);
                }
                let (function, call, opened) = self.open(py, job, called)?;
                memory = Some(opened);
                if let Some(with) = &call.more {
                    let carried = py.import(intern!(py, "thistledown._carried"))?;
                    carried.call_method1(intern!(py, "enter"), (with,))?;
                }
                more = call.more;
                let value =
                    function.call(call.args, Some(&call.kwargs).filter(|kwargs| !kwargs.is_empty()))?;
                match job.errand {
                    Some(Errand { actor, verb: Verb::Make { .. } }) => {
                        self.actors.lock().insert(actor, value.unbind());
                        Ok(py.None().into_bound(py))
                    }
                    _ => Ok(value),
                }
            })
        });
        self.end_if_forked();
        // Before any Python code runs that is not the task's.
        self.untrace(py);
        self.child.region().end();
        self.upstream.task_is_over();
        let finished = match &ended {
            Ok(value) => success(py, value),
            Err(error) => failure(py, error, more.as_ref()),
        };
        self.finish(py, job.id, now().saturating_sub(began), finished)?;
        // Its arguments are gone; the memory of large ones is given back when nobody waits for it any more.
        drop(memory);
        Ok(())
    }

    /// Takes away what a task has left to trace others with.
    fn untrace(&self, py: Python<'_>) {
        if let Some(Err(error)) = self.traces.get().map(|traces| traces.restore(py)) {
            error.write_unraisable(py, None);
        }
    }

    /// What a task calls, with what, and where that came from.
    fn open<'py>(
        &self,
        py: Python<'py>,
        job: &Taken,
        called: Option<Called<'py>>,
    ) -> PyResult<(Bound<'py, PyAny>, Call<'py>, Opened)> {
        let _importing = Importing::begin();
        let function = match (called, job.errand) {
            (Some(Called { instance, name }), _) => instance.getattr(name)?,
            (None, Some(Errand { actor, verb: Verb::Call })) => return Err(self.no_method(py, actor)),
            (None, _) => self.function(py, job.function)?,
        };
        let opened = job.call.open().map_err(|error| errors::system(&error))?;
        let call = freight::unpack_call(py, &opened)?;
        Ok((function, call, opened))
    }

    /// Why there is nothing that a call of an actor calls.
    fn no_method(&self, py: Python<'_>, actor: u64) -> PyErr {
        errors::misuse(match self.actor(py, actor) {
            Some(_) => "no method is asked for",
            None => "the actor does not live here any more",
        })
    }

    fn function<'py>(&self, py: Python<'py>, id: u32) -> PyResult<Bound<'py, PyAny>> {
        let packed = match self.functions.lock().get(&id) {
            Some(Known::Made(function)) => return Ok(function.bind(py).clone()),
            Some(Known::Packed(parcel)) => parcel.clone(),
            Some(Known::Method(_) | Known::Attribute(_)) => {
                return Err(errors::misuse("a method is no function"));
            }
            None => return Err(errors::misuse(format!("the worker does not know function {id}"))),
        };
        let opened = packed.open().map_err(|error| errors::system(&error))?;
        let body = PyBytes::new(py, opened.head());
        // One that cannot be made is tried again with the next task: its module may be there by then.
        let function = pickling(py)?.call_method1(intern!(py, "unpack_function"), (body,))?;
        let old = self.functions.lock().insert(id, Known::Made(function.clone().unbind()));
        drop(old);
        Ok(function)
    }

    /// A task has forked, and this is the child, which has come here instead of ending: it must not answer.
    fn end_if_forked(&self) {
        if self.upstream.is_forked() {
            std::process::exit(0);
        }
    }

    fn finish(&self, py: Python<'_>, id: u64, nanos: u64, finished: Finished) -> PyResult<()> {
        self.end_if_forked();
        // A blob is made now, so that the task fails, and not the worker, when there is nothing to make it of.
        let finished = match finished.parcel.passable() {
            Ok(parcel) => Finished { parcel, ..finished },
            Err(error) => failure(py, &errors::system(&error), None),
        };
        let Finished { end, parcel, retry } = finished;
        let reply = Reply::Done { id, end, retry, nanos, blob: parcel.head_in_blob() };
        let said = match self.child.try_reply(&reply, id, &[], Some(&parcel)) {
            Ok(true) => Ok(()),
            Ok(false) => outside(py, || self.child.reply(&reply, id, &[], Some(&parcel))),
            Err(error) => Err(error),
        };
        said.map_err(|error| errors::system(&error))
    }

    fn reply(&self, py: Python<'_>, reply: &Reply, body: &[u8]) -> PyResult<()> {
        if self.upstream.is_forked() {
            return Ok(());
        }
        outside(py, || self.child.reply(reply, 0, body, None)).map_err(|error| errors::system(&error))
    }
}

/// What a task returned.
fn success(py: Python<'_>, value: &Bound<'_, PyAny>) -> Finished {
    match tickets::bound_for(UPSTREAM, || freight::pack_result(value)) {
        Ok(parcel) => Finished { end: End::Value, parcel, retry: false },
        Err(error) => failure(py, &error, None),
    }
}

/// What a task raised.
fn failure(py: Python<'_>, error: &PyErr, more: Option<&Bound<'_, PyAny>>) -> Finished {
    // With its traceback, which the other side is to see.
    let value = error.clone_ref(py).into_value(py).into_bound(py).into_any();
    if errors::is_cancelled(py, &value) {
        return Finished { end: End::Cancelled, parcel: Parcel::empty(), retry: false };
    }
    let parcel = freight::pack_error(&value);
    Finished { end: End::Error, parcel, retry: is_retried(more, &value) }
}
