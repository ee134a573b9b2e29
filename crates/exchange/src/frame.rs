//! What exchanges say to each other: bytes in, messages out.
//!
//! A packet is what one message of the socket holds: frames, one behind the other, each with its length in front. A frame
//! is a message and its body: bytes that mean nothing here. A body that is too large travels as a descriptor beside the
//! packet; the message then has the length of its head, and the descriptors come in the order of their frames.
//!
//! Invariants: what the other side wrote is checked before it is believed; whatever it is, the worst that comes of it is an
//! [`Error`]. Nobody but this module knows how a message is written.

use serde::{Deserialize, Serialize};

use crate::address::{Address, TicketId};

/// The version of all of it; both sides have the same.
pub const VERSION: u32 = 1;

/// A packet is never longer.
pub const MAX_PACKET: usize = 128 * 1024;

/// Descriptors beside one packet, at most.
pub(crate) const MAX_DESCRIPTORS: usize = 7;

/// A message without its body is never longer.
const MAX_HEAD: usize = 64;

/// A blob's head is never longer.
const MAX_BLOB_HEAD: u64 = 1 << 40;

const LENGTH: usize = 4;

/// Why a packet was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It ends in the middle.
    #[error("a packet ends in the middle of a frame")]
    CutOff,
    /// There is no such message.
    #[error("a frame is no message")]
    NoMessage,
    /// A message that has no body was followed by something.
    #[error("a message without a body is followed by {length} bytes")]
    Trailing {
        /// How much.
        length: usize,
    },
    /// A number is too large.
    #[error("a head of {length} bytes is too long")]
    TooMuch {
        /// How long it claims to be.
        length: u64,
    },
}

/// From who uses an object to who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first message.
    Hello {
        /// Of the sender.
        version: u32,
        /// Of the sender.
        address: Address,
    },
    /// Asks an object for something. The body is what.
    Ask {
        /// The sender's name for it.
        request: u64,
        /// Which object.
        object: u64,
        /// What is asked.
        verb: u8,
        /// The length of the blob's head, if the body travels as a blob.
        blob: Option<u64>,
    },
    /// It is not wanted any more, nor what was offered for it.
    Withdraw {
        /// Which.
        request: u64,
    },
    /// What was offered is taken.
    Accept {
        /// For which.
        request: u64,
    },
    /// What was offered goes back.
    Decline {
        /// For which.
        request: u64,
    },
    /// Tells an object something that has no answer. The body is what.
    Tell {
        /// Which object.
        object: u64,
        /// What is told.
        verb: u8,
        /// The length of the blob's head, if the body travels as a blob.
        blob: Option<u64>,
    },
    /// The sender has a handle to an object from now on.
    Hold {
        /// Which.
        object: u64,
        /// What has kept it so far.
        ticket: Option<TicketId>,
    },
    /// The sender has one handle less.
    Release {
        /// To which.
        object: u64,
    },
    /// A handle to an object is on its way to somebody.
    Grant {
        /// To which.
        object: u64,
        /// What keeps it.
        ticket: TicketId,
        /// Whether it is used up by the first who shows it.
        once: bool,
    },
    /// It has arrived, or never will.
    Revoke {
        /// To which.
        object: u64,
        /// What has kept it.
        ticket: TicketId,
    },
}

/// From who has an object to who uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// What was asked for is kept for the one who asked, until he takes it or not. The body is it.
    Offer {
        /// For which.
        request: u64,
        /// The length of the blob's head, if the body travels as a blob.
        blob: Option<u64>,
    },
    /// What was asked for is done. The body is what came of it.
    Answer {
        /// Which.
        request: u64,
        /// The length of the blob's head, if the body travels as a blob.
        blob: Option<u64>,
    },
    /// What was asked for is not to be had. The body says more.
    Refuse {
        /// Which.
        request: u64,
        /// Why: a number of the object's kind.
        code: u16,
        /// The length of the blob's head, if the body travels as a blob.
        blob: Option<u64>,
    },
    /// An object tells who uses it something. The body is what.
    Note {
        /// Which object.
        object: u64,
        /// What is told.
        verb: u8,
        /// The length of the blob's head, if the body travels as a blob.
        blob: Option<u64>,
    },
    /// There is no such object any more.
    Unknown {
        /// Which.
        object: u64,
    },
    /// The two are of different versions: nothing more comes.
    OtherVersion {
        /// Of the sender.
        version: u32,
    },
}

/// What postcard cannot know of a message.
pub(crate) trait Message: Copy + Serialize + for<'a> Deserialize<'a> {
    /// The head's length of the blob that the body is, if it is one.
    fn blob(&self) -> Option<u64>;

    /// Whether bytes may follow.
    fn has_body(&self) -> bool;
}

