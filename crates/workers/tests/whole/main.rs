//! The engine as a whole, without Python: real processes, real deaths, and a customer that keeps what it is told.
//!
//! Each test is a scene on a [`stage`](stage::play), with an engine whose zygote is this same test binary
//! ([`zygote`]) and whose workers ([`worker`]) know a few functions by name. One of them is the *puppet*
//! ([`puppet`]): a task that calls the test and does what it is told there, so that a scene never has to guess how far
//! a worker has come, nor sleep until it has.
//!
//! Scenes are played one at a time, also when tests run as threads of one process: after each the threads, descriptors
//! and processes are counted.

mod blobs;
mod cancels;
mod closing;
mod deaths;
mod jobs;
mod lanes;
mod limits;
mod nested;
mod packets;
mod puppet;
mod scarcity;
mod stage;
mod weightless;
mod worker;
mod zygote;
mod zygotes;
