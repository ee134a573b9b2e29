//! The kernel said again as simply as possible: vectors, and loops over all of them. Slow, and easy to believe.
//!
//! It leaves open what the kernel leaves open: in which order those become ready whom one cancellation wakes.

mod channels;
mod regions;

use thistledown_kernel::{
    ChannelId, Direction, Event, Moment, Prospects, RecvRefused, RunnerId, ScopeEnd, ScopeId, SourceId,
    SpotId, TaskId, Wake, Want,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Task(RunnerId),
    Thread,
    Elsewhere(RunnerId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    Running,
    Waiting,
}

/// Where the task of a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Holds,
    Queued,
    /// It was cancelled before it had the key.
    Left,
}

#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) id: TaskId,
    pub(crate) kind: Kind,
    pub(crate) state: State,
    wants: Vec<Want<u64>>,
    /// Its key, and where it stands with that.
    key: Option<(u8, Turn)>,
    /// Grows with every wait.
    number: u64,
    pub(crate) wake: Option<Wake<u64>>,
    cancelled: bool,
    /// It runs elsewhere, and is to be told to stop when it is cancelled.
    listens: bool,
    base: Option<ScopeId>,
    /// Outermost first.
    pub(crate) open: Vec<ScopeId>,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    capacity: usize,
    pub(crate) buffer: Vec<u64>,
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) id: ScopeId,
    pub(crate) runner: RunnerId,
    parent: Option<ScopeId>,
    pub(crate) end: ScopeEnd,
    shield: bool,
    deadline: Option<(Moment, u64)>,
}

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) id: SourceId,
    runner: RunnerId,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    read_closed: bool,
    write_closed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Reference {
    pub(crate) parties: Vec<Party>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) sources: Vec<Source>,
    /// Each with whether it was called while nobody waited.
    pub(crate) spots: Vec<(SpotId, bool)>,
    /// Who is ready: those with one number became so at once.
    ready: Vec<(RunnerId, u64, TaskId)>,
    parked: Vec<RunnerId>,
    count: u64,
    pub(crate) spent: Vec<u64>,
    /// A runner that was called, or a thread.
    pub(crate) woken: Vec<Option<RunnerId>>,
    /// How many bodies elsewhere were told to stop.
    pub(crate) told: usize,
}

fn is_never(want: &Want<u64>) -> bool {
    matches!(want, Want::Until(Moment::NEVER))
}

/// Waits.
impl Reference {
    fn next_number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(crate) fn party(&mut self, id: TaskId) -> &mut Party {
        self.parties.iter_mut().find(|party| party.id == id).expect("a party that lives")
    }

    pub(crate) fn is_live(&self, id: TaskId) -> bool {
        self.parties.iter().any(|party| party.id == id)
    }

    /// Everyone who waits for such a thing, with the place of the want, in the order they came.
    fn waiters(&self, concerns: impl Fn(&Want<u64>) -> bool) -> Vec<(TaskId, usize)> {
        let mut found = Vec::new();
        for party in self.parties.iter().filter(|party| party.state == State::Waiting) {
            for (branch, want) in party.wants.iter().enumerate() {
                if concerns(want) {
                    found.push((party.number, branch, party.id));
                }
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, branch, id)| (id, branch)).collect()
    }

    /// Wakes everyone who waits for such a thing, each for its first want of them.
    fn wake_all(&mut self, concerns: impl Fn(&Want<u64>) -> bool, event: impl Fn() -> Event<u64>) {
        for (id, _) in self.waiters(&concerns) {
            let party = self.party(id);
            if let Some(branch) = party.wants.iter().position(&concerns) {
                self.wake_for(id, branch, event());
            }
        }
    }

    fn wake_for(&mut self, id: TaskId, branch: usize, event: Event<u64>) {
        let branch = u16::try_from(branch).expect("few wants");
        let number = self.next_number();
        self.wake(id, Wake::Event { branch, event }, number);
    }

    fn wake(&mut self, id: TaskId, wake: Wake<u64>, number: u64) {
        let party = self.party(id);
        party.state = State::Ready;
        party.wake = Some(wake);
        let kind = party.kind;
        if let Some((_, turn @ Turn::Queued)) = &mut party.key {
            *turn = Turn::Left;
        }
        let wants = std::mem::take(&mut party.wants);
        self.spend(wants);
        match kind {
            Kind::Task(runner) => {
                self.ready.push((runner, number, id));
                self.call(runner);
            }
            Kind::Thread => self.woken.push(None),
            Kind::Elsewhere(_) => unreachable!("it never waits"),
        }
    }

    fn spend(&mut self, wants: Vec<Want<u64>>) {
        self.spent.extend(wants.into_iter().filter_map(|want| match want {
            Want::Send(_, value) => Some(value),
            _ => None,
        }));
    }

    pub(crate) fn call(&mut self, runner: RunnerId) {
        if self.parked.contains(&runner) {
            self.parked.retain(|&other| other != runner);
            self.woken.push(Some(runner));
        }
    }

