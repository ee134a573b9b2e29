//! The kinds of operations: what each holds, how another like it is made, and how it is let go of.
//!
//! What it is not: it waits for nothing. What each wants for that is in `waits`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use thistledown_kernel::Moment;

use crate::channel::Channel;
use crate::current::Run;
use crate::net::poll::RawPoll;
use crate::net::verbs::SocketOperation;
use crate::pledge::Heard;
use crate::scope::Scope;
use crate::select::Select;
use crate::space::wait::SpaceOperation;
use crate::switch::Switch;
use crate::task::Task;
use crate::thread_call::ThreadCall;

/// What an operation waits for.
pub(crate) enum Kind {
    Sleep(Sleep),
    After(Moment),
    Send(Py<Channel>, Py<PyAny>),
    Receive(Py<Channel>),
    Join(Py<Task>),
    Drain(Py<Scope>),
    Socket(Box<SocketOperation>),
    Poll(Box<RawPoll>),
    Select(Select),
    Thread(Box<ThreadCall>),
    Switch(Box<Switch>),
    Space(Box<SpaceOperation>),
    Heard(Box<Heard>),
}

impl Kind {
    /// Lets go of what it holds. The common kinds do it without asking first whether the thread is attached.
    #[inline]
    pub(crate) fn drop_refs(self, py: Python<'_>) {
        match self {
            Self::Sleep(_) | Self::After(_) => {}
            Self::Send(channel, value) => {
                channel.drop_ref(py);
                value.drop_ref(py);
            }
            Self::Receive(channel) => channel.drop_ref(py),
            Self::Join(task) => task.drop_ref(py),
            rarer => {
                // Outside of a call of PyO3's what they hold would be let go at the next one only. An interpreter that
                // ends does not attach anybody, and needs nothing to be let go.
                let mut rarer = Some(rarer);
                Python::try_attach(|_| drop(rarer.take()));
            }
        }
    }

    /// Another one like it, for a wait at the same time.
    pub(super) fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        Ok(match self {
            Self::Sleep(sleep) => Self::Sleep(sleep.copy()),
            Self::After(moment) => Self::After(*moment),
            Self::Send(channel, value) => Self::Send(channel.clone_ref(py), value.clone_ref(py)),
            Self::Receive(channel) => Self::Receive(channel.clone_ref(py)),
            Self::Join(task) => Self::Join(task.clone_ref(py)),
            Self::Drain(scope) => Self::Drain(scope.clone_ref(py)),
            Self::Socket(operation) => Self::Socket(Box::new(operation.copy(py))),
            Self::Poll(poll) => Self::Poll(Box::new(poll.copy(py))),
            Self::Select(select) => Self::Select(select.copy(py)?),
            Self::Thread(call) => Self::Thread(Box::new(call.copy(py))),
            Self::Switch(switch) => Self::Switch(Box::new(switch.copy(py))),
            Self::Space(operation) => Self::Space(Box::new(operation.copy(py))),
            Self::Heard(heard) => Self::Heard(Box::new(heard.copy(py))),
        })
    }

    /// What it holds, for the garbage collector.
    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Sleep(_) | Self::After(_) | Self::Poll(_) => Ok(()),
            Self::Send(channel, value) => {
                visit.call(channel)?;
                visit.call(value)
            }
            Self::Receive(channel) => visit.call(channel),
            Self::Join(task) => visit.call(task),
            Self::Drain(scope) => visit.call(scope),
            Self::Socket(operation) => operation.traverse(visit),
            Self::Select(select) => select.traverse(visit),
            Self::Thread(call) => call.traverse(visit),
            Self::Switch(switch) => switch.traverse(visit),
            Self::Space(operation) => operation.traverse(visit),
            Self::Heard(heard) => heard.traverse(visit),
        }
    }
}

/// A sleep counts from when it is first waited for.
pub(crate) struct Sleep {
    /// Nanoseconds; the largest number is for ever.
    nanos: u64,
    /// When the present wait is over, as nanoseconds; zero while nobody waits.
    until: AtomicU64,
}

impl Sleep {
    pub(crate) fn new(duration: Option<Duration>) -> Self {
        let nanos = duration.and_then(|duration| u64::try_from(duration.as_nanos()).ok()).unwrap_or(u64::MAX);
        Self { nanos, until: AtomicU64::new(0) }
    }

    /// Whether it is `sleep(0)`, by which the others have their turn.
    #[inline(always)]
    pub(super) fn gives_way(&self) -> bool {
        self.nanos == 0
    }

    /// When the present wait is over, which begins now if it has not begun.
    pub(super) fn until(&self) -> Moment {
        if self.nanos == u64::MAX {
            return Moment::NEVER;
        }
        let at = |nanos| Moment::after_epoch(Duration::from_nanos(nanos));
        match self.until.load(Ordering::Relaxed) {
            0 => {
                let until = Run::now().after(Duration::from_nanos(self.nanos));
                let nanos = until.since(Moment::default()).as_nanos();
                self.until.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
                until
            }
            nanos => at(nanos),
        }
    }

    /// Nobody waits any more.
    pub(super) fn release(&self) {
        self.until.store(0, Ordering::Relaxed);
    }

    pub(super) fn describe(&self) -> String {
        match self.nanos {
            u64::MAX => "sleep(inf)".into(),
            nanos => format!("sleep({})", Duration::from_nanos(nanos).as_secs_f64()),
        }
    }

    fn copy(&self) -> Self {
        Self { nanos: self.nanos, until: AtomicU64::new(0) }
    }
}
