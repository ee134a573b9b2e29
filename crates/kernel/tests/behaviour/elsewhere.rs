//! Scopes beyond the loop: members whose bodies run elsewhere, and the scopes of threads.

use thistledown_kernel::{JoinRefused, ScopeEnd, ScopeId, ScopeMisuse, TaskId, Wake, Want};

use crate::rig::{Rig, at, event};

const CANCELLED: ScopeEnd = ScopeEnd { cancelled: true, expired: false };
const EXPIRED: ScopeEnd = ScopeEnd { cancelled: true, expired: true };

fn open(rig: &mut Rig, owner: TaskId) -> ScopeId {
    rig.with(|kernel| kernel.open_scope(owner, None, false)).expect("a scope")
}

fn elsewhere(rig: &mut Rig) -> TaskId {
    rig.with(|kernel| kernel.add_elsewhere(None))
}

fn joined(rig: &mut Rig, scope: ScopeId, stop: &'static str) -> TaskId {
    let body = elsewhere(rig);
    assert_eq!(rig.with(|kernel| kernel.join(body, scope, stop)), Ok(()));
    body
}

fn cancel(rig: &mut Rig, scope: ScopeId) {
    rig.with(|kernel| kernel.cancel_scope(scope));
}

fn members(rig: &mut Rig, scope: ScopeId) -> usize {
    rig.with(|kernel| kernel.scope_members(scope))
}

fn fail(rig: &mut Rig, body: TaskId) {
    rig.with(|kernel| kernel.fail(body));
}

#[test]
fn cancelling_tells_each_body_to_stop_once() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let outer = open(&mut rig, owner);
    let first = joined(&mut rig, outer, "first");
    let inner = open(&mut rig, owner);
    let second = joined(&mut rig, inner, "second");
    assert_eq!(rig.woken(), [""; 0]);
    cancel(&mut rig, inner);
    assert_eq!(rig.woken(), ["second"]);
    cancel(&mut rig, outer);
    assert_eq!(rig.woken(), ["first"]);
    cancel(&mut rig, inner);
    rig.with(|kernel| kernel.cancel_task(first));
    assert_eq!(rig.woken(), [""; 0]);
    assert_eq!((members(&mut rig, outer), members(&mut rig, inner)), (1, 1), "they have not ended");
    rig.finish(second);
    rig.finish(first);
    assert_eq!((members(&mut rig, outer), members(&mut rig, inner)), (0, 0));
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn the_last_ones_are_told_first() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    let bodies = ["first", "second", "third"].map(|stop| joined(&mut rig, scope, stop));
    cancel(&mut rig, scope);
    assert_eq!(rig.woken(), ["third", "second", "first"]);
    bodies.into_iter().for_each(|body| rig.finish(body));
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn a_shield_holds_the_order_back_until_it_is_closed() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let outer = open(&mut rig, owner);
    let shield = rig.with(|kernel| kernel.open_scope(owner, None, true)).expect("a scope");
    let body = joined(&mut rig, shield, "body");
    cancel(&mut rig, outer);
    assert_eq!(rig.woken(), [""; 0]);
    assert!(!rig.with(|kernel| kernel.is_cancelled(body)));
    assert!(rig.with(|kernel| kernel.close_scope(owner, shield)).is_ok());
    assert_eq!(rig.woken(), ["body"], "its scope is gone");
    rig.finish(body);
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn who_joins_a_cancelled_scope_is_told_at_once() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let outer = open(&mut rig, owner);
    let inner = open(&mut rig, owner);
    cancel(&mut rig, outer);
    let body = joined(&mut rig, inner, "body");
    assert_eq!(rig.woken(), ["body"]);
    rig.finish(body);
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn a_failure_cancels_the_scope_and_its_siblings() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    let first = joined(&mut rig, scope, "first");
    let second = joined(&mut rig, scope, "second");
    let weightless = rig.running_in(scope);
    rig.wait(weightless, []);
    rig.wait(owner, [Want::Drain(scope)]);
    fail(&mut rig, first);
    assert_eq!(rig.woken(), ["second"], "the one that failed is not told");
    rig.has_turn(owner, Wake::Cancelled);
    rig.ends_with(weightless, Wake::Cancelled);
    rig.finish(second);
    assert_eq!(rig.with(|kernel| kernel.close_scope(owner, scope)), Ok(CANCELLED));
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn a_failure_outside_of_a_scope_is_an_end() {
    let mut rig = Rig::new();
    let body = elsewhere(&mut rig);
    let waiter = rig.waiting([Want::End(body)]);
    fail(&mut rig, body);
    rig.ends_with(waiter, event!(0, Ended));
    rig.leaves_nothing();
}

#[test]
fn a_scope_drains_when_the_last_body_has_ended() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    let body = joined(&mut rig, scope, "body");
    rig.wait(owner, [Want::Drain(scope)]);
    rig.nobody_is_ready();
    rig.finish(body);
    rig.has_turn(owner, event!(0, Drained));
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn a_body_whose_scope_is_closed_belongs_to_nobody() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let outer = open(&mut rig, owner);
    let inner = open(&mut rig, owner);
    let body = joined(&mut rig, inner, "body");
    assert!(rig.with(|kernel| kernel.close_scope(owner, inner)).is_ok());
    assert_eq!(rig.woken(), ["body"]);
    assert_eq!(members(&mut rig, outer), 0);
    fail(&mut rig, body);
    assert!(!rig.with(|kernel| kernel.is_cancelled(owner)), "its failure is nobody's");
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn a_task_that_ends_with_a_scope_open_has_its_bodies_stopped() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    let body = joined(&mut rig, scope, "body");
    rig.finish(owner);
    assert_eq!(rig.woken(), ["body"]);
    rig.finish(body);
    rig.leaves_nothing();
}

