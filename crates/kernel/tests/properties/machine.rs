//! Gives each step to the kernel and to the reference, and compares what they show.

use std::collections::HashMap;
use std::time::Duration;

use thistledown_kernel::{
    ChannelId, Direction, Event, Kernel, KeyId, Moment, Payload, RunnerId, ScopeId, SendRefused, SourceId,
    SpotId, Start, TaskId, Wake, Want,
};
use thistledown_testkit::{Chance, Counted, Counter};

use crate::reference::{Kind, Reference, State};

struct Toy;

impl Payload for Toy {
    type Body = Counted;
    type Value = Counted;
    type Waker = &'static str;
}

const RUNNERS: [&str; 2] = ["first", "second"];

pub(crate) struct Machine {
    kernel: Kernel<Toy>,
    reference: Reference,
    values: Counter,
    bodies: Counter,
    held: HashMap<TaskId, Counted>,
    runners: Vec<RunnerId>,
    /// Everyone who ever was.
    names: Vec<TaskId>,
    /// Where the last task of each key stood.
    lines: [KeyId; 3],
    now: Moment,
}

/// A wake with the numbers of values in their place.
fn plain(wake: Wake<Counted>) -> Wake<u64> {
    match wake {
        Wake::Start => Wake::Start,
        Wake::Turn => Wake::Turn,
        Wake::Cancelled => Wake::Cancelled,
        Wake::Event { branch, event } => Wake::Event { branch, event: plain_event(event) },
    }
}

