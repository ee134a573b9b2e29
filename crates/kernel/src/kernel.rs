//! The kernel as a whole: runners, parties and turns.

use slab::Slab;
use slotmap::{Key, SlotMap};

use crate::channel::Channel;
use crate::ids::{ChannelId, KeyId, RunnerId, ScopeId, SourceId, SpotId, TaskId};
use crate::key::Line;
use crate::list::Node;
use crate::moment::Moment;
use crate::party::{Party, Phase, Place, Start};
use crate::scope::Scope;
use crate::source::Source;
use crate::spot::Spot;
use crate::timers::Timers;
use crate::wait::{Event, Wake};

/// What the kernel carries without looking inside.
pub trait Payload {
    /// What a task runs.
    type Body;
    /// What channels carry.
    type Value;
    /// How to wake somebody who sleeps outside: a runner in its poll, or a thread.
    type Waker: Clone;
}

/// A turn: which task, what it runs, and why.
#[derive(Debug)]
pub struct Turn<B, V> {
    /// The task.
    pub task: TaskId,
    /// Its body, until it is given back.
    pub body: B,
    /// Why it has its turn.
    pub wake: Wake<V>,
}

/// What a runner with nothing ready can still hope for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prospects {
    /// When the next timer is due.
    pub timer: Option<Moment>,
    /// How many waits there are on sources, but those of who [attends](Kernel::attend) to the outside.
    pub sources: usize,
    /// How many bodies run elsewhere.
    pub elsewhere: usize,
}

#[derive(Debug)]
pub(crate) struct Runner<W> {
    pub(crate) waker: W,
    pub(crate) ready: std::collections::VecDeque<TaskId>,
    /// Visitors of whom there is something to tell.
    pub(crate) told: Vec<TaskId>,
    pub(crate) timers: Timers,
    /// What time it was when it was last told.
    pub(crate) now: Moment,
    /// Asleep, or about to sleep: a wake has to reach it from outside.
    pub(crate) parked: bool,
    pub(crate) root: ScopeId,
    pub(crate) sources: usize,
    pub(crate) source_waits: usize,
    pub(crate) elsewhere: usize,
}

type Parties<P> = SlotMap<TaskId, Party<<P as Payload>::Body, <P as Payload>::Value, <P as Payload>::Waker>>;

/// The kernel. See the crate's page.
pub struct Kernel<P: Payload> {
    pub(crate) parties: Parties<P>,
    pub(crate) runners: SlotMap<RunnerId, Runner<P::Waker>>,
    pub(crate) channels: SlotMap<ChannelId, Channel<P::Value>>,
    pub(crate) scopes: SlotMap<ScopeId, Scope>,
    pub(crate) sources: SlotMap<SourceId, Source>,
    pub(crate) spots: SlotMap<SpotId, Spot>,
    pub(crate) keys: SlotMap<KeyId, Line>,
    pub(crate) nodes: Slab<Node<P::Value>>,
    pub(crate) spent_values: Vec<P::Value>,
    pub(crate) spent_bodies: Vec<P::Body>,
    pub(crate) wakers: Vec<P::Waker>,
    pub(crate) waits: u64,
    /// Bodies that run elsewhere, and for no runner.
    pub(crate) elsewhere: usize,
    /// Tasks of runners that were told to go, ever, and that have ended.
    pub(crate) spawned: u64,
    pub(crate) ended: u64,
}

/// Shows how much of each kind it holds.
impl<P: Payload> std::fmt::Debug for Kernel<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("runners", &self.runners.len())
            .field("parties", &self.parties.len())
            .field("scopes", &self.scopes.len())
            .field("channels", &self.channels.len())
            .field("sources", &self.sources.len())
            .field("spots", &self.spots.len())
            .field("keys", &self.keys.len())
            .field("nodes", &self.nodes.len())
            .field("timers", &self.runners.values().map(|runner| runner.timers.live()).sum::<usize>())
            .field("spent", &(self.spent_values.len() + self.spent_bodies.len()))
            .finish_non_exhaustive()
    }
}

impl<P: Payload> Default for Kernel<P> {
    fn default() -> Self {
        Self {
            parties: SlotMap::with_key(),
            runners: SlotMap::with_key(),
            channels: SlotMap::with_key(),
            scopes: SlotMap::with_key(),
            sources: SlotMap::with_key(),
            spots: SlotMap::with_key(),
            keys: SlotMap::with_key(),
            nodes: Slab::new(),
            spent_values: Vec::new(),
            spent_bodies: Vec::new(),
            wakers: Vec::new(),
            waits: 0,
            elsewhere: 0,
            spawned: 0,
            ended: 0,
        }
    }
}

