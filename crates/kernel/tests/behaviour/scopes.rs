//! Scopes: how cancelling spreads, what holds it back, deadlines, and what closing does.

use thistledown_kernel::{Kernel, Moment, ScopeEnd, ScopeId, ScopeMisuse, TaskId, Wake, Want};

use crate::rig::{Rig, at, event};

const OPEN: ScopeEnd = ScopeEnd { cancelled: false, expired: false };
const CANCELLED: ScopeEnd = ScopeEnd { cancelled: true, expired: false };
const EXPIRED: ScopeEnd = ScopeEnd { cancelled: true, expired: true };

fn open(rig: &mut Rig, task: TaskId) -> ScopeId {
    rig.with(|kernel| kernel.open_scope(task, None, false)).expect("a scope")
}

fn open_until(rig: &mut Rig, task: TaskId, seconds: u64) -> ScopeId {
    rig.with(|kernel| kernel.open_scope(task, Some(at(seconds)), false)).expect("a scope")
}

fn shield(rig: &mut Rig, task: TaskId) -> ScopeId {
    rig.with(|kernel| kernel.open_scope(task, None, true)).expect("a scope")
}

fn close(rig: &mut Rig, task: TaskId, scope: ScopeId) -> Result<ScopeEnd, ScopeMisuse> {
    rig.with(|kernel| kernel.close_scope(task, scope))
}

fn cancel(rig: &mut Rig, scope: ScopeId) {
    rig.with(|kernel| kernel.cancel_scope(scope));
}

fn is_cancelled(rig: &mut Rig, task: TaskId) -> bool {
    rig.with(|kernel: &mut Kernel<_>| kernel.is_cancelled(task))
}

fn waiting_in(rig: &mut Rig, scope: ScopeId) -> TaskId {
    let task = rig.running_in(scope);
    rig.wait(task, []);
    task
}

#[test]
fn cancelling_reaches_the_owner_its_members_and_what_is_inside() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let outer = open(&mut rig, owner);
    let member = rig.running_in(outer);
    let inner = open(&mut rig, member);
    let deep = waiting_in(&mut rig, inner);
    rig.wait(member, []);
    let outsider = rig.waiting([]);
    rig.wait(owner, []);
    cancel(&mut rig, outer);
    rig.ends_with(owner, Wake::Cancelled);
    rig.ends_with(member, Wake::Cancelled);
    rig.ends_with(deep, Wake::Cancelled);
    rig.nobody_is_ready();
    rig.with(|kernel| kernel.cancel_task(outsider));
    rig.ends_with(outsider, Wake::Cancelled);
    rig.leaves_nothing();
}