fn plain_event(event: Event<Counted>) -> Event<u64> {
    match event {
        Event::Elapsed => Event::Elapsed,
        Event::Sent => Event::Sent,
        Event::Received(value) => Event::Received(value.number()),
        Event::Closed => Event::Closed,
        Event::Ended => Event::Ended,
        Event::Drained => Event::Drained,
        Event::Ready => Event::Ready,
        Event::Gone => Event::Gone,
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
        let mut machine = Self {
            kernel: Kernel::default(),
            reference: Reference::default(),
            values: Counter::default(),
            bodies: Counter::default(),
            held: HashMap::new(),
            runners: Vec::new(),
            names: Vec::new(),
            lines: [KeyId::default(); 3],
            now: Moment::default(),
        };
        for name in RUNNERS {
            let (runner, root) = machine.kernel.add_runner(name);
            machine.reference.add_root(root, runner);
            machine.runners.push(runner);
        }
        machine
    }

    pub(crate) fn step(&mut self, seed: u64) {
        let mut chance = Chance::new(seed);
        match chance.below(10) {
            0..=4 => {
                if let Some(task) = self.turn(&mut chance) {
                    (0..chance.below(3)).for_each(|_| self.act(task, &mut chance));
                    self.rest(task, &mut chance);
                }
            }
            5 => self.threads(&mut chance),
            6 => self.time(&mut chance),
            7 => self.sources(&mut chance),
            _ => self.outside(&mut chance),
        }
        self.compare();
    }

    /// Whose turn it is; it has to be one of those who may have it.
    fn turn(&mut self, chance: &mut Chance) -> Option<TaskId> {
        let runner = chance.pick(&self.runners)?;
        let next = self.reference.next(runner);
        let Some(turn) = self.kernel.next_turn(runner) else {
            assert_eq!(next, [], "nobody is ready");
            return None;
        };
        assert!(next.contains(&turn.task), "{:?} is not of {next:?}", turn.task);
        assert_eq!(plain(turn.wake), self.reference.take_turn(turn.task));
        self.held.insert(turn.task, turn.body);
        Some(turn.task)
    }

    /// Something that a task does in its turn.
    fn act(&mut self, task: TaskId, chance: &mut Chance) {
        match chance.below(4) {
            0 => {
                let deadline = chance.once_in(2).then(|| self.moment(chance));
                let shield = chance.once_in(3);
                let scope = self.kernel.open_scope(task, deadline, shield).expect("a task that lives");
                self.reference.open_scope(task, scope, deadline, shield);
            }
            1 => {
                if let Some(&scope) = self.reference.party(task).open.last() {
                    let end = self.kernel.close_scope(task, scope);
                    assert_eq!(end, Ok(self.reference.close_scope(task, scope)));
                }
            }
            _ => self.outside(chance),
        }
    }

    /// How a turn ends.
    fn rest(&mut self, task: TaskId, chance: &mut Chance) {
        let Kind::Task(runner) = self.reference.party(task).kind else { unreachable!("a task") };
        match chance.below(12) {
            0 => return self.finish(task),
            1 => {}
            _ => {
                let wants = self.wants(chance);
                if self.wait(task, wants) {
                    let body = self.held.remove(&task).expect("its body");
                    self.kernel.keep_body(task, body);
                    return;
                }
            }
        }
        let body = self.held.remove(&task).expect("its body");
        self.kernel.give_way(task, body);
        self.reference.give_way(task, runner);
    }

    fn finish(&mut self, task: TaskId) {
        self.held.remove(&task);
        self.kernel.finish(task);
        self.reference.finish(task);
    }

    fn wait(&mut self, party: TaskId, wants: Vec<Want<u64>>) -> bool {
        let counted: Vec<Want<Counted>> = wants.iter().map(|want| self.counted(want)).collect();
        let waits = self.kernel.wait(party, counted);
        assert_eq!(waits.is_ok(), self.reference.wait(party, wants).is_ok(), "{waits:?}");
        waits.is_ok()
    }

    fn counted(&self, want: &Want<u64>) -> Want<Counted> {
        match *want {
            Want::Until(at) => Want::Until(at),
            Want::Send(channel, number) => Want::Send(channel, self.values.make(number)),
            Want::Receive(channel) => Want::Receive(channel),
            Want::End(task) => Want::End(task),
            Want::Drain(scope) => Want::Drain(scope),
            Want::Readable(source) => Want::Readable(source),
            Want::Writable(source) => Want::Writable(source),
            Want::Called(spot) => Want::Called(spot),
        }
    }

    fn wants(&mut self, chance: &mut Chance) -> Vec<Want<u64>> {
        // Often enough for cycles: one that waits itself.
        let waits = self.any_party(chance, |kind, state| kind != Kind::Thread && state == State::Waiting);
        if let Some(task) = waits.filter(|_| chance.once_in(4)) {
            return vec![Want::End(task)];
        }
        let count = [1, 1, 1, 2, 2, 3, 0][chance.below(7)];
        (0..count).map(|place| self.want(place, chance)).collect()
    }

    fn want(&mut self, place: u64, chance: &mut Chance) -> Want<u64> {
        let want = match chance.below(14) {
            0..=2 => self.any_channel(chance).map(|id| Want::Send(id, self.new_number() + place)),
            3..=5 => self.any_channel(chance).map(Want::Receive),
            6 if chance.once_in(4) => chance.pick(&self.names).map(Want::End),
            6 | 7 => self.any_party(chance, |kind, _| kind != Kind::Thread).map(Want::End),
            8 => self.any_scope(chance).map(Want::Drain),
            9 => self.any_source(chance).map(Want::Readable),
            10 => self.any_source(chance).map(Want::Writable),
            11 | 12 => self.any_spot(chance).map(Want::Called),
            _ => None,
        };
        want.unwrap_or_else(|| {
            Want::Until(if chance.once_in(4) { Moment::NEVER } else { self.moment(chance) })
        })
    }

    fn new_number(&self) -> u64 {
        self.values.made() as u64
    }

    fn moment(&self, chance: &mut Chance) -> Moment {
        self.now.after(Duration::from_secs(chance.below(6) as u64))
    }

    fn any_channel(&self, chance: &mut Chance) -> Option<ChannelId> {
        chance.pick(&self.reference.channels.iter().map(|channel| channel.id).collect::<Vec<_>>())
    }

    fn any_scope(&self, chance: &mut Chance) -> Option<ScopeId> {
        chance.pick(&self.reference.scopes.iter().map(|scope| scope.id).collect::<Vec<_>>())
    }

    fn any_source(&self, chance: &mut Chance) -> Option<SourceId> {
        chance.pick(&self.reference.sources.iter().map(|source| source.id).collect::<Vec<_>>())
    }

    fn any_spot(&self, chance: &mut Chance) -> Option<SpotId> {
        chance.pick(&self.reference.spots.iter().map(|&(spot, _)| spot).collect::<Vec<_>>())
    }

    fn any_party(&self, chance: &mut Chance, such: impl Fn(Kind, State) -> bool) -> Option<TaskId> {
        let parties = self.reference.parties.iter().filter(|party| such(party.kind, party.state));
        chance.pick(&parties.map(|party| party.id).collect::<Vec<_>>())
    }

    /// Something that anybody may do at any time.
    fn outside(&mut self, chance: &mut Chance) {
        match chance.below(20) {
            0..=3 => self.spawn(chance),
            4 => {
                let capacity = chance.below(3);
                let id = self.kernel.open_channel(capacity);
                self.reference.open_channel(id, capacity);
            }
            5..=7 => {
                if let Some(id) = self.any_channel(chance) {
                    self.send(id);
                }
            }
            8..=10 => {
                if let Some(id) = self.any_channel(chance) {
                    let received = self.kernel.try_recv(id).map(|value| value.number());
                    assert_eq!(received, self.reference.try_recv(id));
                }
            }
            11 => {
                if let Some(id) = self.any_channel(chance).filter(|_| chance.once_in(3)) {
                    self.kernel.close_channel(id);
                    self.reference.close_channel(id);
                }
            }
            12 => {
                if let Some(id) = self.any_channel(chance).filter(|_| chance.once_in(3)) {
                    self.kernel.drop_channel(id);
                    self.reference.drop_channel(id);
                }
            }
            13 => self.elsewhere(chance),
            14..=17 => self.spots(chance),
            _ => self.cancel(chance),
        }
    }

    fn spots(&mut self, chance: &mut Chance) {
        match self.any_spot(chance).filter(|_| !chance.once_in(4)) {
            Some(id) if chance.once_in(6) => {
                self.kernel.drop_spot(id);
                self.reference.drop_spot(id);
            }
            Some(id) => assert_eq!(self.kernel.call(id), self.reference.call_spot(id)),
            None => self.reference.spots.push((self.kernel.open_spot(), false)),
        }
    }

    fn send(&mut self, id: ChannelId) {
        let number = self.new_number();
        let sent = match self.kernel.try_send(id, self.values.make(number)) {
            Ok(()) => Ok(()),
            Err(SendRefused::Full(back)) => Err((false, back)),
            Err(SendRefused::Closed(back)) => Err((true, back)),
        };
        let sent = sent.map_err(|(closed, back)| {
            assert_eq!(back.number(), number, "the value comes back");
            closed
        });
        assert_eq!(sent, self.reference.try_send(id, number));
    }

    fn spawn(&mut self, chance: &mut Chance) {
        let Some(scope) = self.any_scope(chance) else { return };
        let runner = self.reference.scopes.iter().find(|s| s.id == scope).expect("that one").runner;
        if runner == RunnerId::default() {
            return; // a thread's: it holds no tasks of runs
        }
        let (start, body) = (Start::InScope(scope), self.bodies.make(0));
        let task = if chance.once_in(2) {
            let key = chance.below(self.lines.len());
            let spawned = self.kernel.spawn_keyed(runner, start, self.lines[key], body);
            let (task, line) = spawned.expect("a scope");
            self.lines[key] = line;
            self.reference.add_keyed(task, runner, scope, u8::try_from(key).expect("few"));
            task
        } else {
            let task = self.kernel.spawn(runner, start, body).expect("a scope");
            self.reference.add_party(task, Kind::Task(runner), Some(scope));
            task
        };
        self.names.push(task);
    }

    fn elsewhere(&mut self, chance: &mut Chance) {
        match self.any_party(chance, |kind, _| matches!(kind, Kind::Elsewhere(_))) {
            Some(task) if chance.once_in(4) => self.finish(task),
            Some(task) if chance.once_in(3) => {
                self.kernel.fail(task);
                self.reference.fail(task);
            }
            Some(task) if chance.once_in(2) && self.reference.base(task).is_none() => {
                let scopes: Vec<_> = self.reference.scopes.iter().skip(RUNNERS.len()).map(|s| s.id).collect();
                if let Some(scope) = chance.pick(&scopes) {
                    assert_eq!(self.kernel.join(task, scope, "stop"), Ok(()));
                    self.reference.join(task, scope);
                }
            }
            _ => {
                let runner = chance.pick(&self.runners).expect("a runner");
                let task = self.kernel.add_elsewhere(Some(runner));
                self.reference.add_party(task, Kind::Elsewhere(runner), None);
                self.names.push(task);
            }
        }
    }

    fn cancel(&mut self, chance: &mut Chance) {
        if chance.once_in(2) {
            let task = self.any_party(chance, |_, _| true);
            if let Some(task) = task {
                assert!(self.kernel.cancel_task(task));
                self.reference.cancel_task(task);
            }
            return;
        }
        let parents: Vec<ScopeId> = self.reference.scopes.iter().skip(RUNNERS.len()).map(|s| s.id).collect();
        if let Some(scope) = chance.pick(&parents) {
            self.kernel.cancel_scope(scope);
            self.reference.cancel_scope(scope);
        }
    }

    /// A plain thread comes to wait, or leaves.
    fn threads(&mut self, chance: &mut Chance) {
        match self.any_party(chance, |kind, _| kind == Kind::Thread) {
            Some(thread) if chance.once_in(2) => self.thread_leaves(thread),
            Some(thread) if chance.once_in(2) => {
                self.kernel.expire_thread(thread, self.now);
                self.reference.expire_thread(thread, self.now);
            }
            _ => {
                let thread = self.kernel.add_thread("thread");
                self.reference.add_party(thread, Kind::Thread, None);
                for _ in 0..chance.below(3) {
                    let deadline = chance.once_in(2).then(|| self.moment(chance));
                    let shield = chance.once_in(3);
                    let scope = self.kernel.open_scope(thread, deadline, shield).expect("a thread");
                    self.reference.open_scope(thread, scope, deadline, shield);
                }
                let wants = self.wants(chance);
                if !self.wait(thread, wants) {
                    self.finish(thread);
                }
            }
        }
    }

    fn thread_leaves(&mut self, thread: TaskId) {
        assert_eq!(self.kernel.is_woken(thread), self.reference.party(thread).wake.is_some());
        let wake = self.kernel.withdraw(thread).map(plain);
        assert_eq!(wake, self.reference.withdraw(thread));
        self.finish(thread);
    }

    fn time(&mut self, chance: &mut Chance) {
        let runner = chance.pick(&self.runners).expect("a runner");
        match chance.below(3) {
            0 => {
                self.now = self.moment(chance);
                self.kernel.expire(runner, self.now);
                self.reference.expire(runner, self.now);
            }
            1 => assert_eq!(self.kernel.park(runner), self.reference.park(runner)),
            _ => {
                self.kernel.unpark(runner);
                self.reference.unpark(runner);
            }
        }
    }

    fn sources(&mut self, chance: &mut Chance) {
        let Some(id) = self.any_source(chance).filter(|_| !chance.once_in(6)) else {
            let runner = chance.pick(&self.runners).expect("a runner");
            let id = self.kernel.add_source(runner);
            return self.reference.add_source(id, runner);
        };
        let (read, write) = (chance.once_in(2), chance.once_in(2));
        match chance.below(16) {
            0 => {
                self.kernel.remove_source(id);
                self.reference.remove_source(id);
            }
            1 => {
                self.kernel.source_closed(id, read, write);
                self.reference.source_closed(id, read, write);
            }
            2..=5 => {
                self.kernel.source_became_ready(id, read, write);
                self.reference.source_became_ready(id, read, write);
            }
            _ => {
                let direction = if read { Direction::Read } else { Direction::Write };
                self.kernel.source_is_dry(id, direction);
                self.reference.source_is_dry(id, direction);
            }
        }
    }

    /// Both show the same.
    fn compare(&mut self) {
        let (values, bodies) = self.kernel.take_spent();
        let mut spent: Vec<u64> = values.into_iter().map(|value| value.number()).collect();
        let mut expected = std::mem::take(&mut self.reference.spent);
        spent.sort_unstable();
        expected.sort_unstable();
        assert_eq!((spent, bodies.len()), (expected, 0), "what is spent");
        assert_eq!(self.values.live(), self.reference.values(), "values that live");
        let name = |runner: Option<RunnerId>| {
            runner.map_or("thread", |id| RUNNERS[self.runners.iter().position(|&at| at == id).expect("one")])
        };
        let mut called: Vec<_> = std::mem::take(&mut self.reference.woken).into_iter().map(name).collect();
        let (told, mut woken): (Vec<_>, Vec<_>) =
            self.kernel.take_wakers().into_iter().partition(|&waker| waker == "stop");
        assert_eq!(told.len(), std::mem::take(&mut self.reference.told), "who is told to stop");
        called.sort_unstable();
        woken.sort_unstable();
        assert_eq!(woken, called, "who is woken");
        assert_eq!(format!("{:?}", self.kernel), self.reference.census(), "what is held");
        for &task in &self.names {
            assert_eq!(self.kernel.is_live(task), self.reference.is_live(task));
            assert_eq!(
                self.kernel.is_awaited(task),
                self.reference.is_live(task) && self.reference.is_awaited(task)
            );
        }
        for party in &self.reference.parties {
            if party.kind == Kind::Thread {
                assert_eq!(self.kernel.next_deadline(party.id), self.reference.next_deadline(party.id));
            }
            assert_eq!(
                self.kernel.is_cancelled(party.id),
                self.reference.is_cancelled(party.id),
                "{party:?}"
            );
        }
        for scope in &self.reference.scopes {
            assert_eq!(self.kernel.scope_state(scope.id), Some(scope.end));
            assert_eq!(self.kernel.scope_members(scope.id), self.reference.members(scope.id));
        }
        for channel in &self.reference.channels {
            assert_eq!(self.kernel.channel_state(channel.id), (channel.closed, channel.buffer.len()));
        }
        for source in &self.reference.sources {
            let of = |direction| self.kernel.source_is_ready(source.id, direction);
            assert_eq!((of(Direction::Read), of(Direction::Write)), (source.readable, source.writable));
        }
        for &runner in &self.runners {
            let tasks = self.reference.parties.iter().filter(|party| party.kind == Kind::Task(runner));
            assert_eq!(self.kernel.tasks(runner).count(), tasks.count());
        }
    }

    /// Everyone is cancelled and ends at the next turn; then nothing is left.
    pub(crate) fn ends(mut self) {
        let all: Vec<(TaskId, Kind)> = self.reference.parties.iter().map(|p| (p.id, p.kind)).collect();
        for (party, kind) in all {
            match kind {
                Kind::Task(_) => {}
                Kind::Thread => self.thread_leaves(party),
                Kind::Elsewhere(_) => self.finish(party),
            }
        }
        let scopes: Vec<ScopeId> = self.reference.scopes.iter().map(|scope| scope.id).collect();
        for scope in scopes {
            self.kernel.cancel_scope(scope);
            self.reference.cancel_scope(scope);
        }
        let mut chance = Chance::new(0);
        while self.runners.iter().any(|&runner| !self.kernel.is_over(runner)) {
            if let Some(task) = self.turn(&mut chance) {
                self.finish(task);
            }
        }
        while let Some(id) = self.any_channel(&mut chance) {
            self.kernel.drop_channel(id);
            self.reference.drop_channel(id);
        }
        while let Some(id) = self.any_source(&mut chance) {
            self.kernel.remove_source(id);
            self.reference.remove_source(id);
        }
        while let Some(id) = self.any_spot(&mut chance) {
            self.kernel.drop_spot(id);
            self.reference.drop_spot(id);
        }
        self.compare();
        assert!(self.reference.parties.is_empty());
        self.runners.iter().for_each(|&runner| self.kernel.remove_runner(runner));
        assert_eq!(format!("{:?}", self.kernel), format!("{:?}", Kernel::<Toy>::default()));
        assert_eq!((self.values.live(), self.bodies.live()), (0, 0), "values and bodies that live");
    }
}
