//! Where the kernel, the reactor, clocks and threads meet. Nothing else names two of them.
//!
//! - [`World`] is the one kernel of a process behind its one lock; what the kernel wants done outside is done here,
//!   after the lock is released.
//! - [`run`] is a runner's loop: turns, polls, timers, sleep.
//! - [`SharedSpace`] is a space whose waiters wait in that kernel.
//! - [`Pending`] is what happens in such a space once it is written down.
//! - [`visit`] is the same a piece at a time, for a runner that is a guest of another event loop.
//! - [`Parker`] is how a plain thread sleeps.
//! - [`Watchdog`] sees a turn that does not end; it needs neither the loop nor the lock.
//!
//! It knows nothing of Python: what gives a turn is a [`Host`].

mod clock;
mod durable;
mod lock;
mod outcome;
mod parker;
mod run;
mod space;
mod sync;
mod visit;
mod watchdog;
mod world;

pub use clock::Clock;
pub use durable::{Look, Pending};
pub use lock::{Guard, Lock};
pub use outcome::Recalled;
pub use parker::{Parked, Parker, ParkerWaker};
pub use run::{Flow, Host, Rest, run};
pub use space::{AtSpace, Far, Name, SharedSpace};
pub use visit::visit;
pub use watchdog::{Progress, Stall, Watchdog, Watched};
pub use world::{Wakes, World};
