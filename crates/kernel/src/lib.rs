//! The kernel: tasks, ready queues, wait lists, operations, timers, scopes and the wait graph.
//!
//! A pure state machine. It has no clock, no file descriptor, no thread and knows nothing of Python: time comes in as
//! a [`Moment`], events come in as calls, and what must happen outside (somebody sleeping has to be woken) comes out
//! of [`Kernel::take_wakers`]. So a run can be replayed from a seed, and a test runs on a virtual clock.
//!
//! Invariants:
//! - A party that waits is enlisted in exactly the lists its wants name, under one wait number; waking it takes it
//!   out of all of them first. This happens in one place, [`Kernel`]'s `wake`.
//! - A wait commits to exactly one want.
//! - The kernel never drops a payload: dropping one may run foreign code, and the kernel runs under a lock. What is
//!   left over waits in [`Kernel::take_spent`].
//!
//! Sources: the ready queue and the two waiting areas of Beazley's generator scheduler; operations that commit to one
//! and undo the rest from Concurrent ML; scopes and level-triggered cancellation from trio.

mod channel;
mod elsewhere;
mod graph;
mod ids;
mod kernel;
mod key;
mod list;
mod moment;
mod party;
mod scope;
mod source;
mod spot;
mod timers;
mod view;
mod visit;
mod wait;
mod waits;

pub use channel::{RecvRefused, SendRefused};
pub use elsewhere::JoinRefused;
pub use graph::Cycle;
pub use ids::{ChannelId, KeyId, RunnerId, ScopeId, SourceId, SpotId, TaskId};
pub use kernel::{Kernel, Payload, Prospects, Turn};
pub use moment::Moment;
pub use party::Start;
pub use scope::{ScopeEnd, ScopeMisuse};
pub use source::Direction;
pub use view::{Counts, Doing, Seen, Standing};
pub use visit::Told;
pub use wait::{Event, Wake, Want};
