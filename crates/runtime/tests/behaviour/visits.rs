//! Visits: a run that is a guest has its turns a slice at a time, and never sleeps.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use thistledown_kernel::{Prospects, Want};
use thistledown_reactor::{Poller, Reactor};
use thistledown_runtime::{Clock, Flow, Watched, visit};
use thistledown_testkit::ScriptedPoller;

use crate::rig::{Call, Log, Next, Rig, at};

fn visit_for<R: Poller + Send>(rig: &Rig, poller: &mut R, slice: Duration) -> usize {
    let mut host = rig.host();
    host.on_idle = Box::new(|_| panic!("a visit does not sleep"));
    let visited = visit(&rig.world, rig.runner, poller, &rig.clock, &Watched::by_nobody(), &mut host, slice);
    assert_eq!(visited.expect("a visit"), Flow::GoOn);
    host.turns
}

fn park(rig: &Rig) -> Option<Prospects> {
    rig.world.with(|kernel| kernel.park(rig.runner))
}

#[test]
fn a_visit_gives_all_who_are_ready_their_turns_and_goes() {
    let rig = Rig::new();
    let log = Log::default();
    rig.spawn_waits(&log, "first", vec![vec![Want::Until(at(5))]]);
    rig.spawn_waits(&log, "second", vec![]);
    let mut poller = ScriptedPoller::default();
    assert_eq!(visit_for(&rig, &mut poller, Duration::from_secs(1)), 2);
    assert_eq!(park(&rig).and_then(|prospects| prospects.timer), Some(at(5)));
    assert_eq!(visit_for(&rig, &mut poller, Duration::from_secs(1)), 0, "it is too early");
    assert!(rig.clock.jump_to(at(5)));
    assert_eq!(visit_for(&rig, &mut poller, Duration::from_secs(1)), 1);
    assert_eq!(log.entries(), ["first Start", "second Start", "first Event { branch: 0, event: Elapsed }"]);
    rig.leaves_nothing();
}

#[test]
fn a_visit_ends_when_its_slice_is_used_up_and_nobody_loses_his_turn() {
    let rig = Rig::new();
    let clock = Arc::clone(&rig.clock);
    let mut left = 100;
    rig.spawn(move |_, _| {
        left -= 1;
        clock.jump_to(at(100 - left));
        if left == 0 { Next::End } else { Next::GiveWay }
    });
    let mut poller = ScriptedPoller::default();
    let turns = visit_for(&rig, &mut poller, Duration::from_secs(20));
    assert!((20..50).contains(&turns), "{turns} turns of a second each in a slice of twenty");
    assert_eq!(park(&rig), None, "there is more to do");
    assert_eq!(turns + visit_for(&rig, &mut poller, Duration::from_secs(1_000)), 100);
    rig.leaves_nothing();
}

#[test]
fn between_visits_a_wake_reaches_the_descriptor() {
    let mut inner = Reactor::new().expect("a reactor");
    let mut rig = Rig::in_world(Arc::default(), Call::Reactor(inner.waker()));
    rig.clock = Arc::new(Clock::System);
    let channel = rig.world.with(|kernel| kernel.open_channel(1));
    let log = Log::default();
    rig.spawn_waits(&log, "task", vec![vec![Want::Receive(channel)]]);
    visit_for(&rig, &mut inner, Duration::from_secs(1));
    let mut outer = Reactor::new().expect("a reactor");
    // SAFETY: the descriptor of a reactor that lives until the end of the test.
    let watched = unsafe { BorrowedFd::borrow_raw(inner.as_raw_fd()) };
    outer.registry().expect("a registry").register(watched, 1).expect("a registration");
    park(&rig).expect("nobody is ready");
    let world = Arc::clone(&rig.world);
    let sender = thread::spawn(move || world.with(|kernel| kernel.try_send(channel, 7)).is_ok());
    let mut ready = Vec::new();
    while !ready.iter().any(|ready: &thistledown_reactor::Ready| ready.readable) {
        outer.poll(None, &mut ready).expect("a poll");
    }
    assert!(sender.join().expect("the sender"));
    visit_for(&rig, &mut inner, Duration::from_secs(1));
    assert_eq!(log.entries(), ["task Start", "task Event { branch: 0, event: Received(7) }"]);
    rig.world.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}
