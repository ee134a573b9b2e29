//! A lane: frames from one process to one other, through memory that both have.
//!
//! One side has the [`Sender`], the other the [`Receiver`]. Each keeps its own position, and publishes it; it believes
//! its own, never what it finds published. Positions count bytes from the lane's beginning and never come back, so a
//! frame's [`Position`] names it for ever.
//!
//! A frame is a head of eight bytes, its payload, and up to seven bytes to align the next. It never wraps around: a
//! skip mark, a head without a payload of its own, fills the end of the ring if need be. The head holds the payload's
//! length (low half) and the frame's state (high half):
//!
//! ```text
//!            push                 next               work has returned
//!  (room) ---------> OFFERED ------------> CLAIMED ------------------.
//!                       |                                            v
//!                       | revoke           next, on its way     receiver's position
//!                       '------> REVOKED --------------------->  moves: room again
//! ```
//!
//! Invariants:
//! - Between the receiver's published position and the sender's stand whole frames. The sender writes only outside of
//!   it, the receiver reads only inside of it: this orders all plain copies. The one word that both write is the state
//!   of a frame in there, and both only swap it from `OFFERED`, so exactly one of claim and revoke comes true.
//! - A push publishes its frame before it looks whether the receiver sleeps; the receiver says that it sleeps before it
//!   looks for a frame. A full fence is between the two on either side, so at least one sees the other.
//! - The receiver checks each head and position that it reads, once, and goes on with the copy. It looks for more once a
//!   call, so a sender cannot keep it in a loop.
//!
//! It is not a channel: it wakes nobody, and a push never waits.
//!
//! Sources: the single-producer rings of Lamport and of FastForward (cached positions); io_uring's `NEED_WAKEUP` flag.

#[cfg(not(loom))]
use std::ptr::NonNull;

use crate::memory::{self, Memory};

mod receiver;
mod sender;

pub use receiver::Receiver;
pub use sender::Sender;

/// Bytes that a lane needs in front of its capacity.
pub const HEADER: usize = memory::HEADER;
/// The smallest capacity.
pub const MIN_CAPACITY: usize = 4096;

/// Bytes of a frame's head.
const HEAD: u64 = 8;
/// Frames are padded to a multiple of this.
const ALIGN: u64 = 8;

/// The longest payload that a lane of this capacity takes. So a frame always fits into an empty lane, wherever the
/// ring's end is.
#[must_use]
pub const fn max_frame(capacity: usize) -> usize {
    capacity / 4
}

/// Where a frame is: its name, for [`Sender::revoke`]. Never used again by the same lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

/// A frame's head: the payload's length and the frame's state in one word, so that it is read and swapped at once.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head(u64);

const OFFERED: u32 = 1;
const CLAIMED: u32 = 2;
const REVOKED: u32 = 3;
/// Not a frame: the next one stands at the ring's beginning.
const SKIP: u32 = 4;

impl Head {
    #[inline]
    const fn new(length: u32, state: u32) -> Self {
        Self(length as u64 | (state as u64) << 32)
    }

    #[inline]
    const fn length(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    const fn state(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    const fn with(self, state: u32) -> Self {
        Self::new(self.length(), state)
    }

    /// What the frame takes of the ring.
    #[inline]
    const fn size(self) -> u64 {
        HEAD + (self.length() as u64).next_multiple_of(ALIGN)
    }
}

/// How far it is to the ring's end, where no frame goes on.
#[inline]
fn room_to_end(position: u64, capacity: u64) -> u64 {
    capacity - (position & (capacity - 1))
}

/// So many frames, if that many have room: the other side's part in the count is only believed so far.
#[inline]
fn believed(frames: u32, capacity: u64) -> u32 {
    frames.min((capacity / HEAD) as u32)
}

/// # Safety
/// See [`Sender::new`].
#[cfg(not(loom))]
#[allow(unsafe_code, reason = "the memory is the caller's")]
unsafe fn lent(memory: NonNull<u8>, capacity: usize) -> Memory {
    assert!(capacity.is_power_of_two(), "a capacity of {capacity} bytes is not a power of two");
    assert!((MIN_CAPACITY..=1 << 31).contains(&capacity), "a capacity of {capacity} bytes is out of bounds");
    assert!(memory.cast::<Line>().is_aligned(), "the memory of a lane is aligned to 64 bytes");
    // SAFETY: by the caller; the rest was asserted.
    unsafe { Memory::new(memory, capacity) }
}

#[cfg(not(loom))]
#[repr(align(64))]
struct Line;

/// Both sides of a lane in memory that loom watches, where a smaller capacity will do.
#[cfg(loom)]
#[must_use]
pub fn modelled(capacity: usize) -> (Sender, Receiver) {
    let memory = Memory::new(capacity);
    (Sender::over(memory.clone()), Receiver::over(memory))
}
