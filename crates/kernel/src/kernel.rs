//! The kernel as a whole: runners, parties, turns, waits and wakes.

use slab::Slab;
use slotmap::SlotMap;

use crate::channel::{Channel, RecvRefused, SendRefused};
use crate::graph::Cycle;
use crate::ids::{ChannelId, RunnerId, ScopeId, SourceId, TaskId};
use crate::list::{List, ListName, NIL, Node};
use crate::moment::Moment;
use crate::party::{Party, Phase, Place, Start};
use crate::scope::Scope;
use crate::source::{Direction, Source};
use crate::timers::{Entry, Timers};
use crate::wait::{Event, Wake, Want};

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
    /// How many waits there are on sources.
    pub sources: usize,
    /// How many bodies run elsewhere.
    pub elsewhere: usize,
}

#[derive(Debug)]
pub(crate) struct Runner<W> {
    waker: W,
    ready: std::collections::VecDeque<TaskId>,
    pub(crate) timers: Timers,
    /// Asleep, or about to sleep: a wake has to reach it from outside.
    parked: bool,
    root: ScopeId,
    source_waits: usize,
    elsewhere: usize,
}

type Parties<P> = SlotMap<TaskId, Party<<P as Payload>::Body, <P as Payload>::Value, <P as Payload>::Waker>>;

