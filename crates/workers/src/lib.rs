//! Worker processes: who of them runs what, and when one is started, stopped or killed.
//!
//! The decisions are in [`policy`], a pure state machine.

pub mod policy;
