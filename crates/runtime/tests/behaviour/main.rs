//! The run loop's behaviour, one module for each, with a host whose bodies are closures.

#![allow(unsafe_code, reason = "a descriptor is watched by its number")]

mod asked_again;
mod endings;
mod fairness;
mod rig;
mod stuck;
mod time;
mod visits;
mod wakes;
mod world;
