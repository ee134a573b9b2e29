//! Models of what threads share: loom tries every order in which the threads can go on.
//!
//! `make model` runs them. A wake-up that is lost shows as a deadlock.
#![cfg(loom)]
#![allow(unsafe_code, reason = "a model looks at a value without asking who else does")]

use std::io;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use thistledown_kernel::{
    ChannelId, Event, Moment, Payload, RecvRefused, RunnerId, SendRefused, Start, TaskId, Turn, Wake, Want,
};
use thistledown_reactor::{Poller, Ready};
use thistledown_runtime::{
    Clock, Flow, Host, Lock, Name, Rest, SharedSpace, Wakes, Watchdog, Watched, World, run,
};
use thistledown_space::{Field, How, Template, Value, Wanted};

struct Toy;

impl Payload for Toy {
    type Body = Vec<Want<u64>>;
    type Value = u64;
    type Waker = Bed;
}

/// Where a thread of the model sleeps.
#[derive(Clone, Default)]
struct Bed(Arc<(Mutex<bool>, Condvar)>);

impl Bed {
    fn sleep(&self) {
        let (woken, changed) = &*self.0;
        let mut woken = woken.lock().expect("no panic under the lock");
        while !std::mem::take(&mut *woken) {
            woken = changed.wait(woken).expect("no panic under the lock");
        }
    }
}

impl Wakes for Bed {
    fn wake(&self) {
        let (woken, changed) = &*self.0;
        *woken.lock().expect("no panic under the lock") = true;
        changed.notify_one();
    }
}

/// Nothing is ever ready; a sleep is ended by a wake alone.
impl Poller for Bed {
    fn poll(&mut self, timeout: Option<Duration>, _: &mut Vec<Ready>) -> io::Result<()> {
        if timeout != Some(Duration::ZERO) {
            self.sleep();
        }
        Ok(())
    }
}

/// Gives a task two turns: in the first it waits for what its body names, in the second it ends.
struct TwoTurns<'a> {
    world: &'a World<Toy>,
    woken: Option<Wake<u64>>,
}

impl Host<Toy> for TwoTurns<'_> {
    fn turn(&mut self, turn: Turn<Vec<Want<u64>>, u64>) -> Rest<Vec<Want<u64>>> {
        if turn.wake != Wake::Start {
            self.woken = Some(turn.wake);
            return Rest::Ended;
        }
        self.world.with(|kernel| kernel.wait(turn.task, turn.body)).expect("no cycle");
        Rest::Waits(Vec::new())
    }

    fn idle(&mut self, sleep: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
        sleep()
    }

    fn pulse(&mut self) -> Flow {
        Flow::GoOn
    }

    fn stuck(&mut self) -> Option<Duration> {
        Some(Duration::MAX)
    }
}

fn model(threads: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(threads);
}

/// A run with one task that waits for these: what it was woken with.
fn run_one(world: &World<Toy>, mut bed: Bed, runner: RunnerId, wants: Vec<Want<u64>>) -> Wake<u64> {
    world.with(|kernel| kernel.spawn(runner, Start::InRun, wants)).expect("a runner");
    let mut host = TwoTurns { world, woken: None };
    let watched = Watched::by_nobody();
    let flow = run(world, runner, &mut bed, &Clock::new_virtual(), &watched, &mut host).expect("a run");
    assert_eq!(flow, Flow::GoOn);
    host.woken.expect("a second turn")
}

fn world_with_runner() -> (Arc<World<Toy>>, Bed, RunnerId) {
    let (world, bed) = (Arc::new(World::default()), Bed::default());
    let (runner, _) = world.with(|kernel| kernel.add_runner(bed.clone()));
    (world, bed, runner)
}

