//! Keys: no overlap, in order, and rather the same worker again.

use thistledown_workers::policy::{Cancel, Config, JobSpec};

use crate::rig::{End, Rig, SECOND};

fn of_key(key: u64) -> JobSpec {
    JobSpec { key: Some(key), ..JobSpec::default() }
}

#[test]
fn jobs_of_one_key_never_overlap_and_others_do() {
    let (mut rig, _) = Rig::with_workers(Config::of_size(3));
    let [first, second] = [rig.submit(of_key(1)), rig.submit(of_key(1))];
    let other = rig.submit(of_key(2));
    assert!(rig.worker_of(first).is_some() && rig.worker_of(other).is_some());
    assert_eq!(rig.worker_of(second), None);
    rig.begin(rig.worker_of(first).unwrap());
    let _ = rig.reply(first, 1);
    assert!(rig.worker_of(second).is_some());
}

#[test]
fn a_key_keeps_its_order_whatever_the_priorities() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let jobs = [0, 1, 2].map(|priority| rig.submit(JobSpec { priority, ..of_key(9) }));
    for job in jobs {
        assert_eq!(rig.begin(workers[0]), Some(job));
        let _ = rig.reply(job, 1);
    }
}

#[test]
fn weightless_jobs_of_one_key_do_not_overlap_either() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let weightless = JobSpec { weightless: true, ..of_key(1) };
    let [first, second] = [rig.submit(weightless), rig.submit(weightless)];
    assert_eq!((rig.worker_of(first), rig.worker_of(second)), (Some(workers[0]), None));
}

#[test]
fn a_key_prefers_its_last_worker() {
    let (mut rig, _) = Rig::with_workers(Config::of_size(4));
    let mut run = |key| {
        let job = rig.submit(of_key(key));
        let worker = rig.worker_of(job).unwrap();
        rig.begin(worker);
        (job, worker)
    };
    let runs = [1, 2, 3, 4].map(&mut run);
    for (job, _) in runs {
        let _ = rig.reply(job, 1);
    }
    for (key, (_, worker)) in [3, 1, 4, 2].into_iter().zip([runs[2], runs[0], runs[3], runs[1]]) {
        let job = rig.submit(of_key(key));
        assert_eq!(rig.worker_of(job), Some(worker));
    }
}

#[test]
fn a_key_takes_another_worker_when_its_last_is_busy() {
    let (mut rig, _) = Rig::with_workers(Config::of_size(2));
    let first = rig.submit(of_key(1));
    let last = rig.worker_of(first).unwrap();
    rig.begin(last);
    let _ = rig.reply(first, 1);
    let other = rig.plain();
    assert_eq!(rig.worker_of(other), Some(last), "it had something to do last, so it comes first");
    let second = rig.submit(of_key(1));
    assert_ne!(rig.worker_of(second).unwrap(), last);
}

#[test]
fn nothing_is_laid_behind_a_job_with_a_key() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let taught = rig.plain();
    rig.begin(workers[0]);
    let _ = rig.reply(taught, 1);
    rig.submit(of_key(1));
    let plain = rig.plain();
    assert_eq!(rig.worker_of(plain), None);
}

#[test]
fn the_next_of_a_key_goes_on_when_the_first_is_cancelled_in_the_queue() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let running = rig.plain();
    rig.begin(workers[0]);
    let [first, second, third] = [(); 3].map(|()| rig.submit(of_key(1)));
    assert_eq!(rig.cancel(second), Cancel::Removed);
    assert_eq!(rig.cancel(first), Cancel::Removed);
    let _ = rig.reply(running, SECOND);
    assert_eq!(rig.begin(workers[0]), Some(third));
}

#[test]
fn a_retry_keeps_its_place_before_the_next_of_its_key() {
    let (mut rig, _) = Rig::with_workers(Config::of_size(2));
    let first = rig.submit(JobSpec { retries: 1, ..of_key(1) });
    let second = rig.submit(of_key(1));
    let worker = rig.worker_of(first).unwrap();
    rig.begin(worker);
    rig.die(worker);
    assert!(rig.worker_of(first).is_some());
    assert_eq!(rig.worker_of(second), None);
    let worker = rig.worker_of(first).unwrap();
    rig.begin(worker);
    let _ = rig.reply(first, 1);
    assert_eq!(rig.end(first), Some(End::Replied));
    assert!(rig.worker_of(second).is_some());
}
