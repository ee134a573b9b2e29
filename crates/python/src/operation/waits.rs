//! The waits of operations: what each kind wants from the kernel, what it makes of the event that has met a want, and what
//! it lets go of when the wait is over.
//!
//! A wait ends by exactly one of these: an event that is concluded, one that is given back as nobody is there any more, or
//! none. After each of them comes the release. A want may be said again while it stands: it is still one wait.
//!
//! What it is not: it tries nothing before it waits, and does not know who waits; that is the awaiter's (`super`).

use std::sync::atomic::Ordering;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rustix::io::Errno;
use smallvec::SmallVec;
use thistledown_kernel::{Direction, Event, Want};

use super::{Kind, Operation, WAITING};
use crate::current::{Current, Run};
use crate::errors;
use crate::payload::WORLD;

/// Where an operation is waited for, and what it wants there.
pub(crate) struct Wants<'a> {
    /// The run whose task waits; a plain thread has none.
    pub(crate) run: Option<&'a Run>,
    pub(crate) list: SmallVec<[Want<Py<PyAny>>; 2]>,
    /// What a plain thread has to watch itself: a descriptor, and the want that stands for it.
    pub(crate) watched: Vec<(i32, Direction, u16)>,
    /// Somebody in another process may have to do something first, for which there has to be a worker.
    pub(crate) needs_others: bool,
}

impl<'a> Wants<'a> {
    pub(crate) fn new(run: Option<&'a Run>) -> Self {
        Self { run, list: SmallVec::new(), watched: Vec::new(), needs_others: false }
    }

    pub(crate) fn push(&mut self, want: Want<Py<PyAny>>) {
        self.list.push(want);
    }

    /// A descriptor for the thread to watch, and what the kernel can say of it.
    pub(crate) fn watch(&mut self, fd: i32, direction: Direction, want: Want<Py<PyAny>>) {
        let branch = u16::try_from(self.list.len()).unwrap_or(u16::MAX);
        self.watched.push((fd, direction, branch));
        self.list.push(want);
    }
}

impl Operation {
    /// What it wants from the kernel. Says so even if it could be attempted.
    pub(crate) fn want(&self, py: Python<'_>, wants: &mut Wants<'_>) -> PyResult<()> {
        match &self.kind {
            Kind::Sleep(sleep) => wants.push(Want::Until(sleep.until())),
            Kind::After(moment) => wants.push(Want::Until(*moment)),
            Kind::Send(channel, value) => match channel.get().shared() {
                None => wants.push(Want::Send(channel.get().id, value.clone_ref(py))),
                Some(shared) => {
                    wants.needs_others = true;
                    shared.want(py, self.address(), Some(value), wants)?;
                }
            },
            Kind::Receive(channel) => match channel.get().shared() {
                None => wants.push(Want::Receive(channel.get().id)),
                Some(shared) => {
                    wants.needs_others = true;
                    shared.want(py, self.address(), None, wants)?;
                }
            },
            Kind::Join(task) => wants.push(Want::End(task.get().id())),
            Kind::Drain(scope) => wants.push(Want::Drain(scope.get().id()?)),
            Kind::Socket(operation) => operation.want(wants)?,
            Kind::Poll(poll) => poll.want(wants)?,
            Kind::Select(select) => select.want(py, wants)?,
            Kind::Thread(call) => call.want(py, wants)?,
            Kind::Space(operation) => {
                wants.needs_others = true;
                operation.want(wants);
            }
            Kind::Heard(heard) => {
                wants.needs_others = true;
                wants.push(Want::End(heard.pledge.get().id()));
            }
            Kind::Switch(_) => return Err(errors::misuse("`switch` works inside a weightless task only")),
        }
        Ok(())
    }

    /// One of its wants was met. Nothing comes back when it has to be waited for again.
    pub(crate) fn conclude(
        &self,
        py: Python<'_>,
        branch: u16,
        event: Event<Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        match (&self.kind, event) {
            (Kind::Select(select), event) => select.conclude(py, branch, event),
            (Kind::Space(operation), _) => operation.attempt(py),
            (Kind::Heard(heard), _) => heard.attempt(py),
            (_, Event::Received(value)) => Ok(Some(value)),
            (Kind::Send(channel, value), Event::Closed | Event::Ready | Event::Gone)
                if channel.get().shared().is_some() =>
            {
                channel.get().conclude_shared(py, self.address(), Some(value))
            }
            (Kind::Receive(channel), Event::Closed | Event::Ready | Event::Gone)
                if channel.get().shared().is_some() =>
            {
                channel.get().conclude_shared(py, self.address(), None)
            }
            (_, Event::Closed) => Err(errors::channel_closed(py, "the channel is closed")),
            (_, Event::Gone) => Err(closed_descriptor()),
            (Kind::Join(_) | Kind::Thread(_), _) => self.conclude_end(py),
            (Kind::Socket(_) | Kind::Poll(_), _) => Ok(self.attempt(py)?),
            (_, Event::Elapsed | Event::Sent | Event::Drained | Event::Ended | Event::Ready) => {
                Ok(Some(py.None()))
            }
        }
    }

