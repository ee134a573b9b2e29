//! What a party can wait for, and what wakes it.

use crate::ids::{ChannelId, ScopeId, SourceId, SpotId, TaskId};
use crate::moment::Moment;

/// One thing to wait for. A wait names one or more; it commits to exactly one of them.
#[derive(Debug)]
pub enum Want<V> {
    /// A moment has come. [`Moment::NEVER`] never does.
    Until(Moment),
    /// Somebody takes this value from the channel, or it has room.
    Send(ChannelId, V),
    /// The channel has a value.
    Receive(ChannelId),
    /// The task has ended.
    End(TaskId),
    /// No task lives in the scope any more.
    Drain(ScopeId),
    /// The source may be readable.
    Readable(SourceId),
    /// The source may be writable.
    Writable(SourceId),
    /// Somebody calls at the spot.
    Called(SpotId),
}

/// What a wait committed to.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<V> {
    /// The moment came.
    Elapsed,
    /// The value was taken, or lies in the channel's buffer.
    Sent,
    /// The value received.
    Received(V),
    /// The channel is closed.
    Closed,
    /// The task ended.
    Ended,
    /// The scope is empty.
    Drained,
    /// The source may be ready, or somebody called: try again.
    Ready,
    /// The source or the spot was taken away while somebody waited for it.
    Gone,
}

/// Why a task has its turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Wake<V> {
    /// Its first turn.
    Start,
    /// It gave way and is due again.
    Turn,
    /// It is cancelled; whatever it waited for has been undone.
    Cancelled,
    /// This want of its wait was met; the others have been undone.
    Event {
        /// Which want, counted from zero.
        branch: u16,
        /// What happened.
        event: Event<V>,
    },
}
