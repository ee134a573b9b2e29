//! The kernel as it stands: who lives in which group, what each does, and since when.

use thistledown_kernel::{Doing, ScopeId, Seen, TaskId, Want};

use crate::rig::{Rig, at};

/// What a survey shows, with the number of what it stands in.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Task(Option<usize>, TaskId, Doing),
    Group(usize, ScopeId),
}

fn survey(rig: &mut Rig, limit: usize) -> Vec<Shown> {
    let runner = rig.runner;
    let mut shown = Vec::new();
    rig.with(|kernel| {
        kernel.survey(runner, limit, |seen| {
            shown.push(match seen {
                Seen::Task(inside, standing) => {
                    let runs = matches!(standing.doing, Doing::Running | Doing::Elsewhere);
                    let has_body = !runs && !standing.visits;
                    assert_eq!(standing.body.is_some(), has_body);
                    Shown::Task(inside, standing.task, standing.doing)
                }
                Seen::Group(inside, scope) => Shown::Group(inside, scope),
            });
        });
    });
    shown
}

#[test]
fn a_wait_counts_from_the_last_look_of_its_runner() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let channel = rig.with(|kernel| kernel.open_channel(0));
    rig.with(|kernel| kernel.expire(runner, at(5)));
    let early = rig.receiver(channel);
    rig.with(|kernel| kernel.expire(runner, at(7)));
    let late = rig.receiver(channel);
    let seen = survey(&mut rig, 10);
    assert_eq!(
        seen,
        [Shown::Task(None, early, Doing::Waiting(at(5))), Shown::Task(None, late, Doing::Waiting(at(7)))]
    );
    for task in [early, late] {
        rig.finish_by_cancelling(task);
    }
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn groups_stand_behind_their_tasks_and_members_behind_their_groups() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let outer = rig.with(|kernel| kernel.open_scope(owner, None, false)).expect("a scope");
    // One without tasks is none that anybody has to see.
    let timeout = rig.with(|kernel| kernel.open_scope(owner, Some(at(9)), false)).expect("a scope");
    let member = rig.running_in(outer);
    let inner = rig.with(|kernel| kernel.open_scope(member, None, false)).expect("a scope");
    let deep = rig.spawn_in(inner);
    rig.wait(member, [Want::Drain(inner)]);
    let other = rig.spawn();
    let start = Doing::Waiting(at(0));
    let whole = [
        Shown::Task(None, owner, Doing::Running),
        Shown::Group(0, outer),
        Shown::Task(Some(1), member, start),
        Shown::Group(2, inner),
        Shown::Task(Some(3), deep, Doing::Ready),
        Shown::Task(None, other, Doing::Ready),
    ];
    assert_eq!(survey(&mut rig, 100), whole);
    assert_eq!(survey(&mut rig, 3), whole[..4], "with the groups of the last task");
    let runner = rig.runner;
    assert_eq!(rig.with(|kernel| kernel.count_tasks(runner)), 4);
    rig.with(|kernel| kernel.cancel_scope(outer));
    assert!(rig.with(|kernel| kernel.is_scope_cancelled(outer) && !kernel.is_scope_cancelled(timeout)));
    rig.with(|kernel| kernel.remove_runner(runner));
    assert_eq!(survey(&mut rig, 100), []);
}

#[test]
fn visitors_and_who_lives_in_a_region_stand_in_the_run() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let lobby = rig.with(|kernel| kernel.open_region(runner)).expect("a runner");
    let house = rig.with(|kernel| kernel.open_region(runner)).expect("a runner");
    let visitor = rig.with(|kernel| kernel.add_visitor(lobby)).expect("a region");
    let group = rig.with(|kernel| kernel.open_scope(visitor, None, false)).expect("a scope");
    let member = rig.spawn_in(group);
    let housed = rig.spawn_in(house);
    rig.with(|kernel| kernel.expire(runner, at(3)));
    rig.with(|kernel| kernel.tell_time(runner, at(4)));
    rig.wait(visitor, [Want::Receive(channel)]);
    let whole = [
        Shown::Task(None, visitor, Doing::Waiting(at(4))),
        Shown::Group(0, group),
        Shown::Task(Some(1), member, Doing::Ready),
        Shown::Task(None, housed, Doing::Ready),
    ];
    assert_eq!(survey(&mut rig, 10), whole);
    assert_eq!(survey(&mut rig, 2), whole[..2]);
    assert_eq!(rig.with(|kernel| kernel.count_tasks(runner)), 3);
    let mut visits = Vec::new();
    rig.with(|kernel| {
        kernel.survey(runner, 10, |seen| {
            if let Seen::Task(_, standing) = seen {
                visits.push(standing.visits);
            }
        });
    });
    assert_eq!(visits, [true, false, false]);
    for task in [member, housed] {
        rig.finish_by_cancelling(task);
    }
    assert!(rig.with(|kernel| kernel.withdraw(visitor)).is_none());
    rig.finish(visitor);
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_member_whose_body_runs_elsewhere_has_no_turn_here() {
    let mut rig = Rig::new();
    let owner = rig.running();
    let group = rig.with(|kernel| kernel.open_scope(owner, None, false)).expect("a scope");
    let member = rig.with(|kernel| kernel.add_elsewhere(None));
    assert_eq!(rig.with(|kernel| kernel.join(member, group, "stop")), Ok(()));
    let shown = [
        Shown::Task(None, owner, Doing::Running),
        Shown::Group(0, group),
        Shown::Task(Some(1), member, Doing::Elsewhere),
    ];
    assert_eq!(survey(&mut rig, 10), shown);
    let runner = rig.runner;
    assert_eq!(rig.with(|kernel| kernel.runner_of_scope(group)), Some(runner));
    rig.finish(member);
    rig.with(|kernel| kernel.close_scope(owner, group)).expect("its own");
    rig.finish(owner);
    rig.leaves_nothing();
}

#[test]
fn a_scope_of_a_thread_is_in_no_run() {
    let mut rig = Rig::new();
    let thread = rig.with(|kernel| kernel.add_thread("thread"));
    let scope = rig.with(|kernel| kernel.open_scope(thread, None, false)).expect("a scope");
    assert_eq!(rig.with(|kernel| kernel.runner_of_scope(scope)), None);
    rig.with(|kernel| kernel.close_scope(thread, scope)).expect("its own");
    rig.finish(thread);
    rig.leaves_nothing();
}

#[test]
fn tasks_are_counted_when_they_are_told_to_go_and_when_they_end() {
    let mut rig = Rig::new();
    let before = rig.with(|kernel| kernel.counts());
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let waits = rig.receiver(channel);
    let counts = rig.with(|kernel| kernel.counts());
    assert_eq!((counts.spawned - before.spawned, counts.ended - before.ended), (1, 0));
    let elsewhere = rig.with(|kernel| kernel.add_elsewhere(None));
    rig.with(|kernel| kernel.finish(elsewhere));
    rig.with(|kernel| kernel.finish(waits));
    rig.with(|kernel| kernel.finish(waits));
    let counts = rig.with(|kernel| kernel.counts());
    assert_eq!((counts.spawned - before.spawned, counts.ended - before.ended), (1, 1), "once each");
}