    /// The task has ended, or somebody's wait for it can never end.
    fn conclude_end(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.attempt(py) {
            Ok(Some(value)) => Ok(Some(value)),
            // Everybody who waits for it looks, when the wait of one can never end.
            Ok(None) if self.is_for_remote() => match self.deadlock() {
                Some(words) => Err(errors::deadlock(py, words)),
                None => Ok(None),
            },
            Ok(None) => Err(errors::misuse("the run of the task was given up before the task had ended")),
            // It was taken back, as nobody can wait for it.
            Err(error) => Err(self.deadlock().map_or(error.into(), |words| errors::deadlock(py, words))),
        }
    }

    /// Whether it waits for the end of a task in another process.
    fn is_for_remote(&self) -> bool {
        matches!(&self.kind, Kind::Join(task) if task.get().is_remote())
    }

    /// One of its wants was met, and nobody is there any more to be given what came: a value goes back to its channel.
    pub(crate) fn give_back(&self, branch: u16, event: Event<Py<PyAny>>) {
        match (&self.kind, event) {
            (Kind::Select(select), event) => select.give_back(branch, event),
            (Kind::Receive(channel), Event::Received(value)) => {
                let channel = channel.get().id;
                WORLD.with(|kernel| kernel.give_back(channel, value));
            }
            _ => {}
        }
    }

    /// Whether it waits for the end of a group's tasks.
    pub(crate) fn is_for_group(&self) -> bool {
        matches!(&self.kind, Kind::Drain(_))
    }

    /// Whether it waits for tasks that are to end: their group is not left before they have.
    pub(crate) fn is_for_cancelled_group(&self) -> bool {
        matches!(&self.kind, Kind::Drain(scope) if scope.get().is_cancelled())
    }

    /// Says that the wait of this task is over, if that was for a task in another process. What it is to be told, if it
    /// could never have ended.
    pub(super) fn deadlock(&self) -> Option<String> {
        match (&self.kind, Current::task()) {
            (Kind::Join(task), Some(waiting)) if task.get().is_remote() => task.get().unbinds(waiting),
            _ => None,
        }
    }

    /// Whether it waits for nothing but what this process can bring about: a channel or a space in memory that no other
    /// process has.
    pub(crate) fn is_own(&self) -> bool {
        match &self.kind {
            Kind::Send(channel, _) | Kind::Receive(channel) => channel.get().shared().is_none(),
            Kind::Space(operation) => operation.is_own(),
            Kind::Select(select) => select.is_own(),
            _ => false,
        }
    }

    /// There is no time to wait: what is there now is to be had by one attempt, also if it is elsewhere.
    pub(crate) fn hurry(&self) {
        match &self.kind {
            Kind::Space(operation) => operation.hurry(),
            Kind::Select(select) => select.hurry(),
            _ => {}
        }
    }

    /// The wait is over, however it ended.
    pub(crate) fn release(&self) {
        match &self.kind {
            Kind::Sleep(sleep) => sleep.release(),
            Kind::Socket(operation) => operation.release(),
            Kind::Poll(poll) => poll.release(),
            Kind::Thread(call) => call.release(),
            Kind::Space(operation) => operation.release(),
            Kind::Select(select) => select.release(),
            Kind::Send(channel, _) | Kind::Receive(channel) => {
                if let Some(shared) = channel.get().shared() {
                    shared.release(self.address());
                }
            }
            _ => {}
        }
    }

    /// What a wait of it is known by at a shared channel: each wait has an operation of its own.
    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Nobody refers to it any more: a wait at a shared channel that nobody ended is over.
    #[inline(always)]
    pub(crate) fn end_wait(&self) {
        if self.phase.load(Ordering::Relaxed) == WAITING {
            self.end_far_wait();
        }
    }

    #[cold]
    fn end_far_wait(&self) {
        if let Kind::Send(..) | Kind::Receive(_) = &self.kind {
            self.release();
        }
    }
}

fn closed_descriptor() -> PyErr {
    PyOSError::new_err((Errno::BADF.raw_os_error(), "the socket was closed while it was waited for"))
}
