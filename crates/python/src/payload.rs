//! What the kernel carries for Python, and the one world of the process.
#![allow(unsafe_code, reason = "bodies stand in the interpreter's memory, which is a table for small things")]

use std::alloc::{Layout, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::LazyLock;

use pyo3::ffi;
use pyo3::prelude::*;
use thistledown_kernel::Payload;
use thistledown_reactor::Waker as ReactorWaker;
use thistledown_runtime::{ParkerWaker, Wakes, World};

use crate::actor::message::Message;
use crate::asyncio::foreign::Abroad;
use crate::operation::Operation;
use crate::root::Root;
use crate::stop::Stop;
use crate::switch::Switches;
use crate::task::Task;

/// A weightless task's body and what belongs to it while it lives.
pub(crate) struct Body {
    /// The generator, coroutine or iterator that has its turns.
    pub(crate) iterator: Root,
    pub(crate) task: Py<Task>,
    pub(crate) context: Root,
    /// What it waits for.
    pub(crate) awaited: Option<Py<Operation>>,
    /// The group that answers for it.
    pub(crate) group: Option<Py<PyAny>>,
    pub(crate) extra: Option<Box<Extra>>,
}

/// A body in its box, because it goes to and fro between the kernel and each turn.
///
/// The box is of the interpreter's memory: many thousands of them are made before the first is let go, which a general
/// allocator takes several times as long for.
pub(crate) struct Held(NonNull<Body>);

// SAFETY: like a box, it owns what it points to.
unsafe impl Send for Held where Body: Send {}

impl Held {
    pub(crate) fn new(_py: Python<'_>, body: Body) -> Self {
        // SAFETY: attached; the interpreter aligns small things to two words, which is enough, and the memory is ours.
        unsafe {
            let place = NonNull::new(ffi::PyObject_Malloc(size_of::<Body>()).cast::<Body>());
            let place = place.unwrap_or_else(|| handle_alloc_error(Layout::new::<Body>()));
            place.write(body);
            Self(place)
        }
    }

    /// Lets go of it, which a drop does too, without asking first whether the thread is attached.
    pub(crate) fn let_go(self, py: Python<'_>) {
        let this = ManuallyDrop::new(self);
        // SAFETY: it is read once, and its memory given back once; attached.
        let body = unsafe {
            let body = this.0.read();
            ffi::PyObject_Free(this.0.as_ptr().cast());
            body
        };
        let Body { iterator, task, context, awaited, group, extra } = body;
        iterator.let_go(py);
        task.drop_ref(py);
        context.let_go(py);
        if let Some(operation) = awaited {
            operation.drop_ref(py);
        }
        if let Some(group) = group {
            group.drop_ref(py);
        }
        drop(extra);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let this = Self(self.0);
        Python::attach(|py| this.let_go(py));
    }
}

impl Deref for Held {
    type Target = Body;

    #[inline]
    fn deref(&self) -> &Body {
        // SAFETY: a body, until this is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for Held {
    #[inline]
    fn deref_mut(&mut self) -> &mut Body {
        // SAFETY: as above, and this is borrowed for it.
        unsafe { self.0.as_mut() }
    }
}

const _: () = assert!(align_of::<Body>() <= 16, "more than the interpreter's memory is aligned to");

/// What few tasks have.
#[derive(Default)]
pub(crate) struct Extra {
    /// Where its control went by `switch`, once it did.
    pub(crate) switches: Option<Box<Switches>>,
    /// What it has of the loop's that its run is a guest of.
    pub(crate) abroad: Option<Box<Abroad>>,
    /// The message to an actor that has become this body.
    pub(crate) message: Option<Py<Message>>,
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
    type Body = Held;
    type Value = Py<PyAny>;
    type Waker = Waker;
}

/// The kernel of this process.
pub(crate) static WORLD: LazyLock<World<Snake>> = LazyLock::new(World::default);
