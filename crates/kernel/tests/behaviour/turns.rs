//! Turns: who is ready runs in the order of becoming ready.

use thistledown_kernel::{Start, Wake};

use crate::rig::{Rig, event};

#[test]
fn tasks_start_in_the_order_they_were_spawned() {
    let mut rig = Rig::new();
    let tasks = [rig.spawn(), rig.spawn(), rig.spawn()];
    tasks.into_iter().for_each(|task| rig.ends_with(task, Wake::Start));
    rig.nobody_is_ready();
    rig.leaves_nothing();
}

#[test]
fn who_gives_way_stands_behind_everyone_who_is_ready() {
    let mut rig = Rig::new();
    let [a, b, c] = [rig.spawn(), rig.spawn(), rig.spawn()];
    rig.has_turn(a, Wake::Start);
    let late = rig.spawn();
    rig.give_way(a);
    rig.ends_with(b, Wake::Start);
    rig.ends_with(c, Wake::Start);
    rig.ends_with(late, Wake::Start);
    rig.has_turn(a, Wake::Turn);
    rig.give_way(a);
    rig.ends_with(a, Wake::Turn);
    rig.nobody_is_ready();
    rig.leaves_nothing();
}

#[test]
fn who_is_woken_stands_behind_everyone_who_is_ready() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let receiver = rig.receiver(channel);
    let other = rig.spawn();
    assert_eq!(rig.send(channel, 1), Ok(()));
    rig.ends_with(other, Wake::Start);
    rig.ends_with(receiver, event!(0, Received(1)));
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_wait_that_is_met_at_once_goes_through_the_queue() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(1));
    assert_eq!(rig.send(channel, 5), Ok(()));
    let receiver = rig.running();
    let other = rig.spawn();
    rig.wait(receiver, [thistledown_kernel::Want::Receive(channel)]);
    rig.ends_with(other, Wake::Start);
    rig.ends_with(receiver, event!(0, Received(5)));
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_task_that_ended_while_it_was_ready_has_no_turn() {
    let mut rig = Rig::new();
    let [gone, next] = [rig.spawn(), rig.spawn()];
    rig.finish(gone);
    rig.ends_with(next, Wake::Start);
    rig.nobody_is_ready();
    rig.leaves_nothing();
}

#[test]
fn a_run_is_over_when_its_tasks_have_ended() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    assert!(rig.with(|kernel| kernel.is_over(runner)), "nothing lives in it yet");
    let task = rig.running();
    let scope = rig.with(|kernel| kernel.open_scope(task, None, false)).expect("a scope");
    let member = rig.spawn_in(scope);
    rig.finish(task);
    assert!(!rig.with(|kernel| kernel.is_over(runner)), "the member has moved outward");
    rig.ends_with(member, Wake::Start);
    assert!(rig.with(|kernel| kernel.is_over(runner)));
    rig.leaves_nothing();
}

#[test]
fn the_tasks_of_a_run_are_those_that_do_not_have_their_turn() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let first = rig.running();
    let second = rig.spawn();
    let named = rig.with(|kernel| kernel.tasks(runner).map(|(task, _)| task).collect::<Vec<_>>());
    assert_eq!(named, [second]);
    rig.finish(first);
    rig.ends_with(second, Wake::Start);
    rig.leaves_nothing();
}

#[test]
fn a_task_needs_a_runner_and_one_of_its_scopes() {
    let mut rig = Rig::new();
    let (other, root_of_other) = rig.with(|kernel| kernel.add_runner("other"));
    let runner = rig.runner;
    let refused = [Start::InScope(root_of_other), Start::InScope(thistledown_kernel::ScopeId::default())];
    for start in refused {
        let body = rig.value(7);
        let back = rig.with(|kernel| kernel.spawn(runner, start, body)).expect_err("a foreign scope");
        assert_eq!(back.number(), 7);
    }
    rig.with(|kernel| kernel.remove_runner(other));
    let body = rig.value(8);
    let back = rig.with(|kernel| kernel.spawn(other, Start::InRun, body)).expect_err("no runner");
    assert_eq!(back.number(), 8);
    drop(back);
    rig.leaves_nothing();
}
