//! The memory of a lane as loom watches it: `memory` for models.
//!
//! Each eight bytes of the ring are an atomic word, for when a head is there, and a cell, for when a payload is.
//! Whoever uses the word uses the cell with it, so that loom also sees a head that races with a payload.
#![allow(unsafe_code, reason = "the same face as the memory that is shared with another process")]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
pub(crate) use loom::sync::atomic::{Ordering, fence};

pub(crate) const HEADER: usize = 0;
const ALIGN: usize = 8;
const WORDS: usize = 4;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    Pushed,
    Frames,
    Passed,
    Asleep,
}

#[derive(Debug)]
struct Cell {
    head: AtomicU64,
    bytes: UnsafeCell<[u8; ALIGN]>,
}

/// The memory of one lane, as both sides see it.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    words: Arc<[AtomicU64; WORDS]>,
    cells: Arc<Vec<Cell>>,
}

impl Memory {
    pub(crate) fn new(capacity: usize) -> Self {
        let cell = |_| Cell { head: AtomicU64::new(0), bytes: UnsafeCell::new([0; ALIGN]) };
        Self {
            words: Arc::new(std::array::from_fn(|_| AtomicU64::new(0))),
            cells: Arc::new((0..capacity / ALIGN).map(cell).collect()),
        }
    }

    pub(crate) fn capacity(&self) -> u64 {
        (self.cells.len() * ALIGN) as u64
    }

    pub(crate) fn word(&self, word: Word) -> &AtomicU64 {
        &self.words[word as usize]
    }

    /// The cells of these bytes.
    fn cells(&self, position: u64, length: usize) -> &[Cell] {
        let first = (position % self.capacity()) as usize / ALIGN;
        &self.cells[first..first + length.div_ceil(ALIGN)]
    }

    /// The head here, while nobody may be writing a payload over it.
    fn head(&self, position: u64) -> &AtomicU64 {
        let cell = &self.cells(position, ALIGN)[0];
        cell.bytes.with(|_| ());
        &cell.head
    }

    pub(crate) fn load_head(&self, position: u64) -> u64 {
        self.head(position).load(Ordering::Relaxed)
    }

    pub(crate) fn store_head(&self, position: u64, head: u64) {
        let cell = &self.cells(position, ALIGN)[0];
        cell.bytes.with_mut(|_| ());
        cell.head.store(head, Ordering::Relaxed);
    }

    pub(crate) fn change_head(&self, position: u64, from: u64, to: u64) -> Result<u64, u64> {
        self.head(position).compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
    }

    /// # Safety
    /// Loom looks that nobody else uses these bytes.
    pub(crate) unsafe fn write(&self, position: u64, length: usize, parts: &[&[u8]]) {
        let bytes = parts.concat();
        assert_eq!(bytes.len(), length);
        for (cell, bytes) in self.cells(position, length).iter().zip(bytes.chunks(ALIGN)) {
            // SAFETY: loom has looked.
            cell.bytes.with_mut(|to| unsafe { (&mut *to)[..bytes.len()].copy_from_slice(bytes) });
        }
    }

    /// # Safety
    /// Loom looks that nobody writes these bytes, as long as `work` runs.
    pub(crate) unsafe fn read<R>(&self, position: u64, length: usize, work: impl FnOnce(&[u8]) -> R) -> R {
        let cells = self.cells(position, length);
        // SAFETY: loom has looked.
        let copy = || cells.iter().flat_map(|cell| cell.bytes.with(|from| unsafe { *from })).take(length);
        let answer = work(&copy().collect::<Vec<u8>>());
        cells.iter().for_each(|cell| cell.bytes.with(|_| ()));
        answer
    }
}
