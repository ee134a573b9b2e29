//! Objects of one process, used from others.
//!
//! An [`Exchange`] is a process's door: it has objects for other processes of the same user on the same machine, and uses
//! theirs. It is one listening socket, connections that are made on first use, and one thread, all of which are there only
//! while they are needed.
//!
//! # Having an object
//! Implement [`Object`], and give it to [`Exchange::publish`]. The [`Handle`] that comes back keeps it; its [`ObjectId`] is
//! what other processes need ([`ObjectId::to_bytes`], for a pickle, a file, or a frame).
//!
//! - Somebody *asks* it: [`Object::asked`] with a [`RequestId`], a verb (a number of the object's own kind) and a body (a
//!   parcel). It answers through the [`Post`], at once or at any later time: `post.answer`, `post.refuse`, or `post.offer`.
//! - An *offer* is for what only one may have. The object reserves it (a tuple, a value, a slot) and offers it; who asked
//!   commits to it, or not, in his own process, with everything else that he waits for; then the object hears
//!   [`accepted`](Object::accepted) or [`declined`](Object::declined). So a select over objects of several processes
//!   commits to exactly one. Who dies before he has accepted has declined.
//! - [`withdrawn`](Object::withdrawn): who asked does not wait any more (and nothing was offered to him).
//! - Somebody *tells* it something that has no answer: [`Object::told`]. The object *notes* something to a process that has a
//!   handle: `post.note`, heard by its [`Listener`].
//! - [`attached`](Object::attached) and [`detached`](Object::detached): a process has its first handle, or none any more.
//!
//! Calls for one process come in the order in which that process made them. An object has a lock of its own; the post is
//! filled while it is held, and dropped after: `let mut post = exchange.post(); { let mut state = self.lock(); state.step(&mut
//! post) }`. In the calls above the post is the caller's, and this is seen to.
//!
//! # Using an object
//! [`Exchange::hold`] makes a handle of an `ObjectId`, in any process, also the owner's own. Then
//! [`Handle::ask`]`(verb, body, waiter)` gives an [`Asked`]: keep it while you wait. The waiter is [`told`](Waiter::told)
//!
//! - [`Told::Offer`]: if the wait still stands, commit it and call [`Asked::accept`]; if it does not, drop the `Asked`;
//! - [`Told::Answer`], [`Told::Refusal`]: it is over;
//! - [`Told::Broken`]: the owner's process is gone, or has no such object any more. It is over. What was asked may or may
//!   not have been done: ask the next owner again under an operation id of your own, if that matters.
//!
//! Dropping the `Asked` is the undo: it withdraws, or declines what was offered, whichever it is by then.
//! [`Handle::ask_to_hear`] is for a thread that may sleep, and has the last word. In the owner's own process all of this is a call of the
//! object in the same thread; nothing is written anywhere.
//!
//! A wait of the kernel's stands at a spot: the waiter keeps what it was told and calls the spot
//! (`Kernel::call`); the operation looks at what was kept when it attempts and concludes, accepts then, and drops the `Asked`
//! when it is released. So a value that was offered is accepted by the very step that gives it to the task.
//!
//! # Who keeps an object
//! It is kept by handles, of any process, and by tickets. A handle that is sent needs a ticket: [`Handle::ticket`], used up by
//! the first who shows it to [`Exchange::hold`], or [`Handle::lasting_ticket`], which is good until it is dropped (for the
//! arguments of a task, until that has ended). A process that dies has dropped its handles. An exchange ends, with its thread,
//! when nothing of it is kept: so hold on to an [`Exchange`] or a [`Handle`], and keep a [`WeakExchange`] in a static.
//!
//! # Forks
//! A forked child has copies that it must not use. `let fds = exchange.connections()` before the fork; in the child
//! [`Exchange::desert`], and close all of these. From then on everything fails with [`Broken::Forked`], and no drop does anything.
//!
//! # What this is not
//! It knows of no kernel and no Python, and of no message's meaning but its own. It is for one machine and one user: who
//! connects is checked by the system's word for who he is. Nothing is kept anywhere when a process dies.
//!
//! Invariants: what another process wrote is checked before it is believed ([`frame`]); one that says what it must not is
//! disconnected. No lock of the exchange is held while an object, a waiter or a listener is called. What one process says to
//! another arrives in order, and all that the system has taken arrives before the news of its end.

mod address;
mod asked;
pub mod channel;
mod connection;
mod core;
mod desk;
mod exchange;
mod former;
pub mod frame;
mod handle;
mod link;
mod object;
mod tables;
mod thread;

pub use address::{Address, ObjectId, Party, TicketId};
pub use asked::{Asked, Hearing};
#[cfg(loom)]
pub use channel::modelled;
pub use desk::{Told, Waiter};
pub use exchange::{Exchange, WeakExchange};
pub use handle::{Handle, Ticket};
pub use link::Listener;
pub use object::{Object, Post, RequestId};
pub use thistledown_parcel::{Parcel, Word};

/// Why an object cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// The process that had it is gone.
    #[error("process {pid}, which had it, is gone")]
    Gone {
        /// Which.
        pid: u32,
    },
    /// The process is there, and has it no more: nobody kept it.
    #[error("process {pid} has it no more: nobody there or elsewhere kept it")]
    NoObject {
        /// Which.
        pid: u32,
    },
    /// The process runs another version of this library.
    #[error("process {pid} runs another version of thistledown")]
    OtherVersion {
        /// Which.
        pid: u32,
    },
    /// This process was forked from the one that used it.
    #[error("it belongs to the process that this one was forked from")]
    Forked,
    /// The system has no descriptor or no memory for a connection.
    #[error("there is no connection to its process: system error {code}")]
    System {
        /// The system's number for why.
        code: i32,
    },
}
