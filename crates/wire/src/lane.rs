//! A lane: frames from one process to one other, through memory that both have.
//!
//! One side has the [`Sender`], the other the [`Receiver`]. Each keeps its own position, and publishes it; it believes
//! its own, never what it finds published. Positions count bytes from the lane's beginning and never come back, so a
//! frame's [`Place`] names it for ever.
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
//! - The receiver checks each head and position that it reads, once, and goes on with the copy. Its loops are bounded
//!   by what it saw at first, so a sender cannot hold it.
//!
//! It is not a channel: it wakes nobody, and a push never waits.
//!
//! Sources: the single-producer rings of Lamport and of FastForward (cached positions); io_uring's `NEED_WAKEUP` flag.

#[cfg(not(loom))]
use std::ptr::NonNull;

use crate::Error;
use crate::memory::{self, Memory, Ordering, Word, fence};

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
pub struct Place(u64);

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

/// The side of a lane that pushes.
#[derive(Debug)]
pub struct Sender {
    memory: Memory,
    /// Position behind the last frame. Published.
    pushed: u64,
    /// How many frames were pushed. Published.
    frames: u32,
    /// How many of them were revoked.
    revoked: u32,
    /// The receiver's position when it was last looked at: asked again only when there seems to be no room.
    passed: u64,
}

impl Sender {
    /// The sending side of the lane in this memory.
    ///
    /// # Panics
    /// Where the capacity is not a power of two from [`MIN_CAPACITY`] to 2 GiB, or the memory not aligned to 64.
    ///
    /// # Safety
    /// `memory` points to [`HEADER`] + `capacity` bytes that can be read and written for as long as this lives, and
    /// that were zero before the lane was used. At most one `Sender` is ever made for them, and one [`Receiver`], in
    /// this process or in another; nothing else uses them. All of these have the same capacity.
    #[cfg(not(loom))]
    #[allow(unsafe_code, reason = "the memory is the caller's")]
    #[must_use]
    pub unsafe fn new(memory: NonNull<u8>, capacity: usize) -> Self {
        // SAFETY: by the caller.
        Self::over(unsafe { lent(memory, capacity) })
    }

    fn over(memory: Memory) -> Self {
        Self { memory, pushed: 0, frames: 0, revoked: 0, passed: 0 }
    }

    /// Pushes one frame, whole or not at all. Its payload is the parts, one after the other.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::TooLong`], or [`Error::Corrupt`] if the receiver's position is none.
    #[inline]
    #[allow(unsafe_code, reason = "the payload is copied into memory that is shared")]
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<Place, Error> {
        let capacity = self.memory.capacity();
        let length = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
        let limit = max_frame(capacity as usize);
        if length > limit {
            return Err(Error::TooLong { length, limit });
        }
        let head = Head::new(length as u32, OFFERED);
        let to_end = room_to_end(self.pushed, capacity);
        let fill = if head.size() > to_end { to_end } else { 0 };
        self.make_room(fill + head.size())?;
        if fill > 0 {
            self.memory.store_head(self.pushed, Head::new((fill - HEAD) as u32, SKIP).0);
        }
        let place = self.pushed + fill;
        // SAFETY: there is room, so the receiver is done with these bytes (it published so, and we have acquired it)
        // and does not look at them before the new position is published.
        unsafe { self.memory.write(place + HEAD, length, parts) };
        self.memory.store_head(place, head.0);
        self.pushed = place + head.size();
        self.frames = self.frames.wrapping_add(1);
        self.memory.word(Word::Frames).store(u64::from(self.frames), Ordering::Relaxed);
        self.memory.word(Word::Pushed).store(self.pushed, Ordering::Release);
        Ok(Place(place))
    }

    /// Sees to it that so many bytes behind the last frame are free.
    #[inline]
    fn make_room(&mut self, size: u64) -> Result<(), Error> {
        let room = self.memory.capacity() - (self.pushed - self.passed);
        if size <= room { Ok(()) } else { self.find_room(size) }
    }

    #[cold]
    fn find_room(&mut self, size: u64) -> Result<(), Error> {
        let passed = self.memory.word(Word::Passed).load(Ordering::Acquire);
        // It never goes back and never past us. Whatever it is else, we write where we may.
        if passed < self.passed || passed > self.pushed {
            return Err(Error::Corrupt { position: self.pushed, found: passed });
        }
        self.passed = passed;
        let room = self.memory.capacity() - (self.pushed - passed);
        if size <= room { Ok(()) } else { Err(Error::Full) }
    }