#[test]
fn members_are_cancelled_in_the_order_they_were_started() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    let mut members: Vec<_> = (0..10).map(|_| waiting_in(&mut rig, scope)).collect();
    for place in [9, 4, 0] {
        let gone = members.remove(place);
        rig.finish_by_cancelling(gone);
    }
    assert_eq!(rig.with(|kernel| kernel.scope_members(scope)), 7);
    cancel(&mut rig, scope);
    members.into_iter().for_each(|member| rig.ends_with(member, Wake::Cancelled));
    assert_eq!(rig.with(|kernel| kernel.scope_members(scope)), 0);
    assert_eq!(close(&mut rig, owner, scope), Ok(CANCELLED));
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn in_a_cancelled_scope_every_wait_is_refused() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(1));
    let task = rig.running();
    let scope = open(&mut rig, task);
    cancel(&mut rig, scope);
    for number in 0..3 {
        let want = rig.sending(channel, number);
        rig.wait(task, [Want::Until(at(1)), want]);
        assert_eq!(rig.spent(), [number], "not sent, although there is room");
        rig.has_turn(task, Wake::Cancelled);
    }
    rig.give_way(task);
    rig.has_turn(task, Wake::Cancelled);
    assert_eq!(close(&mut rig, task, scope), Ok(CANCELLED));
    rig.give_way(task);
    rig.has_turn(task, Wake::Turn);
    rig.wait(task, [Want::Until(at(0))]);
    rig.nobody_is_ready();
    let runner = rig.runner;
    rig.with(|kernel| kernel.expire(runner, at(0)));
    rig.ends_with(task, event!(0, Elapsed));
    assert_eq!(rig.with(|kernel| kernel.channel_state(channel)), (false, 0));
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_wait_that_was_committed_is_kept() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let task = rig.receiver(channel);
    assert_eq!(rig.send(channel, 1), Ok(()));
    assert!(rig.with(|kernel| kernel.cancel_task(task)));
    rig.has_turn(task, event!(0, Received(1)));
    rig.wait(task, [Want::Receive(channel)]);
    rig.ends_with(task, Wake::Cancelled);
    assert!(!rig.with(|kernel| kernel.cancel_task(task)), "it has ended");
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_task_that_is_cancelled_before_its_first_turn_is_told_in_it() {
    let mut rig = Rig::new();
    let task = rig.spawn();
    rig.with(|kernel| kernel.cancel_task(task));
    rig.ends_with(task, Wake::Cancelled);
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    cancel(&mut rig, scope);
    let late = rig.spawn_in(scope);
    rig.ends_with(late, Wake::Cancelled);
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn a_shield_holds_back_what_comes_from_outside() {
    let mut rig = Rig::new();
    let task = rig.running();
    let outer = open(&mut rig, task);
    let held = shield(&mut rig, task);
    let member = waiting_in(&mut rig, held);
    rig.wait(task, [Want::Until(at(1))]);
    cancel(&mut rig, outer);
    rig.with(|kernel| kernel.cancel_task(task));
    rig.nobody_is_ready();
    assert!(!is_cancelled(&mut rig, task));
    let runner = rig.runner;
    rig.with(|kernel| kernel.expire(runner, at(1)));
    rig.has_turn(task, event!(0, Elapsed));
    rig.finish_by_cancelling(member);
    assert_eq!(close(&mut rig, task, held), Ok(OPEN));
    assert!(is_cancelled(&mut rig, task), "behind the shield it is noticed");
    assert_eq!(close(&mut rig, task, outer), Ok(CANCELLED));
    assert!(is_cancelled(&mut rig, task), "the task itself was cancelled too");
    rig.finish(task);
    rig.leaves_nothing();
}

#[test]
fn a_scope_inside_a_shield_works() {
    let mut rig = Rig::new();
    let task = rig.running();
    let held = shield(&mut rig, task);
    let inner = open_until(&mut rig, task, 3);
    rig.wait(task, []);
    let runner = rig.runner;
    rig.with(|kernel| kernel.expire(runner, at(3)));
    rig.has_turn(task, Wake::Cancelled);
    assert_eq!(close(&mut rig, task, inner), Ok(EXPIRED));
    assert!(!is_cancelled(&mut rig, task));
    cancel(&mut rig, held);
    assert!(is_cancelled(&mut rig, task), "a shield does not hold back its own");
    rig.finish(task);
    rig.leaves_nothing();
}

#[test]
fn cancelling_a_task_leaves_the_members_of_its_scopes_alone() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    let member = waiting_in(&mut rig, scope);
    rig.wait(owner, [Want::Drain(scope)]);
    rig.with(|kernel| kernel.cancel_task(owner));
    rig.has_turn(owner, Wake::Cancelled);
    rig.nobody_is_ready();
    assert!(!is_cancelled(&mut rig, member));
    assert_eq!(rig.with(|kernel| kernel.scope_state(scope)), Some(OPEN));
    rig.finish_by_cancelling(member);
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn the_earliest_of_nested_deadlines_ends_its_own_block() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let task = rig.running();
    let outer = open_until(&mut rig, task, 5);
    let inner = open_until(&mut rig, task, 2);
    rig.wait(task, []);
    rig.with(|kernel| kernel.expire(runner, at(2)));
    rig.has_turn(task, Wake::Cancelled);
    assert_eq!(rig.with(|kernel| kernel.scope_state(outer)), Some(OPEN));
    assert_eq!(close(&mut rig, task, inner), Ok(EXPIRED));
    let inner = open_until(&mut rig, task, 9);
    rig.wait(task, []);
    rig.with(|kernel| kernel.expire(runner, at(5)));
    rig.has_turn(task, Wake::Cancelled);
    assert_eq!(close(&mut rig, task, inner), Ok(OPEN));
    assert_eq!(close(&mut rig, task, outer), Ok(EXPIRED));
    rig.with(|kernel| kernel.expire(runner, Moment::NEVER));
    rig.give_way(task);
    rig.ends_with(task, Wake::Turn);
    rig.leaves_nothing();
}

#[test]
fn a_scope_that_was_cancelled_before_its_deadline_has_not_expired() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let task = rig.running();
    let scope = open_until(&mut rig, task, 5);
    cancel(&mut rig, scope);
    rig.with(|kernel| kernel.expire(runner, at(5)));
    assert_eq!(close(&mut rig, task, scope), Ok(CANCELLED));
    rig.finish(task);
    rig.leaves_nothing();
}

#[test]
fn a_deadline_that_never_comes_is_none() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let task = rig.running();
    let scope = rig.with(|kernel| kernel.open_scope(task, Some(Moment::NEVER), false)).expect("a scope");
    rig.try_wait(task, [Want::End(task)]).expect_err("no deadline is a way out");
    rig.wait(task, []);
    let prospects = rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    assert_eq!(prospects.timer, None);
    rig.with(|kernel| kernel.cancel_scope(scope));
    rig.ends_with(task, Wake::Cancelled);
    rig.leaves_nothing();
}

