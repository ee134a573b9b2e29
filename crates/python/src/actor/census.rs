//! Which weightless actors there are, for whoever looks: how many, what lies in their mailboxes, and what each does.
//!
//! A box pays nothing for it. How many there are is counted where a box is made and where it ends. The last [`NAMED`] that
//! were made are known by their places in memory, in a set that is no larger however many there are; all others are found
//! while they have messages, by the kernel's lines, and then known too if there is room. So one of more than that which has
//! no message is counted, and not named.
//!
//! The places are good under the interpreter's lock alone: a box takes itself out of the set when it ends, at the latest
//! with its memory, and whoever looks takes a reference before he lets others run.
#![allow(unsafe_code, reason = "boxes are known by their places in memory, which keep none of them alive")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_kernel::RunnerId;

use super::HereBox;
use super::message::Message;
use crate::asyncio::loops;
use crate::channel::known;
use crate::current::Shared;
use crate::payload::{Body, WORLD};
use crate::run;
use crate::survey::{self, Found};
use crate::turn::borrowed_task;

/// So many boxes are known also while they have no message.
const NAMED: usize = 1_000;

/// So many lines of the kernel are looked at.
const LOOKED_AT: usize = 100_000;

static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// A box's object.
struct Place(NonNull<ffi::PyObject>);

// SAFETY: it is only followed by who has the interpreter's lock.
unsafe impl Send for Place {}

/// The boxes that are known, by where each is in its object, and in the order in which they came.
#[derive(Default)]
struct Places {
    known: HashMap<usize, Place>,
    /// Also of some that have ended.
    order: VecDeque<usize>,
}

static PLACES: Mutex<Option<Places>> = Mutex::new(None);

impl Places {
    fn add(&mut self, actor: &Bound<'_, HereBox>) {
        let Some(place) = NonNull::new(actor.as_ptr()) else { return };
        if self.order.len() >= 2 * NAMED {
            let known = &self.known;
            self.order.retain(|address| known.contains_key(address));
        }
        while self.known.len() >= NAMED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        let address = address(actor.get());
        self.order.push_back(address);
        self.known.insert(address, Place(place));
    }
}

/// A box has an instance.
pub(super) fn born() {
    ALIVE.fetch_add(1, Ordering::Relaxed);
}

/// A box with an instance has its place, and is named.
pub(super) fn settled(actor: &Bound<'_, HereBox>) {
    PLACES.lock().get_or_insert_default().add(actor);
}

/// A box has no instance any more.
pub(super) fn over(actor: &HereBox) {
    ALIVE.fetch_sub(1, Ordering::Relaxed);
    forget(actor);
}

/// Nobody finds a box at its place any more.
pub(super) fn forget(actor: &HereBox) {
    if let Some(places) = PLACES.lock().as_mut() {
        places.known.remove(&address(actor));
    }
}

fn address(actor: &HereBox) -> usize {
    std::ptr::from_ref(actor).addr()
}

/// The named boxes, and those that have messages. The references are let go without the lock.
fn boxes(py: Python<'_>) -> Vec<Py<HereBox>> {
    let mut known: Vec<Py<HereBox>> = {
        let places = PLACES.lock();
        let each = places.iter().flat_map(|places| places.known.values());
        each.filter_map(|place| living(py, place)).collect()
    };
    let named = known.len();
    if ALIVE.load(Ordering::Relaxed) > named {
        let mut seen: HashSet<usize> = known.iter().map(|actor| address(actor.get())).collect();
        WORLD.with(|kernel| {
            for (holder, first) in kernel.lines().take(LOOKED_AT) {
                // Who has its turn has its body with it.
                let bodies = [Some(holder), first].into_iter().flatten().filter_map(|task| kernel.body(task));
                if let Some(actor) = bodies.filter_map(|body| addressee(py, body)).next()
                    && seen.insert(address(actor.get()))
                {
                    known.push(actor);
                }
            }
        });
    }
    let mut places = PLACES.lock();
    let places = places.get_or_insert_default();
    let fresh = known.iter().skip(named).filter(|actor| actor.get().has_instance());
    for actor in fresh.take(NAMED.saturating_sub(places.known.len())) {
        places.add(actor.bind(py));
    }
    known
}