impl Message for Request {
    fn blob(&self) -> Option<u64> {
        match *self {
            Self::Ask { blob, .. } | Self::Tell { blob, .. } => blob,
            _ => None,
        }
    }

    fn has_body(&self) -> bool {
        matches!(self, Self::Ask { .. } | Self::Tell { .. })
    }
}

impl Message for Response {
    fn blob(&self) -> Option<u64> {
        match *self {
            Self::Offer { blob, .. }
            | Self::Answer { blob, .. }
            | Self::Refuse { blob, .. }
            | Self::Note { blob, .. } => blob,
            Self::Unknown { .. } | Self::OtherVersion { .. } => None,
        }
    }

    fn has_body(&self) -> bool {
        !matches!(self, Self::Unknown { .. } | Self::OtherVersion { .. })
    }
}

/// How much room a frame with such a body takes, at most.
pub(crate) fn room(body: usize) -> usize {
    LENGTH + MAX_HEAD + body
}

/// Appends a frame to a packet.
pub(crate) fn write(message: &impl Message, body: &[u8], packet: &mut Vec<u8>) {
    let mut head = [0; MAX_HEAD];
    let head = postcard::to_slice(message, &mut head).expect("MAX_HEAD is enough for every message");
    let length = u32::try_from(head.len() + body.len()).expect("a body that is no blob fits into a packet");
    packet.extend_from_slice(&length.to_le_bytes());
    packet.extend_from_slice(head);
    packet.extend_from_slice(body);
}

/// Takes the first frame from a packet: the message and its body. Nothing: there is none any more.
fn read<'a, M: Message>(packet: &mut &'a [u8]) -> Result<Option<(M, &'a [u8])>, Error> {
    if packet.is_empty() {
        return Ok(None);
    }
    let (length, rest) = packet.split_first_chunk::<LENGTH>().ok_or(Error::CutOff)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (frame, rest) = rest.split_at_checked(length).ok_or(Error::CutOff)?;
    *packet = rest;
    let (message, body) = postcard::take_from_bytes::<M>(frame).map_err(|_| Error::NoMessage)?;
    if !body.is_empty() && (!message.has_body() || message.blob().is_some()) {
        return Err(Error::Trailing { length: body.len() });
    }
    match message.blob() {
        Some(length) if length > MAX_BLOB_HEAD => Err(Error::TooMuch { length }),
        _ => Ok(Some((message, body))),
    }
}

impl Request {
    /// Appends a frame to a packet.
    pub fn write(&self, body: &[u8], packet: &mut Vec<u8>) {
        write(self, body, packet);
    }

    /// Takes the first frame from a packet. Nothing: there is none any more.
    ///
    /// # Errors
    /// What it found is none.
    pub fn read<'a>(packet: &mut &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Error> {
        read(packet)
    }
}

impl Response {
    /// Appends a frame to a packet.
    pub fn write(&self, body: &[u8], packet: &mut Vec<u8>) {
        write(self, body, packet);
    }

    /// Takes the first frame from a packet. Nothing: there is none any more.
    ///
    /// # Errors
    /// What it found is none.
    pub fn read<'a>(packet: &mut &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Error> {
        read(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut packet = Vec::new();
        let ask = Request::Ask { request: u64::MAX, object: u64::MAX, verb: 255, blob: None };
        let address = Address { pid: u32::MAX, nonce: u64::MAX };
        let ticket = TicketId { maker: address, number: u64::MAX };
        let grant = Request::Grant { object: u64::MAX, ticket, once: true };
        ask.write(b"body", &mut packet);
        grant.write(b"", &mut packet);
        let mut rest = &packet[..];
        assert_eq!(Request::read(&mut rest), Ok(Some((ask, &b"body"[..]))));
        assert_eq!(Request::read(&mut rest), Ok(Some((grant, &b""[..]))));
        assert_eq!(Request::read(&mut rest), Ok(None));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let mut packet = Vec::new();
        Response::Answer { request: 7, blob: None }.write(b"body", &mut packet);
        for length in 1..packet.len() {
            assert!(Response::read(&mut &packet[..length]).is_err());
        }
    }

    #[test]
    fn a_message_without_a_body_has_none() {
        let mut packet = Vec::new();
        Request::Release { object: 7 }.write(b"more", &mut packet);
        assert_eq!(Request::read(&mut &packet[..]), Err(Error::Trailing { length: 4 }));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut packet = Vec::new();
        Request::Tell { object: 7, verb: 0, blob: Some(u64::MAX) }.write(b"", &mut packet);
        assert_eq!(Request::read(&mut &packet[..]), Err(Error::TooMuch { length: u64::MAX }));
    }
}