/// Runners, tasks and turns.
impl<P: Payload> Kernel<P> {
    /// A new runner, woken by `waker`, and the scope of its run.
    pub fn add_runner(&mut self, waker: P::Waker) -> (RunnerId, ScopeId) {
        let id = self.runners.insert(Runner {
            waker,
            ready: std::collections::VecDeque::new(),
            told: Vec::new(),
            timers: Timers::default(),
            now: Moment::default(),
            parked: false,
            root: ScopeId::default(),
            sources: 0,
            source_waits: 0,
            elsewhere: 0,
        });
        let root = self.scopes.insert(Scope::new(id, TaskId::default(), ScopeId::default(), false));
        self.runners[id].root = root;
        (id, root)
    }

    /// Takes a runner away, with whatever still lives in it: waits are undone, bodies are spent.
    ///
    /// It costs what is left in the runner, however many tasks the process has had: nothing is walked through that
    /// belonged to others, or that was.
    pub fn remove_runner(&mut self, id: RunnerId) {
        let Some(runner) = self.runners.get(id) else { return };
        let (root, sources, elsewhere) = (runner.root, runner.sources, runner.elsewhere);
        self.close_regions(root);
        // Whoever ends leaves its scopes, and their members move outward: in the end everyone stands in the root.
        while self.scopes[root].members > 0 {
            self.expel(self.scopes[root].first_member);
        }
        if elsewhere > 0 {
            let left: Vec<TaskId> = walk(&self.parties)
                .filter(|(_, party)| party.runner() == Some(id))
                .map(|(task, _)| task)
                .collect();
            left.into_iter().for_each(|task| self.expel(task));
        }
        if sources > 0 {
            let left: Vec<SourceId> = walk(&self.sources)
                .filter(|(_, source)| source.runner == id)
                .map(|(source, _)| source)
                .collect();
            left.into_iter().for_each(|source| self.remove_source(source));
        }
        self.scopes.remove(root);
        self.runners.remove(id);
    }

    /// Ends a task that will have no turn any more.
    fn expel(&mut self, task: TaskId) {
        if let Some(wake) = self.withdraw(task) {
            self.spend_wake(wake);
        }
        self.finish(task);
    }

    /// Whether the runner exists.
    #[must_use]
    pub fn has_runner(&self, id: RunnerId) -> bool {
        self.runners.contains_key(id)
    }

    /// A new task, ready for its first turn. Nothing when the runner or the scope is gone; the body comes back.
    pub fn spawn(&mut self, runner: RunnerId, start: Start, body: P::Body) -> Result<TaskId, P::Body> {
        let id = self.add_task(runner, start, body)?;
        self.make_ready(id, Wake::Start);
        Ok(id)
    }

    /// A new task that is a member of its scope, and not ready yet.
    #[inline(always)]
    pub(crate) fn add_task(
        &mut self,
        runner: RunnerId,
        start: Start,
        body: P::Body,
    ) -> Result<TaskId, P::Body> {
        let Some(root) = self.runners.get(runner).map(|runner| runner.root) else { return Err(body) };
        let base = match start {
            Start::InRun => root,
            Start::InScope(scope) => scope,
        };
        if self.scopes.get(base).is_none_or(|scope| scope.runner != runner) {
            return Err(body);
        }
        self.spawned += 1;
        let place = Place::Runner(runner, KeyId::null());
        let id = self.parties.insert(Party::new(place, Some(body), base));
        self.join_scope(id, base);
        Ok(id)
    }

    /// A task whose body runs elsewhere; [`Self::finish`] ends it. With a runner, that run knows of it; without, all do.
    pub fn add_elsewhere(&mut self, runner: Option<RunnerId>) -> TaskId {
        match runner.map(|id| self.runners.get_mut(id)) {
            Some(Some(runner)) => runner.elsewhere += 1,
            Some(None) => {}
            None => self.elsewhere += 1,
        }
        self.parties.insert(Party::new(Place::Elsewhere { runner, stop: None }, None, ScopeId::default()))
    }

