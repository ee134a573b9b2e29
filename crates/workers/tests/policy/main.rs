//! The rules of the policy, a module for each kind. Every event goes through [`rig::Rig`], which holds what the policy
//! asks for against books of its own.

mod actors;
mod closing;
mod deadlocks;
mod deaths;
mod floor;
mod keys;
mod kinds;
mod nested;
mod order;
mod prefetch;
mod properties;
mod rig;
mod scale;
mod starts;
mod stopping;