#[test]
fn a_wake_between_a_runners_last_look_and_its_sleep_is_not_lost() {
    model(|| {
        let (world, bed, runner) = world_with_runner();
        let channel = world.with(|kernel| kernel.open_channel(1));
        let sender = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.with(|kernel| kernel.try_send(channel, 7)).expect("room"))
        };
        let wake = run_one(&world, bed, runner, vec![Want::Receive(channel)]);
        assert_eq!(wake, Wake::Event { branch: 0, event: Event::Received(7) });
        sender.join().expect("the sender");
    });
}

#[test]
fn the_end_of_a_body_elsewhere_reaches_a_runner_that_falls_asleep() {
    model(|| {
        let (world, bed, runner) = world_with_runner();
        let elsewhere = world.with(|kernel| kernel.add_elsewhere(Some(runner)));
        let worker = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.with(|kernel| kernel.finish(elsewhere)))
        };
        let wake = run_one(&world, bed, runner, vec![Want::End(elsewhere)]);
        assert_eq!(wake, Wake::Event { branch: 0, event: Event::Ended });
        worker.join().expect("the worker");
    });
}

/// A plain thread waits for these: what it was woken with.
fn wait_in_thread(world: &World<Toy>, wants: Vec<Want<u64>>) -> Wake<u64> {
    let bed = Bed::default();
    let party: TaskId = world.with(|kernel| {
        let party = kernel.add_thread(bed.clone());
        kernel.wait(party, wants).expect("no cycle");
        party
    });
    while !world.with(|kernel| kernel.is_woken(party)) {
        bed.sleep();
    }
    world.with(|kernel| {
        let wake = kernel.withdraw(party);
        kernel.finish(party);
        wake.expect("it was woken")
    })
}

#[test]
fn a_choice_between_two_senders_takes_one_value_and_leaves_the_other() {
    model(|| {
        let (world, bed, runner) = world_with_runner();
        let channels = [1, 1].map(|capacity| world.with(|kernel| kernel.open_channel(capacity)));
        let senders = [0, 1].map(|place| {
            let world = Arc::clone(&world);
            let (channel, value) = (channels[place], place as u64);
            thread::spawn(move || world.with(|kernel| kernel.try_send(channel, value)).expect("room"))
        });
        let wake = run_one(&world, bed, runner, channels.map(Want::Receive).into());
        senders.into_iter().for_each(|sender| sender.join().expect("a sender"));
        let Wake::Event { branch, event: Event::Received(value) } = wake else { panic!("{wake:?}") };
        assert_eq!(u64::from(branch), value);
        let receive = |channel: ChannelId| world.with(|kernel| kernel.try_recv(channel));
        assert_eq!(receive(channels[usize::from(branch)]), Err(RecvRefused::Empty));
        assert_eq!(receive(channels[1 - usize::from(branch)]), Ok(1 - value));
    });
}

#[test]
fn a_choice_at_a_rendezvous_commits_with_exactly_one_thread() {
    model(|| {
        let (world, bed, runner) = world_with_runner();
        let channels = [0, 0].map(|capacity| world.with(|kernel| kernel.open_channel(capacity)));
        let senders = [0, 1].map(|place| {
            let world = Arc::clone(&world);
            let (channel, value) = (channels[place], place as u64);
            thread::spawn(move || wait_in_thread(&world, vec![Want::Send(channel, value)]))
        });
        let wake = run_one(&world, bed, runner, channels.map(Want::Receive).into());
        let Wake::Event { branch, event: Event::Received(value) } = wake else { panic!("{wake:?}") };
        assert_eq!(u64::from(branch), value);
        for channel in channels {
            world.with(|kernel| kernel.close_channel(channel));
        }
        let sent = senders.map(|sender| sender.join().expect("a sender"));
        for (place, wake) in (0..).zip(sent) {
            let event = if place == branch { Event::Sent } else { Event::Closed };
            assert_eq!(wake, Wake::Event { branch: 0, event });
        }
        assert_eq!(
            world.with(|kernel| kernel.try_send(channels[0], 9)),
            Err(SendRefused::Closed(9)),
            "nobody waits there any more"
        );
    });
}

