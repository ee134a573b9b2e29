//! A runner's loop: give turns, look at the operating system now and then, sleep when nobody is ready.

use std::io;
use std::time::Duration;

use thistledown_kernel::{Kernel, Moment, Payload, Prospects, RunnerId, SourceId, TaskId, Turn};
use thistledown_reactor::{Poller, Ready};

use crate::clock::Clock;
use crate::watchdog::Watched;
use crate::world::{Wakes, World};

/// How a turn ended.
#[derive(Debug)]
pub enum Rest<B> {
    /// The task is ready, and stands behind everyone who is.
    GaveWay(B),
    /// The task waits: the host has enlisted it.
    Waits(B),
    /// The task has ended.
    Ended,
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    GoOn,
    /// It ends now, whatever still lives in it.
    Abandon,
}

/// Who gives the turns: the language whose bodies the tasks have.
pub trait Host<P: Payload> {
    /// Gives a task its turn. When it then waits, it has been enlisted with the kernel.
    fn turn(&mut self, turn: Turn<P::Body, P::Value>) -> Rest<P::Body>;

    /// Sleeps in `sleep`, having let go of whatever other threads need.
    fn idle(&mut self, sleep: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()>;

    /// After each look at the operating system: signals.
    fn pulse(&mut self) -> Flow;

    /// Something that the host has registered itself became ready. False: it is none of the host's.
    fn reported(&mut self, _token: u64) -> bool {
        false
    }

    /// Before each look: whether a turn has decided that the run ends.
    fn flow(&mut self) -> Flow {
        Flow::GoOn
    }

    /// Nothing of this run can happen any more by itself. How long to sleep before asking again; nothing when the
    /// host has seen to it that something happens.
    fn stuck(&mut self) -> Option<Duration>;
}

/// Turns between two looks at the operating system, so that a look comes about every [`Pace::TARGET`]: often enough
/// for whoever waits for a socket, seldom enough to cost nothing.
struct Pace {
    turns: u32,
    left: u32,
    last: Moment,
}

impl Pace {
    const TARGET: Duration = Duration::from_micros(200);
    const LIMIT: u32 = 512;

    fn new(now: Moment) -> Self {
        Self { turns: 8, left: 8, last: now }
    }

