//! A kernel, one runner, and a host that holds the bodies of tasks which have their turn.

use std::collections::HashMap;
use std::time::Duration;

use thistledown_kernel::{
    ChannelId, Cycle, Kernel, KeyId, Moment, Payload, RecvRefused, RunnerId, ScopeId, SendRefused, Start,
    TaskId, Wake, Want,
};
use thistledown_testkit::{Counted, Counter};

pub(crate) struct Toy;

impl Payload for Toy {
    type Body = Counted;
    type Value = Counted;
    type Waker = &'static str;
}

pub(crate) struct Rig {
    kernel: Kernel<Toy>,
    values: Counter,
    bodies: Counter,
    pub(crate) runner: RunnerId,
    pub(crate) root: ScopeId,
    held: HashMap<TaskId, Counted>,
}

pub(crate) fn at(seconds: u64) -> Moment {
    Moment::after_epoch(Duration::from_secs(seconds))
}

/// A wake with the numbers of values in their place.
pub(crate) fn plain(wake: Wake<Counted>) -> Wake<u64> {
    use thistledown_kernel::Event::{Closed, Drained, Elapsed, Ended, Gone, Ready, Received, Sent};
    match wake {
        Wake::Start => Wake::Start,
        Wake::Turn => Wake::Turn,
        Wake::Cancelled => Wake::Cancelled,
        Wake::Event { branch, event } => {
            let event = match event {
                Elapsed => Elapsed,
                Sent => Sent,
                Received(value) => Received(value.number()),
                Closed => Closed,
                Ended => Ended,
                Drained => Drained,
                Ready => Ready,
                Gone => Gone,
            };
            Wake::Event { branch, event }
        }
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        let mut kernel = Kernel::default();
        let (runner, root) = kernel.add_runner("runner");
        Self {
            kernel,
            values: Counter::default(),
            bodies: Counter::default(),
            runner,
            root,
            held: HashMap::new(),
        }
    }

    /// Does something with the kernel, which must drop nothing while it does.
    #[track_caller]
    pub(crate) fn with<R>(&mut self, work: impl FnOnce(&mut Kernel<Toy>) -> R) -> R {
        let before = (self.values.dropped(), self.bodies.dropped());
        let result = work(&mut self.kernel);
        assert_eq!((self.values.dropped(), self.bodies.dropped()), before, "dropped inside of the kernel");
        result
    }

    pub(crate) fn value(&self, number: u64) -> Counted {
        self.values.make(number)
    }

    pub(crate) fn live_values(&self) -> usize {
        self.values.live()
    }

    /// A want to send this number.
    pub(crate) fn sending(&self, channel: ChannelId, number: u64) -> Want<Counted> {
        Want::Send(channel, self.value(number))
    }

    pub(crate) fn spawn(&mut self) -> TaskId {
        self.spawn_as(self.runner, Start::InRun)
    }

    pub(crate) fn spawn_in(&mut self, scope: ScopeId) -> TaskId {
        self.spawn_as(self.runner, Start::InScope(scope))
    }

    pub(crate) fn spawn_as(&mut self, runner: RunnerId, start: Start) -> TaskId {
        let body = self.bodies.make(0);
        self.with(|kernel| kernel.spawn(runner, start, body)).expect("a runner and a scope")
    }

    /// A task of the key whose last one stood in this line.
    pub(crate) fn spawn_keyed(&mut self, line: &mut KeyId) -> TaskId {
        self.spawn_keyed_as(self.runner, Start::InRun, line)
    }

    pub(crate) fn spawn_keyed_in(&mut self, scope: ScopeId, line: &mut KeyId) -> TaskId {
        self.spawn_keyed_as(self.runner, Start::InScope(scope), line)
    }

    pub(crate) fn spawn_keyed_as(&mut self, runner: RunnerId, start: Start, line: &mut KeyId) -> TaskId {
        let body = self.bodies.make(0);
        let spawned = self.with(|kernel| kernel.spawn_keyed(runner, start, *line, body));
        let (task, now) = spawned.expect("a runner and a scope");
        *line = now;
        task
    }

    /// A task that has its turn.
    #[track_caller]
    pub(crate) fn running(&mut self) -> TaskId {
        let task = self.spawn();
        self.has_turn(task, Wake::Start);
        task
    }

    /// A member of the scope that has its turn.
    #[track_caller]
    pub(crate) fn running_in(&mut self, scope: ScopeId) -> TaskId {
        let task = self.spawn_in(scope);
        self.has_turn(task, Wake::Start);
        task
    }

    /// A task that waits for these.
    #[track_caller]
    pub(crate) fn waiting(&mut self, wants: impl IntoIterator<Item = Want<Counted>>) -> TaskId {
        let task = self.running();
        self.wait(task, wants);
        task
    }

    /// A task that waits for a value from this channel.
    #[track_caller]
    pub(crate) fn receiver(&mut self, channel: ChannelId) -> TaskId {
        self.waiting([Want::Receive(channel)])
    }

    /// A task that waits to send a value to this channel.
    #[track_caller]
    pub(crate) fn sender(&mut self, channel: ChannelId, number: u64) -> TaskId {
        let want = self.sending(channel, number);
        self.waiting([want])
    }

    #[track_caller]
    pub(crate) fn wait(&mut self, task: TaskId, wants: impl IntoIterator<Item = Want<Counted>>) {
        self.try_wait(task, wants).expect("no cycle");
    }

    #[track_caller]
    pub(crate) fn try_wait(
        &mut self,
        task: TaskId,
        wants: impl IntoIterator<Item = Want<Counted>>,
    ) -> Result<(), Cycle> {
        self.with(|kernel| kernel.wait(task, wants))?;
        if self.held.contains_key(&task) {
            self.keep_body(task);
        }
        Ok(())
    }

    pub(crate) fn give_way(&mut self, task: TaskId) {
        let body = self.held.remove(&task).expect("a task that has its turn");
        self.with(|kernel| kernel.give_way(task, body));
    }

    /// The body of a task comes back as that of one that waits.
    pub(crate) fn keep_body(&mut self, task: TaskId) {
        let body = self.held.remove(&task).expect("a task that has its turn");
        self.with(|kernel| kernel.keep_body(task, body));
    }

    pub(crate) fn finish(&mut self, task: TaskId) {
        self.held.remove(&task);
        self.with(|kernel| kernel.finish(task));
    }

    /// Whose turn it is, and why; it keeps the turn until it waits, gives way or finishes.
    #[track_caller]
    pub(crate) fn turn_of(&mut self, runner: RunnerId) -> Option<(TaskId, Wake<u64>)> {
        let turn = self.with(|kernel| kernel.next_turn(runner))?;
        self.held.insert(turn.task, turn.body);
        Some((turn.task, plain(turn.wake)))
    }

    #[track_caller]
    pub(crate) fn turn(&mut self) -> Option<(TaskId, Wake<u64>)> {
        self.turn_of(self.runner)
    }

    /// The next turn is this one.
    #[track_caller]
    pub(crate) fn has_turn(&mut self, task: TaskId, wake: Wake<u64>) {
        assert_eq!(self.turn(), Some((task, wake)));
    }

    /// The next turn is this one; the task ends in it.
    #[track_caller]
    pub(crate) fn ends_with(&mut self, task: TaskId, wake: Wake<u64>) {
        self.has_turn(task, wake);
        self.finish(task);
    }

    /// A task that waits is cancelled, and ends.
    #[track_caller]
    pub(crate) fn finish_by_cancelling(&mut self, task: TaskId) {
        assert!(self.with(|kernel| kernel.cancel_task(task)), "it lives");
        self.ends_with(task, Wake::Cancelled);
    }

    #[track_caller]
    pub(crate) fn nobody_is_ready(&mut self) {
        assert_eq!(self.turn(), None);
    }

    #[track_caller]
    pub(crate) fn send(&mut self, channel: ChannelId, number: u64) -> Result<(), SendRefused<u64>> {
        let value = self.value(number);
        self.with(|kernel| kernel.try_send(channel, value)).map_err(|refused| match refused {
            SendRefused::Full(value) => SendRefused::Full(value.number()),
            SendRefused::Closed(value) => SendRefused::Closed(value.number()),
        })
    }

    #[track_caller]
    pub(crate) fn receive(&mut self, channel: ChannelId) -> Result<u64, RecvRefused> {
        self.with(|kernel| kernel.try_recv(channel)).map(|value| value.number())
    }

    /// Which values are spent since the last time.
    pub(crate) fn spent(&mut self) -> Vec<u64> {
        let (values, _) = self.with(Kernel::take_spent);
        values.iter().map(Counted::number).collect()
    }

    /// Whom to wake since the last time.
    pub(crate) fn woken(&mut self) -> Vec<&'static str> {
        self.with(Kernel::take_wakers)
    }

    /// What the kernel holds, in its own words.
    pub(crate) fn census(&self) -> String {
        format!("{:?}", self.kernel)
    }

    /// Ends the test: the runner is taken away, and nothing is left.
    #[track_caller]
    pub(crate) fn leaves_nothing(mut self) {
        let runner = self.runner;
        self.with(|kernel| kernel.remove_runner(runner));
        self.held.clear();
        self.spent();
        assert_eq!(self.census(), format!("{:?}", Kernel::<Toy>::default()));
        assert_eq!((self.values.live(), self.bodies.live()), (0, 0), "values and bodies that live");
    }
}

/// What a wait committed to.
macro_rules! event {
    ($branch:literal, $event:ident $(($value:expr))?) => {
        thistledown_kernel::Wake::Event { branch: $branch, event: thistledown_kernel::Event::$event $(($value))? }
    };
}
pub(crate) use event;
