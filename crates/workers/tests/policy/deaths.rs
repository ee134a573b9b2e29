//! What a death costs, retries, and replies that nobody waits for.

use thistledown_workers::policy::{Action, Config, Ending, JobId, JobSpec, Verdict};

use crate::rig::{End, MICROSECOND, Rig};

fn with_retries(retries: u32) -> JobSpec {
    JobSpec { retries, ..JobSpec::default() }
}

#[test]
fn a_death_costs_the_job_that_had_begun_and_no_other() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let taught = rig.plain();
    rig.begin(workers[0]);
    let _ = rig.reply(taught, MICROSECOND);
    let jobs: Vec<JobId> = (0..4).map(|_| rig.plain()).collect();
    rig.begin(workers[0]);
    assert!(jobs.iter().all(|&job| rig.worker_of(job).is_some()));
    rig.die(workers[0]);
    assert_eq!(rig.end(jobs[0]), Some(End::Otherwise(Ending::Died(workers[0]))));
    let next = rig.hire();
    for job in &jobs[1..] {
        assert_eq!(rig.begin(next), Some(*job));
        assert_eq!(rig.reply(*job, MICROSECOND), Verdict::Final);
    }
}

#[test]
fn a_dead_worker_is_replaced_when_there_is_work() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let first = rig.plain();
    rig.begin(workers[0]);
    rig.plain();
    rig.die(workers[0]);
    assert!(matches!(rig.actions.as_slice(), [Action::Start(_)]));
    assert_eq!(rig.end(first), Some(End::Otherwise(Ending::Died(workers[0]))));
}

#[test]
fn a_job_with_retries_is_tried_again_at_its_place() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let first = rig.submit(with_retries(2));
    rig.begin(workers[0]);
    rig.plain();
    rig.die(workers[0]);
    let second = rig.hire();
    assert_eq!(rig.begin(second), Some(first));
    rig.die(second);
    let third = rig.hire();
    assert_eq!(rig.begin(third), Some(first));
    rig.die(third);
    assert_eq!(rig.end(first), Some(End::Otherwise(Ending::Died(third))), "no retries are left");
}

#[test]
fn a_reply_can_ask_for_another_try() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let job = rig.submit(with_retries(1));
    rig.begin(workers[0]);
    assert_eq!(rig.reply_as(job, 1, true), Verdict::Again);
    assert_eq!(rig.begin(workers[0]), Some(job));
    assert_eq!(rig.reply_as(job, 1, true), Verdict::Final);
}

#[test]
fn without_retries_the_first_reply_is_final() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let job = rig.plain();
    rig.begin(workers[0]);
    assert_eq!(rig.reply_as(job, 1, true), Verdict::Final);
}

#[test]
fn the_time_of_a_job_starts_anew_with_its_next_try() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let job = rig.submit(JobSpec { timeout: Some(1_000), ..with_retries(1) });
    rig.begin(workers[0]);
    rig.pass(900);
    assert_eq!(rig.reply_as(job, 1, true), Verdict::Again);
    rig.begin(workers[0]);
    rig.pass(900);
    assert_eq!(rig.actions, []);
    rig.pass(100);
    assert_eq!(rig.actions, [Action::Interrupt(workers[0], job)]);
}

#[test]
fn a_reply_of_somebody_else_is_a_stray() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(2));
    let job = rig.plain();
    let theirs = rig.worker_of(job).unwrap();
    let other = if theirs == workers[0] { workers[1] } else { workers[0] };
    let now = rig.now;
    rig.tell(|policy, floor, _| assert_eq!(policy.replied(floor, other, job, 1, false, now), Verdict::Stray));
    rig.tell(|policy, floor, _| {
        assert_eq!(policy.replied(floor, theirs, JobId::default(), 1, false, now), Verdict::Stray);
    });
    rig.begin(theirs);
    assert_eq!(rig.reply(job, 1), Verdict::Final);
    rig.tell(|policy, floor, _| {
        assert_eq!(policy.replied(floor, theirs, job, 1, false, now), Verdict::Stray)
    });
}

#[test]
fn events_of_unknown_workers_change_nothing() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    rig.die(workers[0]);
    let before = rig.policy.statistics();
    rig.tell(|policy, floor, now| policy.ready(floor, workers[0], now));
    rig.tell(|policy, floor, now| policy.waiting(floor, workers[0], now));
    rig.tell(|policy, floor, now| policy.resumed(floor, workers[0], now));
    rig.tell(|policy, floor, now| policy.died(floor, workers[0], now));
    assert_eq!(rig.policy.statistics(), before);
}
