//! Weightless jobs, and how they get along with plain ones.

use thistledown_workers::policy::{Action, Config, JobId, JobSpec};

use crate::rig::{MICROSECOND, Rig, SECOND};

const WEIGHTLESS: JobSpec = JobSpec {
    weightless: true,
    priority: 0,
    key: None,
    timeout: None,
    retries: 0,
    solo: false,
    actor: None,
    last: false,
    halts: false,
};

#[test]
fn weightless_jobs_share_a_worker_up_to_the_limit() {
    let (mut rig, workers) = Rig::with_workers(Config { concurrency: 3, ..Config::of_size(1) });
    let jobs: Vec<JobId> = (0..5).map(|_| rig.submit(WEIGHTLESS)).collect();
    let there = jobs.iter().filter(|&&job| rig.worker_of(job) == Some(workers[0])).count();
    assert_eq!(there, 3);
}

#[test]
fn weightless_jobs_are_spread() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(3));
    for _ in 0..9 {
        rig.submit(WEIGHTLESS);
    }
    for worker in workers {
        assert_eq!(rig.floor.workers[&worker].jobs(), 3);
    }
}

#[test]
fn kinds_do_not_share_a_worker() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(2));
    let taught = rig.plain();
    rig.begin(rig.worker_of(taught).unwrap());
    let _ = rig.reply(taught, MICROSECOND);
    let plain = rig.plain();
    let weightless: Vec<JobId> = (0..3).map(|_| rig.submit(WEIGHTLESS)).collect();
    let plain_too = rig.plain();
    let (theirs, others) = (rig.worker_of(plain).unwrap(), rig.worker_of(weightless[0]).unwrap());
    assert_ne!(theirs, others);
    assert_eq!(rig.worker_of(plain_too), Some(theirs));
    assert!(weightless.iter().all(|&job| rig.worker_of(job) == Some(others)));
    assert_eq!(workers.len(), 2);
}

#[test]
fn nothing_is_laid_behind_while_a_weightless_job_waits_for_a_worker() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let first = rig.plain();
    rig.begin(workers[0]);
    let weightless = rig.submit(WEIGHTLESS);
    let late: Vec<JobId> = (0..3).map(|_| rig.plain()).collect();
    let _ = rig.reply(first, MICROSECOND);
    assert_eq!(rig.worker_of(weightless), Some(workers[0]));
    assert!(late.iter().all(|&job| rig.worker_of(job).is_none()));
}

#[test]
fn plain_jobs_get_one_worker_more_while_all_run_weightless_ones() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(2));
    let weightless: Vec<JobId> = (0..4).map(|_| rig.submit(WEIGHTLESS)).collect();
    let [nested, other] =
        [(); 2].map(|()| rig.try_submit(Some(workers[0]), JobSpec::default()).expect("the door is open"));
    assert_eq!(rig.starting.len(), 1, "one, not two");
    let late = rig.submit(WEIGHTLESS);
    assert!(rig.worker_of(late).is_some_and(|worker| workers.contains(&worker)));
    let more = rig.hire();
    assert_eq!(rig.begin(more), Some(nested));
    let later = rig.submit(WEIGHTLESS);
    assert!(rig.worker_of(later).is_some_and(|worker| workers.contains(&worker)));
    let _ = rig.reply(nested, SECOND);
    assert_eq!(rig.begin(more), Some(other));
    let _ = rig.reply(other, SECOND);
    assert!(weightless.iter().all(|&job| rig.worker_of(job).is_some()));
    rig.pass(SECOND);
    assert_eq!(rig.actions, [Action::Retire(more)], "when there are no more of them");
}

#[test]
fn the_worker_more_is_for_plain_jobs_alone() {
    let (mut rig, workers) = Rig::with_workers(Config { concurrency: 1, ..Config::of_size(1) });
    rig.submit(WEIGHTLESS);
    let plain = rig.plain();
    let weightless = rig.submit(WEIGHTLESS);
    let more = rig.hire();
    assert_eq!(rig.begin(more), Some(plain));
    let _ = rig.reply(plain, SECOND);
    assert_eq!(rig.worker_of(weightless), None);
    let job = rig.begin(workers[0]).expect("it has one");
    let _ = rig.reply(job, 1);
    assert!(rig.worker_of(weightless).is_some());
}

#[test]
fn a_weightless_job_with_a_timeout_shares_its_worker() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let timed = rig.submit(JobSpec { timeout: Some(1_000), ..WEIGHTLESS });
    let other = rig.submit(WEIGHTLESS);
    assert_eq!((rig.worker_of(timed), rig.worker_of(other)), (Some(workers[0]), Some(workers[0])));
}
