//! Frames as they leave and enter a process: a message, its body, and the blobs that it names.
//!
//! A blob takes another way than the frame that names it, through a socket, and goes first: who has the frame never waits
//! for the blob. So whatever is sent keeps one order, here and nowhere else: there is room in the lane, the blobs are
//! passed, the frame is pushed. What fails before the push has said nothing; a blob may be on its way all the same, and
//! is dropped by whoever looks for another.
//!
//! Not here: who is woken when, and what becomes of what finds no room.

use std::io;

use thistledown_wire::{Error, Position, Receiver, Sender};

use crate::blob::Blob;
use crate::tag::Tag;

/// A lane on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    lane: Sender,
    /// The message of the frame at hand. Kept, so that a frame costs no memory.
    message: Vec<u8>,
}

impl Outgoing {
    pub(crate) fn new(lane: Sender) -> Self {
        Self { lane, message: Vec::new() }
    }

    /// Sends a frame of a message and the parts of its body; `pass` sends the blobs on their way before that.
    ///
    /// # Errors
    /// There is no room in the lane now (`WouldBlock`), and nothing was done; the frame is too long; or what `pass` says.
    pub(crate) fn send(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>),
        [first, second]: [&[u8]; 2],
        blobs: &[(Tag, &Blob)],
        mut pass: impl FnMut(Tag, &Blob) -> io::Result<()>,
    ) -> io::Result<Position> {
        self.message.clear();
        encode(&mut self.message);
        self.lane.check_room(self.message.len() + first.len() + second.len()).map_err(garbled)?;
        for (tag, blob) in blobs {
            pass(*tag, blob)?;
        }
        self.lane.push(&[&self.message, first, second]).map_err(garbled)
    }

    /// Takes a frame back. True: the other side has not begun with it, and never will.
    pub(crate) fn revoke(&mut self, position: Position) -> bool {
        self.lane.revoke(position)
    }

    /// Whether the other side sleeps and is to be rung for.
    pub(crate) fn must_ring(&self) -> bool {
        self.lane.must_ring()
    }
}

/// Takes the next frame of a lane: its message and its body.
pub(crate) fn next<M, B: for<'a> From<&'a [u8]>>(
    lane: &mut Receiver,
    decode: impl for<'a> Fn(&'a [u8]) -> Result<(M, &'a [u8]), Error>,
) -> io::Result<Option<(M, B)>> {
    let taken = lane.next(|frame| decode(frame).map(|(message, body)| (message, body.into())));
    taken.map_err(garbled)?.transpose().map_err(garbled)
}

/// What is wrong with a frame or a lane, for the system's errors beside which it stands.
fn garbled(error: Error) -> io::Error {
    match error {
        Error::Full => io::ErrorKind::WouldBlock.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