    /// Takes a frame back. True: the receiver has not claimed it, and never will. Its room is free again when the
    /// receiver comes past it. It makes no difference whether the receiver's process lives.
    ///
    /// # Why it cannot hit another frame
    /// The receiver may pass the frame at any moment. Then it has claimed it, so the swap fails, as long as the head
    /// is still there. The head is overwritten by nobody but `push`, in this same sender, which is not called while
    /// this runs (both take `&mut self`); and `push` writes only before `self.passed` plus the capacity. So a place
    /// that is not below `self.passed` still has its head, and for one below it the answer is known.
    #[inline]
    pub fn revoke(&mut self, place: Place) -> bool {
        if place.0 < self.passed || place.0 >= self.pushed {
            return false;
        }
        let head = Head(self.memory.load_head(place.0));
        let revoked =
            head.state() == OFFERED && self.memory.change_head(place.0, head.0, head.with(REVOKED).0).is_ok();
        self.revoked = self.revoked.wrapping_add(u32::from(revoked));
        revoked
    }

    /// Whether the receiver has to be woken: it sleeps, or is about to. Asked after a push. True once for each of its
    /// sleeps, so only one ring is sent.
    #[inline]
    #[must_use]
    pub fn must_ring(&self) -> bool {
        let asleep = self.memory.word(Word::Asleep);
        fence(Ordering::SeqCst);
        asleep.load(Ordering::Relaxed) != 0 && asleep.swap(0, Ordering::Relaxed) != 0
    }

    /// Frames that the receiver has not passed: the one at work and the revoked ones too.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        believed(self.frames.wrapping_sub(self.tally().0), self.memory.capacity()) as usize
    }

    /// Whether the receiver has passed every frame.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frames that the receiver has still to do: those not passed, without the revoked ones.
    #[inline]
    #[must_use]
    pub fn frames_left(&self) -> u32 {
        let (passed, skipped) = self.tally();
        let left = self.frames.wrapping_sub(passed).wrapping_sub(self.revoked.wrapping_sub(skipped));
        believed(left, self.memory.capacity())
    }

    /// How many frames the receiver passed, and how many of them were revoked.
    #[inline]
    fn tally(&self) -> (u32, u32) {
        let tally = self.memory.word(Word::Tally).load(Ordering::Relaxed);
        (tally as u32, (tally >> 32) as u32)
    }
}

/// The side of a lane that takes.
#[derive(Debug)]
pub struct Receiver {
    memory: Memory,
    /// Position of the next frame. Published when the one before is done.
    position: u64,
    /// The sender's position when it was last looked at: asked again only when there seems to be nothing.
    pushed: u64,
    /// How many frames were passed. Published.
    passed: u32,
    /// How many of them were revoked. Published.
    skipped: u32,
}

impl Receiver {
    /// The taking side of the lane in this memory.
    ///
    /// # Panics
    /// Where the capacity is not a power of two from [`MIN_CAPACITY`] to 2 GiB, or the memory not aligned to 64.
    ///
    /// # Safety
    /// As for [`Sender::new`]. What the other side writes into the memory is not part of it: any bytes will do.
    #[cfg(not(loom))]
    #[allow(unsafe_code, reason = "the memory is the caller's")]
    #[must_use]
    pub unsafe fn new(memory: NonNull<u8>, capacity: usize) -> Self {
        // SAFETY: by the caller.
        Self::over(unsafe { lent(memory, capacity) })
    }

    fn over(memory: Memory) -> Self {
        Self { memory, position: 0, pushed: 0, passed: 0, skipped: 0 }
    }

