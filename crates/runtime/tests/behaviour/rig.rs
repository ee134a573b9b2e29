//! A world whose bodies are closures and whose values are numbers, and a host that gives them their turns.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thistledown_kernel::{Kernel, Payload, RunnerId, ScopeId, SourceId, Start, TaskId, Turn, Wake, Want};
use thistledown_reactor::Poller;
use thistledown_runtime::{Clock, Flow, Host, ParkerWaker, Rest, Wakes, Watched, World, run};

/// What a body does when it has had its turn.
pub(crate) enum Next {
    GiveWay,
    Wait(Vec<Want<u64>>),
    End,
}

pub(crate) type Body = Box<dyn FnMut(&Toys, Wake<u64>) -> Next + Send>;

pub(crate) struct Toy;

impl Payload for Toy {
    type Body = Body;
    type Value = u64;
    type Waker = Call;
}

pub(crate) type Toys = World<Toy>;

#[derive(Clone)]
pub(crate) enum Call {
    Nobody,
    Reactor(thistledown_reactor::Waker),
    Thread(ParkerWaker),
}

impl Wakes for Call {
    fn wake(&self) {
        match self {
            Self::Nobody => {}
            Self::Reactor(waker) => waker.wake(),
            Self::Thread(waker) => waker.wake(),
        }
    }
}

type Asked = Box<dyn FnMut(&Toys) -> Option<Duration>>;
type Pulse = Box<dyn FnMut() -> Flow>;
type Idle = Box<dyn FnMut(&Toys)>;

/// Gives turns, and does what a test wants done at the loop's other calls.
pub(crate) struct TestHost<'a> {
    world: &'a Toys,
    pub(crate) on_pulse: Pulse,
    pub(crate) on_idle: Idle,
    pub(crate) when_stuck: Asked,
    pub(crate) turns: usize,
}

impl<'a> TestHost<'a> {
    pub(crate) fn new(world: &'a Toys) -> Self {
        Self {
            world,
            on_pulse: Box::new(|| Flow::GoOn),
            on_idle: Box::new(|_| {}),
            when_stuck: Box::new(|_| panic!("nothing can happen any more")),
            turns: 0,
        }
    }
}

impl Host<Toy> for TestHost<'_> {
    fn turn(&mut self, turn: Turn<Body, u64>) -> Rest<Body> {
        self.turns += 1;
        let Turn { task, mut body, wake } = turn;
        match body(self.world, wake) {
            Next::GiveWay => Rest::GaveWay(body),
            Next::End => Rest::Ended,
            Next::Wait(wants) => {
                self.world.with(|kernel| kernel.wait(task, wants)).expect("no cycle");
                Rest::Waits(body)
            }
        }
    }

    fn idle(&mut self, sleep: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
        (self.on_idle)(self.world);
        sleep()
    }

    fn pulse(&mut self) -> Flow {
        (self.on_pulse)()
    }

    fn stuck(&mut self) -> Option<Duration> {
        (self.when_stuck)(self.world)
    }
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, what: impl Into<String>) {
        self.0.lock().expect("a log").push(what.into());
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.0.lock().expect("a log").clone()
    }
}

/// A world with one runner.
pub(crate) struct Rig {
    pub(crate) world: Arc<Toys>,
    pub(crate) runner: RunnerId,
    pub(crate) root: ScopeId,
    pub(crate) clock: Arc<Clock>,
}

impl Rig {
    /// On a virtual clock, called by nobody.
    pub(crate) fn new() -> Self {
        Self::in_world(Arc::default(), Call::Nobody)
    }

    pub(crate) fn in_world(world: Arc<Toys>, call: Call) -> Self {
        let (runner, root) = world.with(|kernel| kernel.add_runner(call));
        Self { world, runner, root, clock: Arc::new(Clock::new_virtual()) }
    }

    pub(crate) fn spawn(&self, body: impl FnMut(&Toys, Wake<u64>) -> Next + Send + 'static) -> TaskId {
        let body: Body = Box::new(body);
        let spawned = self.world.with(|kernel| kernel.spawn(self.runner, Start::InRun, body));
        spawned.unwrap_or_else(|_| panic!("a runner"))
    }

    /// A task that waits for each of these in turn, and writes down why it had its turns.
    pub(crate) fn spawn_waits(&self, log: &Log, name: &'static str, waits: Vec<Vec<Want<u64>>>) -> TaskId {
        let log = log.clone();
        let mut waits = waits.into_iter();
        self.spawn(move |_, wake| {
            log.add(format!("{name} {wake:?}"));
            waits.next().map_or(Next::End, Next::Wait)
        })
    }

    /// A source that is not ready.
    pub(crate) fn dry_source(&self) -> SourceId {
        self.world.with(|kernel| {
            let source = kernel.add_source(self.runner);
            kernel.source_is_dry(source, thistledown_kernel::Direction::Read);
            source
        })
    }

    pub(crate) fn host(&self) -> TestHost<'_> {
        TestHost::new(&self.world)
    }

    pub(crate) fn run<R: Poller + Send>(&self, poller: &mut R, host: &mut TestHost<'_>) -> io::Result<Flow> {
        run(&self.world, self.runner, poller, &self.clock, &Watched::by_nobody(), host)
    }

    /// The runner is taken away, and nothing is left in the world.
    #[track_caller]
    pub(crate) fn leaves_nothing(self) {
        self.world.with(|kernel| kernel.remove_runner(self.runner));
        let census = self.world.with(|kernel| format!("{kernel:?}"));
        assert_eq!(census, format!("{:?}", Kernel::<Toy>::default()));
    }
}

/// A moment on the virtual clock.
pub(crate) fn at(seconds: u64) -> thistledown_kernel::Moment {
    thistledown_kernel::Moment::after_epoch(Duration::from_secs(seconds))
}
