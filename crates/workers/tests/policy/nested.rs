//! Jobs that wait for nested jobs: their workers give up their slots.

use thistledown_workers::policy::{Action, Config, JobSpec, Verdict, WorkerId};

use crate::rig::{MICROSECOND, Rig, SECOND};

/// The worker of a new job waits for the next, and so on, so deep. The workers, outermost first.
fn descend(rig: &mut Rig, depth: usize) -> Vec<WorkerId> {
    let mut workers = Vec::new();
    let mut job = rig.plain();
    for _ in 0..depth {
        let worker = rig.worker_of(job).unwrap_or_else(|| rig.hire());
        assert_eq!(rig.begin(worker), Some(job));
        job = rig.try_submit(Some(worker), JobSpec::default()).expect("the door is open");
        rig.wait(worker);
        workers.push(worker);
    }
    workers
}

#[test]
fn nested_jobs_find_a_worker_at_any_depth() {
    let (mut rig, _) = Rig::with_workers(Config::of_size(2));
    assert_eq!(descend(&mut rig, 50).len(), 50);
    assert_eq!(rig.policy.statistics().waiting, 50);
}

#[test]
fn what_a_job_has_started_goes_before_what_nobody_waits_for() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let outer = rig.plain();
    let [second, third] = [rig.plain(), rig.plain()];
    assert_eq!(rig.begin(workers[0]), Some(outer));
    let nested = rig.try_submit(Some(workers[0]), JobSpec::default()).expect("the door is open");
    rig.wait(workers[0]);
    let other = rig.hire();
    assert_eq!(rig.begin(other), Some(nested), "or else more and more would wait for what is never begun");
    assert_eq!((rig.worker_of(second), rig.worker_of(third)), (None, None));
}

#[test]
fn beyond_the_limit_nested_jobs_wait_like_any_other() {
    let (mut rig, _) = Rig::with_workers(Config { max_workers: 3, ..Config::of_size(1) });
    let workers = descend(&mut rig, 3);
    assert_eq!(workers.len(), 3);
    assert_eq!((rig.policy.statistics().queued, rig.starting.len()), (1, 0));
    rig.die(workers[0]);
    assert_eq!(rig.starting.len(), 1, "there is room for one again");
}

#[test]
fn what_was_offered_to_a_worker_that_waits_is_taken_back() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let taught = rig.plain();
    rig.begin(workers[0]);
    let _ = rig.reply(taught, MICROSECOND);
    let [running, behind] = [rig.plain(), rig.plain()];
    rig.begin(workers[0]);
    assert_eq!(rig.worker_of(behind), Some(workers[0]));
    rig.wait(workers[0]);
    assert_eq!((rig.worker_of(running), rig.worker_of(behind)), (Some(workers[0]), None));
    let other = rig.hire();
    assert_eq!(rig.begin(other), Some(behind));
}

#[test]
fn a_worker_that_goes_on_is_one_too_many_until_another_has_nothing() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let outer = rig.plain();
    rig.begin(workers[0]);
    rig.wait(workers[0]);
    let inner = rig.plain();
    let other = rig.hire();
    rig.begin(other);
    rig.resume(workers[0]);
    assert_eq!(rig.policy.statistics().busy, 2);
    let next = rig.plain();
    let _ = rig.reply(inner, 1);
    assert_eq!(rig.worker_of(next), None, "one runs, and only one may");
    let _ = rig.reply(outer, 1);
    assert!(rig.worker_of(next).is_some());
}

#[test]
fn workers_too_many_are_kept_for_a_while_and_then_retired() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let outer = rig.plain();
    rig.begin(workers[0]);
    for _ in 0..3 {
        rig.wait(workers[0]);
        let inner = rig.plain();
        let other = rig.worker_of(inner).unwrap_or_else(|| rig.hire());
        rig.begin(other);
        let _ = rig.reply(inner, 1);
        rig.resume(workers[0]);
    }
    assert_eq!(rig.policy.workers(), 2, "one was enough for three nested jobs");
    rig.pass(SECOND);
    assert!(matches!(rig.actions.as_slice(), [Action::Retire(_)]));
    let _ = rig.reply(outer, 1);
    rig.pass(SECOND);
    assert_eq!(rig.policy.statistics().idle, 1, "nobody else is retired");
}

#[test]
fn who_replies_does_not_wait() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let job = rig.plain();
    rig.begin(workers[0]);
    rig.wait(workers[0]);
    assert_eq!(rig.reply(job, 1), Verdict::Final);
    assert_eq!(rig.policy.statistics().idle, 1);
}

#[test]
fn a_worker_that_dies_while_it_waits_leaves_no_slot_behind() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    rig.plain();
    rig.begin(workers[0]);
    rig.wait(workers[0]);
    rig.die(workers[0]);
    rig.plain();
    rig.plain();
    assert_eq!(rig.starting.len(), 1);
}