/// The kernel. See the crate's page.
pub struct Kernel<P: Payload> {
    pub(crate) parties: Parties<P>,
    pub(crate) runners: SlotMap<RunnerId, Runner<P::Waker>>,
    pub(crate) channels: SlotMap<ChannelId, Channel<P::Value>>,
    pub(crate) scopes: SlotMap<ScopeId, Scope>,
    pub(crate) sources: SlotMap<SourceId, Source>,
    pub(crate) nodes: Slab<Node<P::Value>>,
    pub(crate) spent_values: Vec<P::Value>,
    spent_bodies: Vec<P::Body>,
    wakers: Vec<P::Waker>,
    waits: u64,
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
            nodes: Slab::new(),
            spent_values: Vec::new(),
            spent_bodies: Vec::new(),
            wakers: Vec::new(),
            waits: 0,
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
            timers: Timers::default(),
            parked: false,
            root: ScopeId::default(),
            source_waits: 0,
            elsewhere: 0,
        });
        let root = self.scopes.insert(Scope::new(id, TaskId::default(), ScopeId::default(), false));
        self.runners[id].root = root;
        (id, root)
    }

    /// Takes a runner away, with whatever still lives in it: waits are undone, bodies are spent.
    pub fn remove_runner(&mut self, id: RunnerId) {
        let left: Vec<TaskId> = self
            .parties
            .iter()
            .filter(|(_, party)| party.runner() == Some(id))
            .map(|(task, _)| task)
            .collect();
        for task in left {
            if let Some(wake) = self.withdraw(task) {
                self.spend_wake(wake);
            }
            self.finish(task);
        }
        let sources: Vec<SourceId> =
            self.sources.iter().filter(|(_, source)| source.runner == id).map(|(source, _)| source).collect();
        for source in sources {
            self.remove_source(source);
        }
        self.scopes.retain(|_, scope| scope.runner != id);
        self.runners.remove(id);
    }

    /// Whether the runner exists.
    #[must_use]
    pub fn has_runner(&self, id: RunnerId) -> bool {
        self.runners.contains_key(id)
    }

    /// A new task, ready for its first turn. Nothing when the runner or the scope is gone; the body comes back.
    pub fn spawn(&mut self, runner: RunnerId, start: Start, body: P::Body) -> Result<TaskId, P::Body> {
        let Some(root) = self.runners.get(runner).map(|runner| runner.root) else { return Err(body) };
        let base = match start {
            Start::InRun => root,
            Start::InScope(scope) => scope,
        };
        if self.scopes.get(base).is_none_or(|scope| scope.runner != runner) {
            return Err(body);
        }
        let id = self.parties.insert(Party::new(Place::Runner(runner), Some(body), base));
        self.join_scope(id, base);
        self.wake(id, Wake::Start);
        Ok(id)
    }

    /// A task whose body runs elsewhere; [`Self::finish`] ends it. With a runner, that run knows of it.
    pub fn add_elsewhere(&mut self, runner: Option<RunnerId>) -> TaskId {
        if let Some(runner) = runner.and_then(|id| self.runners.get_mut(id)) {
            runner.elsewhere += 1;
        }
        self.parties.insert(Party::new(Place::Elsewhere(runner), None, ScopeId::default()))
    }

    /// A thread that is about to wait, woken by `waker`; [`Self::finish`] takes it away.
    pub fn add_thread(&mut self, waker: P::Waker) -> TaskId {
        self.parties.insert(Party::new(Place::Thread(waker), None, ScopeId::default()))
    }

    /// Whose turn it is.
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
    pub fn give_way(&mut self, task: TaskId, body: P::Body) {
        let Some(party) = self.parties.get_mut(task) else { return self.spent_bodies.push(body) };
        party.body = Some(body);
        party.phase = Phase::Ready;
        if let Place::Runner(runner) = party.place {
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
        if let Place::Elsewhere(Some(runner)) = party.place
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

    /// How many tasks live in the run.
    #[must_use]
    pub fn live_tasks(&self, runner: RunnerId) -> usize {
        self.parties.values().filter(|party| matches!(party.place, Place::Runner(id) if id == runner)).count()
    }

    /// Whether the run is over: no task is a member of its scope, and so of none inside it.
    #[must_use]
    pub fn is_over(&self, runner: RunnerId) -> bool {
        self.runners.get(runner).is_none_or(|runner| self.scopes[runner.root].members == 0)
    }

    /// The tasks of a runner which are not having a turn, with their bodies.
    pub fn tasks(&self, runner: RunnerId) -> impl Iterator<Item = (TaskId, &P::Body)> {
        self.parties
            .iter()
            .filter(move |(_, party)| matches!(party.place, Place::Runner(id) if id == runner))
            .filter_map(|(task, party)| Some((task, party.body.as_ref()?)))
    }

    /// Nothing is ready: from now on, until [`Self::unpark`], a wake calls the runner's waker, once. Nothing comes
    /// back when there is something to do after all.
    pub fn park(&mut self, id: RunnerId) -> Option<Prospects> {
        let runner = self.runners.get_mut(id)?;
        if !runner.ready.is_empty() {
            return None;
        }
        runner.parked = true;
        let (sources, elsewhere) = (runner.source_waits, runner.elsewhere);
        Some(Prospects { timer: self.next_timer(id), sources, elsewhere })
    }

    /// The runner is awake.
    pub fn unpark(&mut self, id: RunnerId) {
        if let Some(runner) = self.runners.get_mut(id) {
            runner.parked = false;
        }
    }

    /// Calls a runner that sleeps.
    pub fn call_runner(&mut self, id: RunnerId) {
        if let Some(runner) = self.runners.get_mut(id)
            && std::mem::take(&mut runner.parked)
        {
            self.wakers.push(runner.waker.clone());
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

/// Waits and wakes.
impl<P: Payload> Kernel<P> {
    /// Marks a timer entry as a scope's deadline, where a task's has the number of its want.
    pub(crate) const SCOPE_BRANCH: u64 = 1 << 16;
    const TAG_BITS: u32 = 17;

    /// Tries a want without waiting. What could not be met comes back.
    pub fn attempt(&mut self, want: Want<P::Value>) -> Result<Event<P::Value>, Want<P::Value>> {
        match want {
            Want::Until(_) => Err(want),
            Want::Send(channel, value) => match self.try_send(channel, value) {
                Ok(()) => Ok(Event::Sent),
                Err(SendRefused::Full(value)) => Err(Want::Send(channel, value)),
                Err(SendRefused::Closed(value)) => {
                    self.spent_values.push(value);
                    Ok(Event::Closed)
                }
            },
            Want::Receive(channel) => match self.try_recv(channel) {
                Ok(value) => Ok(Event::Received(value)),
                Err(RecvRefused::Closed) => Ok(Event::Closed),
                Err(RecvRefused::Empty) => Err(want),
            },
            Want::End(task) if !self.parties.contains_key(task) => Ok(Event::Ended),
            Want::Drain(scope) if self.scope_members(scope) == 0 => Ok(Event::Drained),
            Want::Readable(source) => self.attempt_source(source, Direction::Read).ok_or(want),
            Want::Writable(source) => self.attempt_source(source, Direction::Write).ok_or(want),
            Want::End(_) | Want::Drain(_) => Err(want),
        }
    }

    fn attempt_source(&self, source: SourceId, direction: Direction) -> Option<Event<P::Value>> {
        match self.sources.get(source) {
            None => Some(Event::Gone),
            Some(source) => source.is_ready(direction).then_some(Event::Ready),
        }
    }

    /// The party, which has its turn, waits for the first of these. It is woken at once when it is cancelled or one
    /// of them can be met; otherwise it is enlisted for all. A single want that closes a cycle of waits is refused.
    pub fn wait(
        &mut self,
        party: TaskId,
        wants: impl IntoIterator<Item = Want<P::Value>>,
    ) -> Result<(), Cycle> {
        if self.is_cancelled(party) {
            self.spent_values.extend(wants.into_iter().filter_map(|want| match want {
                Want::Send(_, value) => Some(value),
                _ => None,
            }));
            self.wake(party, Wake::Cancelled);
            return Ok(());
        }
        let mut open = smallvec::SmallVec::<[Want<P::Value>; 2]>::new();
        let mut met = None;
        for (branch, want) in (0..).zip(wants) {
            match met {
                None => match self.attempt(want) {
                    Ok(event) => met = Some(Wake::Event { branch, event }),
                    Err(want) => open.push(want),
                },
                Some(_) => open.push(want),
            }
        }
        if let Some(wake) = met {
            self.spend(open);
            self.wake(party, wake);
            return Ok(());
        }
        if let [want] = open.as_slice() {
            self.check_cycle(party, want)?;
        }
        self.enlist(party, open);
        Ok(())
    }

    fn spend(&mut self, wants: impl IntoIterator<Item = Want<P::Value>>) {
        for want in wants {
            if let Want::Send(_, value) = want {
                self.spent_values.push(value);
            }
        }
    }

    fn enlist(&mut self, id: TaskId, wants: impl IntoIterator<Item = Want<P::Value>>) {
        self.waits += 1;
        let party = &mut self.parties[id];
        party.phase = Phase::Waiting;
        party.wait = self.waits;
        party.nodes = NIL;
        party.timers = 0;
        for (branch, want) in (0u16..).zip(wants) {
            let (list, value) = match want {
                Want::Until(at) => {
                    self.set_timer(id, at, branch);
                    continue;
                }
                Want::Send(channel, value) => (ListName::Senders(channel), Some(value)),
                Want::Receive(channel) => (ListName::Receivers(channel), None),
                Want::End(task) => (ListName::End(task), None),
                Want::Drain(scope) => (ListName::Drain(scope), None),
                Want::Readable(source) => (ListName::Readable(source), None),
                Want::Writable(source) => (ListName::Writable(source), None),
            };
            let sibling = self.parties[id].nodes;
            let index = self.nodes.insert(Node::new(list, id, branch, value, sibling));
            let index = u32::try_from(index).unwrap_or_else(|_| unreachable!("four thousand million waits"));
            self.parties[id].nodes = index;
            self.count_source_wait(list, 1);
            let nodes = &mut self.nodes;
            if let Some(list) =
                find_list(list, &mut self.channels, &mut self.parties, &mut self.scopes, &mut self.sources)
            {
                list.push(nodes, index);
            }
        }
    }

    fn set_timer(&mut self, task: TaskId, at: Moment, branch: u16) {
        let party = &mut self.parties[task];
        if at == Moment::NEVER {
            return;
        }
        // A thread keeps its own time.
        let Place::Runner(runner) = party.place else { return };
        party.timers += 1;
        let tag = (party.wait << Self::TAG_BITS) | u64::from(branch);
        self.runners[runner].timers.set(Entry { at, tag, owner: task.number() });
    }

    pub(crate) fn next_tag(&mut self, branch: u64) -> u64 {
        self.waits += 1;
        (self.waits << Self::TAG_BITS) | branch
    }

    /// Undoes the present wait of a party, if it has one. What a thread was woken with meanwhile comes back.
    pub fn withdraw(&mut self, id: TaskId) -> Option<Wake<P::Value>> {
        let party = self.parties.get_mut(id)?;
        if party.phase == Phase::Waiting {
            party.phase = Phase::Running;
            self.undo(id);
        }
        self.parties[id].wake.take()
    }

    /// Whether a thread that waits has been woken.
    #[must_use]
    pub fn is_woken(&self, id: TaskId) -> bool {
        self.parties.get(id).is_none_or(|party| party.wake.is_some())
    }

    /// Whether anybody waits for the end of a task.
    #[must_use]
    pub fn is_awaited(&self, task: TaskId) -> bool {
        self.parties.get(task).is_some_and(|party| !party.end.is_empty())
    }

    /// Wakes a party: the one place where a wait ends.
    pub(crate) fn wake(&mut self, id: TaskId, wake: Wake<P::Value>) {
        self.undo(id);
        let party = &mut self.parties[id];
        party.phase = Phase::Ready;
        party.wake = Some(wake);
        match &party.place {
            Place::Runner(runner) => {
                let runner = &mut self.runners[*runner];
                runner.ready.push_back(id);
                if std::mem::take(&mut runner.parked) {
                    self.wakers.push(runner.waker.clone());
                }
            }
            Place::Thread(waker) => self.wakers.push(waker.clone()),
            Place::Elsewhere(_) => {}
        }
    }

    pub(crate) fn wake_node(&mut self, node: u32, event: Event<P::Value>) {
        let Node { party, branch, .. } = self.nodes[node as usize];
        self.wake(party, Wake::Event { branch, event });
    }

    /// Wakes a party for the first of its wants that stands in such a list.
    pub(crate) fn wake_from(&mut self, id: TaskId, list: impl Fn(ListName) -> bool, event: Event<P::Value>) {
        let Some(party) = self.parties.get(id) else { return };
        let (mut at, mut first) = (party.nodes, None);
        // A wait's nodes are linked from its last want to its first.
        while let Some(node) = self.nodes.get(at as usize) {
            if list(node.list) {
                first = Some(at);
            }
            at = node.sibling;
        }
        if let Some(first) = first {
            self.wake_node(first, event);
        }
    }

    fn undo(&mut self, id: TaskId) {
        let party = &mut self.parties[id];
        let mut at = std::mem::replace(&mut party.nodes, NIL);
        party.wait = 0;
        let timers = std::mem::take(&mut party.timers);
        let runner = party.runner();
        while at != NIL {
            let (list, sibling) = {
                let node = &mut self.nodes[at as usize];
                (node.list, node.sibling)
            };
            let nodes = &mut self.nodes;
            if let Some(list) =
                find_list(list, &mut self.channels, &mut self.parties, &mut self.scopes, &mut self.sources)
            {
                list.unlink(nodes, at);
            }
            self.count_source_wait(list, -1);
            let node = self.nodes.remove(at as usize);
            self.spent_values.extend(node.value);
            at = sibling;
        }
        if let Some(runner) = runner.filter(|_| timers > 0) {
            self.forget_timers(runner, usize::from(timers));
        }
    }

    fn count_source_wait(&mut self, list: ListName, change: isize) {
        let (ListName::Readable(source) | ListName::Writable(source)) = list else { return };
        let runner = self.sources.get(source).and_then(|source| self.runners.get_mut(source.runner));
        if let Some(runner) = runner {
            runner.source_waits = runner.source_waits.saturating_add_signed(change);
        }
    }

    /// Wakes everyone whose moment has come, and cancels the scopes whose deadline has.
    pub fn expire(&mut self, id: RunnerId, now: Moment) {
        loop {
            let Self { runners, parties, scopes, .. } = self;
            let Some(runner) = runners.get_mut(id) else { return };
            let Some(entry) = runner.timers.pop_due(now, |entry| is_live(entry, parties, scopes)) else {
                return;
            };
            if entry.tag & Self::SCOPE_BRANCH != 0 {
                self.expire_scope(ScopeId::from_number(entry.owner));
                continue;
            }
            let task = TaskId::from_number(entry.owner);
            self.parties[task].timers -= 1;
            let branch = u16::try_from(entry.tag & 0xffff).unwrap_or_default();
            self.wake(task, Wake::Event { branch, event: Event::Elapsed });
        }
    }

    fn next_timer(&mut self, id: RunnerId) -> Option<Moment> {
        let Self { runners, parties, scopes, .. } = self;
        runners.get_mut(id)?.timers.next(|entry| is_live(entry, parties, scopes))
    }

    pub(crate) fn forget_timers(&mut self, id: RunnerId, count: usize) {
        let Self { runners, parties, scopes, .. } = self;
        if let Some(runner) = runners.get_mut(id) {
            runner.timers.forget(count, |entry| is_live(entry, parties, scopes));
        }
    }
}

fn is_live<B, V, W>(
    entry: &Entry,
    parties: &SlotMap<TaskId, Party<B, V, W>>,
    scopes: &SlotMap<ScopeId, Scope>,
) -> bool {
    const SCOPE_BRANCH: u64 = 1 << 16;
    if entry.tag & SCOPE_BRANCH == 0 {
        parties
            .get(TaskId::from_number(entry.owner))
            .is_some_and(|party| party.wait << 17 == entry.tag & !0x1_ffff)
    } else {
        scopes.get(ScopeId::from_number(entry.owner)).is_some_and(|scope| scope.timed)
    }
}

fn find_list<'a, B, V, W>(
    name: ListName,
    channels: &'a mut SlotMap<ChannelId, Channel<V>>,
    parties: &'a mut SlotMap<TaskId, Party<B, V, W>>,
    scopes: &'a mut SlotMap<ScopeId, Scope>,
    sources: &'a mut SlotMap<SourceId, Source>,
) -> Option<&'a mut List> {
    match name {
        ListName::Senders(id) => channels.get_mut(id).map(|channel| &mut channel.senders),
        ListName::Receivers(id) => channels.get_mut(id).map(|channel| &mut channel.receivers),
        ListName::End(id) => parties.get_mut(id).map(|party| &mut party.end),
        ListName::Drain(id) => scopes.get_mut(id).map(|scope| &mut scope.drain),
        ListName::Readable(id) => sources.get_mut(id).map(|source| &mut source.readers),
        ListName::Writable(id) => sources.get_mut(id).map(|source| &mut source.writers),
    }
}
