//! A runner as the guest of another event loop: its own loop, cut into visits.
//!
//! A visit looks at the operating system once without sleeping, gives turns until nobody is ready or the slice of time
//! is used up, and goes. It never sleeps: the other loop does, and watches the reactor's descriptor meanwhile. Between
//! visits the runner is parked (`Kernel::park`), which is its owner's part, so that a wake reaches that descriptor.

use std::io;
use std::time::Duration;

use thistledown_kernel::{Payload, RunnerId, TaskId};
use thistledown_reactor::Poller;

use crate::clock::Clock;
use crate::run::{Flow, Host, Rest, Runner, conclude};
use crate::watchdog::Watched;
use crate::world::{Wakes, World};

/// Turns between two looks at the clock.
const TURNS: u32 = 16;

/// Visits a runner. Not for longer than a slice and a few turns.
pub fn visit<P, R, H>(
    world: &World<P>,
    id: RunnerId,
    poller: &mut R,
    clock: &Clock,
    watched: &Watched,
    host: &mut H,
    slice: Duration,
) -> io::Result<Flow>
where
    P: Payload<Waker: Wakes>,
    R: Poller + Send,
    H: Host<P>,
{
    let mut runner = Runner { world, id, poller, clock, watched, ready: Vec::new() };
    runner.poller.poll(Some(Duration::ZERO), &mut runner.ready)?;
    runner.wake(host);
    let until = clock.now().after(slice);
    let mut rest: Option<(TaskId, Rest<P::Body>)> = None;
    let mut turns = 0;
    loop {
        let is_over = turns % TURNS == TURNS - 1 && clock.now() >= until;
        let turn = world.with(|kernel| {
            conclude(kernel, rest.take());
            if is_over { None } else { kernel.next_turn(id) }
        });
        let Some(turn) = turn else { break };
        if turns == 0 {
            watched.wakes();
        }
        turns += 1;
        watched.turn_begins();
        rest = Some((turn.task, host.turn(turn)));
        watched.turn_ends();
        if host.flow() == Flow::Abandon {
            world.with(|kernel| conclude(kernel, rest.take()));
            break;
        }
    }
    if turns > 0 {
        watched.rests();
    }
    Ok(host.flow())
}