    /// A thread that is about to wait or to open scopes, woken by `waker`; [`Self::finish`] takes it away.
    pub fn add_thread(&mut self, waker: P::Waker) -> TaskId {
        self.parties.insert(Party::new(Place::Thread(waker), None, ScopeId::default()))
    }

    /// Whose turn it is.
    #[inline]
    pub fn next_turn(&mut self, runner: RunnerId) -> Option<Turn<P::Body, P::Value>> {
        let ready = &mut self.runners.get_mut(runner)?.ready;
        while let Some(task) = ready.pop_front() {
            let Some(party) = self.parties.get_mut(task) else { continue };
            let Some(body) = party.body.take() else { continue };
            party.phase = Phase::Running;
            let mut wake = party.wake.take().unwrap_or(Wake::Turn);
            if party.suspect && matches!(wake, Wake::Start | Wake::Turn) && self.is_cancelled(task) {
                wake = Wake::Cancelled;
            }
            return Some(Turn { task, body, wake });
        }
        None
    }

    /// The task gave way: it is due again behind everyone who is ready.
    #[inline(always)]
    pub fn give_way(&mut self, task: TaskId, body: P::Body) {
        let Some(party) = self.parties.get_mut(task) else { return self.spent_bodies.push(body) };
        party.body = Some(body);
        party.phase = Phase::Ready;
        if let Place::Runner(runner, _) = party.place {
            self.runners[runner].ready.push_back(task);
        }
    }

    /// The body of a task that waits comes back.
    pub fn keep_body(&mut self, task: TaskId, body: P::Body) {
        match self.parties.get_mut(task) {
            Some(party) => party.body = Some(body),
            None => self.spent_bodies.push(body),
        }
    }

    /// The task has ended: scopes it left open are closed, and whoever waits for its end goes on.
    pub fn finish(&mut self, task: TaskId) {
        let Some(party) = self.parties.get(task) else { return };
        let (mut scope, base) = (party.scope, party.base);
        while scope != base && self.scopes.contains_key(scope) {
            self.remove_scope(task, scope);
            scope = self.parties[task].scope;
        }
        while let Some(node) = self.parties[task].end.first() {
            self.wake_node(node, Event::Ended);
        }
        self.leave_scope(task);
        let Some(party) = self.parties.remove(task) else { return };
        if let Place::Runner(_, line) = party.place {
            self.ended += 1;
            if !line.is_null() {
                self.pass_key(task, line);
            }
        }
        if let Place::Elsewhere { runner: None, .. } = party.place {
            self.elsewhere -= 1;
            if self.elsewhere == 0 {
                self.wake_hopeless();
            }
        }
        if let Place::Elsewhere { runner: Some(runner), .. } = party.place
            && let Some(runner) = self.runners.get_mut(runner)
        {
            runner.elsewhere -= 1;
            if std::mem::take(&mut runner.parked) {
                self.wakers.push(runner.waker.clone());
            }
        }
        self.spent_bodies.extend(party.body);
        if let Some(wake) = party.wake {
            self.spend_wake(wake);
        }
    }

    /// Nothing runs elsewhere any more that all runs know of: those that hoped for nothing else look again.
    fn wake_hopeless(&mut self) {
        for runner in self.runners.values_mut() {
            let hopes = runner.elsewhere > 0 || runner.source_waits > 0 || runner.timers.live() > 0;
            if !hopes && std::mem::take(&mut runner.parked) {
                self.wakers.push(runner.waker.clone());
            }
        }
    }

    /// What a party was woken with and never took.
    fn spend_wake(&mut self, wake: Wake<P::Value>) {
        if let Wake::Event { event: Event::Received(value), .. } = wake {
            self.spent_values.push(value);
        }
    }

    /// Whether the task has not ended.
    #[must_use]
    pub fn is_live(&self, task: TaskId) -> bool {
        self.parties.contains_key(task)
    }

    /// Whether the run is over: no task is a member of its scope, and so of none inside it.
    #[must_use]
    pub fn is_over(&self, runner: RunnerId) -> bool {
        self.runners.get(runner).is_none_or(|runner| self.scopes[runner.root].members == 0)
    }

