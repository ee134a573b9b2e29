//! Waits and wakes: how a party is enlisted for what it wants, and how its wait ends.

use slotmap::SlotMap;

use crate::channel::{Channel, RecvRefused, SendRefused};
use crate::graph::Cycle;
use crate::ids::{ChannelId, KeyId, RunnerId, ScopeId, SourceId, SpotId, TaskId};
use crate::kernel::{Kernel, Payload};
use crate::key::Line;
use crate::list::{List, ListName, NIL, Node};
use crate::moment::Moment;
use crate::party::{Party, Phase, Place};
use crate::scope::Scope;
use crate::source::{Direction, Source};
use crate::spot::Spot;
use crate::timers::Entry;
use crate::wait::{Event, Wake, Want};

/// Marks a timer entry as a scope's deadline, where a task's has the number of its want.
pub(crate) const SCOPE_BRANCH: u64 = 1 << 16;
/// The low bits of an entry's tag, which say what it is; the number of its wait stands above them.
const TAG_BITS: u32 = 17;

impl<P: Payload> Kernel<P> {
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
            Want::Called(spot) => self.take_call(spot).ok_or(want),
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

    /// From now on the party waits; for what, is said next.
    #[inline(always)]
    pub(crate) fn begin_wait(&mut self, id: TaskId) {
        self.waits += 1;
        let party = &mut self.parties[id];
        party.phase = Phase::Waiting;
        party.wait = self.waits;
        party.nodes = NIL;
        party.timers = 0;
        // No clock is read for it: the time is that of the runner's last look.
        if let Place::Runner(runner, _) | Place::Visitor(runner) = party.place {
            party.since = self.runners[runner].now;
        }
    }

