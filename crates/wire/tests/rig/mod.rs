//! A lane in memory of the test's own, which can be read and spoiled behind the lane's back.
#![allow(unsafe_code, reason = "a lane is made over borrowed memory")]
#![allow(dead_code, reason = "not every test binary needs all of it")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use thistledown_wire::{Error, HEADER, Receiver, Sender};

/// Where the sender's position stands.
pub(crate) const PUSHED: usize = 0;
/// Where its count of frames stands.
pub(crate) const FRAMES: usize = 8;
/// Where the receiver's position stands.
pub(crate) const PASSED: usize = 128;
/// Where its count of frames stands.
/// States of a frame.
pub(crate) const OFFERED: u64 = 1;
pub(crate) const CLAIMED: u64 = 2;
pub(crate) const REVOKED: u64 = 3;
pub(crate) const SKIP: u64 = 4;

pub(crate) const fn head(length: u64, state: u64) -> u64 {
    length | state << 32
}

pub(crate) struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn new(capacity: usize) -> Self {
        let layout = Layout::from_size_align(HEADER + capacity, 64).expect("a layout");
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        Self { base, layout }
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < self.layout.size());
        // SAFETY: it is inside, and aligned.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    pub(crate) fn poke(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }

    pub(crate) fn poke_ring(&self, offset: usize, value: u64) {
        self.poke(HEADER + offset, value);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated so.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

// The sides go before their memory.
pub(crate) struct Lane {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) memory: Memory,
}

impl Lane {
    pub(crate) fn new(capacity: usize) -> Self {
        let memory = Memory::new(capacity);
        // SAFETY: the memory is as large as it must be, zero, and outlives the one sender and the one receiver.
        let (sender, receiver) =
            unsafe { (Sender::new(memory.base, capacity), Receiver::new(memory.base, capacity)) };
        Self { sender, receiver, memory }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.receiver.next(<[u8]>::to_vec)
    }

    /// What comes next, which must be something.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.next().expect("a lane in order").expect("a frame")
    }
}
