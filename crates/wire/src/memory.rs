//! The memory of a lane: counters on cache lines of their own, then a ring of frames.
//!
//! It knows where things are, keeps every access inside, and is the one file that touches the memory. What may be
//! touched when is the affair of `lane`, which proves it. A model of the same shape, `memory_model`, stands here
//! under `--cfg loom`.
#![allow(unsafe_code, reason = "the memory is shared with another process")]

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
pub(crate) use std::sync::atomic::{Ordering, fence};

/// What one side writes stands this far from what the other side writes: processors fetch cache lines in pairs.
const LINE: usize = 128;
/// Bytes in front of the ring.
pub(crate) const HEADER: usize = 3 * LINE;
/// Frames and their heads are aligned to this.
const ALIGN: usize = 8;

/// The words in front of the ring, by their offset.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Word {
    /// Position behind the last frame. The sender's.
    Pushed = 0,
    /// How many frames were ever pushed. The sender's.
    Frames = 8,
    /// Position behind the last frame that the receiver is done with. The receiver's.
    Passed = LINE,
    /// 1 while the receiver sleeps or is about to. Set by the receiver, cleared by either.
    Asleep = 2 * LINE,
}

/// The memory of one lane, as one side sees it.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    mask: u64,
}

// SAFETY: whoever made it promised that the memory lives as long as this; nothing in it belongs to a thread.
unsafe impl Send for Memory {}

impl Memory {
    /// # Safety
    /// `base` is aligned to 64 and points to [`HEADER`] + `capacity` bytes that can be read and written for as long
    /// as this lives. `capacity` is a power of two, and at least [`HEADER`].
    pub(crate) unsafe fn new(base: NonNull<u8>, capacity: usize) -> Self {
        Self { base, mask: capacity as u64 - 1 }
    }

    /// Bytes in the ring.
    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// A counter.
    #[inline]
    pub(crate) fn word(&self, word: Word) -> &AtomicU64 {
        // SAFETY: the offsets of all words are below HEADER and multiples of 8, as is the alignment of the base.
        // Both processes use these bytes as atomics only.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(word as usize).cast()) }
    }

    /// The word in the ring that is the head of a frame, if one begins at this position.
    #[inline]
    fn head(&self, position: u64) -> &AtomicU64 {
        let offset = (position & self.mask) as usize & !(ALIGN - 1);
        // SAFETY: the offset is a multiple of 8 below the capacity, which is one too, so the word is inside.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(HEADER + offset).cast()) }
    }

    #[inline]
    pub(crate) fn load_head(&self, position: u64) -> u64 {
        self.head(position).load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn store_head(&self, position: u64, head: u64) {
        self.head(position).store(head, Ordering::Relaxed);
    }

    /// Puts `to` where `from` is; what else was there.
    #[inline]
    pub(crate) fn change_head(&self, position: u64, from: u64, to: u64) -> Result<u64, u64> {
        self.head(position).compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
    }

    /// Where these bytes begin, which do not wrap around.
    #[inline]
    fn span(&self, position: u64, length: usize) -> *mut u8 {
        let offset = (position & self.mask) as usize;
        assert!(length as u64 <= self.capacity() - offset as u64, "a frame does not wrap around");
        // SAFETY: the offset is below the capacity.
        unsafe { self.base.as_ptr().add(HEADER + offset) }
    }

    /// Copies the parts, one after the other, into the ring. The bytes must fit before its end.
    ///
    /// # Safety
    /// Nobody else uses these bytes meanwhile.
    #[inline]
    pub(crate) unsafe fn write(&self, position: u64, length: usize, parts: &[&[u8]]) {
        let mut to = self.span(position, length);
        let mut left = length;
        for part in parts {
            left = left.checked_sub(part.len()).expect("the parts are as long as they say");
            // SAFETY: `left` counts down from what is known to be inside; a caller's slice is never part of the ring,
            // as nobody else uses these bytes.
            unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), to, part.len());
                to = to.add(part.len());
            }
        }
    }

    /// Gives bytes of the ring to `work`. They must end before its end.
    ///
    /// # Safety
    /// Nobody writes these bytes meanwhile. (A sender that breaks this makes `work` see bytes that change; nothing
    /// but these bytes.)
    #[inline]
    pub(crate) unsafe fn read<R>(&self, position: u64, length: usize, work: impl FnOnce(&[u8]) -> R) -> R {
        let from = self.span(position, length);
        // SAFETY: `span` has checked that they are inside; nobody writes them.
        work(unsafe { std::slice::from_raw_parts(from, length) })
    }
}
