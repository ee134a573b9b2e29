//! Sockets and descriptors: what is tried first, and waited for when it would block.
//!
//! A `socket` does its system calls by `verbs`, which are operations; `stream` reads with a buffer and a limit. `poll` waits
//! for any `descriptor`. `buffer` is what Python gives to send from or receive into, `scratch` the one place that a thread
//! receives into first.

pub(crate) mod buffer;
pub(crate) mod descriptor;
pub(crate) mod poll;
pub(crate) mod scratch;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod verbs;