    /// The tasks of a runner which are not having a turn, with their bodies: those of a scope in the order in which they
    /// came, before those of the scopes inside it.
    pub fn tasks(&self, runner: RunnerId) -> impl Iterator<Item = (TaskId, &P::Body)> {
        let mut scopes: Vec<ScopeId> =
            self.runners.get(runner).map(|runner| runner.root).into_iter().collect();
        let mut next = TaskId::default();
        let everyone = std::iter::from_fn(move || {
            loop {
                if let Some(party) = self.parties.get(next) {
                    return Some((std::mem::replace(&mut next, party.next_member), party));
                }
                let scope = &self.scopes[scopes.pop()?];
                next = scope.first_member;
                let mut child = scope.first_child;
                while let Some(inner) = self.scopes.get(child) {
                    scopes.push(child);
                    child = inner.next_sibling;
                }
            }
        });
        everyone.filter_map(|(task, party)| Some((task, party.body.as_ref()?)))
    }

    /// The task, which has its turn, attends to the outside for its host, as who takes further tasks in does: what its
    /// waits for sources bring is nothing that the others could hope for.
    pub fn attend(&mut self, task: TaskId) {
        if let Some(party) = self.parties.get_mut(task).filter(|party| party.phase == Phase::Running) {
            party.attends = true;
        }
    }

    /// Nothing is ready: from now on, until [`Self::unpark`], a wake calls the runner's waker, once. Nothing comes
    /// back when there is something to do after all.
    pub fn park(&mut self, id: RunnerId) -> Option<Prospects> {
        let runner = self.runners.get_mut(id)?;
        if !(runner.ready.is_empty() && runner.told.is_empty()) {
            return None;
        }
        runner.parked = true;
        let (sources, elsewhere) = (runner.source_waits, runner.elsewhere + self.elsewhere);
        Some(Prospects { timer: self.next_timer(id), sources, elsewhere })
    }

    /// The runner is awake.
    pub fn unpark(&mut self, id: RunnerId) {
        if let Some(runner) = self.runners.get_mut(id) {
            runner.parked = false;
        }
    }

    /// Whether there is something for the caller to wake or to drop.
    #[must_use]
    pub fn has_remains(&self) -> bool {
        !(self.wakers.is_empty() && self.spent_values.is_empty() && self.spent_bodies.is_empty())
    }

    /// Whom to wake, after the lock is released.
    pub fn take_wakers(&mut self) -> Vec<P::Waker> {
        std::mem::take(&mut self.wakers)
    }

    /// What to drop, after the lock is released.
    pub fn take_spent(&mut self) -> (Vec<P::Value>, Vec<P::Body>) {
        (std::mem::take(&mut self.spent_values), std::mem::take(&mut self.spent_bodies))
    }
}

/// Walks through a whole map, empty slots and all: for what is rare.
fn walk<K: Key, V>(map: &SlotMap<K, V>) -> impl Iterator<Item = (K, &V)> {
    #[cfg(test)]
    tests::WALKED.set(tests::WALKED.get() + map.capacity());
    map.iter()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Slots that were walked through in this thread.
        pub(super) static WALKED: Cell<usize> = const { Cell::new(0) };
    }

    #[derive(Debug)]
    enum Nothing {}

    impl Payload for Nothing {
        type Body = ();
        type Value = ();
        type Waker = ();
    }

    #[test]
    fn a_run_ends_without_a_walk_through_what_others_left() {
        let mut kernel = Kernel::<Nothing>::default();
        let (large, _) = kernel.add_runner(());
        for _ in 0..1_000 {
            kernel.spawn(large, Start::InRun, ()).expect("a run");
            kernel.add_source(large);
        }
        kernel.remove_runner(large);
        WALKED.set(0);
        let (small, _) = kernel.add_runner(());
        let task = kernel.spawn(small, Start::InRun, ()).expect("a run");
        kernel.spawn(small, Start::InRun, ()).expect("a run");
        let source = kernel.add_source(small);
        kernel.remove_source(source);
        kernel.finish(task);
        kernel.remove_runner(small);
        assert_eq!(WALKED.get(), 0);
        assert_eq!((kernel.parties.len(), kernel.scopes.len(), kernel.sources.len()), (0, 0, 0));
    }

    #[test]
    fn a_run_that_is_given_up_walks_for_what_is_left_elsewhere() {
        let mut kernel = Kernel::<Nothing>::default();
        let (runner, _) = kernel.add_runner(());
        let task = kernel.add_elsewhere(Some(runner));
        let source = kernel.add_source(runner);
        kernel.remove_runner(runner);
        assert!(!kernel.is_live(task) && kernel.sources.get(source).is_none());
        assert!(WALKED.get() > 0);
    }
}