    /// Whoever waits and is cancelled is woken.
    fn settle(&mut self) {
        let number = self.next_number();
        let waiting = self.parties.iter().filter(|party| party.state == State::Waiting);
        let hit: Vec<TaskId> = waiting.filter(|p| self.is_cancelled(p.id)).map(|p| p.id).collect();
        hit.into_iter().for_each(|id| self.wake(id, Wake::Cancelled, number));
        let listening = self.parties.iter().filter(|party| party.listens);
        let told: Vec<TaskId> = listening.filter(|p| self.is_cancelled(p.id)).map(|p| p.id).collect();
        for id in told {
            self.party(id).listens = false;
            self.told += 1;
        }
    }

    pub(crate) fn wait(&mut self, id: TaskId, wants: Vec<Want<u64>>) -> Result<(), ()> {
        let number = self.next_number();
        if self.is_cancelled(id) {
            self.spend(wants);
            self.wake(id, Wake::Cancelled, number);
            return Ok(());
        }
        for branch in 0..wants.len() {
            if let Some(event) = self.attempt(&wants[branch]) {
                let mut wants = wants;
                if matches!(event, Event::Sent) {
                    wants.remove(branch);
                }
                self.spend(wants);
                self.wake_for(id, branch, event);
                return Ok(());
            }
        }
        if let [want] = wants.as_slice()
            && !self.has_way_out(id)
            && self.leads_to(id, want, &mut Vec::new())
        {
            return Err(());
        }
        let party = self.party(id);
        (party.state, party.wants, party.number) = (State::Waiting, wants, number);
        Ok(())
    }

    fn attempt(&mut self, want: &Want<u64>) -> Option<Event<u64>> {
        match *want {
            Want::Until(_) => None,
            Want::Send(channel, value) => match self.try_send(channel, value) {
                Ok(()) => Some(Event::Sent),
                Err(closed) => closed.then_some(Event::Closed),
            },
            Want::Receive(channel) => match self.try_recv(channel) {
                Ok(value) => Some(Event::Received(value)),
                Err(RecvRefused::Closed) => Some(Event::Closed),
                Err(RecvRefused::Empty) => None,
            },
            Want::End(task) => (!self.is_live(task)).then_some(Event::Ended),
            Want::Drain(scope) => (self.members(scope) == 0).then_some(Event::Drained),
            Want::Readable(source) => self.attempt_source(source, Direction::Read),
            Want::Writable(source) => self.attempt_source(source, Direction::Write),
            Want::Called(spot) => self.attempt_spot(spot),
        }
    }

    fn attempt_source(&self, id: SourceId, direction: Direction) -> Option<Event<u64>> {
        let Some(source) = self.sources.iter().find(|source| source.id == id) else {
            return Some(Event::Gone);
        };
        let ready = if direction == Direction::Read { source.readable } else { source.writable };
        ready.then_some(Event::Ready)
    }

    pub(crate) fn withdraw(&mut self, id: TaskId) -> Option<Wake<u64>> {
        let party = self.party(id);
        party.state = State::Running;
        let (wants, wake) = (std::mem::take(&mut party.wants), party.wake.take());
        self.spend(wants);
        wake
    }

    /// Whether this want can only be met by the end of `goal`.
    fn leads_to(&self, goal: TaskId, want: &Want<u64>, seen: &mut Vec<TaskId>) -> bool {
        let next: Vec<&Party> = match *want {
            Want::End(task) => self.parties.iter().filter(|party| party.id == task).collect(),
            Want::Drain(scope) => self.parties.iter().filter(|party| party.base == Some(scope)).collect(),
            _ => return false,
        };
        next.into_iter().any(|party| {
            if party.id == goal {
                return true;
            }
            if seen.contains(&party.id) {
                return false;
            }
            seen.push(party.id);
            if let Some((key, Turn::Queued)) = party.key {
                let holder = self.holder(key).expect("who else has it");
                return !self.has_way_out(party.id) && self.leads_to(goal, &Want::End(holder), seen);
            }
            let mut wants = party.wants.iter().filter(|want| !is_never(want));
            match (wants.next(), wants.next()) {
                (Some(want), None) => !self.has_way_out(party.id) && self.leads_to(goal, want, seen),
                _ => false,
            }
        })
    }
}

/// Tasks and turns.
impl Reference {
    pub(crate) fn add_party(&mut self, id: TaskId, kind: Kind, base: Option<ScopeId>) {
        self.parties.push(Party {
            id,
            kind,
            state: State::Running,
            wants: Vec::new(),
            number: 0,
            wake: None,
            key: None,
            cancelled: false,
            listens: false,
            base,
            open: Vec::new(),
        });
        if matches!(kind, Kind::Task(_)) {
            let number = self.next_number();
            self.wake(id, Wake::Start, number);
        }
    }

