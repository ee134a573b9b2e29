//! The kernel's behaviour, one module for each. Every call of the kernel goes through [`rig::Rig`], which sees to it
//! that the kernel drops nothing and that nothing is left over at the end.

mod channels;
mod elsewhere;
mod ends;
mod keys;
mod parking;
mod rig;
mod runners;
mod scopes;
mod selects;
mod sources;
mod spots;
mod threads;
mod timers;
mod turns;
mod views;
mod visitors;
