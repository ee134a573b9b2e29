//! Worker processes: who of them runs what, and how they are made, spoken to, and ended.
//!
//! The decisions are in [`policy`], a pure state machine. `engine` has it behind one lock with its `desk` (what there
//! really is), and a thread (`dispatch`) that listens to everybody. `zygote` makes workers; `worker` is the parent's side
//! of one, `child` its own.
//!
//! - `region` is the memory that a worker shares with its parent, `parcel` and `blob` are how calls and results travel,
//!   `control` passes descriptors, `bell` wakes.
//! - `lifeline` ends a worker whose parent is gone; `view` says how it stands; `function`, `name`, `outcome`, `tag`, `clock` are what their names say.
//!
//! Invariants: nothing here knows of Python; the thread takes no lock but the pool's; nobody holds that while he sleeps.
//! What a worker says is checked before it is believed: it may be corrupt, and then it is killed.

pub mod policy;

mod bell;
mod blob;
mod child;
mod clock;
mod control;
mod desk;
mod dispatch;
mod engine;
mod function;
mod hall;
mod lifeline;
mod name;
mod outcome;
mod parcel;
mod region;
mod tag;
mod view;
mod worker;
mod zygote;

pub use bell::Bell;
pub use blob::{Blob, Mapped, aligned};
pub use child::{Child, Given, Inheritance};
pub use clock::now;
pub use engine::{Closed, Config, Customer, Engine, Order};
pub use function::Function;
pub use name::Name;
pub use outcome::{Cause, Death, Outcome, Refusal};
pub use parcel::{Opened, Parcel};
pub use policy::{Cancel, JobId, WorkerPhase};
pub use region::Region;
pub use thistledown_wire::{Answer, End, Reply, SpawnOptions};
pub use view::{JobView, PoolView, WorkerView};
pub use zygote::Launch;

/// What is sent to a worker to stop the task that it runs: a real-time signal, which nothing else uses.
pub const INTERRUPT_SIGNAL: i32 = 54;

/// What makes a process write down at which lines it stands: the one behind that of the lifeline, which is the next.
pub const LINES_SIGNAL: i32 = 56;

/// The interrupt, as the system's type.
#[allow(unsafe_code, reason = "rustix has no names for real-time signals")]
fn interrupt_signal() -> rustix::process::Signal {
    // SAFETY: a real-time signal that the C library does not keep for itself.
    unsafe { rustix::process::Signal::from_raw_unchecked(INTERRUPT_SIGNAL) }
}