#[test]
fn joining_is_for_bodies_elsewhere_and_once() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let scope = open(&mut rig, owner);
    let other = open(&mut rig, owner);
    let join = |rig: &mut Rig, task, scope| rig.with(|kernel| kernel.join(task, scope, "stop"));
    assert_eq!(join(&mut rig, owner, scope), Err(JoinRefused::NotElsewhere));
    let body = joined(&mut rig, scope, "body");
    assert_eq!(join(&mut rig, body, other), Err(JoinRefused::Taken));
    rig.finish(body);
    assert_eq!(join(&mut rig, body, other), Err(JoinRefused::NotElsewhere), "it has ended");
    assert!(rig.with(|kernel| kernel.close_scope(owner, other)).is_ok());
    let late = elsewhere(&mut rig);
    assert_eq!(join(&mut rig, late, other), Err(JoinRefused::NotOpen));
    rig.finish(late);
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn a_scope_is_taken_away_with_what_was_opened_inside_of_it() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let outer = open(&mut rig, owner);
    let held = open(&mut rig, owner);
    let inner = open(&mut rig, owner);
    let body = joined(&mut rig, inner, "body");
    let weightless = rig.running_in(held);
    rig.wait(weightless, []);
    let other = rig.running();
    assert_eq!(rig.with(|kernel| kernel.evict_scope(other, held)), None, "it is not this one's");
    rig.finish(other);
    let end = rig.with(|kernel| kernel.evict_scope(owner, held));
    assert_eq!(end, Some(ScopeEnd { cancelled: false, expired: false }));
    assert_eq!(rig.woken(), ["body"]);
    rig.ends_with(weightless, Wake::Cancelled);
    assert!(!rig.with(|kernel| kernel.is_cancelled(owner)));
    assert_eq!(rig.with(|kernel| kernel.close_scope(owner, inner)), Err(ScopeMisuse::NotOpen));
    assert!(rig.with(|kernel| kernel.close_scope(owner, outer)).is_ok());
    rig.finish(body);
    rig.finish(owner);
    rig.leaves_nothing();
}

// --- threads ------------------------------------------------------------------------------------------------

#[test]
fn a_thread_has_scopes_whose_deadlines_it_looks_after_itself() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let thread = rig.with(|kernel| kernel.add_thread("thread"));
    let outer = rig.with(|kernel| kernel.open_scope(thread, Some(at(5)), false)).expect("a scope");
    let inner = rig.with(|kernel| kernel.open_scope(thread, Some(at(3)), false)).expect("a scope");
    assert_eq!(rig.with(|kernel| kernel.next_deadline(thread)), Some(at(3)));
    rig.with(|kernel| kernel.expire(runner, at(9)));
    assert!(!rig.with(|kernel| kernel.is_cancelled(thread)), "no run has them");
    rig.wait(thread, []);
    rig.with(|kernel| kernel.expire_thread(thread, at(3)));
    assert_eq!(rig.woken(), ["thread"]);
    assert_eq!(rig.with(|kernel| kernel.withdraw(thread)).map(crate::rig::plain), Some(Wake::Cancelled));
    assert_eq!(rig.with(|kernel| kernel.next_deadline(thread)), Some(at(5)));
    assert_eq!(rig.with(|kernel| kernel.close_scope(thread, outer)), Err(ScopeMisuse::NotInnermost));
    assert_eq!(rig.with(|kernel| kernel.close_scope(thread, inner)), Ok(EXPIRED));
    assert!(!rig.with(|kernel| kernel.is_cancelled(thread)));
    rig.with(|kernel| kernel.expire_thread(thread, at(5)));
    assert!(rig.with(|kernel| kernel.is_cancelled(thread)));
    assert_eq!(rig.with(|kernel| kernel.next_deadline(thread)), None);
    assert!(rig.with(|kernel| kernel.has_open_scope(thread)));
    assert_eq!(rig.with(|kernel| kernel.close_scope(thread, outer)), Ok(EXPIRED));
    assert!(!rig.with(|kernel| kernel.has_open_scope(thread)));
    rig.finish(thread);
    rig.leaves_nothing();
}

#[test]
fn a_thread_waits_for_the_bodies_of_its_scope() {
    let mut rig = Rig::new();
    let thread = rig.with(|kernel| kernel.add_thread("nobody"));
    let scope = open(&mut rig, thread);
    let body = joined(&mut rig, scope, "body");
    rig.with(|kernel| kernel.set_waker(thread, "thread"));
    assert!(!rig.with(|kernel| kernel.is_waiting(thread)));
    rig.wait(thread, [Want::Drain(scope)]);
    assert!(rig.with(|kernel| kernel.is_waiting(thread)));
    rig.finish(body);
    assert_eq!(rig.woken(), ["thread"]);
    assert_eq!(rig.with(|kernel| kernel.withdraw(thread)).map(crate::rig::plain), Some(event!(0, Drained)));
    rig.finish(thread);
    rig.leaves_nothing();
}

#[test]
fn a_thread_that_is_gone_has_its_bodies_stopped() {
    let mut rig = Rig::new();
    let thread = rig.with(|kernel| kernel.add_thread("thread"));
    let scope = open(&mut rig, thread);
    let body = joined(&mut rig, scope, "body");
    rig.finish(thread);
    assert_eq!(rig.woken(), ["body"]);
    rig.finish(body);
    rig.leaves_nothing();
}
