//! How much is laid in a lane, and when it is taken back.

use thistledown_workers::policy::{Config, JobId, JobSpec, WorkerId};

use crate::rig::{MICROSECOND, MILLISECOND, Rig, SECOND};

/// A worker that has begun the first of many jobs, after one that took so long. The jobs, the one that runs first.
fn busy(took: u64, many: usize, size: usize) -> (Rig, Vec<WorkerId>, Vec<JobId>) {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(size));
    let taught = rig.plain();
    let worker = rig.place_of(taught);
    rig.begin(worker);
    let _ = rig.reply(taught, took);
    let others: Vec<JobId> =
        (1..size).map(|_| rig.submit(JobSpec { solo: true, ..JobSpec::default() })).collect();
    for &other in &others {
        rig.begin(rig.place_of(other));
    }
    let jobs: Vec<JobId> = (0..many).map(|_| rig.plain()).collect();
    let worker = rig.place_of(jobs[0]);
    assert_eq!(rig.begin(worker), Some(jobs[0]));
    let workers =
        std::iter::once(worker).chain(workers.into_iter().filter(|&other| other != worker)).collect();
    (rig, workers, jobs)
}

fn in_lane(rig: &Rig, worker: WorkerId, jobs: &[JobId]) -> usize {
    jobs.iter().filter(|&&job| rig.worker_of(job) == Some(worker)).count()
}

#[test]
fn one_job_at_a_time_until_something_is_known() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let jobs: Vec<JobId> = (0..10).map(|_| rig.plain()).collect();
    assert_eq!(in_lane(&rig, workers[0], &jobs), 1);
}

#[test]
fn the_budget_is_laid_in_the_lane() {
    for (took, depth) in [(20 * MICROSECOND, 10), (150 * MICROSECOND, 1), (SECOND, 1), (1, 64), (0, 64)] {
        let (rig, workers, jobs) = busy(took, 100, 1);
        assert_eq!(in_lane(&rig, workers[0], &jobs), depth, "after a job of {took} ns");
    }
}

#[test]
fn a_reply_makes_room_for_one_more() {
    let (mut rig, workers, jobs) = busy(20 * MICROSECOND, 100, 1);
    let _ = rig.reply(jobs[0], 20 * MICROSECOND);
    assert_eq!(in_lane(&rig, workers[0], &jobs), 10);
    assert_eq!(rig.begin(workers[0]), Some(jobs[1]));
}

#[test]
fn jobs_that_grow_long_are_believed_at_once() {
    let (mut rig, workers, jobs) = busy(2 * MICROSECOND, 200, 1);
    assert_eq!(in_lane(&rig, workers[0], &jobs), 64);
    let _ = rig.reply(jobs[0], MILLISECOND);
    assert_eq!(rig.policy.statistics().depth, 1);
}

#[test]
fn jobs_that_grow_short_are_believed_by_and_by() {
    let (mut rig, workers, jobs) = busy(SECOND, 500, 1);
    let _ = rig.reply(jobs[0], MICROSECOND);
    assert_eq!(rig.policy.statistics().depth, 1);
    for job in &jobs[1..200] {
        rig.begin(workers[0]);
        let _ = rig.reply(*job, MICROSECOND);
    }
    assert_eq!(rig.policy.statistics().depth, 64);
}

#[test]
fn weightless_jobs_teach_nothing() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let job = rig.submit(JobSpec { weightless: true, ..JobSpec::default() });
    rig.begin(workers[0]);
    let _ = rig.reply(job, 1);
    assert_eq!(rig.policy.statistics().depth, 1);
}

#[test]
fn nothing_is_laid_behind_a_job_that_runs_for_long() {
    let (mut rig, workers, jobs) = busy(20 * MICROSECOND, 1, 1);
    rig.now += 2 * MILLISECOND;
    let late = rig.plain();
    assert_eq!(rig.worker_of(jobs[0]), Some(workers[0]));
    assert_eq!(rig.worker_of(late), None);
}

