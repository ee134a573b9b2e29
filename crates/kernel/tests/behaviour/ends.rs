//! Waiting for the end of a task, and the cycles that are refused.

use thistledown_kernel::{Cycle, TaskId, Wake, Want};

use crate::rig::{Rig, at, event};

#[test]
fn everyone_who_waits_for_the_end_is_told_in_order() {
    let mut rig = Rig::new();
    let target = rig.running();
    let waiters = [0; 3].map(|_| rig.waiting([Want::End(target)]));
    assert!(rig.with(|kernel| kernel.is_awaited(target)));
    rig.finish(target);
    assert!(!rig.with(|kernel| kernel.is_live(target)));
    waiters.into_iter().for_each(|waiter| rig.ends_with(waiter, event!(0, Ended)));
    rig.leaves_nothing();
}

#[test]
fn the_end_of_one_that_has_ended_is_met_at_once() {
    let mut rig = Rig::new();
    let target = rig.running();
    rig.finish(target);
    let waiter = rig.waiting([Want::Until(at(1)), Want::End(target)]);
    rig.ends_with(waiter, event!(1, Ended));
    rig.leaves_nothing();
}

#[test]
fn a_body_that_runs_elsewhere_ends_like_a_task() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let elsewhere = rig.with(|kernel| kernel.add_elsewhere(Some(runner)));
    let waiter = rig.waiting([Want::End(elsewhere)]);
    let prospects = rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    assert_eq!(prospects.elsewhere, 1);
    rig.finish(elsewhere);
    assert_eq!(rig.woken(), ["runner"], "once, although two things happened");
    rig.ends_with(waiter, event!(0, Ended));
    let prospects = rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    assert_eq!(prospects.elsewhere, 0);
    rig.leaves_nothing();
}

#[test]
fn who_waits_for_itself_closes_the_smallest_cycle() {
    let mut rig = Rig::new();
    let task = rig.running();
    assert_eq!(rig.try_wait(task, [Want::End(task)]), Err(Cycle(vec![task])));
    rig.give_way(task);
    rig.ends_with(task, Wake::Turn);
    rig.leaves_nothing();
}

#[test]
fn a_ring_is_refused_in_the_one_that_closes_it() {
    let mut rig = Rig::new();
    let tasks = [rig.running(), rig.running(), rig.running()];
    rig.wait(tasks[0], [Want::End(tasks[1])]);
    rig.wait(tasks[1], [Want::End(tasks[2])]);
    let bystander = rig.running();
    rig.wait(bystander, [Want::End(tasks[2])]);
    let refused = rig.try_wait(tasks[2], [Want::End(tasks[0])]);
    assert_eq!(refused, Err(Cycle(vec![tasks[2], tasks[0], tasks[1]])));
    rig.finish(tasks[2]);
    rig.ends_with(tasks[1], event!(0, Ended));
    rig.ends_with(bystander, event!(0, Ended));
    rig.ends_with(tasks[0], event!(0, Ended));
    rig.leaves_nothing();
}

#[test]
fn a_member_that_waits_for_the_owner_of_its_scope_closes_a_cycle() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = rig.with(|kernel| kernel.open_scope(owner, None, false)).expect("a scope");
    let [idle, member] = [rig.running_in(scope), rig.running_in(scope)];
    rig.wait(idle, []);
    rig.wait(owner, [Want::Drain(scope)]);
    assert_eq!(rig.try_wait(member, [Want::End(owner)]), Err(Cycle(vec![member, owner])));
    assert_eq!(rig.try_wait(member, [Want::Drain(scope)]), Err(Cycle(vec![member])));
    rig.finish(member);
    rig.finish_by_cancelling(idle);
    rig.ends_with(owner, event!(0, Drained));
    rig.leaves_nothing();
}