/// A watchdog falls asleep while a runner does this, behind which it is awake.
fn watchdog_sees(runs: fn(&Watched)) {
    model(move || {
        let watchdog: &'static Watchdog = Box::leak(Box::default());
        let watched = watchdog.watch();
        let progress = std::sync::Arc::clone(watched.progress());
        let thread = thread::spawn(move || {
            while progress.turn().is_none() {
                watchdog.sleep_once();
                thread::yield_now();
            }
        });
        runs(&watched);
        thread.join().expect("the watchdog");
        assert!(watched.progress().turn().is_some());
    });
}

#[test]
fn a_runner_that_wakes_is_seen_by_a_watchdog_that_falls_asleep() {
    watchdog_sees(|watched| watched.falls_asleep_and_wakes());
}

#[test]
fn a_turn_after_a_pause_between_turns_is_seen_by_a_watchdog_that_falls_asleep() {
    watchdog_sees(|watched| {
        watched.has_turn();
        watched.begins_turn();
    });
}

/// The lock of the world: whoever has taken it is alone, and sees what was done before.
#[test]
fn a_lock_lets_one_thread_in_at_a_time() {
    loom::model(|| {
        let lock = Arc::new(Lock::new(UnsafeCell::new(0)));
        let add = |lock: &Lock<UnsafeCell<u32>>| {
            // SAFETY: the model sees whether anybody else is there.
            lock.lock().with_mut(|number| unsafe { *number += 1 });
        };
        let other = thread::spawn({
            let lock = Arc::clone(&lock);
            move || add(&lock)
        });
        add(&lock);
        other.join().expect("no panic");
        // SAFETY: as above.
        assert_eq!(lock.lock().with(|number| unsafe { *number }), 2);
    });
}

/// A plain thread takes what it can get: by looking, or by waiting.
fn take_in_thread(world: &World<Toy>, space: &SharedSpace) -> i64 {
    let now = Moment::default();
    let template = Template::Fields([Field::Anything].into());
    let wanted = std::sync::Arc::new(Wanted { template, how: How::Take, within: None, held: false });
    let mut ticket = None;
    let number = loop {
        let given = space.with(world, now, |space, outside| space.attempt(&wanted, ticket, outside));
        if let Some(given) = given.expect("no transaction") {
            let [Value::Int(number)] = *given.tuple else { panic!("{given:?}") };
            break number;
        }
        let at = space.enlist(world, now, &wanted, ticket);
        ticket = Some(at.ticket);
        let Name::Here(spot) = at.name else { panic!("{at:?}") };
        let wake = wait_in_thread(world, vec![Want::Called(spot)]);
        assert_eq!(wake, Wake::Event { branch: 0, event: Event::Ready });
    };
    ticket.into_iter().for_each(|ticket| space.release(world, now, ticket));
    number
}

fn write(world: &World<Toy>, space: &SharedSpace, number: i64) {
    let tuple = [Value::Int(number)].into();
    space.with(world, Moment::default(), |space, outside| space.write(tuple, None, outside));
}

#[test]
fn a_tuple_written_between_a_look_and_the_wait_is_taken() {
    model(|| {
        let (world, space) = (Arc::new(World::default()), Arc::new(SharedSpace::default()));
        let writer = {
            let (world, space) = (Arc::clone(&world), Arc::clone(&space));
            thread::spawn(move || write(&world, &space, 7))
        };
        assert_eq!(take_in_thread(&world, &space), 7);
        writer.join().expect("the writer");
    });
}

#[test]
fn two_who_take_get_a_tuple_each() {
    model(|| {
        let (world, space) = (Arc::new(World::default()), Arc::new(SharedSpace::default()));
        let taker = {
            let (world, space) = (Arc::clone(&world), Arc::clone(&space));
            thread::spawn(move || take_in_thread(&world, &space))
        };
        write(&world, &space, 1);
        write(&world, &space, 2);
        let own = take_in_thread(&world, &space);
        assert_eq!(own + taker.join().expect("the taker"), 3);
    });
}
