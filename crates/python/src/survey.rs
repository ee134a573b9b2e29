//! How everything stands, for `thistledown._tree`: runs with their tasks and groups, plain threads that wait, and pools.
//!
//! Computed when somebody asks. What is kept for it meanwhile is little: the moment at which a task's wait began, which the
//! kernel has, and a list of the plain threads that sleep, which a thread joins for as long as it does.
#![allow(
    unsafe_code,
    reason = "the interpreter's number of a thread is asked for, and a reference is let go"
)]

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{Doing, Moment, Seen, Standing, TaskId};
use thistledown_runtime::Clock;
use thistledown_workers::{
    ActorPhase, ActorView, Cancel, Engine, JobId, JobView, PoolView, WorkerPhase, WorkerView,
};

use crate::asyncio::foreign;
use crate::asyncio::guest::Guest;
use crate::asyncio::loops;
use crate::current::Shared;
use crate::operation::{Operation, Target};
use crate::outside::outside;
use crate::payload::{Held, WORLD};
use crate::run;
use crate::task::Task;
use crate::turn::borrowed_task;
use crate::workers::settle::Ticket;

/// What a plain thread waits for.
pub(crate) enum Awaited {
    Operation(Py<Operation>),
    Task(Py<Task>),
    Words(&'static str),
}

/// A plain thread that waits.
struct Sleeper {
    number: u64,
    thread: u64,
    awaited: Awaited,
    since: Moment,
}

/// Those that wait now, and the number of the last wait.
static SLEEPERS: Mutex<(u64, Vec<Sleeper>)> = Mutex::new((0, Vec::new()));

/// While it lives, its thread is known to wait.
pub(crate) struct Noted(u64);

/// This thread, by the interpreter's number.
pub(crate) fn this_thread() -> u64 {
    // SAFETY: a question that any thread can ask at any time.
    unsafe { ffi::PyThread_get_thread_ident() }
}

/// This thread waits, from now on.
pub(crate) fn note_wait(awaited: Awaited) -> Noted {
    let (thread, since) = (this_thread(), Clock::System.now());
    let mut sleepers = SLEEPERS.lock();
    sleepers.0 += 1;
    let number = sleepers.0;
    sleepers.1.push(Sleeper { number, thread, awaited, since });
    Noted(number)
}

impl Drop for Noted {
    fn drop(&mut self) {
        let mut sleepers = SLEEPERS.lock();
        let at = sleepers.1.iter().rposition(|sleeper| sleeper.number == self.0);
        let gone = at.map(|at| sleepers.1.swap_remove(at));
        drop(sleepers);
        drop(gone);
    }
}

/// In a forked child: the threads that wait are the parent's. What they wait for stays held, as somebody else may be
/// about to let it go.
pub(crate) fn forget_waits() {
    if let Some(mut sleepers) = SLEEPERS.try_lock() {
        let old = std::mem::take(&mut sleepers.1);
        drop(sleepers);
        std::mem::forget(old);
    }
}

/// A task or a group: what it stands in; the task; its body; what it does, with `waiting` since so many seconds; what it
/// waits for in words, and whom; whether it is cancelled; the future of asyncio's that it waits with. A group has no task,
/// and does nothing. What visits, and has its turns elsewhere, is a task of asyncio's, as far as that is known. A group's
/// member whose body runs in a thread or in another process is elsewhere. Last the kernel's number for it.
pub(crate) type Row = (
    Option<usize>,
    Option<Py<PyAny>>,
    Option<Py<PyAny>>,
    &'static str,
    Option<f64>,
    Option<String>,
    Vec<Target>,
    bool,
    Option<Py<PyAny>>,
    u64,
);

/// As the kernel shows it, before anything of Python's is asked.
#[derive(Default)]
pub(crate) struct Found {
    inside: Option<usize>,
    id: TaskId,
    pub(crate) task: Option<Py<PyAny>>,
    body: Option<Py<PyAny>>,
    awaited: Option<Py<Operation>>,
    future: Option<Py<PyAny>>,
    doing: Option<Doing>,
    /// Who holds the key for which it waits.
    holder: Option<Py<Task>>,
    visits: bool,
    is_cancelled: bool,
}

impl Found {
    pub(crate) fn task(py: Python<'_>, inside: Option<usize>, standing: &Standing<'_, Held>) -> Self {
        let body = standing.body;
        Self {
            inside,
            id: standing.task,
            task: body.map(|body| body.task.clone_ref(py).into_any()),
            body: body.map(|body| body.iterator.clone_ref(py)),
            awaited: body.and_then(|body| body.awaited.as_ref()).map(|op| op.clone_ref(py)),
            future: body.and_then(|body| foreign::awaited(body)).map(|future| future.clone_ref(py)),
            doing: Some(standing.doing),
            holder: None,
            visits: standing.visits,
            is_cancelled: standing.cancelled,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.doing == Some(Doing::Running)
    }
}

/// A run: its thread, whether its clock is virtual, the event loop that it is a guest of, how many tasks it has, and some
/// of them.
type RunRow = (u64, bool, Option<Py<PyAny>>, usize, Vec<Row>);

/// The tasks that run elsewhere and are members of groups, by the kernel's names for them, which has no task objects.
type Members = HashMap<TaskId, Py<Task>>;

/// Every run of this process, with up to ``limit`` of its tasks and of their groups. And every plain thread that waits:
/// its number, for what, for whom, and for how many seconds. ``members`` are the groups' tasks that run elsewhere.
#[pyfunction]
pub(crate) fn survey(
    py: Python<'_>,
    limit: usize,
    members: Vec<Py<Task>>,
) -> PyResult<(Py<PyList>, Py<PyList>)> {
    let known = |task: Py<Task>| task.get().party_elsewhere().map(|party| (party, task));
    let members: Members = members.into_iter().filter_map(known).collect();
    let runs = PyList::empty(py);
    for shared in run::runs() {
        runs.append(run_row(py, &shared, None, limit, &members))?;
    }
    for guest in loops::all(py) {
        let shared = Arc::clone(&guest.get().run(py).shared);
        runs.append(run_row(py, &shared, Some(&guest), limit, &members))?;
    }
    let threads = PyList::empty(py);
    for (thread, words, whom, since) in sleepers(py) {
        threads.append((thread, words, whom, since))?;
    }
    Ok((runs.unbind(), threads.unbind()))
}

fn run_row(
    py: Python<'_>,
    shared: &Shared,
    guest: Option<&Bound<'_, Guest>>,
    limit: usize,
    members: &Members,
) -> RunRow {
    let now = shared.clock.now();
    let (count, found) = WORLD.with(|kernel| {
        let mut found = Vec::new();
        kernel.survey(shared.runner, limit, |seen| {
            found.push(match seen {
                Seen::Task(inside, standing) => Found::task(py, inside, &standing),
                Seen::Group(inside, scope) => Found {
                    inside: Some(inside),
                    is_cancelled: kernel.is_scope_cancelled(scope),
                    ..Found::default()
                },
            });
        });
        for found in &mut found {
            if let Some(Doing::Behind(_, holder)) = found.doing {
                found.holder = kernel.body(holder).map(|body| body.task.clone_ref(py));
            }
        }
        (kernel.count_tasks(shared.runner), found)
    });
    let running = borrowed_task(py, shared.task.load(std::sync::atomic::Ordering::Relaxed));
    let each = found.into_iter().map(|mut found| {
        match guest {
            Some(guest) if found.visits => {
                let known = guest.get().find(py, found.id);
                (found.task, found.future, found.awaited) = (known.task, known.future, known.awaited);
            }
            _ if found.doing == Some(Doing::Elsewhere) => {
                found.task = members.get(&found.id).map(|task| task.clone_ref(py).into_any());
            }
            // The body of the one that has its turn is with its thread.
            _ if found.doing == Some(Doing::Running) && found.task.is_none() => {
                found.task = running.as_ref().map(|task| task.clone_ref(py).into_any());
            }
            _ => {}
        }
        row(py, found, now)
    });
    let event_loop = guest.map(|guest| guest.get().event_loop.clone_ref(py));
    (shared.thread, shared.clock.is_virtual(), event_loop, count, each.collect())
}

/// A task of a pool: its name, for how many seconds it has run, the name of the one that it waits for, and its pool's number
/// for it.
type JobRow = (String, Option<f64>, Option<String>, u64);

fn job_row(job: JobView) -> JobRow {
    let seconds = job.runs_for.map(|nanos| std::time::Duration::from_nanos(nanos).as_secs_f64());
    (job.name, seconds, job.waits_for, job.id.number())
}

/// A worker: its process, what it does, its descriptor with its lines, and its tasks.
type WorkerRow = (Option<i32>, &'static str, Option<u32>, Vec<JobRow>, Option<Vec<(String, usize)>>);

/// A pool: its size, whether it is closing, its workers, the first tasks that wait for one, and how many these are.
type PoolRow = (usize, bool, Vec<WorkerRow>, Vec<JobRow>, usize);

/// Every pool of this process, with up to ``limit`` of the tasks that wait for a worker. Each worker that has tasks is
/// asked for its lines, which it writes to the descriptor of this number in its own process.
#[pyfunction]
pub(crate) fn survey_pools(py: Python<'_>, limit: usize) -> Vec<PoolRow> {
    let engines = crate::workers::engines::all();
    let views = outside(py, || engines.iter().filter_map(|engine| engine.view(limit)).collect::<Vec<_>>());
    let jobs = |jobs: Vec<JobView>| jobs.into_iter().map(job_row).collect::<Vec<JobRow>>();
    let worker = |worker: WorkerView| {
        let phase = match worker.phase {
            WorkerPhase::Starting => "starting",
            WorkerPhase::Idle => "idle",
            WorkerPhase::Busy => "busy",
            WorkerPhase::Waiting => "waiting",
            WorkerPhase::Leaving => "leaving",
        };
        (worker.pid, phase, worker.lines, jobs(worker.jobs), worker.actors)
    };
    let pool = |pool: PoolView| {
        let workers = pool.workers.into_iter().map(worker).collect();
        (pool.size, pool.is_closing, workers, jobs(pool.queued), pool.queued_count)
    };
    views.into_iter().map(pool).collect()
}

/// Cancels the tasks of these names in every pool of this process: what a test has left running.
#[pyfunction]
pub(crate) fn cancel_jobs(py: Python<'_>, names: std::collections::HashSet<String>) {
    let engines = crate::workers::engines::all();
    outside(py, || {
        for engine in engines {
            let view = engine.view(usize::MAX);
            let jobs = view.into_iter().flat_map(|pool| {
                let workers = pool.workers.into_iter().flat_map(|worker| worker.jobs);
                pool.queued.into_iter().chain(workers).collect::<Vec<_>>()
            });
            let meant: Vec<_> = jobs.filter(|job| names.contains(&job.name)).map(|job| job.id).collect();
            for job in meant {
                // One that has ended meanwhile needs nothing.
                let _ = engine.cancel(job);
            }
        }
    });
}

/// Cancels what the kernel has this number for, as a tree shows it. False: it has ended.
#[pyfunction]
pub(crate) fn cancel_party(number: u64) -> bool {
    let party = TaskId::from_number(number);
    WORLD.with(|kernel| kernel.is_live(party) && kernel.cancel_task(party))
}

/// A pool's job of this name and number, whichever pool that is.
fn with_job(name: &str, number: u64, act: impl Fn(&Engine<Ticket>, JobId) -> bool) -> bool {
    let job = JobId::from_number(number);
    let engines = crate::workers::engines::all();
    engines.iter().any(|engine| engine.name_of(job).is_some_and(|known| known == name) && act(engine, job))
}

/// Cancels one task of a worker process, by its name and its pool's number for it. False: there is none, or it has ended.
#[pyfunction]
pub(crate) fn cancel_job(py: Python<'_>, name: &str, number: u64) -> bool {
    outside(py, || with_job(name, number, |engine, job| engine.cancel(job) != Cancel::TooLate))
}

/// Kills the worker that runs this task, and nothing else. False: it does not run, or not alone in its worker.
#[pyfunction]
pub(crate) fn kill_job(py: Python<'_>, name: &str, number: u64) -> bool {
    outside(py, || with_job(name, number, |engine, job| engine.kill_job(job)))
}

/// A job that a worker has ended: its process, the name, when that was and how long it took in nanoseconds, and whether it
/// failed.
type SpanRow = (i32, String, u64, u64, bool);

/// An actor of a worker: what its maker named it, its name, what it does, its worker's process, whether that is for it
/// alone; how many calls it has, may have, and has ended; the first of them.
type ActorRow = (u64, String, &'static str, Option<i32>, bool, usize, usize, u64, Option<JobRow>);

/// So many of the actors of each pool, those with the most calls first.
#[pyfunction]
pub(crate) fn survey_actors_in_workers(py: Python<'_>, limit: usize) -> Vec<ActorRow> {
    let engines = crate::workers::engines::all();
    let views = outside(py, || engines.iter().flat_map(|engine| engine.actors(limit)).collect::<Vec<_>>());
    let row = |actor: ActorView| {
        let seen = actor.seen;
        let phase = match seen.phase {
            ActorPhase::Starting => "starting",
            ActorPhase::Idle => "idle",
            ActorPhase::Busy => "busy",
            ActorPhase::Moving => "moving",
            ActorPhase::Stopping => "stopping",
            ActorPhase::Killed => "killed",
        };
        let first = actor.first.map(job_row);
        (actor.number, actor.name, phase, actor.pid, seen.own, seen.calls, seen.mailbox, seen.ended, first)
    };
    views.into_iter().map(row).collect()
}

/// What workers have ended after this moment, in nanoseconds of the monotonic clock. They are kept from now on, for so many
/// seconds; nobody keeps them while nobody asks.
#[pyfunction]
pub(crate) fn spans(py: Python<'_>, after: u64, keep: f64) -> Vec<SpanRow> {
    let keep = std::time::Duration::try_from_secs_f64(keep).unwrap_or_default();
    let engines = crate::workers::engines::all();
    let spans =
        outside(py, || engines.iter().flat_map(|engine| engine.spans(after, keep)).collect::<Vec<_>>());
    spans.into_iter().map(|span| (span.pid, span.name, span.ended, span.took, span.failed)).collect()
}

pub(crate) fn row(py: Python<'_>, found: Found, now: Moment) -> Row {
    let behind = || match (found.doing, &found.holder) {
        (Some(Doing::Behind(..)), Some(holder)) => {
            let name = holder.get().name(py);
            (Some(format!("its key, which {name} holds")), vec![(name, holder.clone_ref(py).into_any())])
        }
        (Some(Doing::Behind(..)), None) => (Some("its key".to_owned()), Vec::new()),
        _ => (None, Vec::new()),
    };
    let (words, whom) = found.awaited.map_or_else(behind, |operation| {
        let mut whom = Vec::new();
        operation.get().targets(py, &mut whom);
        (Some(operation.get().describe(py)), whom)
    });
    let (state, since) = match found.doing {
        None => ("group", None),
        Some(Doing::Elsewhere) => ("elsewhere", None),
        // Its turns are elsewhere, and who has to know is asked there.
        Some(Doing::Ready | Doing::Running) if found.visits => ("visits", None),
        Some(Doing::Waiting(since)) if found.visits => ("visits", Some(now.since(since).as_secs_f64())),
        Some(Doing::Ready) => ("ready", None),
        Some(Doing::Running) => ("running", None),
        Some(Doing::Waiting(since) | Doing::Behind(since, _)) => {
            ("waiting", Some(now.since(since).as_secs_f64()))
        }
    };
    let number = found.id.number();
    (
        found.inside,
        found.task,
        found.body,
        state,
        since,
        words,
        whom,
        found.is_cancelled,
        found.future,
        number,
    )
}

/// The plain threads that wait: their numbers, for what, for whom, and for how many seconds.
fn sleepers(py: Python<'_>) -> Vec<(u64, String, Vec<Target>, f64)> {
    let now = Clock::System.now();
    let known: Vec<(u64, Awaited, Moment)> = {
        let sleepers = SLEEPERS.lock();
        let each = sleepers.1.iter();
        each.map(|sleeper| (sleeper.thread, sleeper.awaited.clone_ref(py), sleeper.since)).collect()
    };
    let told = known.into_iter().map(|(thread, awaited, since)| {
        let mut whom = Vec::new();
        let words = match awaited {
            Awaited::Words(words) => words.to_owned(),
            Awaited::Task(task) => {
                let words = format!("the end of task {}", task.get().name(py));
                whom.push((task.get().name(py), task.into_any()));
                words
            }
            Awaited::Operation(operation) => {
                operation.get().targets(py, &mut whom);
                operation.get().describe(py)
            }
        };
        (thread, words, whom, now.since(since).as_secs_f64())
    });
    told.collect()
}

impl Awaited {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Operation(operation) => Self::Operation(operation.clone_ref(py)),
            Self::Task(task) => Self::Task(task.clone_ref(py)),
            Self::Words(words) => Self::Words(words),
        }
    }
}
