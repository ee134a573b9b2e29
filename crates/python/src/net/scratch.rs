//! Scratch memory: one buffer a thread, lent for one receive, so that a socket that waits holds none.

use std::cell::Cell;

/// A buffer larger than this is not kept.
const KEPT_BYTES: usize = 256 * 1024;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Does something with a buffer of so many bytes, whose contents mean nothing.
pub(crate) fn with<T>(bytes: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = SCRATCH.take();
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    let result = work(&mut buffer[..bytes]);
    if buffer.len() <= KEPT_BYTES {
        SCRATCH.set(buffer);
    }
    result
}