    /// Claims the next frame that is not revoked and gives its payload to `work`; its room is free afterwards, also
    /// when `work` panics. None: nothing is there now.
    ///
    /// The payload is the other process's memory. One that breaks the rules may change it while `work` looks at it: if
    /// that matters, copy first and check the copy.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and then it stays so.
    #[inline]
    #[allow(unsafe_code, reason = "the payload is read from memory that is shared")]
    pub fn next<R>(&mut self, work: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        // Looks once: were it to look for as long as there is something to skip, the sender could keep it here.
        let mut looked = false;
        while self.position != self.pushed || (!std::mem::replace(&mut looked, true) && self.look()?) {
            let head = self.head()?;
            match head.state() {
                OFFERED if self.claim(head)? => {
                    let passing = Passing { receiver: self, size: head.size() };
                    let Self { memory, position, .. } = &*passing.receiver;
                    // SAFETY: the sender wrote these bytes before it published the position that we have acquired,
                    // and writes them again only when ours has moved, which `passing` does when `work` is over.
                    return Ok(Some(unsafe { memory.read(position + HEAD, head.length() as usize, work) }));
                }
                SKIP => self.position += head.size(),
                _ => self.skip(head.size()),
            }
        }
        Ok(None)
    }

    /// Sees how far the sender has come. False: no farther than we.
    #[inline]
    fn look(&mut self) -> Result<bool, Error> {
        let pushed = self.memory.word(Word::Pushed).load(Ordering::Acquire);
        let ahead = pushed.wrapping_sub(self.position);
        if ahead > self.memory.capacity() || !pushed.is_multiple_of(ALIGN) {
            return Err(Error::Corrupt { position: self.position, found: pushed });
        }
        self.pushed = pushed;
        Ok(ahead > 0)
    }

    /// The head at our position, if it is one that can stand there.
    #[inline]
    fn head(&self) -> Result<Head, Error> {
        let capacity = self.memory.capacity();
        let head = Head(self.memory.load_head(self.position));
        let to_end = room_to_end(self.position, capacity);
        let fits = head.size() <= to_end.min(self.pushed - self.position);
        let right = match head.state() {
            OFFERED | REVOKED => head.length() as usize <= max_frame(capacity as usize),
            SKIP => head.size() == to_end,
            _ => false,
        };
        if fits && right { Ok(head) } else { Err(self.corrupt(head.0)) }
    }

    #[cold]
    fn corrupt(&self, found: u64) -> Error {
        Error::Corrupt { position: self.position, found }
    }

    /// Claims the frame at our position. False: it was revoked meanwhile.
    #[inline]
    fn claim(&self, head: Head) -> Result<bool, Error> {
        match self.memory.change_head(self.position, head.0, head.with(CLAIMED).0) {
            Ok(_) => Ok(true),
            Err(found) if found == head.with(REVOKED).0 => Ok(false),
            Err(found) => Err(self.corrupt(found)),
        }
    }

    /// Goes past a frame that was revoked.
    #[cold]
    fn skip(&mut self, size: u64) {
        self.skipped = self.skipped.wrapping_add(1);
        self.pass(size);
    }

    /// Is done with a frame, and gives its room back.
    #[inline]
    fn pass(&mut self, size: u64) {
        self.position += size;
        self.passed = self.passed.wrapping_add(1);
        let tally = u64::from(self.passed) | u64::from(self.skipped) << 32;
        self.memory.word(Word::Tally).store(tally, Ordering::Relaxed);
        self.memory.word(Word::Passed).store(self.position, Ordering::Release);
    }

    /// Says that the receiver will sleep until it is rung for. False: there is something after all, so it does not
    /// sleep (a ring may come all the same).
    #[inline]
    #[must_use]
    pub fn about_to_sleep(&self) -> bool {
        self.memory.word(Word::Asleep).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let nothing = self.is_empty();
        if !nothing {
            self.awake();
        }
        nothing
    }

    /// Says that the receiver sleeps no longer, whether it was rung for or not.
    #[inline]
    pub fn awake(&self) {
        self.memory.word(Word::Asleep).store(0, Ordering::Relaxed);
    }

    /// Frames that were not passed yet: the revoked ones too.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        let frames = self.memory.word(Word::Frames).load(Ordering::Relaxed) as u32;
        believed(frames.wrapping_sub(self.passed), self.memory.capacity()) as usize
    }

    /// Whether there is nothing to pass. If all that is there was revoked, [`next`](Self::next) finds that out.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.word(Word::Pushed).load(Ordering::Relaxed) == self.position
    }
}

/// Passes the frame at work when it goes, also on the way of a panic.
struct Passing<'a> {
    receiver: &'a mut Receiver,
    size: u64,
}

impl Drop for Passing<'_> {
    #[inline]
    fn drop(&mut self) {
        self.receiver.pass(self.size);
    }
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