#[test]
fn what_lies_behind_a_job_that_runs_for_long_is_taken_back() {
    let (mut rig, workers, jobs) = busy(20 * MICROSECOND, 5, 1);
    assert_eq!(in_lane(&rig, workers[0], &jobs), 5);
    assert!(rig.pass_until_due());
    assert_eq!(in_lane(&rig, workers[0], &jobs), 1);
    assert_eq!(rig.policy.next_deadline(), None);
}

#[test]
fn what_lies_behind_short_jobs_stays() {
    let (mut rig, workers, jobs) = busy(20 * MICROSECOND, 5, 1);
    rig.now += 900 * MICROSECOND;
    let _ = rig.reply(jobs[0], 20 * MICROSECOND);
    rig.begin(workers[0]);
    assert!(rig.pass_until_due());
    assert_eq!(in_lane(&rig, workers[0], &jobs), 4);
    assert!(rig.pass_until_due(), "looked at again");
    assert_eq!(in_lane(&rig, workers[0], &jobs), 1);
}

#[test]
fn a_worker_that_has_nothing_gets_half_of_the_fullest_lane() {
    let (mut rig, workers, jobs) = busy(20 * MICROSECOND, 9, 2);
    assert_eq!(in_lane(&rig, workers[0], &jobs), 9);
    let other = *rig.floor.workers[&workers[1]].begun.first().unwrap();
    let _ = rig.reply(other, 20 * MICROSECOND);
    assert_eq!(in_lane(&rig, workers[1], &jobs), 4);
    assert!(jobs[5..].iter().all(|&job| rig.worker_of(job) == Some(workers[1])), "the newest half");
    assert_eq!(rig.begin(workers[1]), Some(jobs[5]));
}

#[test]
fn new_jobs_go_where_the_lane_is_shortest() {
    let (mut rig, workers, jobs) = busy(20 * MICROSECOND, 9, 2);
    let other = *rig.floor.workers[&workers[1]].begun.first().unwrap();
    let _ = rig.reply(other, 20 * MICROSECOND);
    let late = rig.plain();
    assert_eq!(in_lane(&rig, workers[0], &jobs), 5);
    assert_eq!(rig.worker_of(late), Some(workers[1]));
}

#[test]
fn a_job_with_a_timeout_goes_alone_to_a_worker_that_has_nothing() {
    let (mut rig, workers, jobs) = busy(20 * MICROSECOND, 1, 1);
    let timed = rig.submit(JobSpec { timeout: Some(SECOND), ..JobSpec::default() });
    let late = rig.plain();
    assert_eq!((rig.worker_of(timed), rig.worker_of(late)), (None, None), "it is waited for");
    let _ = rig.reply(jobs[0], 20 * MICROSECOND);
    assert_eq!((rig.worker_of(timed), rig.worker_of(late)), (Some(workers[0]), None));
}

#[test]
fn a_solo_job_is_alone() {
    for weightless in [false, true] {
        let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
        let spec = JobSpec { weightless, ..JobSpec::default() };
        let solo = rig.submit(JobSpec { solo: true, ..spec });
        let other = rig.submit(spec);
        assert_eq!((rig.worker_of(solo), rig.worker_of(other)), (Some(workers[0]), None));
    }
}

#[test]
fn a_worker_without_room_is_asked_again() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    rig.floor.worker(workers[0]).full = true;
    let job = rig.plain();
    assert_eq!(rig.worker_of(job), None);
    rig.floor.worker(workers[0]).full = false;
    assert!(rig.pass_until_due());
    assert_eq!(rig.worker_of(job), Some(workers[0]));
    assert_eq!(rig.policy.next_deadline(), None);
}

#[test]
fn a_worker_without_room_does_not_hold_the_others_up() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(2));
    workers.iter().for_each(|worker| rig.floor.worker(*worker).full = true);
    let job = rig.plain();
    rig.floor.worker(workers[0]).full = false;
    rig.pass(MILLISECOND);
    rig.pass(MILLISECOND);
    assert_eq!(rig.worker_of(job), Some(workers[0]));
}
