//! What the kernel carries for Python, and the one world of the process.

use std::sync::LazyLock;

use pyo3::prelude::*;
use thistledown_kernel::Payload;
use thistledown_reactor::Waker as ReactorWaker;
use thistledown_runtime::{ParkerWaker, Wakes, World};

use crate::foreign::Abroad;
use crate::operation::Operation;
use crate::root::Root;
use crate::stop::Stop;
use crate::switch::Switches;
use crate::task::Task;

/// A weightless task's body and what belongs to it while it lives. It stands in a box, because it goes to and fro between
/// the kernel and each turn.
pub(crate) struct Body {
    /// The generator, coroutine or iterator that has its turns.
    pub(crate) iterator: Root,
    pub(crate) task: Py<Task>,
    pub(crate) context: Root,
    /// What it waits for.
    pub(crate) awaited: Option<Py<Operation>>,
    pub(crate) extra: Option<Box<Extra>>,
}

/// What few tasks have.
#[derive(Default)]
pub(crate) struct Extra {
    /// The group that answers for it.
    pub(crate) group: Option<Py<PyAny>>,
    /// Where its control went by `switch`, once it did.
    pub(crate) switches: Option<Box<Switches>>,
    /// What it has of the loop's that its run is a guest of.
    pub(crate) abroad: Option<Box<Abroad>>,
}

/// How sleepers are woken, and what runs elsewhere is stopped.
#[derive(Clone)]
pub(crate) enum Waker {
    Runner(ReactorWaker),
    Thread(ParkerWaker),
    /// What runs elsewhere is told to stop.
    Stop(Stop),
    /// A thread that has scopes open, and does not wait.
    Nobody,
}

impl Wakes for Waker {
    fn wake(&self) {
        match self {
            Self::Runner(waker) => waker.wake(),
            Self::Thread(waker) => waker.wake(),
            Self::Stop(stop) => stop.wake(),
            Self::Nobody => {}
        }
    }
}

/// Python, as the kernel's payload.
pub(crate) enum Snake {}

impl Payload for Snake {
    type Body = Box<Body>;
    type Value = Py<PyAny>;
    type Waker = Waker;
}

/// The kernel of this process.
pub(crate) static WORLD: LazyLock<World<Snake>> = LazyLock::new(World::default);
