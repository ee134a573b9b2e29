//! At home in asyncio: a run is the guest of an event loop, and nothing of the loop's is patched.
//!
//! A `guest` lives in each loop that needs one (`loops`), its tasks in its `rooms`, and a `lodger` gives them their turns
//! when the loop has a round for them. `awaiting` is what an asyncio task does that awaits something of ours, `visitor`
//! what is known of one that has a scope of ours open, and `foreign` how a weightless task awaits what is asyncio's.

pub(crate) mod awaiting;
pub(crate) mod foreign;
pub(crate) mod guest;
pub(crate) mod lodger;
pub(crate) mod loops;
pub(crate) mod rooms;
pub(crate) mod visitor;