fn living(py: Python<'_>, place: &Place) -> Option<Py<HereBox>> {
    let object = place.0.as_ptr();
    // SAFETY: the box has not ended, so its object is there, and stays while this thread has the interpreter's lock. One
    // that nobody refers to any more only waits for its end.
    unsafe {
        if ffi::Py_REFCNT(object) <= 0 {
            return None;
        }
        Bound::from_borrowed_ptr(py, object).cast_into::<HereBox>().ok().map(Bound::unbind)
    }
}

/// Whose message a body is, or what has come of it.
fn addressee(py: Python<'_>, body: &Body) -> Option<Py<HereBox>> {
    let begun = body.extra.as_ref().and_then(|extra| extra.message.as_ref());
    let message = match begun {
        Some(message) => message.bind(py),
        None => body.iterator.bind(py).cast_exact::<Message>().ok()?,
    };
    Some(message.get().addressee(py))
}

/// What the weightless actors have: how many there are, and how many messages are unanswered. Then how many channels this
/// process has made, how many it shares with others, and how many values lie in those of them that it has made.
#[pyfunction]
pub(crate) fn count_messages(py: Python<'_>) -> (usize, u64, usize, usize, usize) {
    let unanswered = boxes(py).iter().map(|actor| u64::from(actor.get().count_unanswered())).sum();
    let channels = WORLD.with(|kernel| kernel.count_channels());
    let shared = known::seen();
    let lie = shared.iter().filter_map(|channel| channel.length).sum();
    (ALIVE.load(Ordering::Relaxed), unanswered, channels, shared.len(), lie)
}

/// An actor: its instance's class; what few boxes have; the thread of its run; how many messages are unanswered, and how
/// many may be; the task that answers one now.
type Row = (Option<Py<PyAny>>, Option<Py<PyAny>>, u64, u32, u32, Option<survey::Row>);

/// So many of the weightless actors, those with the most messages first.
#[pyfunction]
pub(crate) fn survey_actors(py: Python<'_>, limit: usize) -> Vec<Row> {
    let mut boxes = boxes(py);
    boxes.sort_by_key(|actor| std::cmp::Reverse(actor.get().count_unanswered()));
    boxes.truncate(limit);
    let runs = runs(py);
    let each = boxes.iter().filter_map(|actor| row(py, actor.get(), &runs));
    each.collect()
}

/// The runs that there are, by the kernel's names for them.
fn runs(py: Python<'_>) -> HashMap<RunnerId, Arc<Shared>> {
    let guests = loops::all(py).into_iter().map(|guest| Arc::clone(&guest.get().run(py).shared));
    run::runs().into_iter().chain(guests).map(|shared| (shared.runner, shared)).collect()
}

fn row(py: Python<'_>, actor: &HereBox, runs: &HashMap<RunnerId, Arc<Shared>>) -> Option<Row> {
    // One whose run is over has ended with it, though nobody has told it.
    let shared = runs.get(&actor.home.get().id())?;
    let found = WORLD.with(|kernel| {
        let holder = kernel.holder(actor.line.id())?;
        kernel.standing(holder).map(|standing| Found::task(py, None, &standing))
    });
    let task = found.map(|mut found| {
        if found.is_running() {
            found.task = borrowed_task(py, shared.task.load(Ordering::Relaxed)).map(Py::into_any);
        }
        survey::row(py, found, shared.clock.now())
    });
    let class = actor.instance(py).map(|instance| instance.bind(py).get_type().into_any().unbind());
    Some((class, actor.extra(py), shared.thread, actor.count_unanswered(), actor.limit, task))
}
