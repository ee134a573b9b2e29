//! A party: whoever can wait. A task of a runner, a visitor, a plain thread, or a task whose body runs elsewhere.

use crate::ids::{KeyId, RunnerId, ScopeId, TaskId};
use crate::list::{List, NIL};
use crate::moment::Moment;
use crate::wait::Wake;

/// Where a party lives: this decides what waking it means.
#[derive(Debug)]
pub(crate) enum Place<W> {
    /// A task with a body: waking puts it in the runner's ready queue. It may have a key, and then stands in its line.
    Runner(RunnerId, KeyId),
    /// A thread asleep on its own waker.
    Thread(W),
    /// Code in the event loop that the runner is a guest of: waking tells the runner.
    Visitor(RunnerId),
    /// A body that runs elsewhere (in a thread, in another process): it never waits here, others wait for its end.
    Elsewhere {
        /// The run that knows of it; without one all do.
        runner: Option<RunnerId>,
        /// How to tell it to stop. Set when it joins a scope; taken when it is told, which is once.
        stop: Option<W>,
    },
}

/// What a party is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In a ready queue, or a thread that has been woken.
    Ready,
    /// Has its turn.
    Running,
    /// Enlisted.
    Waiting,
}

/// How a new task starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In the run as a whole.
    InRun,
    /// As a member of this scope.
    InScope(ScopeId),
}

#[derive(Debug)]
pub(crate) struct Party<B, V, W> {
    pub(crate) place: Place<W>,
    /// Taken out while the party has its turn.
    pub(crate) body: Option<B>,
    pub(crate) phase: Phase,
    pub(crate) wake: Option<Wake<V>>,
    /// Number of the present wait; zero when it does not wait.
    pub(crate) wait: u64,
    /// When the present wait began, as its runner knew the time; a thread says so itself.
    pub(crate) since: Moment,
    /// First node of the present wait.
    pub(crate) nodes: u32,
    /// How many entries of the present wait stand among the timers.
    pub(crate) timers: u16,
    /// Its own cancellation was asked for.
    pub(crate) cancelled: bool,
    /// Some cancellation may reach it: look before it waits.
    pub(crate) suspect: bool,
    /// It attends to the outside for its host: its waits for sources are no prospect for the others.
    pub(crate) attends: bool,
    /// Who waits for its end.
    pub(crate) end: List,
    /// The scope it was started in.
    pub(crate) base: ScopeId,
    /// The innermost scope it has opened, or its base.
    pub(crate) scope: ScopeId,
    /// Neighbours among the members of its base scope.
    pub(crate) previous_member: TaskId,
    pub(crate) next_member: TaskId,
}

impl<B, V, W> Party<B, V, W> {
    pub(crate) fn new(place: Place<W>, body: Option<B>, base: ScopeId) -> Self {
        Self {
            place,
            body,
            phase: Phase::Running,
            wake: None,
            wait: 0,
            since: Moment::default(),
            nodes: NIL,
            timers: 0,
            cancelled: false,
            suspect: false,
            attends: false,
            end: List::default(),
            base,
            scope: base,
            previous_member: TaskId::default(),
            next_member: TaskId::default(),
        }
    }

    pub(crate) fn runner(&self) -> Option<RunnerId> {
        match self.place {
            Place::Runner(runner, _) | Place::Visitor(runner) => Some(runner),
            Place::Elsewhere { runner, .. } => runner,
            Place::Thread(_) => None,
        }
    }

    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self.place, Place::Elsewhere { .. })
    }
}
