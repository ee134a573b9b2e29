//! Worker processes: who of them runs what, and how they are made, spoken to, and ended.
//!
//! The decisions are in [`policy`], a pure state machine. `engine` has it behind one lock, in a `hall` with its `desk`
//! (what there really is), and a thread (`dispatch`) that listens to everybody. `zygote` makes workers; `worker` is the
//! parent's side of one, with its `process` and its `stderr`, `child` its own.
//!
//! - `region` is the memory that a worker shares with its parent, `frames` go through its lanes. How calls and results
//!   travel, what passes descriptors and what wakes is in the crate `parcel`.
//! - `lifeline` ends a process whose parent is gone; `view` says how it all stands; `terms`, `function`, `name`, `outcome`,
//!   `tag`, `clock` are what their names say.
//!
//! Invariants: nothing here knows of Python; nobody holds a pool's lock while he sleeps, rings or tells customers. The only
//! lock that is taken with it is the one that a customer asks for in [`Customer::settling`], and whatever
//! [`Customer::opened`] takes for an instant; the order of all locks is in ARCHITECTURE.md. What a worker says is checked
//! before it is believed: it may be corrupt, and then it is killed.

pub mod policy;

mod actors;
mod child;
mod clock;
mod desk;
mod dispatch;
mod engine;
mod frames;
mod function;
mod hall;
mod lifeline;
mod name;
mod outcome;
mod process;
mod region;
mod stderr;
mod tag;
mod terms;
mod view;
mod worker;
mod zygote;

use thistledown_parcel::{bell, blob, control, parcel};

pub use child::{Child, Given, Inheritance};
pub use clock::now;
pub use engine::Engine;
pub use function::Function;
pub use hall::LONGEST_TRAIL;
pub use name::Name;
pub use outcome::{Cause, Death, Gone, Outcome, Refusal};
pub use policy::{ActorPhase, ActorSeen, Cancel, JobId, WorkerPhase};
pub use region::Region;
pub use terms::{Closed, Config, Customer, Order};
pub use thistledown_parcel::{Bell, Blob, Mapped, Opened, Parcel, aligned};
pub use thistledown_wire::{Answer, End, Errand, Reply, SpawnOptions, Verb};
pub use view::{ActorView, JobView, PoolView, Span, WorkerView};
pub use zygote::Launch;
#[cfg(fuzzing)]
pub use zygote::understands;

/// What is sent to a worker to stop the task that it runs: a real-time signal, which nothing else uses.
pub const INTERRUPT_SIGNAL: i32 = 54;

/// What makes a process write down at which lines it stands, at once and wherever that is: the next one. It is for one that
/// does not go on: the frames of a thread that runs cannot be read in the middle of a step.
pub const LINES_SIGNAL: i32 = 55;

/// What asks a worker to do that between two bytecodes.
pub const ASK_LINES_SIGNAL: i32 = 56;

/// The interrupt, as the system's type.
#[allow(unsafe_code, reason = "rustix has no names for real-time signals")]
fn interrupt_signal() -> rustix::process::Signal {
    // SAFETY: a real-time signal that the C library does not keep for itself.
    unsafe { rustix::process::Signal::from_raw_unchecked(INTERRUPT_SIGNAL) }
}
