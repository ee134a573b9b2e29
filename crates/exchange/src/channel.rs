//! Channels between processes, as two pure state machines that talk to each other.
//!
//! The [`Machine`] is the channel, in the process that owns it: the buffer, who waits for values and who for slots, and
//! what was given out. Each process that uses the channel, the owner's own too, has a [`Port`]: who waits there, and
//! what it was given. A receiver's port is *lent* a value and says that it was *taken* when a wait has committed to it; a
//! sender's port is *granted* a slot, and the value follows when a wait has committed to that. So a select commits in its
//! own process alone, and what a process had not taken is the channel's again when that process is gone.
//!
//! A port that sends on and on is granted slots ahead, so that it need not ask for each; when another port waits for one they
//! are recalled.
//!
//! A port that receives on and on, alone, is lent values ahead: it asks for many at a time, and need not say which it has
//! taken, as that stands in a word that it shares with the channel (`claims`). When another port waits for a value, what the
//! first has not taken is *revoked*: it is the channel's again in that moment, where it stood, so that all is as if it
//! had never left. The owner's own port is lent nothing ahead: it need not go far.
//!
//! A port knows for how many it has asked, to the last one. Who gives up may cross with what was on its way to him, so the
//! channel answers for how many it was in time: a port that is thought to wait would stand in others' way.
//!
//! Values are taken from a port in the order in which they were lent to it. What comes back goes to where it stood.

#[cfg_attr(not(loom), allow(unreachable_pub, reason = "models reach it, and nobody else"))]
mod claims;
mod line;
mod machine;
mod port;
mod queue;
mod side;
pub mod speech;

/// For models.
#[cfg(loom)]
pub mod modelled {
    pub use super::claims::{Claimed, Claims};
}

pub use machine::{Act, Given, Machine};
pub use port::{End, Now, Port, Say};

/// So many values or slots lie ahead with a process, at most.
const WINDOW: usize = 32;
