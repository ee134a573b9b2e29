//! What the tests control: chance, the operating system's reports, and how many values live. A development
//! dependency only.
//!
//! - [`Chance`] makes the choices of a random program, the same ones for the same seed.
//! - [`ScriptedPoller`] says what a script says where the operating system would, and never sleeps.
//! - [`Counter`] counts the [`Counted`] values of one test: what went in has to come out, once.
//!
//! Time is not here: moments are arguments of the kernel, and the runtime has a virtual clock of its own.

mod chance;
mod counted;
mod poller;

pub use chance::Chance;
pub use counted::{Counted, Counter};
pub use poller::{ScriptedPoller, hung_up, readable, writable};
