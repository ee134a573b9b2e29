//! Priority, then the order of submission; keeping the old place.

use thistledown_workers::policy::{Config, JobSpec};

use crate::rig::{MICROSECOND, Rig, SECOND};

pub(crate) fn of_priority(priority: i32) -> JobSpec {
    JobSpec { priority, ..JobSpec::default() }
}

#[test]
fn jobs_of_one_priority_go_in_the_order_of_submission() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let jobs: Vec<_> = (0..5).map(|_| rig.plain()).collect();
    for &job in &jobs {
        assert_eq!(rig.begin(workers[0]), Some(job));
        let _ = rig.reply(job, SECOND);
    }
    assert_eq!(rig.offered_jobs(), jobs);
}

#[test]
fn higher_priority_goes_first() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let first = rig.plain();
    rig.begin(workers[0]);
    let [low, high, middle, low_too] = [-5, 7, 0, -5].map(|priority| rig.submit(of_priority(priority)));
    let order = [first, high, middle, low, low_too];
    let _ = rig.reply(first, 1);
    for job in &order[1..] {
        assert_eq!(rig.begin(workers[0]), Some(*job));
        let _ = rig.reply(*job, 1);
    }
    assert_eq!(rig.offered_jobs(), order);
}

#[test]
fn one_at_a_time_while_several_priorities_are_queued() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let first = rig.plain();
    rig.begin(workers[0]);
    let [low, high, highest] = [0, 1, 2].map(|priority| rig.submit(of_priority(priority)));
    // Ten would fit in the lane.
    let _ = rig.reply(first, 20 * MICROSECOND);
    assert_eq!(rig.worker_of(highest), Some(workers[0]));
    assert_eq!((rig.worker_of(high), rig.worker_of(low)), (None, None));
}

#[test]
fn what_is_offered_makes_room_for_a_higher_priority() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let first = rig.plain();
    rig.begin(workers[0]);
    let low: Vec<_> = (0..4).map(|_| rig.plain()).collect();
    let _ = rig.reply(first, 20 * MICROSECOND);
    rig.begin(workers[0]);
    assert!(low.iter().all(|&job| rig.worker_of(job).is_some()), "all of them are in the lane");
    let high = rig.submit(of_priority(1));
    assert_eq!(rig.worker_of(low[0]), Some(workers[0]), "this one has begun");
    assert!(low[1..].iter().all(|&job| rig.worker_of(job).is_none()));
    let _ = rig.reply(low[0], 20 * MICROSECOND);
    assert_eq!(rig.begin(workers[0]), Some(high));
}

#[test]
fn a_higher_priority_takes_nothing_back_when_a_worker_has_nothing() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(2));
    let low = rig.plain();
    let high = rig.submit(of_priority(1));
    assert!(rig.worker_of(low).is_some());
    assert!(rig.worker_of(high).is_some());
    assert_eq!(workers.len(), 2);
}

#[test]
fn what_is_taken_back_gets_its_old_place() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let first = rig.plain();
    rig.begin(workers[0]);
    let jobs: Vec<_> = (0..100).map(|_| rig.plain()).collect();
    let _ = rig.reply(first, 20 * MICROSECOND);
    rig.begin(workers[0]);
    let offered = rig.offered_jobs().len();
    assert!(offered < jobs.len(), "some are in the queue, some in the lane");
    rig.wait(workers[0]);
    let other = rig.hire();
    for job in &jobs[1..] {
        assert_eq!(rig.begin(other), Some(*job));
        let _ = rig.reply(*job, 20 * MICROSECOND);
    }
}

#[test]
fn what_is_cancelled_in_the_queue_is_not_offered() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let running = rig.plain();
    rig.begin(workers[0]);
    let jobs: Vec<_> = (0..300).map(|_| rig.plain()).collect();
    for job in &jobs[..299] {
        let _ = rig.cancel(*job);
    }
    let _ = rig.reply(running, SECOND);
    assert_eq!(rig.begin(workers[0]), Some(jobs[299]));
}
