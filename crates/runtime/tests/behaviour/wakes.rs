//! Wakes between threads, on the operating system's own reactor.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use thistledown_kernel::{ChannelId, Event, Kernel, Wake, Want};
use thistledown_reactor::Reactor;
use thistledown_runtime::{Clock, Parked, Parker};

use crate::rig::{Call, Log, Next, Rig, Toy, Toys};

/// Longer than any test may take: only a wake ends such a sleep.
const FOR_EVER: Duration = Duration::from_secs(86_400);

fn rig_with_reactor(world: Arc<Toys>) -> (Rig, Reactor) {
    let reactor = Reactor::new().expect("a reactor");
    let mut rig = Rig::in_world(world, Call::Reactor(reactor.waker()));
    rig.clock = Arc::new(Clock::System);
    (rig, reactor)
}

#[test]
fn a_run_that_sleeps_is_woken_by_another_thread() {
    let (rig, mut reactor) = rig_with_reactor(Arc::default());
    let channel = rig.world.with(|kernel| kernel.open_channel(0));
    let log = Log::default();
    rig.spawn_waits(&log, "task", vec![vec![Want::Receive(channel)]]);
    let (sleeps, asleep) = mpsc::channel();
    let world = Arc::clone(&rig.world);
    let sender = thread::spawn(move || {
        asleep.recv().expect("a run that sleeps");
        world.with(|kernel| kernel.try_send(channel, 7)).expect("somebody who waits");
    });
    let mut host = rig.host();
    host.when_stuck = Box::new(|_| Some(FOR_EVER));
    host.on_idle = Box::new(move |_| sleeps.send(()).unwrap_or_default());
    rig.run(&mut reactor, &mut host).expect("a run");
    drop(host);
    sender.join().expect("the sender");
    assert_eq!(log.entries(), ["task Start", "task Event { branch: 0, event: Received(7) }"]);
    rig.world.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

/// A plain thread waits until the value is taken.
fn send(world: &Toys, parker: &mut Parker, channel: ChannelId, value: u64) {
    let waker = Call::Thread(parker.waker());
    let party = world.with(|kernel| {
        let party = kernel.add_thread(waker);
        kernel.wait(party, [Want::Send(channel, value)]).expect("no cycle");
        party
    });
    while !world.with(|kernel| kernel.is_woken(party)) {
        assert_eq!(parker.sleep(&[], Some(FOR_EVER)).expect("a sleep"), Parked::Woken);
    }
    let wake = world.with(|kernel| {
        let wake = kernel.withdraw(party);
        kernel.finish(party);
        wake
    });
    assert_eq!(wake, Some(Wake::Event { branch: 0, event: Event::Sent }));
}

#[test]
fn what_threads_send_to_a_task_arrives_once_and_in_order() {
    const THREADS: u64 = 3;
    const EACH: u64 = 500;
    let (rig, mut reactor) = rig_with_reactor(Arc::default());
    let channel = rig.world.with(|kernel| kernel.open_channel(0));
    let (seen, received) = mpsc::channel();
    let mut left = THREADS * EACH;
    rig.spawn(move |_, wake| {
        if let Wake::Event { event: Event::Received(value), .. } = wake {
            seen.send(value).expect("a listener");
            left -= 1;
        }
        if left == 0 { Next::End } else { Next::Wait(vec![Want::Receive(channel)]) }
    });
    let senders: Vec<_> = (0..THREADS)
        .map(|thread| {
            let world = Arc::clone(&rig.world);
            thread::spawn(move || {
                let mut parker = Parker::new().expect("a parker");
                (0..EACH).for_each(|number| send(&world, &mut parker, channel, thread * EACH + number));
            })
        })
        .collect();
    let mut host = rig.host();
    host.when_stuck = Box::new(|_| Some(FOR_EVER));
    rig.run(&mut reactor, &mut host).expect("a run");
    drop(host);
    senders.into_iter().for_each(|sender| sender.join().expect("a sender"));
    let mut lines = vec![VecDeque::new(); 3];
    received.try_iter().for_each(|value| lines[usize::try_from(value / EACH).expect("few")].push_back(value));
    for (thread, line) in (0..).zip(lines) {
        assert!(line.iter().copied().eq(thread * EACH..(thread + 1) * EACH), "{line:?}");
    }
    rig.world.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn two_runs_in_two_threads_wake_each_other() {
    const ROUNDS: u64 = 500;
    let world: Arc<Toys> = Arc::default();
    let [there, back] = [0; 2].map(|capacity| world.with(|kernel| kernel.open_channel(capacity)));
    let (ended, rounds) = mpsc::channel();
    let play = |first: Want<u64>, out: ChannelId, from: ChannelId| {
        let (rig, mut reactor) = rig_with_reactor(Arc::clone(&world));
        let mut first = Some(first);
        let mut last = 0;
        let ended = ended.clone();
        rig.spawn(move |_, wake| match wake {
            Wake::Event { event: Event::Received(round), .. } if round < ROUNDS => {
                last = round + 1;
                Next::Wait(vec![Want::Send(out, last)])
            }
            Wake::Event { event: Event::Sent, .. } if last < ROUNDS => Next::Wait(vec![Want::Receive(from)]),
            Wake::Event { event: Event::Received(_) | Event::Sent, .. } => {
                ended.send(last).expect("a listener");
                Next::End
            }
            _ => Next::Wait(first.take().into_iter().collect()),
        });
        thread::spawn(move || {
            let mut host = rig.host();
            host.when_stuck = Box::new(|_| Some(FOR_EVER));
            rig.run(&mut reactor, &mut host).expect("a run");
            drop(host);
            rig.world.with(|kernel| kernel.remove_runner(rig.runner));
        })
    };
    let players = [play(Want::Send(there, 0), there, back), play(Want::Receive(there), back, there)];
    players.into_iter().for_each(|player| player.join().expect("a player"));
    let mut rounds: Vec<u64> = rounds.try_iter().collect();
    rounds.sort_unstable();
    assert_eq!(rounds, [ROUNDS - 1, ROUNDS]);
    for channel in [there, back] {
        world.with(|kernel| kernel.drop_channel(channel));
    }
    let census = world.with(|kernel| format!("{kernel:?}"));
    assert_eq!(census, format!("{:?}", Kernel::<Toy>::default()));
}
