//! The memory that a worker shares with its parent: some words, and three lanes.
//!
//! The parent makes it and passes its descriptor on; both map it. The words tell the parent what the worker does without
//! a message, and the worker what the parent wants without an answer:
//!
//! | word | set by | says |
//! |---|---|---|
//! | `running` | worker | the plain task that it runs now; 0: none |
//! | `since` | worker | when that began, by the machine's monotonic clock |
//! | `lines` | worker | the descriptor that says at which line it stands, when it is asked by a signal, and one; 0: it cannot |
//! | `interrupt` | parent | the task that is to be stopped; it is told by a signal |
//! | `leave` | parent | nothing more comes: the worker goes when it has nothing left |
//! | `ring_at` | parent | with so many frames left on the `work` lane, or fewer, a reply rings the bell |
//!
//! The other side may be corrupt: no word is trusted to be more than a number.
#![allow(unsafe_code, reason = "memory is mapped, and its first page is looked at as words")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use thistledown_wire::{self as lane, Receiver, Sender};

/// What the region begins with, so that two versions never talk to each other.
const MAGIC: u64 = 0x7468_6973_0000_0000 | thistledown_wire::VERSION as u64;

/// Room of each lane.
const LANE_BYTES: usize = 256 * 1024;
const WORDS_BYTES: usize = 4096;
const STRIDE: usize = lane::HEADER + LANE_BYTES;
const REGION_BYTES: usize = WORDS_BYTES + 3 * STRIDE;

/// The first page. Words of different writers stand on cache lines of their own.
#[repr(C)]
struct Words {
    magic: AtomicU64,
    _parent: [u64; 7],
    interrupt: AtomicU64,
    leave: AtomicU32,
    ring_at: AtomicU32,
    _worker: [u64; 6],
    running: AtomicU64,
    since: AtomicU64,
    lines: AtomicU32,
}

/// Mapped memory, until the last user is gone.
#[derive(Debug)]
struct Mapping(NonNull<u8>);

// SAFETY: what is in there is only touched through atomics and through lanes, which have one owner for each end.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, with this length; every user holds the `Arc` that ends here.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), REGION_BYTES) };
    }
}

/// A region, mapped in this process.
#[derive(Clone, Debug)]
pub struct Region(Arc<Mapping>);

/// Which lane.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lane {
    /// Functions and tasks, to the worker.
    Work,
    /// The ends of what the worker has started, to the worker.
    Answers,
    /// From the worker.
    Replies,
}

impl Region {
    /// A new one, and the descriptor to pass on.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let fd =
            rustix::fs::memfd_create("thistledown-region", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, REGION_BYTES as u64)?;
        // Nobody can make it shorter, so that no access to the mapping fails.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let region = Self::map(fd.as_fd())?;
        region.words().magic.store(MAGIC, Ordering::Release);
        Ok((region, fd))
    }

    /// The one that somebody else made.
    pub fn adopt(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let length = rustix::fs::fstat(fd)?.st_size;
        let region = if length == REGION_BYTES as i64 { Some(Self::map(fd)?) } else { None };
        region
            .filter(|region| region.words().magic.load(Ordering::Acquire) == MAGIC)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the region is of another version"))
    }

    fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the system's choice.
        let memory =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), REGION_BYTES, flags.0, flags.1, fd, 0)? };
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self(Arc::new(Mapping(memory))))
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping is longer than the words, aligned to a page, and lives as long as `self`; all fields that
        // are read are atomics, for which every bit pattern is good.
        unsafe { self.0.0.cast().as_ref() }
    }

    fn lane(&self, lane: Lane) -> NonNull<u8> {
        // SAFETY: each of the three lies inside of the mapping.
        unsafe { self.0.0.add(WORDS_BYTES + lane as usize * STRIDE) }
    }

    /// The sending end of a lane.
    ///
    /// # Safety
    /// One for each lane and no more, among all processes; and the region outlives it.
    pub(crate) unsafe fn sender(&self, lane: Lane) -> Sender {
        // SAFETY: the memory is a lane's; the rest is the caller's promise.
        unsafe { Sender::new(self.lane(lane), LANE_BYTES) }
    }

    /// The receiving end of a lane.
    ///
    /// # Safety
    /// As for [`Self::sender`].
    pub(crate) unsafe fn receiver(&self, lane: Lane) -> Receiver {
        // SAFETY: as above.
        unsafe { Receiver::new(self.lane(lane), LANE_BYTES) }
    }

    /// In the worker: a plain task begins.
    pub fn begin(&self, task: u64, now: u64) {
        self.words().since.store(now, Ordering::Relaxed);
        self.words().running.store(task, Ordering::Release);
    }

    /// In the worker: it is over.
    pub fn end(&self) {
        self.words().running.store(0, Ordering::Release);
    }

    /// The plain task that the worker runs, and since when.
    #[must_use]
    pub fn running(&self) -> Option<(u64, u64)> {
        let task = self.words().running.load(Ordering::Acquire);
        (task != 0).then(|| (task, self.words().since.load(Ordering::Relaxed)))
    }

    /// In the worker: from now on it can be asked at which line it stands, which is read from this descriptor of its own.
    pub fn show_lines(&self, descriptor: u32) {
        self.words().lines.store(descriptor.saturating_add(1), Ordering::Release);
    }

    /// In the parent: the worker's descriptor that says at which line it stands.
    #[must_use]
    pub fn lines(&self) -> Option<u32> {
        self.words().lines.load(Ordering::Acquire).checked_sub(1)
    }

    /// In the parent: this task is to be stopped.
    pub fn interrupt(&self, task: u64) {
        self.words().interrupt.store(task, Ordering::Release);
    }

    /// In the worker: the task that runs is the one to be stopped.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        let wanted = self.words().interrupt.load(Ordering::Acquire);
        wanted != 0 && self.running().is_some_and(|(task, _)| task == wanted)
    }

    /// In the parent: nothing more comes.
    pub fn tell_to_leave(&self) {
        self.words().leave.store(1, Ordering::Release);
    }

    /// In the worker: nothing more comes.
    #[must_use]
    pub fn is_to_leave(&self) -> bool {
        self.words().leave.load(Ordering::Acquire) != 0
    }

    /// In the parent: with so many frames left a reply rings.
    pub fn set_ring_at(&self, frames: u32) {
        self.words().ring_at.store(frames, Ordering::Relaxed);
    }

    /// In the worker: see [`Self::set_ring_at`].
    #[must_use]
    pub fn ring_at(&self) -> u32 {
        self.words().ring_at.load(Ordering::Relaxed)
    }
}
