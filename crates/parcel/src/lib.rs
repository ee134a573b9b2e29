//! Bytes on their way between processes of one machine.
//!
//! - [`parcel`] is a value on its way: a head, and large parts beside it.
//! - [`freight`] is what stands in its head: plain values, or a pickle.
//! - [`blob`] is sealed memory that passes from process to process as a descriptor.
//! - [`control`] is a socket that keeps the borders of messages and passes descriptors.
//! - [`word`] is an atomic that two processes share.
//! - [`bell`] wakes a process that sleeps.
//!
//! It knows of no worker, no pool and no exchange, and starts no thread: both the workers and the exchange are built on it.

pub mod bell;
pub mod blob;
pub mod control;
pub mod freight;
pub mod parcel;
pub mod word;

pub use bell::Bell;
pub use blob::{Blob, Mapped, aligned};
pub use control::Heard;
pub use parcel::{Opened, Parcel};
pub use word::Word;
