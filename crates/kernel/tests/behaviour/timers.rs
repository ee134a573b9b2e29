//! Timers: they go off in the order of their moments, never early, and undone ones leave nothing behind.

use thistledown_kernel::{Moment, Prospects, Want};

use crate::rig::{Rig, at, event};

fn expire(rig: &mut Rig, now: Moment) {
    let runner = rig.runner;
    rig.with(|kernel| kernel.expire(runner, now));
}

fn next_timer(rig: &mut Rig) -> Option<Moment> {
    let runner = rig.runner;
    let prospects: Prospects = rig.with(|kernel| {
        let prospects = kernel.park(runner).expect("nobody is ready");
        kernel.unpark(runner);
        prospects
    });
    prospects.timer
}

#[test]
fn timers_go_off_in_the_order_of_their_moments() {
    let mut rig = Rig::new();
    let [late, soon, later] = [5, 1, 9].map(|seconds| rig.waiting([Want::Until(at(seconds))]));
    assert_eq!(next_timer(&mut rig), Some(at(1)));
    expire(&mut rig, at(0));
    rig.nobody_is_ready();
    expire(&mut rig, at(5));
    rig.ends_with(soon, event!(0, Elapsed));
    rig.ends_with(late, event!(0, Elapsed));
    rig.nobody_is_ready();
    assert_eq!(next_timer(&mut rig), Some(at(9)));
    expire(&mut rig, at(9));
    rig.ends_with(later, event!(0, Elapsed));
    assert_eq!(next_timer(&mut rig), None);
    rig.leaves_nothing();
}

#[test]
fn equal_moments_go_off_in_the_order_they_were_set() {
    let mut rig = Rig::new();
    let tasks: Vec<_> = (0..50).map(|_| rig.waiting([Want::Until(at(1))])).collect();
    expire(&mut rig, at(1));
    tasks.into_iter().for_each(|task| rig.ends_with(task, event!(0, Elapsed)));
    rig.leaves_nothing();
}

#[test]
fn a_moment_that_has_passed_goes_off_at_the_next_look() {
    let mut rig = Rig::new();
    expire(&mut rig, at(7));
    let task = rig.waiting([Want::Until(at(3))]);
    rig.nobody_is_ready();
    expire(&mut rig, at(7));
    rig.ends_with(task, event!(0, Elapsed));
    rig.leaves_nothing();
}

#[test]
fn of_several_moments_in_one_wait_the_earliest_counts_once() {
    let mut rig = Rig::new();
    let task = rig.waiting([5, 2, 9].map(|seconds| Want::Until(at(seconds))));
    expire(&mut rig, at(20));
    rig.has_turn(task, event!(1, Elapsed));
    rig.wait(task, [Want::Until(at(30))]);
    expire(&mut rig, at(29));
    rig.nobody_is_ready();
    expire(&mut rig, at(30));
    rig.ends_with(task, event!(0, Elapsed));
    rig.leaves_nothing();
}

#[test]
fn never_is_no_timer() {
    let mut rig = Rig::new();
    let task = rig.waiting([Want::Until(Moment::NEVER)]);
    assert_eq!(next_timer(&mut rig), None);
    expire(&mut rig, Moment::NEVER);
    rig.nobody_is_ready();
    rig.with(|kernel| kernel.cancel_task(task));
    rig.ends_with(task, thistledown_kernel::Wake::Cancelled);
    rig.leaves_nothing();
}

#[test]
fn undone_timers_do_not_wake_and_are_not_waited_for() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let task = rig.waiting([Want::Until(at(1)), Want::Receive(channel)]);
    assert_eq!(rig.send(channel, 1), Ok(()));
    rig.has_turn(task, event!(1, Received(1)));
    assert_eq!(next_timer(&mut rig), None);
    expire(&mut rig, at(1));
    rig.nobody_is_ready();
    rig.finish(task);
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_timeout_on_every_request_leaves_no_timers_behind() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let task = rig.running();
    let none = rig.census();
    for round in 0..10_000 {
        let deadline = at(1_000_000 + round);
        let scope = rig.with(|kernel| kernel.open_scope(task, Some(deadline), false)).expect("a scope");
        rig.wait(task, [Want::Receive(channel), Want::Until(deadline)]);
        assert_eq!(rig.send(channel, round), Ok(()));
        rig.has_turn(task, event!(0, Received(round)));
        rig.with(|kernel| kernel.close_scope(task, scope)).expect("its scope");
    }
    assert_eq!(rig.census(), none);
    rig.finish(task);
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}
