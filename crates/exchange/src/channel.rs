//! Channels between processes, as two pure state machines that talk to each other.
//!
//! The [`Machine`] is the channel, in the process that owns it: the buffer, who waits for values and who for slots, and
//! what was given out. Each process that uses the channel, the owner's own too, has a [`Port`]: who waits there, and
//! what it was given. A receiver's port is *lent* a value and says that it was *taken* when a wait has committed to it; a
//! sender's port is *granted* a slot, and the value follows when a wait has committed to that. So a select commits in its
//! own process alone, and what a process had not taken is the channel's again when that process is gone.
//!
//! A port that sends on and on is granted slots ahead, so that it need not ask for each; when another port waits for one they
//! are recalled. Values are lent to who waits alone: what lay ahead with one process, and came back, would be received
//! behind what others were given meanwhile.
//!
//! A port knows for how many it has asked, to the last one. Who gives up may cross with what was on its way to him, so the
//! channel answers for how many it was in time: a port that is thought to wait would stand in others' way.
//!
//! Values are taken from a port in the order in which they were lent to it. What comes back goes to where it stood.

mod machine;
mod port;

pub use machine::{Act, Given, Machine};
pub use port::{End, Now, Port, Say};
