//! What a program and its worker processes say to each other, and the memory they say it through.
//!
//! Bytes in, messages out. There is no clock, no thread, no lock and no descriptor here, and nobody sleeps: who made
//! the memory lends it, who rings a bell asks [`Sender::must_ring`] first.
//!
//! - A lane ([`Sender`], [`Receiver`]) carries frames one way, from one process to one other.
//! - A frame is a message ([`Work`], [`Answer`], [`Reply`]), followed by its body: bytes that mean nothing here.
//!
//! Invariants:
//! - What the other side wrote is checked before it is believed, and read once. Whatever it is, the worst that comes
//!   of it is an [`Error`]: no panic, and no access outside the lane.
//! - A frame is claimed by the receiver or revoked by the sender, never both.
//! - No wake-up is lost between a push and the receiver's falling asleep.

mod error;
mod lane;
#[cfg_attr(loom, path = "memory_model.rs")]
mod memory;
mod message;

pub use error::Error;
#[cfg(loom)]
pub use lane::modelled;
pub use lane::{HEADER, MIN_CAPACITY, Position, Receiver, Sender, max_frame};
pub use message::{Answer, End, Errand, MAX_BLOB_HEAD, MAX_HEAD, Reply, SpawnOptions, VERSION, Verb, Work};