    /// The same with a key.
    pub(crate) fn add_keyed(&mut self, id: TaskId, runner: RunnerId, base: ScopeId, key: u8) {
        let holder = self.holder(key);
        self.add_party(id, Kind::Elsewhere(runner), Some(base));
        self.party(id).kind = Kind::Task(runner);
        let number = self.next_number();
        if holder.is_none() {
            self.party(id).key = Some((key, Turn::Holds));
            self.wake(id, Wake::Start, number);
        } else if self.is_cancelled(id) {
            self.party(id).key = Some((key, Turn::Left));
            self.wake(id, Wake::Cancelled, number);
        } else {
            let party = self.party(id);
            (party.state, party.number, party.key) = (State::Waiting, number, Some((key, Turn::Queued)));
        }
    }

    fn holder(&self, key: u8) -> Option<TaskId> {
        self.parties.iter().find(|party| party.key == Some((key, Turn::Holds))).map(|party| party.id)
    }

    pub(super) fn keys(&self) -> usize {
        self.parties.iter().filter(|party| matches!(party.key, Some((_, Turn::Holds)))).count()
    }

    pub(super) fn queued(&self) -> usize {
        self.parties.iter().filter(|party| matches!(party.key, Some((_, Turn::Queued)))).count()
    }

    fn pass_key(&mut self, key: u8) {
        let queued = self.parties.iter().filter(|party| party.key == Some((key, Turn::Queued)));
        if let Some(next) = queued.min_by_key(|party| party.number).map(|party| party.id) {
            let number = self.next_number();
            self.wake(next, Wake::Start, number);
            self.party(next).key = Some((key, Turn::Holds));
        }
    }

    /// Who may have the next turn.
    pub(crate) fn next(&self, runner: RunnerId) -> Vec<TaskId> {
        let mut line = self.ready.iter().filter(|entry| entry.0 == runner).peekable();
        let Some(&&(_, number, _)) = line.peek() else { return Vec::new() };
        line.filter(|entry| entry.1 == number).map(|entry| entry.2).collect()
    }

    pub(crate) fn take_turn(&mut self, id: TaskId) -> Wake<u64> {
        self.ready.retain(|entry| entry.2 != id);
        let cancelled = self.is_cancelled(id);
        let party = self.party(id);
        party.state = State::Running;
        match party.wake.take().expect("a reason") {
            Wake::Start | Wake::Turn if cancelled => Wake::Cancelled,
            wake => wake,
        }
    }

    pub(crate) fn give_way(&mut self, id: TaskId, runner: RunnerId) {
        let number = self.next_number();
        let party = self.party(id);
        (party.state, party.wake) = (State::Ready, Some(Wake::Turn));
        self.ready.push((runner, number, id));
    }

    pub(crate) fn finish(&mut self, id: TaskId) {
        while let Some(&scope) = self.party(id).open.last() {
            self.close_scope(id, scope);
        }
        self.wake_all(|want| matches!(want, Want::End(task) if *task == id), || Event::Ended);
        let base = self.party(id).base;
        let kind = self.party(id).kind;
        let key = self.party(id).key;
        self.parties.retain(|party| party.id != id);
        if let Some(base) = base.filter(|&base| self.members(base) == 0) {
            self.wake_all(|want| matches!(want, Want::Drain(scope) if *scope == base), || Event::Drained);
        }
        if let Some((key, Turn::Holds)) = key {
            self.pass_key(key);
        }
        if let Kind::Elsewhere(runner) = kind {
            self.call(runner);
        }
    }

    pub(crate) fn join(&mut self, id: TaskId, scope: ScopeId) {
        let party = self.party(id);
        (party.base, party.listens) = (Some(scope), true);
        self.settle();
    }

    pub(crate) fn fail(&mut self, id: TaskId) {
        let base = self.party(id).base;
        self.finish(id);
        base.into_iter().for_each(|scope| self.cancel_scope(scope));
    }

    pub(crate) fn base(&mut self, id: TaskId) -> Option<ScopeId> {
        self.party(id).base
    }

    pub(crate) fn is_awaited(&self, id: TaskId) -> bool {
        !self.waiters(|want| matches!(want, Want::End(task) if *task == id)).is_empty()
    }

    pub(crate) fn park(&mut self, runner: RunnerId) -> Option<Prospects> {
        if self.ready.iter().any(|entry| entry.0 == runner) {
            return None;
        }
        self.unpark(runner);
        self.parked.push(runner);
        let here: Vec<SourceId> = self.sources.iter().filter(|s| s.runner == runner).map(|s| s.id).collect();
        let at_source = |want: &Want<u64>| match want {
            Want::Readable(source) | Want::Writable(source) => here.contains(source),
            _ => false,
        };
        let elsewhere = |party: &&Party| party.kind == Kind::Elsewhere(runner);
        Some(Prospects {
            timer: self.timers(runner).first().map(|timer| timer.0),
            sources: self.waiters(at_source).len(),
            elsewhere: self.parties.iter().filter(elsewhere).count(),
        })
    }

    pub(crate) fn unpark(&mut self, runner: RunnerId) {
        self.parked.retain(|&other| other != runner);
    }
}
