//! The run loop's behaviour, one module for each, with a host whose bodies are closures.

mod endings;
mod fairness;
mod rig;
mod stuck;
mod time;
mod wakes;
mod world;
