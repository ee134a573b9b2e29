//! The standard error of a worker: a pipe that is read to be passed on, and whose end is kept for an obituary.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is kept.
const KEPT_BYTES: usize = 8 * 1024;

/// How much is read at a time: what a pipe holds, mostly.
const READ_BYTES: usize = 64 * 1024;

/// What a worker wrote to its standard error.
#[derive(Debug)]
pub(crate) struct Stderr {
    /// Nothing when all who could write there are gone.
    pipe: Option<OwnedFd>,
    tail: VecDeque<u8>,
}

impl Stderr {
    /// Of a pipe whose reads do not block.
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe), tail: VecDeque::new() }
    }

    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what was written, into `all` too. False: there may be more.
    pub(crate) fn read(&mut self, all: &mut Vec<u8>) -> bool {
        let mut bytes = [0; READ_BYTES];
        let Some(pipe) = &self.pipe else { return true };
        match rustix::io::read(pipe, &mut bytes) {
            Ok(0) => self.pipe = None,
            Ok(length) => {
                all.extend(&bytes[..length]);
                self.tail.extend(&bytes[..length]);
                let excess = self.tail.len().saturating_sub(KEPT_BYTES);
                self.tail.drain(..excess);
                return length < bytes.len();
            }
            Err(_) => {}
        }
        true
    }

    /// The end of it.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.tail.make_contiguous()).into_owned()
    }
}