    #[inline]
    fn is_due(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// Time asleep says nothing of what turns take.
    fn slept(&mut self, now: Moment) {
        self.left = self.turns;
        self.last = now;
    }

    fn looked(&mut self, now: Moment) {
        let took = now.since(self.last).as_nanos().max(1);
        let given = u128::from(self.turns - self.left);
        let fit = given * Self::TARGET.as_nanos() / took;
        let fit = u32::try_from(fit).unwrap_or(Self::LIMIT);
        self.turns = fit.clamp(1, (self.turns * 4).min(Self::LIMIT));
        self.left = self.turns;
        self.last = now;
    }
}

/// What a runner's loop works with.
pub(crate) struct Runner<'a, P: Payload, R> {
    pub(crate) world: &'a World<P>,
    pub(crate) id: RunnerId,
    pub(crate) poller: &'a mut R,
    pub(crate) clock: &'a Clock,
    pub(crate) watched: &'a Watched,
    pub(crate) ready: Vec<Ready>,
}

/// Runs until no task lives in the runner's run, or the host abandons it.
pub fn run<P, R, H>(
    world: &World<P>,
    id: RunnerId,
    poller: &mut R,
    clock: &Clock,
    watched: &Watched,
    host: &mut H,
) -> io::Result<Flow>
where
    P: Payload<Waker: Wakes>,
    R: Poller + Send,
    H: Host<P>,
{
    let mut runner = Runner { world, id, poller, clock, watched, ready: Vec::new() };
    let begins = clock.now();
    world.with(|kernel| kernel.expire(id, begins));
    let mut pace = Pace::new(begins);
    let mut rest: Option<(TaskId, Rest<P::Body>)> = None;
    loop {
        let turn = world.with(|kernel| {
            conclude(kernel, rest.take());
            kernel.next_turn(id)
        });
        let flow = match turn {
            Some(turn) => {
                watched.turn_begins();
                let task = turn.task;
                rest = Some((task, host.turn(turn)));
                watched.turn_ends();
                if !pace.is_due() {
                    continue;
                }
                let flow = runner.look(host);
                pace.looked(clock.now());
                flow.map(Some)
            }
            None => {
                let flow = runner.sleep(host);
                pace.slept(clock.now());
                flow
            }
        };
        if !matches!(flow, Ok(Some(Flow::GoOn))) {
            world.with(|kernel| conclude(kernel, rest.take()));
            return flow.map(|flow| flow.unwrap_or(Flow::GoOn));
        }
    }
}

/// Tells the kernel how a turn ended.
#[inline(always)]
pub(crate) fn conclude<P: Payload>(kernel: &mut Kernel<P>, rest: Option<(TaskId, Rest<P::Body>)>) {
    match rest {
        Some((task, Rest::GaveWay(body))) => kernel.give_way(task, body),
        Some((task, Rest::Waits(body))) => kernel.keep_body(task, body),
        Some((task, Rest::Ended)) => kernel.finish(task),
        None => {}
    }
}

impl<P, R> Runner<'_, P, R>
where
    P: Payload<Waker: Wakes>,
    R: Poller + Send,
{
    /// Looks at the operating system without sleeping.
    fn look<H: Host<P>>(&mut self, host: &mut H) -> io::Result<Flow> {
        if host.flow() == Flow::Abandon {
            return Ok(Flow::Abandon);
        }
        self.poller.poll(Some(Duration::ZERO), &mut self.ready)?;
        self.wake(host);
        Ok(host.pulse())
    }

    /// Sleeps until something happens. Nothing comes back when the run is over.
    fn sleep<H: Host<P>>(&mut self, host: &mut H) -> io::Result<Option<Flow>> {
        enum Next {
            Over,
            Ready,
            Sleep(Prospects),
        }
        if host.flow() == Flow::Abandon {
            return Ok(Some(Flow::Abandon));
        }
        let now = self.clock.now();
        let next = self.world.with(|kernel| {
            kernel.expire(self.id, now);
            match kernel.park(self.id) {
                None => Next::Ready,
                Some(_) if kernel.is_over(self.id) => Next::Over,
                Some(prospects) => Next::Sleep(prospects),
            }
        });
        let prospects = match next {
            Next::Over => return Ok(None),
            Next::Ready => return Ok(Some(Flow::GoOn)),
            Next::Sleep(prospects) => prospects,
        };
        self.watched.rests();
        let timeout = match prospects {
            Prospects { timer: Some(at), elsewhere: 0, .. } if self.clock.is_virtual() => {
                self.poller.poll(Some(Duration::ZERO), &mut self.ready)?;
                if self.ready.is_empty() {
                    self.clock.jump_to(at);
                }
                Some(Duration::ZERO)
            }
            Prospects { timer: Some(_), .. } if self.clock.is_virtual() => None,
            Prospects { timer: Some(at), .. } => Some(at.since(now)),
            Prospects { sources: 0, elsewhere: 0, .. } => match host.stuck() {
                Some(timeout) => Some(timeout),
                None => Some(Duration::ZERO),
            },
            _ => None,
        };
        let (poller, ready) = (&mut *self.poller, &mut self.ready);
        if timeout == Some(Duration::ZERO) {
            poller.poll(timeout, ready)?;
        } else {
            host.idle(|| poller.poll(timeout, ready))?;
        }
        self.watched.wakes();
        self.wake(host);
        Ok(Some(host.pulse()))
    }

    /// Passes on what the operating system reported, and what time has brought.
    pub(crate) fn wake<H: Host<P>>(&mut self, host: &mut H) {
        let now = self.clock.now();
        self.ready.retain(|ready| !host.reported(ready.token));
        self.world.with(|kernel| {
            kernel.unpark(self.id);
            for ready in self.ready.drain(..) {
                let source = SourceId::from_number(ready.token);
                if ready.read_closed || ready.write_closed {
                    kernel.source_closed(source, ready.read_closed, ready.write_closed);
                }
                if ready.urgent {
                    kernel.source_is_urgent(source);
                }
                kernel.source_became_ready(source, ready.readable, ready.writable);
            }
            kernel.expire(self.id, now);
        });
    }
}
