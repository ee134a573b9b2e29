//! Which worker runs which job, and when a worker is started, retired, interrupted or killed.
//!
//! A pure state machine. Time comes in as [`Nanos`], events come in as calls. What can be done at once and has an
//! answer (laying a job in a lane, taking it back) is asked of the [`Floor`]; everything else that must happen outside
//! comes out of [`Policy::take_actions`]. The same events with the same answers make the same decisions.
//!
//! What is promised:
//! - Order: higher priority first, then jobs that other jobs have started, the deeper the sooner, then the order of
//!   submission. A job that goes back to the queue gets its old place.
//!   Weightless and plain jobs never share a worker; each kind has its queue, and the two are compared when a worker
//!   with nothing is to be given away. While a weightless job that comes first waits for such a worker, nothing plain
//!   is laid behind other jobs.
//! - A job that is exclusive (`solo`, or plain with a timeout or a key) goes to a worker that has nothing, and nothing
//!   is laid behind it.
//! - Otherwise plain jobs are laid behind others as far as the prefetch budget allows by what jobs took of late; one
//!   at a time until that is known and while the queue holds several priorities; never behind a job that has run for
//!   long. What lies behind such a job is taken back, and so is what has not begun in a worker that waits or whose job
//!   is being stopped, half of the longest lane when another worker has nothing, and jobs of lower priority when one of
//!   higher priority finds no worker that has nothing.
//! - Jobs of one key never overlap and run in the order they were submitted, whatever their priorities. A key prefers
//!   the worker that it had last, if that has nothing.
//! - Each job ends exactly once: by [`Verdict::Final`], by [`Cancel::Removed`] or by an [`Action::End`].
//! - A job that has begun when its worker dies is tried again while it has retries; what has not begun is not touched
//!   by a death. A job that was stopped (cancelled, timed out) ends so, whatever is replied afterwards.
//! - At most `size` workers run jobs. One whose job waits for a nested job does not count, so nested jobs find a
//!   worker at any depth, until `max_workers` exist; then they wait for one like any other. When a worker goes on
//!   after its wait there can be more than `size`: then none begins to run, and no plain job is laid behind another,
//!   until there are fewer. While all of them run weightless jobs, which can live for long and wait for nested ones,
//!   there may be one more, for plain jobs alone. Who is left over and has nothing to do for a while is retired.
//! - Failed starts are tried again, later each time and one at a time. After [`MAX_FAILED_STARTS`] in a row without
//!   any worker left, the jobs in the queue end as [`Ending::NoWorkers`].
//!
//! - An actor lives in one worker from its beginning to its end: its calls go there alone, in the order of submission. That
//!   worker runs nothing but calls of actors, and has no slot: neither waits for the other. It holds one actor, or those of
//!   up to `size` such workers are shared, the fewest first. Calls are laid ahead; one with a timeout is laid when it is
//!   the first, so that its time begins when it does. When the worker dies, its actors and all of their calls end. One that
//!   dies before it was ready has run nothing, and its actors get another. Idle actors keep nothing from its end.
//! - A wait that can never end is told at once to the job that would begin it: one that closes a cycle of jobs which wait
//!   for each other, or stand behind each other by their keys; and one for a job that finds no worker, when all that there
//!   may be have jobs that wait. A call of an actor stands behind the one that is first, and behind one that holds the
//!   thread of its worker while it waits.
//!
//! What it is not: it knows no process, no lane, no function and no result.
//!
//! Memory: a queue gives back what it does not need. The slots of jobs are used again, and not given back.
//!
//! Sources: batches by measured time from joblib; taking half of a queue from work-stealing schedulers; more workers
//! while some wait from Java's `ForkJoinPool`.

mod actors;
mod calls;
mod closing;
mod crew;
mod cycles;
mod deadlines;
mod dispatch;
mod ends;
mod hosts;
mod ids;
mod job;
mod keys;
mod line;
mod machine;
mod prefetch;
mod queue;
mod recall;
mod stopping;
mod terms;
mod view;
mod worker;

pub use actors::ActorSpec;
pub use crew::{MAX_FAILED_STARTS, MAX_SCARCE_STARTS};
pub use cycles::Deadlock;
pub use ids::{ActorId, JobId, WorkerId};
pub use job::JobSpec;
pub use machine::Policy;
pub use terms::{Action, Cancel, Config, Ending, Floor, JobState, Nanos, Refused, Statistics, Verdict};
pub use view::{ActorPhase, ActorSeen, WorkerPhase};