    fn enlist(&mut self, id: TaskId, wants: impl IntoIterator<Item = Want<P::Value>>) {
        self.begin_wait(id);
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
                Want::Called(spot) => (ListName::Called(spot), None),
            };
            self.stand_in(id, branch, list, value);
        }
    }

    /// Puts a party that waits into a list.
    #[inline(always)]
    pub(crate) fn stand_in(&mut self, id: TaskId, branch: u16, list: ListName, value: Option<P::Value>) {
        let sibling = self.parties[id].nodes;
        let index = self.nodes.insert(Node::new(list, id, branch, value, sibling));
        let index = u32::try_from(index).unwrap_or_else(|_| unreachable!("four thousand million waits"));
        self.parties[id].nodes = index;
        self.count_source_wait(id, list, 1);
        let nodes = &mut self.nodes;
        if let Some(list) = find_list(
            list,
            &mut self.channels,
            &mut self.parties,
            &mut self.scopes,
            &mut self.sources,
            &mut self.spots,
            &mut self.keys,
        ) {
            list.push(nodes, index);
        }
    }

    fn set_timer(&mut self, task: TaskId, at: Moment, branch: u16) {
        let party = &mut self.parties[task];
        if at == Moment::NEVER {
            return;
        }
        // A thread keeps its own time.
        let (Place::Runner(runner, _) | Place::Visitor(runner)) = party.place else { return };
        party.timers += 1;
        let tag = (party.wait << TAG_BITS) | u64::from(branch);
        self.runners[runner].timers.set(Entry { at, tag, owner: task.number() });
    }

    pub(crate) fn next_tag(&mut self, branch: u64) -> u64 {
        self.waits += 1;
        (self.waits << TAG_BITS) | branch
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
        self.make_ready(id, wake);
    }

    /// A party that does not wait, or does so no more, goes on.
    pub(crate) fn make_ready(&mut self, id: TaskId, wake: Wake<P::Value>) {
        let party = &mut self.parties[id];
        party.phase = Phase::Ready;
        party.wake = Some(wake);
        match &party.place {
            Place::Runner(runner, _) => {
                let runner = &mut self.runners[*runner];
                runner.ready.push_back(id);
                if std::mem::take(&mut runner.parked) {
                    self.wakers.push(runner.waker.clone());
                }
            }
            Place::Thread(waker) => self.wakers.push(waker.clone()),
            Place::Visitor(runner) => {
                let runner = *runner;
                self.tell(runner, id);
            }
            Place::Elsewhere { .. } => {}
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
            if let Some(list) = find_list(
                list,
                &mut self.channels,
                &mut self.parties,
                &mut self.scopes,
                &mut self.sources,
                &mut self.spots,
                &mut self.keys,
            ) {
                list.unlink(nodes, at);
            }
            self.count_source_wait(id, list, -1);
            let node = self.nodes.remove(at as usize);
            self.spent_values.extend(node.value);
            at = sibling;
        }
        if let Some(runner) = runner.filter(|_| timers > 0) {
            self.forget_timers(runner, usize::from(timers));
        }
    }

    /// A runner knows how many of its parties wait for what comes from outside; most waits are for something else.
    #[inline(always)]
    fn count_source_wait(&mut self, party: TaskId, list: ListName, change: isize) {
        if matches!(list, ListName::Readable(_) | ListName::Writable(_) | ListName::Called(_)) {
            self.count_outside_wait(party, list, change);
        }
    }

    #[inline(never)]
    fn count_outside_wait(&mut self, party: TaskId, list: ListName, change: isize) {
        if self.parties[party].attends {
            return;
        }
        let runner = match list {
            ListName::Readable(source) | ListName::Writable(source) => {
                self.sources.get(source).map(|source| source.runner)
            }
            ListName::Called(spot) if self.spots.get(spot).is_some_and(|spot| spot.outside) => {
                self.parties[party].runner()
            }
            _ => None,
        };
        let runner = runner.and_then(|runner| self.runners.get_mut(runner));
        if let Some(runner) = runner {
            runner.source_waits = runner.source_waits.saturating_add_signed(change);
        }
    }

    /// Wakes everyone whose moment has come, and cancels the scopes whose deadline has.
    pub fn expire(&mut self, id: RunnerId, now: Moment) {
        if let Some(runner) = self.runners.get_mut(id) {
            runner.now = now;
        }
        loop {
            let Self { runners, parties, scopes, .. } = self;
            let Some(runner) = runners.get_mut(id) else { return };
            let Some(entry) = runner.timers.pop_due(now, |entry| is_live(entry, parties, scopes)) else {
                return;
            };
            if entry.tag & SCOPE_BRANCH != 0 {
                self.expire_scope(ScopeId::from_number(entry.owner));
                continue;
            }
            let task = TaskId::from_number(entry.owner);
            self.parties[task].timers -= 1;
            let branch = u16::try_from(entry.tag & 0xffff).unwrap_or_default();
            self.wake(task, Wake::Event { branch, event: Event::Elapsed });
        }
    }

    pub(crate) fn next_timer(&mut self, id: RunnerId) -> Option<Moment> {
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
    if entry.tag & SCOPE_BRANCH == 0 {
        parties
            .get(TaskId::from_number(entry.owner))
            .is_some_and(|party| party.wait << TAG_BITS == entry.tag >> TAG_BITS << TAG_BITS)
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
    spots: &'a mut SlotMap<SpotId, Spot>,
    keys: &'a mut SlotMap<KeyId, Line>,
) -> Option<&'a mut List> {
    match name {
        ListName::Senders(id) => channels.get_mut(id).map(|channel| &mut channel.senders),
        ListName::Receivers(id) => channels.get_mut(id).map(|channel| &mut channel.receivers),
        ListName::End(id) => parties.get_mut(id).map(|party| &mut party.end),
        ListName::Drain(id) => scopes.get_mut(id).map(|scope| &mut scope.drain),
        ListName::Readable(id) => sources.get_mut(id).map(|source| &mut source.readers),
        ListName::Writable(id) => sources.get_mut(id).map(|source| &mut source.writers),
        ListName::Called(id) => spots.get_mut(id).map(|spot| &mut spot.waiting),
        ListName::Key(id) => keys.get_mut(id).map(|line| &mut line.waiting),
    }
}
