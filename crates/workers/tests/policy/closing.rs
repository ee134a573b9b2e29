//! The end: closed, cancelled, killed.

use thistledown_workers::policy::{Action, Config, Ending, JobId, JobSpec, Refused, Verdict};

use crate::rig::{End, Rig};

const CANCELLED: Option<End> = Some(End::Otherwise(Ending::Cancelled));

#[test]
fn a_closed_policy_takes_no_more_and_ends_what_it_has() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let [running, queued] = [rig.plain(), rig.plain()];
    rig.begin(workers[0]);
    rig.tell(|policy, floor, now| policy.close(floor, now));
    assert_eq!(rig.try_submit(None, JobSpec::default()), Err(Refused::Closed));
    assert_eq!(rig.actions, []);
    let _ = rig.reply(running, 1);
    assert_eq!(rig.actions, []);
    assert_eq!(rig.begin(workers[0]), Some(queued));
    let _ = rig.reply(queued, 1);
    assert_eq!(rig.actions, [Action::Retire(workers[0])]);
    rig.die(workers[0]);
    assert_eq!((rig.policy.workers(), rig.policy.next_deadline()), (0, None));
}

#[test]
fn a_closed_policy_without_jobs_lets_everybody_go() {
    let mut rig = Rig::new(Config::of_size(2));
    let [first, second] = [rig.plain(), rig.plain()];
    let ready = rig.hire();
    let starting = rig.starting[0];
    for job in [first, second] {
        let _ = rig.cancel(job);
    }
    rig.tell(|policy, floor, now| policy.close(floor, now));
    assert_eq!(rig.actions.len(), 2);
    assert!([ready, starting].iter().all(|&worker| rig.actions.contains(&Action::Retire(worker))));
    rig.tell(|policy, floor, now| policy.ready(floor, starting, now));
    assert_eq!(rig.actions, [], "it was told already");
}

#[test]
fn nested_jobs_are_taken_after_the_close() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let outer = rig.plain();
    rig.begin(workers[0]);
    rig.tell(|policy, floor, now| policy.close(floor, now));
    let inner = rig.try_submit(Some(workers[0]), JobSpec::default()).unwrap();
    rig.wait(workers[0]);
    let other = rig.hire();
    assert_eq!(rig.begin(other), Some(inner));
    let _ = rig.reply(inner, 1);
    rig.resume(workers[0]);
    assert_eq!(rig.reply(outer, 1), Verdict::Final);
    assert_eq!(rig.try_submit(Some(workers[0]), JobSpec::default()), Err(Refused::Closed));
}

#[test]
fn cancelling_all_ends_what_has_not_begun() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(2));
    let running = rig.plain();
    rig.begin(rig.worker_of(running).unwrap());
    let offered = rig.plain();
    let keyed = [(); 3].map(|()| rig.submit(JobSpec { key: Some(1), ..JobSpec::default() }));
    let weightless = rig.submit(JobSpec { weightless: true, ..JobSpec::default() });
    assert!(rig.worker_of(offered).is_some());
    rig.tell(|policy, floor, now| policy.cancel_all(floor, now));
    let ended = [offered, weightless].into_iter().chain(keyed);
    assert!(ended.into_iter().all(|job| rig.end(job) == CANCELLED));
    assert_eq!(rig.policy.jobs(), 1);
    let next = rig.submit(JobSpec { key: Some(1), ..JobSpec::default() });
    assert!(rig.worker_of(next).is_some(), "the key is free again");
    assert_eq!(workers.len(), 2);
}

#[test]
fn killing_all_ends_every_job_and_every_worker() {
    let mut rig = Rig::new(Config::of_size(2));
    let jobs: Vec<JobId> = (0..4).map(|_| rig.plain()).collect();
    let ready = rig.hire();
    rig.begin(ready);
    let starting = rig.starting[0];
    rig.kill_all();
    assert_eq!(rig.actions, [Action::Kill(ready), Action::Kill(starting)]);
    assert!(jobs.iter().all(|&job| rig.end(job) == CANCELLED));
    assert_eq!(rig.try_submit(Some(ready), JobSpec::default()), Err(Refused::Closed));
    let now = rig.now;
    rig.tell(|policy, floor, _| {
        assert_eq!(policy.replied(floor, ready, jobs[0], 1, false, now), Verdict::Stray)
    });
    rig.die(ready);
    rig.die(starting);
    assert_eq!((rig.policy.workers(), rig.policy.next_deadline()), (0, None));
    assert!(rig.starting.is_empty(), "nobody is started any more");
}
