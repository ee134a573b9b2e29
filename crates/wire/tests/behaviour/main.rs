//! What lanes and messages do, one file a behaviour.

mod corruption;
mod frames;
mod messages;
mod revoking;
#[path = "../rig/mod.rs"]
mod rig;
mod ringing;
mod threads;
