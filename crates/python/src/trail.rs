//! Cycles of waits that lead through several processes.
//!
//! Each process knows its own waits: the kernel those of weightless tasks, a pool those of its jobs, and both refuse the one
//! that would close a cycle. A cycle that no process has as a whole leads through calls of actors in other processes, for
//! which somebody waits. So who waits for such a call, and for longer than calls take, asks what it waits for in turn: a
//! *trail* goes along the waits, from process to process, and gets a line of words for each. Where somebody waits for
//! nobody's end, or has another way out (a limit of time, the first of several), it is lost. One that comes back to its own
//! call has found a cycle; it goes round once more, so that all of these waits stood at one time, and then the wait is
//! refused, and the call taken back, if it has not begun. One that has begun meanwhile, or is answered, was in no cycle any
//! more, since somebody has ended another wait of it; then nobody is told.
//!
//! Of several calls in a cycle the youngest is refused: a trail is lost where it meets a younger call, which has one of its
//! own. Later waits may close a cycle, so a call that is still awaited is asked about again, ever more rarely.
//!
//! (Chandy, Misra and Haas, *Distributed deadlock detection*, 1983: the edge-chasing of its single-resource model.)
//!
//! What it is not: nothing is done for calls that are answered soon, but to note them. The herald's thread looks.

pub(crate) mod calls;
pub(crate) mod written;

use std::sync::Arc;

use pyo3::prelude::*;
use thistledown_kernel::TaskId;

use crate::actor::far::{Call, Refused};
use crate::actor::message::{self, Message};
use crate::errors;
use crate::operation::Kind;
use crate::outside::outside;
use crate::payload::{Body, WORLD, Waker};
use crate::stop::Stop;
use crate::task::Task;
use crate::workers::freight;
use crate::workers::remote::{Remote, Way};
use crate::workers::upstream;
use calls::Hold;
use written::Trail;

/// One on a way of waits in this process.
struct Stand {
    task: Option<Py<Task>>,
    message: Option<Py<Message>>,
    /// It has not begun, and waits for its turn at its actor, or for its key.
    is_behind: bool,
}

/// A way of waits in this process, and where it leaves it.
struct WayOut {
    stops: Vec<Stand>,
    to: Arc<Remote>,
    /// The last of them waits for it, and not for a group that it is in.
    is_joined: bool,
}

/// Goes on with a trail from a task of this process.
pub(crate) fn follow(task: &Bound<'_, Task>, mut trail: Trail) {
    let py = task.py();
    if let Some(remote) = task.get().remote() {
        if trail.is_at_call() {
            trail.set_out(outside(py, || !remote.has_begun()));
        }
        return leave(py, &remote, true, trail);
    }
    let id = task.get().id();
    if trail.is_at_call() {
        trail.set_out(WORLD.with(|kernel| message::waits_for_turn(py, kernel, id)));
    }
    go_on(py, id, &trail, true);
}

/// Goes on from a job that this worker has. The trail ends with what it is called.
pub(crate) fn follow_job(py: Python<'_>, job: u64, trail: &Trail) {
    let Some(upstream) = upstream::get() else { return };
    match (upstream.task_of(job), calls::held()) {
        (Some(task), _) => go_on(py, task, trail, false),
        // It has this thread, or waits for it.
        (None, Some(Hold::End(remote))) => leave_with_line(py, &remote, true, trail.clone()),
        (None, Some(Hold::Party(party))) => go_on(py, party, trail, false),
        (None, None) => {}
    }
}

/// Goes on from a weightless task, or from a thread that waits. `named`: it is not the last word of the trail already.
fn go_on(py: Python<'_>, from: TaskId, trail: &Trail, named: bool) {
    for WayOut { stops, to, is_joined } in ways_out(py, from) {
        let mut trail = trail.clone();
        for (place, one) in stops.iter().enumerate() {
            if place > 0 || named {
                trail.line(&format!("{}, in process {},", name_of(py, one), std::process::id()));
            }
            if let Some(next) = stops.get(place + 1) {
                let how = if one.is_behind { "stands behind" } else { "waits for" };
                trail.add(&format!(" {how} {}", name_of(py, next)));
            }
        }
        leave_with_line(py, &to, is_joined, trail);
    }
}

/// All ways of waits from a task that leave this process.
fn ways_out(py: Python<'_>, from: TaskId) -> Vec<WayOut> {
    WORLD.with(|kernel| {
        let ways = kernel.ways(from).into_iter();
        let known = ways.filter_map(|mut way| {
            let last = way.pop()?;
            // A thread has no body.
            let before = kernel.body(*way.last()?);
            let joined = before.and_then(|body| joined(py, body));
            let is_joined = joined.is_some();
            let to = joined.or_else(|| match kernel.stop_of(last)? {
                Waker::Stop(Stop::Task(remote)) => remote.upgrade(),
                _ => None,
            })?;
            let stop = |&id: &TaskId| {
                let body = kernel.body(id);
                Stand {
                    task: body.map(|body| body.task.clone_ref(py)),
                    message: body.and_then(|body| Message::of(py, body)),
                    is_behind: kernel.waits_behind(id).is_some(),
                }
            };
            Some(WayOut { stops: way.iter().map(stop).collect(), to, is_joined })
        });
        known.collect()
    })
}

/// The task of another process that this one waits for, and for nothing else.
fn joined(py: Python<'_>, body: &Body) -> Option<Arc<Remote>> {
    let awaited = body.awaited.as_ref()?.bind(py).get();
    match &awaited.kind {
        Kind::Join(task) => task.get().remote(),
        _ => None,
    }
}

fn name_of(py: Python<'_>, one: &Stand) -> String {
    if let Some(message) = &one.message
        && let Ok(name) = message.get().called(py)
    {
        return name;
    }
    one.task.as_ref().map_or_else(|| "a task".into(), |task| task.get().name(py))
}

/// Leaves this process, for what is waited for by who was named last. `is_joined`: not by way of a group that it is in.
fn leave_with_line(py: Python<'_>, remote: &Arc<Remote>, is_joined: bool, mut trail: Trail) {
    let name = match (remote.way(), remote.task(py)) {
        (Some(Way::Home(call)), _) => call.called(),
        (_, Some(task)) => task.get().name(py),
        (_, None) => "a task".into(),
    };
    trail.add(&format!(" waits for {name}"));
    leave(py, remote, is_joined, trail);
}

/// Leaves this process.
fn leave(py: Python<'_>, remote: &Arc<Remote>, is_joined: bool, mut trail: Trail) {
    match remote.way() {
        Some(Way::Home(call)) if trail.began_with(call) => come_back(py, remote, call, is_joined, &trail),
        Some(Way::Home(call)) if !trail.is_before(call) && trail.hop() => call.ask_about(&trail),
        Some(Way::Pool(source, job)) if trail.hop() => {
            outside(py, || source.trail(job, trail.to_bytes()));
        }
        Some(_) | None => {}
    }
}

/// A trail has come back to its own call.
fn come_back(py: Python<'_>, remote: &Arc<Remote>, call: &Arc<Call>, is_joined: bool, trail: &Trail) {
    if let Some(again) = trail.again() {
        call.ask_about(&again);
        return;
    }
    let words = trail.explained(&call.called());
    let was_behind = trail.set_out_behind();
    let refused = if is_joined {
        remote.explain(words);
        Refused::Wait { was_behind }
    } else {
        let error = freight::pack_error(errors::deadlock(py, words).value(py));
        Refused::Member { was_behind, error }
    };
    outside(py, || call.take_back(remote, refused));
}