#[test]
fn a_scope_is_closed_once_by_its_owner_innermost_first() {
    let mut rig = Rig::new();
    let [task, other] = [rig.running(), rig.running()];
    let outer = open(&mut rig, task);
    let inner = open(&mut rig, task);
    assert_eq!(close(&mut rig, other, inner), Err(ScopeMisuse::OtherTask));
    assert_eq!(close(&mut rig, task, outer), Err(ScopeMisuse::NotInnermost));
    assert_eq!(close(&mut rig, task, inner), Ok(OPEN));
    assert_eq!(close(&mut rig, task, inner), Err(ScopeMisuse::NotOpen));
    assert_eq!(close(&mut rig, task, outer), Ok(OPEN));
    let root = rig.root;
    assert_eq!(close(&mut rig, task, root), Err(ScopeMisuse::OtherTask), "a run is nobody's to close");
    assert_eq!(rig.with(|kernel| kernel.scope_state(outer)), None);
    rig.with(|kernel| kernel.cancel_scope(outer));
    assert!(!is_cancelled(&mut rig, task));
    [task, other].into_iter().for_each(|task| rig.finish(task));
    rig.leaves_nothing();
}

#[test]
fn a_task_that_ends_closes_what_it_left_open() {
    let mut rig = Rig::new();
    let task = rig.running();
    let scopes = [open(&mut rig, task), open_until(&mut rig, task, 3), shield(&mut rig, task)];
    rig.finish(task);
    for scope in scopes {
        assert_eq!(rig.with(|kernel| kernel.scope_state(scope)), None);
    }
    let runner = rig.runner;
    let prospects = rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    assert_eq!(prospects.timer, None);
    rig.leaves_nothing();
}

#[test]
fn members_that_still_live_move_outward_with_all_they_have() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let outer = open(&mut rig, owner);
    let inner = open(&mut rig, owner);
    let plain = waiting_in(&mut rig, inner);
    let nested = rig.running_in(inner);
    let deep = [open(&mut rig, nested), open(&mut rig, nested)];
    let lodgers = deep.map(|scope| waiting_in(&mut rig, scope));
    rig.wait(nested, []);
    assert_eq!(close(&mut rig, owner, inner), Ok(OPEN));
    assert_eq!(rig.with(|kernel| kernel.scope_members(outer)), 2);
    cancel(&mut rig, outer);
    let mut woken: Vec<TaskId> = std::iter::from_fn(|| rig.turn()).map(|(task, _)| task).collect();
    woken.sort_unstable();
    let mut expected = vec![plain, nested, lodgers[0], lodgers[1]];
    expected.sort_unstable();
    assert_eq!(woken, expected);
    woken.into_iter().for_each(|task| rig.finish(task));
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn members_that_a_closed_shield_leaves_in_a_cancelled_scope_are_told() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let outer = open(&mut rig, owner);
    let held = shield(&mut rig, owner);
    let member = waiting_in(&mut rig, held);
    let nested = rig.running_in(held);
    let deep = open(&mut rig, nested);
    let lodger = waiting_in(&mut rig, deep);
    let sheltered = rig.running_in(held);
    shield(&mut rig, sheltered);
    rig.wait(sheltered, []);
    cancel(&mut rig, outer);
    rig.nobody_is_ready();
    assert_eq!(close(&mut rig, owner, held), Ok(OPEN));
    assert!(is_cancelled(&mut rig, nested), "it has its turn, and is refused its next wait");
    rig.ends_with(member, Wake::Cancelled);
    rig.ends_with(lodger, Wake::Cancelled);
    rig.nobody_is_ready();
    assert!(!is_cancelled(&mut rig, sheltered), "it has a shield of its own");
    rig.finish(nested);
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn who_waits_for_a_scope_to_drain_is_told_by_its_last_member() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    let members = [rig.spawn_in(scope), rig.spawn_in(scope)];
    rig.wait(owner, [Want::Drain(scope)]);
    rig.ends_with(members[0], Wake::Start);
    rig.ends_with(members[1], Wake::Start);
    rig.has_turn(owner, event!(0, Drained));
    rig.wait(owner, [Want::Drain(scope)]);
    rig.has_turn(owner, event!(0, Drained));
    assert_eq!(close(&mut rig, owner, scope), Ok(OPEN));
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn closing_a_scope_tells_those_who_waited_for_it_to_drain() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    let member = waiting_in(&mut rig, scope);
    let other = rig.waiting([Want::Drain(scope)]);
    assert_eq!(close(&mut rig, owner, scope), Ok(OPEN));
    rig.ends_with(other, event!(0, Drained));
    rig.finish_by_cancelling(member);
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn cancelling_a_run_reaches_everyone_in_it_now_and_later() {
    let mut rig = Rig::new();
    let root = rig.root;
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    let member = waiting_in(&mut rig, scope);
    rig.wait(owner, [Want::Drain(scope)]);
    cancel(&mut rig, root);
    rig.ends_with(owner, Wake::Cancelled);
    rig.ends_with(member, Wake::Cancelled);
    let late = rig.spawn();
    rig.ends_with(late, Wake::Cancelled);
    rig.leaves_nothing();
}
