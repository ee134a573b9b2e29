//! Tasks of one key do not overlap, nor interleave at their waits; others know nothing of them.

use thistledown_kernel::{Cycle, Doing, KeyId, Seen, Start, TaskId, Wake, Want};

use crate::rig::{Rig, at, event};

#[test]
fn one_begins_when_those_before_it_have_ended() {
    let mut rig = Rig::new();
    let mut key = KeyId::default();
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let [first, second, third] = [0; 3].map(|_| rig.spawn_keyed(&mut key));
    rig.has_turn(first, Wake::Start);
    rig.wait(first, [Want::Receive(channel)]);
    rig.nobody_is_ready();
    rig.send(channel, 1).expect("somebody receives");
    rig.has_turn(first, event!(0, Received(1)));
    rig.give_way(first);
    rig.ends_with(first, Wake::Turn);
    rig.ends_with(second, Wake::Start);
    rig.ends_with(third, Wake::Start);
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn others_are_not_held_up() {
    let mut rig = Rig::new();
    let (mut one, mut other) = (KeyId::default(), KeyId::default());
    let first = rig.spawn_keyed(&mut one);
    let behind = rig.spawn_keyed(&mut one);
    let stranger = rig.spawn_keyed(&mut other);
    let free = rig.spawn();
    rig.has_turn(first, Wake::Start);
    rig.wait(first, [Want::Until(at(9))]);
    rig.ends_with(stranger, Wake::Start);
    rig.ends_with(free, Wake::Start);
    rig.nobody_is_ready();
    rig.finish_by_cancelling(first);
    rig.ends_with(behind, Wake::Start);
    rig.leaves_nothing();
}

#[test]
fn a_line_ends_with_its_last_task() {
    let mut rig = Rig::new();
    let mut key = KeyId::default();
    let first = rig.spawn_keyed(&mut key);
    let line = key;
    assert!(rig.with(|kernel| kernel.has_line(line)));
    rig.ends_with(first, Wake::Start);
    assert!(!rig.with(|kernel| kernel.has_line(line)));
    let next = rig.spawn_keyed(&mut key);
    assert_ne!(key, line);
    rig.ends_with(next, Wake::Start);
    rig.leaves_nothing();
}

#[test]
fn who_is_cancelled_in_the_line_leaves_it_and_has_not_held_the_key() {
    let mut rig = Rig::new();
    let mut key = KeyId::default();
    let [first, second, third] = [0; 3].map(|_| rig.spawn_keyed(&mut key));
    rig.has_turn(first, Wake::Start);
    rig.finish_by_cancelling(second);
    rig.nobody_is_ready();
    rig.finish(first);
    rig.ends_with(third, Wake::Start);
    rig.leaves_nothing();
}

#[test]
fn who_is_started_in_a_cancelled_scope_does_not_stand_in_line() {
    let mut rig = Rig::new();
    let mut key = KeyId::default();
    let holder = rig.spawn_keyed(&mut key);
    rig.has_turn(holder, Wake::Start);
    let owner = rig.running();
    let scope = rig.with(|kernel| kernel.open_scope(owner, None, false)).expect("a task that lives");
    rig.with(|kernel| kernel.cancel_scope(scope));
    let member = rig.spawn_keyed_in(scope, &mut key);
    rig.ends_with(member, Wake::Cancelled);
    let late = rig.spawn_keyed(&mut key);
    rig.nobody_is_ready();
    rig.finish(holder);
    rig.ends_with(late, Wake::Start);
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn a_key_is_one_for_all_runs() {
    let mut rig = Rig::new();
    let mut key = KeyId::default();
    let (other, _) = rig.with(|kernel| kernel.add_runner("other"));
    let here = rig.spawn_keyed(&mut key);
    rig.has_turn(here, Wake::Start);
    let there = rig.spawn_keyed_as(other, Start::InRun, &mut key);
    assert_eq!(rig.turn_of(other), None);
    rig.with(|kernel| kernel.park(other)).expect("nobody is ready");
    rig.finish(here);
    assert_eq!(rig.woken(), ["other"]);
    assert_eq!(rig.turn_of(other), Some((there, Wake::Start)));
    rig.finish(there);
    rig.with(|kernel| kernel.remove_runner(other));
    rig.leaves_nothing();
}

#[test]
fn a_run_that_is_given_up_passes_its_keys_on() {
    let mut rig = Rig::new();
    let mut key = KeyId::default();
    let (other, _) = rig.with(|kernel| kernel.add_runner("other"));
    rig.spawn_keyed_as(other, Start::InRun, &mut key);
    rig.spawn_keyed_as(other, Start::InRun, &mut key);
    let here = rig.spawn_keyed(&mut key);
    rig.nobody_is_ready();
    rig.with(|kernel| kernel.remove_runner(other));
    rig.ends_with(here, Wake::Start);
    rig.leaves_nothing();
}

#[test]
fn to_wait_for_one_of_ones_own_key_that_was_started_later_closes_a_cycle() {
    let mut rig = Rig::new();
    let mut key = KeyId::default();
    let [first, second, third] = [0; 3].map(|_| rig.spawn_keyed(&mut key));
    rig.has_turn(first, Wake::Start);
    assert_eq!(rig.try_wait(first, [Want::End(third)]), Err(Cycle(vec![first, third])));
    rig.wait(first, [Want::End(third), Want::Until(at(1))]);
    rig.finish_by_cancelling(first);
    rig.ends_with(second, Wake::Start);
    rig.ends_with(third, Wake::Start);
    rig.leaves_nothing();
}

#[test]
fn a_call_back_to_a_caller_that_waits_closes_a_cycle() {
    let mut rig = Rig::new();
    let (mut one, mut other) = (KeyId::default(), KeyId::default());
    let caller = rig.spawn_keyed(&mut one);
    let called = rig.spawn_keyed(&mut other);
    rig.has_turn(caller, Wake::Start);
    rig.wait(caller, [Want::End(called)]);
    rig.has_turn(called, Wake::Start);
    let back = rig.spawn_keyed(&mut one);
    assert_eq!(rig.try_wait(called, [Want::End(back)]), Err(Cycle(vec![called, back, caller])));
    rig.finish(called);
    rig.ends_with(caller, event!(0, Ended));
    rig.ends_with(back, Wake::Start);
    rig.leaves_nothing();
}

#[test]
fn the_ways_of_waits_lead_to_those_who_wait_for_nobody_here() {
    let mut rig = Rig::new();
    let mut key = KeyId::default();
    let [first, second] = [0; 2].map(|_| rig.spawn_keyed(&mut key));
    rig.has_turn(first, Wake::Start);
    let scope = rig.with(|kernel| kernel.open_scope(first, None, false)).expect("a scope");
    let [member, other] = [rig.running_in(scope), rig.running_in(scope)];
    let elsewhere = rig.with(|kernel| kernel.add_elsewhere(None));
    rig.wait(member, [Want::End(elsewhere)]);
    rig.wait(other, [Want::End(elsewhere), Want::Until(at(1))]);
    rig.wait(first, [Want::Drain(scope)]);
    let ways = rig.with(|kernel| kernel.ways(second));
    assert_eq!(ways, [vec![second, first, member, elsewhere], vec![second, first, other]]);
    rig.with(|kernel| kernel.finish(elsewhere));
    rig.ends_with(member, event!(0, Ended));
    rig.ends_with(other, event!(0, Ended));
    rig.ends_with(first, event!(0, Drained));
    rig.ends_with(second, Wake::Start);
    assert!(rig.with(|kernel| kernel.ways(second)).is_empty());
    rig.leaves_nothing();
}

#[test]
fn who_waits_for_the_key_is_shown_behind_its_holder() {
    let mut rig = Rig::new();
    let mut key = KeyId::default();
    let [first, second] = [0; 2].map(|_| rig.spawn_keyed(&mut key));
    rig.has_turn(first, Wake::Start);
    let runner = rig.runner;
    let seen: Vec<(TaskId, bool)> = rig.with(|kernel| {
        let mut seen = Vec::new();
        kernel.survey(runner, 10, |shown| {
            if let Seen::Task(_, standing) = shown {
                seen.push((
                    standing.task,
                    matches!(standing.doing, Doing::Behind(_, holder) if holder == first),
                ));
            }
        });
        seen
    });
    assert_eq!(seen, [(first, false), (second, true)]);
    rig.finish(first);
    rig.ends_with(second, Wake::Start);
    rig.leaves_nothing();
}

#[test]
fn each_line_is_shown_with_who_holds_its_key_and_who_is_next() {
    let mut rig = Rig::new();
    let (mut key, mut other) = (KeyId::default(), KeyId::default());
    let [first, second, third] = [0; 3].map(|_| rig.spawn_keyed(&mut key));
    let alone = rig.spawn_keyed(&mut other);
    rig.has_turn(first, Wake::Start);
    let mut lines: Vec<_> = rig.with(|kernel| kernel.lines().collect());
    lines.sort_by_key(|&(holder, _)| holder != first);
    assert_eq!(lines, [(first, Some(second)), (alone, None)]);
    let doing = |rig: &mut Rig, task| rig.with(|kernel| kernel.standing(task).map(|seen| seen.doing));
    assert_eq!(doing(&mut rig, first), Some(Doing::Running));
    assert!(matches!(doing(&mut rig, third), Some(Doing::Behind(_, holder)) if holder == first));
    rig.finish(first);
    assert_eq!(doing(&mut rig, first), None, "it has ended");
    assert_eq!(rig.with(|kernel| kernel.lines().next()), Some((second, Some(third))));
    for task in [alone, second, third] {
        rig.ends_with(task, Wake::Start);
    }
    assert_eq!(rig.with(|kernel| kernel.lines().count()), 0);
    rig.leaves_nothing();
}
