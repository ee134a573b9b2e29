//! When workers are started, when no more of them are tried, and how long they live.

use thistledown_workers::policy::{Action, Config, Ending, MAX_FAILED_STARTS, MAX_SCARCE_STARTS, Refused};

use crate::rig::{End, MICROSECOND, Rig, SECOND};

#[test]
fn workers_are_started_on_demand_up_to_the_size() {
    let mut rig = Rig::new(Config::of_size(3));
    assert_eq!(rig.policy.workers(), 0);
    for expected in [1, 2, 3, 3, 3] {
        rig.plain();
        assert_eq!(rig.starting.len(), expected);
    }
}

#[test]
fn a_worker_that_has_nothing_is_used_before_another_is_started() {
    let mut rig = Rig::new(Config::of_size(3));
    for _ in 0..5 {
        let job = rig.plain();
        let worker = rig.worker_of(job).unwrap_or_else(|| rig.hire());
        rig.begin(worker);
        let _ = rig.reply(job, 1);
    }
    assert_eq!(rig.policy.workers(), 1);
}

#[test]
fn a_job_that_is_laid_behind_another_asks_for_a_worker_too() {
    let mut rig = Rig::new(Config::of_size(2));
    let first = rig.plain();
    let worker = rig.hire();
    rig.begin(worker);
    let _ = rig.reply(first, MICROSECOND);
    let [running, behind] = [rig.plain(), rig.plain()];
    rig.begin(worker);
    assert_eq!((rig.worker_of(running), rig.worker_of(behind)), (Some(worker), Some(worker)));
    let other = rig.hire();
    assert_eq!(rig.worker_of(behind), Some(other), "and it gets the job");
}

#[test]
fn a_failed_start_is_tried_again_after_a_pause() {
    let mut rig = Rig::new(Config::of_size(1));
    let job = rig.plain();
    rig.fail_start();
    assert!(rig.starting.is_empty(), "not at once");
    assert!(rig.pass_until_due());
    let worker = rig.hire();
    assert_eq!(rig.worker_of(job), Some(worker));
}

#[test]
fn pauses_between_failed_starts_grow() {
    let mut rig = Rig::new(Config::of_size(1));
    rig.plain();
    let mut pauses = Vec::new();
    for _ in 1..MAX_FAILED_STARTS {
        rig.fail_start();
        let before = rig.now;
        assert!(rig.pass_until_due());
        pauses.push(rig.now - before);
    }
    assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
}

#[test]
fn jobs_end_when_no_worker_can_be_started() {
    let mut rig = Rig::new(Config::of_size(1));
    let jobs = [rig.plain(), rig.plain()];
    for failures in 1..=MAX_SCARCE_STARTS {
        assert_eq!(rig.end(jobs[0]), None, "after {} failures", failures - 1);
        rig.pass_until_due();
        rig.fail_start();
    }
    assert!(jobs.iter().all(|&job| rig.end(job) == Some(End::Otherwise(Ending::NoWorkers))));
    let late = rig.plain();
    assert_eq!(rig.end(late), None, "a later job is a new try");
    assert!(rig.pass_until_due());
    rig.hire();
    assert!(rig.worker_of(late).is_some());
}

#[test]
fn jobs_do_not_end_while_there_is_a_worker() {
    let mut rig = Rig::new(Config::of_size(2));
    let running = rig.plain();
    let worker = rig.hire();
    rig.begin(worker);
    let waiting = rig.plain();
    for _ in 0..2 * MAX_FAILED_STARTS {
        rig.fail_start();
        rig.pass_until_due();
    }
    assert_eq!(rig.end(waiting), None);
    let _ = rig.reply(running, 1);
    assert_eq!(rig.worker_of(waiting), Some(worker));
}

#[test]
fn after_a_failure_one_start_at_a_time() {
    let mut rig = Rig::new(Config::of_size(4));
    for _ in 0..4 {
        rig.plain();
    }
    (0..4).for_each(|_| rig.fail_start());
    assert!(rig.pass_until_due());
    assert_eq!(rig.starting.len(), 1);
}

#[test]
fn a_worker_that_dies_before_it_is_ready_is_a_failed_start() {
    let mut rig = Rig::new(Config::of_size(1));
    let job = rig.plain();
    for _ in 0..MAX_FAILED_STARTS {
        rig.pass_until_due();
        let worker = *rig.starting.front().unwrap();
        rig.die(worker);
    }
    assert_eq!(rig.end(job), Some(End::Otherwise(Ending::NoWorkers)));
}

#[test]
fn a_worker_that_dies_before_it_did_anything_is_a_failed_start() {
    let mut rig = Rig::new(Config::of_size(1));
    let job = rig.plain();
    for _ in 0..MAX_FAILED_STARTS {
        rig.pass_until_due();
        let worker = rig.hire();
        rig.die(worker);
    }
    assert_eq!(rig.end(job), Some(End::Otherwise(Ending::NoWorkers)));
}

#[test]
fn failures_that_are_not_in_a_row_do_not_add_up() {
    let mut rig = Rig::new(Config::of_size(1));
    for _ in 0..2 * MAX_FAILED_STARTS {
        let job = rig.plain();
        rig.fail_start();
        rig.pass_until_due();
        let worker = rig.hire();
        rig.begin(worker);
        let _ = rig.reply(job, 1);
        rig.die(worker);
        assert_eq!(rig.end(job), Some(End::Replied));
    }
}

#[test]
fn when_no_worker_can_be_made_ready_the_queue_ends() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(2));
    let [running, other] = [rig.plain(), rig.plain()];
    workers.iter().for_each(|&worker| assert!(rig.begin(worker).is_some()));
    let queued = rig.plain();
    rig.die(rig.worker_of(other).unwrap());
    rig.break_down();
    assert_eq!(rig.end(queued), Some(End::Otherwise(Ending::NoWorkers)));
    assert_eq!(rig.end(running), None, "what runs comes to its own end");
    assert_eq!(rig.try_submit(None, Default::default()), Err(Refused::Broken));
    let worker = rig.worker_of(running).unwrap();
    let _ = rig.reply(running, 1);
    assert_eq!(rig.actions, [Action::Retire(worker)]);
}

#[test]
fn a_worker_is_retired_after_so_many_jobs_and_replaced_on_demand() {
    let mut rig = Rig::new(Config { max_tasks_per_child: Some(3), ..Config::of_size(1) });
    let jobs: Vec<_> = (0..4).map(|_| rig.plain()).collect();
    let worker = rig.hire();
    for job in &jobs[..3] {
        assert_eq!(rig.begin(worker), Some(*job));
        let _ = rig.reply(*job, MICROSECOND);
    }
    assert!(
        matches!(rig.actions.as_slice(), [Action::Retire(retired), Action::Start(_)] if *retired == worker)
    );
    let next = rig.hire();
    assert_eq!(rig.begin(next), Some(jobs[3]));
}

#[test]
fn who_does_not_leave_is_killed() {
    let mut rig = Rig::new(Config { max_tasks_per_child: Some(1), ..Config::of_size(1) });
    let job = rig.plain();
    let worker = rig.hire();
    rig.begin(worker);
    let _ = rig.reply(job, MICROSECOND);
    assert_eq!(rig.actions, [Action::Retire(worker)]);
    rig.pass(4 * SECOND);
    assert_eq!(rig.actions, []);
    rig.pass_until_due();
    assert_eq!(rig.actions, [Action::Kill(worker)]);
}
