//! Visitors and regions: what is told of those that have no turn here, and what holds them.

use thistledown_kernel::{Event, ScopeId, TaskId, Told, Wake, Want};

use crate::rig::{Rig, at, plain};

fn region(rig: &mut Rig) -> ScopeId {
    let runner = rig.runner;
    rig.with(|kernel| kernel.open_region(runner)).expect("a runner")
}

fn visitor(rig: &mut Rig, region: ScopeId) -> TaskId {
    rig.with(|kernel| kernel.add_visitor(region)).expect("a region")
}

fn told(rig: &mut Rig) -> Vec<Told> {
    let runner = rig.runner;
    rig.with(|kernel| kernel.take_told(runner))
}

fn committed(visitor: TaskId) -> Told {
    Told { visitor, committed: true, cancelled: false }
}

fn cancelled(visitor: TaskId) -> Told {
    Told { visitor, committed: false, cancelled: true }
}

fn wake(rig: &mut Rig, visitor: TaskId) -> Option<Wake<u64>> {
    rig.with(|kernel| kernel.withdraw(visitor)).map(plain)
}

#[test]
fn a_visitor_whose_wait_is_over_is_told_of_and_has_no_turn() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(1));
    let lobby = region(&mut rig);
    let guest = visitor(&mut rig, lobby);
    rig.wait(guest, [Want::Receive(channel)]);
    assert_eq!(told(&mut rig), []);
    let value = rig.value(7);
    rig.with(|kernel| kernel.try_send(channel, value)).expect("somebody who waits");
    rig.nobody_is_ready();
    assert_eq!(told(&mut rig), [committed(guest)]);
    assert_eq!(told(&mut rig), [], "it is told once");
    assert_eq!(wake(&mut rig, guest), Some(Wake::Event { branch: 0, event: Event::Received(7) }));
    rig.finish(guest);
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_runner_with_something_to_tell_does_not_park_and_one_that_is_parked_is_woken() {
    let mut rig = Rig::new();
    let (runner, lobby) = (rig.runner, region(&mut rig));
    let guest = visitor(&mut rig, lobby);
    rig.wait(guest, [Want::Until(at(3))]);
    let timer = rig.with(|kernel| kernel.park(runner)).and_then(|prospects| prospects.timer);
    assert_eq!(timer, Some(at(3)), "a visitor's time is kept by the runner");
    rig.with(|kernel| kernel.unpark(runner));
    rig.with(|kernel| kernel.expire(runner, at(3)));
    assert_eq!(rig.with(|kernel| kernel.park(runner)), None);
    assert_eq!(told(&mut rig), [committed(guest)]);
    rig.with(|kernel| kernel.park(runner)).expect("nothing to do");
    let scope = rig.with(|kernel| kernel.open_scope(guest, None, false)).expect("a scope");
    rig.with(|kernel| kernel.cancel_scope(scope));
    assert_eq!(rig.with(|kernel| kernel.take_wakers()), ["runner"]);
    rig.finish(guest);
    rig.leaves_nothing();
}

#[test]
fn a_cancellation_is_told_whether_the_visitor_waits_or_not() {
    let mut rig = Rig::new();
    let lobby = region(&mut rig);
    let guest = visitor(&mut rig, lobby);
    let scope = rig.with(|kernel| kernel.open_scope(guest, None, false)).expect("a scope");
    rig.wait(guest, [Want::Until(at(3))]);
    rig.with(|kernel| kernel.cancel_scope(scope));
    assert_eq!(told(&mut rig), [cancelled(guest)]);
    assert_eq!(wake(&mut rig, guest), Some(Wake::Cancelled));
    rig.with(|kernel| kernel.cancel_scope(scope));
    assert_eq!(told(&mut rig), [cancelled(guest)]);
    rig.wait(guest, [Want::Until(at(3))]);
    assert_eq!(wake(&mut rig, guest), Some(Wake::Cancelled), "each wait is refused");
    rig.finish(guest);
    rig.leaves_nothing();
}

