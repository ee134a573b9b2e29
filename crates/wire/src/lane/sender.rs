//! The sending side: `push`, `revoke`, and whether to ring. See `lane` for what both sides keep to.

#[cfg(not(loom))]
use std::ptr::NonNull;

#[cfg(not(loom))]
use super::lent;
use super::{HEAD, Head, OFFERED, Position, REVOKED, SKIP, max_frame, room_to_end};
use crate::Error;
use crate::memory::{Memory, Ordering, Word, fence};

/// The side of a lane that pushes.
#[derive(Debug)]
pub struct Sender {
    memory: Memory,
    /// Position behind the last frame. Published.
    pushed: u64,
    /// How many frames were pushed. Published.
    frames: u32,
    /// The receiver's position when it was last looked at: asked again only when there seems to be no room.
    passed: u64,
}

impl Sender {
    /// The sending side of the lane in this memory.
    ///
    /// # Panics
    /// Where the capacity is not a power of two from [`MIN_CAPACITY`](crate::MIN_CAPACITY) to 2 GiB, or the memory not aligned to 64.
    ///
    /// # Safety
    /// `memory` points to [`HEADER`](crate::HEADER) + `capacity` bytes that can be read and written for as long as this lives, and
    /// that were zero before the lane was used. At most one `Sender` is ever made for them, and one [`Receiver`](crate::Receiver), in
    /// this process or in another; nothing else uses them. All of these have the same capacity.
    #[cfg(not(loom))]
    #[allow(unsafe_code, reason = "the memory is the caller's")]
    #[must_use]
    pub unsafe fn new(memory: NonNull<u8>, capacity: usize) -> Self {
        // SAFETY: by the caller.
        Self::over(unsafe { lent(memory, capacity) })
    }

    pub(super) fn over(memory: Memory) -> Self {
        Self { memory, pushed: 0, frames: 0, passed: 0 }
    }

    /// Pushes one frame, whole or not at all. Its payload is the parts, one after the other.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::TooLong`], or [`Error::Corrupt`] if the receiver's position is none.
    #[inline]
    #[allow(unsafe_code, reason = "the payload is copied into memory that is shared")]
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<Position, Error> {
        let length = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
        let (head, fill) = self.prepare(length)?;
        if fill > 0 {
            self.memory.store_head(self.pushed, Head::new((fill - HEAD) as u32, SKIP).0);
        }
        let position = self.pushed + fill;
        // SAFETY: there is room, so the receiver is done with these bytes (it published so, and we have acquired it)
        // and does not look at them before the new position is published.
        unsafe { self.memory.write(position + HEAD, length, parts) };
        self.memory.store_head(position, head.0);
        self.pushed = position + head.size();
        self.frames = self.frames.wrapping_add(1);
        self.memory.word(Word::Frames).store(u64::from(self.frames), Ordering::Relaxed);
        self.memory.word(Word::Pushed).store(self.pushed, Ordering::Release);
        Ok(Position(position))
    }

    /// Whether a frame of so many bytes can be pushed now: then the next push of one does not fail.
    ///
    /// # Errors
    /// Those of [`Self::push`].
    pub fn check_room(&mut self, length: usize) -> Result<(), Error> {
        self.prepare(length).map(drop)
    }

    /// Makes room for a frame: its head, and what is left unused before it.
    #[inline]
    fn prepare(&mut self, length: usize) -> Result<(Head, u64), Error> {
        let capacity = self.memory.capacity();
        let limit = max_frame(capacity as usize);
        if length > limit {
            return Err(Error::TooLong { length, limit });
        }
        let head = Head::new(length as u32, OFFERED);
        let to_end = room_to_end(self.pushed, capacity);
        let fill = if head.size() > to_end { to_end } else { 0 };
        self.make_room(fill + head.size())?;
        Ok((head, fill))
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
    /// this runs (both take `&mut self`); and `push` writes only before `self.passed` plus the capacity. So a position
    /// that is not below `self.passed` still has its head, and for one below it the answer is known.
    #[inline]
    pub fn revoke(&mut self, Position(position): Position) -> bool {
        if position < self.passed || position >= self.pushed {
            return false;
        }
        let head = Head(self.memory.load_head(position));
        head.state() == OFFERED && self.memory.change_head(position, head.0, head.with(REVOKED).0).is_ok()
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
}