#[test]
fn an_owner_that_waits_for_a_scope_whose_member_waits_for_it_closes_a_cycle() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = rig.with(|kernel| kernel.open_scope(owner, None, false)).expect("a scope");
    let member = rig.running_in(scope);
    rig.wait(member, [Want::End(owner)]);
    assert_eq!(rig.try_wait(owner, [Want::Drain(scope)]), Err(Cycle(vec![owner, member])));
    rig.finish(owner);
    rig.ends_with(member, event!(0, Ended));
    rig.leaves_nothing();
}

/// Two tasks; the first waits in its own way for the second, which then waits for the first.
fn closes_no_cycle(enlist: impl FnOnce(&mut Rig, TaskId, TaskId)) {
    let mut rig = Rig::new();
    let [first, second] = [rig.running(), rig.running()];
    enlist(&mut rig, first, second);
    rig.wait(second, [Want::End(first)]);
    assert!(rig.with(|kernel| kernel.is_awaited(first)), "it waits");
    rig.leaves_nothing();
}

#[test]
fn a_wait_with_a_way_out_closes_no_cycle() {
    closes_no_cycle(|rig, first, second| rig.wait(first, [Want::End(second), Want::Until(at(1))]));
    closes_no_cycle(|rig, first, second| rig.wait(first, [Want::End(second), Want::End(second)]));
    closes_no_cycle(|rig, first, second| {
        rig.with(|kernel| kernel.open_scope(first, Some(at(1)), false)).expect("a scope");
        rig.wait(first, [Want::End(second)]);
    });
    closes_no_cycle(|rig, first, second| {
        rig.with(|kernel| kernel.open_scope(second, Some(at(1)), false)).expect("a scope");
        rig.wait(first, [Want::End(second)]);
    });
    closes_no_cycle(|rig, first, _| rig.wait(first, []));
    closes_no_cycle(|rig, first, _| rig.give_way(first));
}

#[test]
fn a_deadline_beyond_a_shield_or_already_past_is_no_way_out() {
    let mut rig = Rig::new();
    let task = rig.running();
    let timed = rig.with(|kernel| kernel.open_scope(task, Some(at(1)), false)).expect("a scope");
    rig.with(|kernel| kernel.open_scope(task, None, true)).expect("a scope");
    assert_eq!(rig.try_wait(task, [Want::End(task)]), Err(Cycle(vec![task])));
    let runner = rig.runner;
    rig.with(|kernel| kernel.expire(runner, at(1)));
    assert_eq!(rig.try_wait(task, [Want::End(task)]), Err(Cycle(vec![task])));
    rig.with(|kernel| kernel.cancel_scope(timed));
    rig.finish(task);
    rig.leaves_nothing();
}

fn chain(length: usize) -> (Rig, Vec<TaskId>) {
    let mut rig = Rig::new();
    let tasks: Vec<TaskId> = (0..length).map(|_| rig.running()).collect();
    for pair in tasks.windows(2) {
        rig.wait(pair[0], [Want::End(pair[1])]);
    }
    (rig, tasks)
}

#[test]
fn the_search_for_cycles_is_bounded() {
    let (mut rig, tasks) = chain(1_000);
    let cycle = rig.try_wait(tasks[999], [Want::End(tasks[0])]).expect_err("a cycle");
    assert_eq!(cycle.0.len(), 1_000);
    rig.leaves_nothing();

    let (mut rig, tasks) = chain(1_500);
    rig.wait(tasks[1_499], [Want::End(tasks[0])]);
    rig.nobody_is_ready();
    rig.leaves_nothing();
}

#[test]
fn a_crowd_of_members_does_not_make_the_search_long() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = rig.with(|kernel| kernel.open_scope(owner, None, false)).expect("a scope");
    let members: Vec<TaskId> = (0..2_000).map(|_| rig.running_in(scope)).collect();
    for member in &members[..1_999] {
        rig.wait(*member, [Want::Until(at(1))]);
    }
    rig.wait(owner, [Want::Drain(scope)]);
    rig.wait(members[1_999], [Want::End(members[0])]);
    rig.nobody_is_ready();
    rig.leaves_nothing();
}