#[test]
fn a_shield_of_its_own_is_seen_and_keeps_a_cancellation_away() {
    let mut rig = Rig::new();
    let lobby = region(&mut rig);
    let guest = visitor(&mut rig, lobby);
    let outer = rig.with(|kernel| kernel.open_scope(guest, None, false)).expect("a scope");
    assert!(!rig.with(|kernel| kernel.is_shielded(guest)));
    let shield = rig.with(|kernel| kernel.open_scope(guest, None, true)).expect("a scope");
    assert!(rig.with(|kernel| kernel.is_shielded(guest)));
    rig.with(|kernel| kernel.cancel_scope(outer));
    assert!(told(&mut rig).iter().all(|told| !told.cancelled));
    rig.with(|kernel| kernel.close_scope(guest, shield)).expect("the innermost");
    assert!(rig.with(|kernel| kernel.is_cancelled(guest)));
    assert_eq!(told(&mut rig), [cancelled(guest)], "what was held back is told at the shield's end");
    rig.finish(guest);
    rig.leaves_nothing();
}

#[test]
fn the_outermost_scope_that_cancels_a_visitor_is_known_up_to_a_shield() {
    let mut rig = Rig::new();
    let lobby = region(&mut rig);
    let guest = visitor(&mut rig, lobby);
    let mut open = |shield| rig.with(|kernel| kernel.open_scope(guest, None, shield)).expect("a scope");
    let [outer, middle, shield, inner] = [open(false), open(false), open(true), open(false)];
    let mut by = |cancelled: Option<ScopeId>| {
        rig.with(|kernel| {
            cancelled.into_iter().for_each(|scope| kernel.cancel_scope(scope));
            kernel.cancelled_by(guest)
        })
    };
    assert_eq!(by(None), None);
    assert_eq!(by(Some(middle)), None, "the shield holds it back");
    assert_eq!(by(Some(inner)), Some(inner));
    assert_eq!(by(Some(shield)), Some(shield), "a shield's own cancellation is inside of it");
    for scope in [inner, shield] {
        rig.with(|kernel| kernel.close_scope(guest, scope)).expect("the innermost");
    }
    assert_eq!(rig.with(|kernel| kernel.cancelled_by(guest)), Some(middle));
    rig.with(|kernel| kernel.cancel_scope(outer));
    assert_eq!(rig.with(|kernel| kernel.cancelled_by(guest)), Some(outer));
    rig.with(|kernel| kernel.cancel_task(guest));
    assert_eq!(rig.with(|kernel| kernel.cancelled_by(guest)), Some(lobby), "its own comes from outside");
    rig.finish(guest);
    rig.leaves_nothing();
}

#[test]
fn cancelling_one_region_leaves_the_other_alone() {
    let mut rig = Rig::new();
    let (lobby, house) = (region(&mut rig), region(&mut rig));
    let guest = visitor(&mut rig, lobby);
    let task = rig.running_in(house);
    rig.wait(task, []);
    rig.wait(guest, []);
    rig.with(|kernel| kernel.cancel_scope(house));
    rig.ends_with(task, Wake::Cancelled);
    assert_eq!(told(&mut rig), []);
    assert_eq!(rig.with(|kernel| kernel.scope_members(house)), 0);
    rig.with(|kernel| kernel.close_region(house));
    rig.finish(guest);
    rig.leaves_nothing();
}

#[test]
fn who_lives_in_a_region_that_is_closed_lives_in_the_run() {
    let mut rig = Rig::new();
    let (runner, house) = (rig.runner, region(&mut rig));
    let task = rig.running_in(house);
    assert!(rig.with(|kernel| kernel.is_over(runner)), "its tasks are not those of the run itself");
    rig.with(|kernel| kernel.close_region(house));
    assert!(!rig.with(|kernel| kernel.is_over(runner)));
    rig.finish(task);
    assert_eq!(rig.with(|kernel| kernel.runner_of(task)), None);
    rig.leaves_nothing();
}
