//! Parking: a runner that sleeps is called once, by the first thing that concerns it.

use thistledown_kernel::{Direction, Start, Wake, Want};

use crate::rig::{Rig, at, event};

#[test]
fn nobody_parks_who_has_something_to_do() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let task = rig.spawn();
    assert_eq!(rig.with(|kernel| kernel.park(runner)), None);
    rig.ends_with(task, Wake::Start);
    assert_eq!(rig.woken(), [""; 0]);
    rig.leaves_nothing();
}

#[test]
fn many_wakes_call_a_parked_runner_once() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let tasks = [0; 3].map(|_| rig.receiver(channel));
    let scope = rig.root;
    rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    assert_eq!(rig.send(channel, 1), Ok(()));
    assert_eq!(rig.woken(), ["runner"]);
    assert_eq!(rig.send(channel, 2), Ok(()));
    rig.with(|kernel| kernel.cancel_scope(scope));
    assert_eq!(rig.woken(), [""; 0], "it was called already");
    rig.with(|kernel| kernel.unpark(runner));
    rig.ends_with(tasks[0], event!(0, Received(1)));
    rig.ends_with(tasks[1], event!(0, Received(2)));
    rig.ends_with(tasks[2], Wake::Cancelled);
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_runner_that_is_awake_is_not_called() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let task = rig.receiver(channel);
    rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    rig.with(|kernel| kernel.unpark(runner));
    assert_eq!(rig.send(channel, 1), Ok(()));
    assert!(!rig.with(|kernel| kernel.has_remains()));
    rig.ends_with(task, event!(0, Received(1)));
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_new_task_and_a_timer_reach_a_parked_runner() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let sleeper = rig.waiting([Want::Until(at(1))]);
    let prospects = rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    assert_eq!(prospects.timer, Some(at(1)));
    let task = rig.spawn();
    assert_eq!(rig.woken(), ["runner"]);
    rig.ends_with(task, Wake::Start);
    rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    rig.with(|kernel| kernel.expire(runner, at(1)));
    assert_eq!(rig.woken(), ["runner"]);
    rig.ends_with(sleeper, event!(0, Elapsed));
    rig.leaves_nothing();
}

#[test]
fn only_the_runner_whose_task_it_is_is_called() {
    let mut rig = Rig::new();
    let here = rig.runner;
    let (there, _) = rig.with(|kernel| kernel.add_runner("there"));
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let local = rig.receiver(channel);
    let remote = rig.spawn_as(there, Start::InRun);
    assert_eq!(rig.turn_of(there), Some((remote, Wake::Start)));
    rig.wait(remote, [Want::Receive(channel)]);
    for runner in [here, there] {
        rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    }
    assert_eq!(rig.send(channel, 1), Ok(()));
    assert_eq!(rig.woken(), ["runner"]);
    assert_eq!(rig.send(channel, 2), Ok(()));
    assert_eq!(rig.woken(), ["there"]);
    rig.ends_with(local, event!(0, Received(1)));
    assert_eq!(rig.turn_of(there), Some((remote, event!(0, Received(2)))));
    rig.finish(remote);
    rig.with(|kernel| kernel.remove_runner(there));
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn who_attends_to_the_outside_is_no_prospect_for_the_others() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let source = rig.with(|kernel| kernel.add_source(runner));
    rig.with(|kernel| kernel.source_is_dry(source, Direction::Read));
    let attendant = rig.spawn();
    assert_eq!(rig.turn(), Some((attendant, Wake::Start)));
    rig.with(|kernel| kernel.attend(attendant));
    rig.wait(attendant, [Want::Readable(source)]);
    let reader = rig.waiting([Want::Readable(source)]);
    let sources = |rig: &mut Rig| rig.with(|kernel| kernel.park(runner)).expect("nobody is ready").sources;
    assert_eq!(sources(&mut rig), 1, "the other one counts");
    rig.with(|kernel| kernel.cancel_task(reader));
    rig.ends_with(reader, Wake::Cancelled);
    assert_eq!(sources(&mut rig), 0);
    rig.with(|kernel| kernel.cancel_task(attendant));
    rig.ends_with(attendant, Wake::Cancelled);
    assert_eq!(sources(&mut rig), 0, "it is not counted out either");
    rig.with(|kernel| kernel.remove_source(source));
    rig.leaves_nothing();
}

#[test]
fn a_parked_runner_that_hoped_for_a_body_elsewhere_is_called_when_the_last_of_them_has_ended() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let task = rig.receiver(channel);
    let bodies = [0; 2].map(|_| rig.with(|kernel| kernel.add_elsewhere(None)));
    let prospects = rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    assert_eq!(prospects.elsewhere, 2);
    rig.finish(bodies[0]);
    assert_eq!(rig.woken(), [""; 0], "there is hope");
    rig.finish(bodies[1]);
    assert_eq!(rig.woken(), ["runner"]);
    let prospects = rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    assert_eq!(prospects.elsewhere, 0);
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.finish(task);
    rig.leaves_nothing();
}
