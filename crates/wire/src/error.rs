//! What can go wrong on the wire.

/// Why a frame was not taken, or what came is not what was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The lane has no room now. It will, when the receiver has gone on.
    #[error("the lane is full")]
    Full,
    /// The frame would never fit.
    #[error("a frame of {length} bytes is longer than the {limit} bytes that a lane takes at once")]
    TooLong {
        /// Of all its parts.
        length: usize,
        /// See [`max_frame`](crate::max_frame).
        limit: usize,
    },
    /// The other side wrote what no right one writes into the lane's own words. Nothing more can be read here.
    #[error("the lane is corrupt: {found:#x} at position {position}")]
    Corrupt {
        /// How far this side had come.
        position: u64,
        /// A frame's head, or the other side's position.
        found: u64,
    },
    /// The bytes end inside a message.
    #[error("the message is cut off")]
    CutOff,
    /// The bytes are no message of this version.
    #[error("these bytes are no message")]
    NoMessage,
    /// A body where none may be.
    #[error("the message has no body, but {length} bytes follow it")]
    Trailing {
        /// How many.
        length: usize,
    },
    /// A length that a message gives is above its limit.
    #[error("a length of {length} bytes is above the limit of {limit}")]
    TooMuch {
        /// What it says.
        length: u64,
        /// What it may say at most.
        limit: u64,
    },
}
