//! Waits that can never end: they are refused to the job that would begin them.

use thistledown_workers::policy::{Config, Deadlock, JobId, JobSpec, WorkerId};

use crate::rig::Rig;

fn keyed(key: u64) -> JobSpec {
    JobSpec { key: Some(key), ..JobSpec::default() }
}

/// A job that has begun, of this key, started by a job of that worker.
fn begun(rig: &mut Rig, by: Option<WorkerId>, spec: JobSpec) -> (JobId, WorkerId) {
    let job = rig.try_submit(by, spec).expect("the door is open");
    let worker = rig.worker_of(job).unwrap_or_else(|| rig.hire());
    assert_eq!(rig.begin(worker), Some(job));
    (job, worker)
}

fn blocked(rig: &mut Rig, (job, worker): (JobId, WorkerId), on: JobId) -> Result<(), Deadlock> {
    rig.wait(worker);
    rig.policy.blocked(worker, job, on, false)
}

#[test]
fn a_job_of_the_same_key_can_never_begin() {
    let (mut rig, _) = Rig::with_workers(Config::of_size(2));
    let outer = begun(&mut rig, None, keyed(7));
    let inner = rig.try_submit(Some(outer.1), keyed(7)).expect("the door is open");
    assert_eq!(blocked(&mut rig, outer, inner), Err(Deadlock::Cycle(vec![outer.0, inner])));
    assert_eq!(rig.policy.waits_for(outer.0), None, "it was told, and goes on");
    assert_eq!(rig.policy.waits_for(inner), Some(outer.0));
}

#[test]
fn the_way_leads_over_keys_and_waits() {
    let (mut rig, _) = Rig::with_workers(Config::of_size(3));
    let first = begun(&mut rig, None, keyed(1));
    let queued = rig.try_submit(None, keyed(1)).expect("the door is open");
    let second = begun(&mut rig, Some(first.1), keyed(2));
    assert_eq!(blocked(&mut rig, first, second.0), Ok(()));
    let third = rig.try_submit(Some(second.1), keyed(1)).expect("the door is open");
    let cycle = Deadlock::Cycle(vec![second.0, third, first.0]);
    assert_eq!(
        blocked(&mut rig, second, third),
        Err(cycle),
        "whoever else stands behind the first: {queued:?}"
    );
}

#[test]
fn who_goes_on_waits_for_nothing() {
    let (mut rig, _) = Rig::with_workers(Config::of_size(2));
    let outer = begun(&mut rig, None, keyed(1));
    let inner = begun(&mut rig, Some(outer.1), JobSpec::default());
    assert_eq!(blocked(&mut rig, outer, inner.0), Ok(()));
    rig.policy.unblocked(outer.1, outer.0);
    rig.resume(outer.1);
    let last = rig.try_submit(Some(inner.1), keyed(1)).expect("the door is open");
    assert_eq!(blocked(&mut rig, inner, last), Ok(()), "the outer one can end");
    let cycle = Deadlock::Cycle(vec![outer.0, inner.0, last]);
    assert_eq!(blocked(&mut rig, outer, inner.0), Err(cycle), "unless it waits again");
}

#[test]
fn a_job_that_is_being_stopped_waits_for_nothing() {
    let (mut rig, _) = Rig::with_workers(Config::of_size(2));
    let outer = begun(&mut rig, None, keyed(1));
    let inner = begun(&mut rig, Some(outer.1), JobSpec::default());
    assert_eq!(blocked(&mut rig, outer, inner.0), Ok(()));
    let _ = rig.cancel(outer.0);
    let last = rig.try_submit(Some(inner.1), keyed(1)).expect("the door is open");
    assert_eq!(blocked(&mut rig, inner, last), Ok(()));
}

#[test]
fn a_job_that_has_ended_is_waited_for_by_nobody() {
    let (mut rig, _) = Rig::with_workers(Config::of_size(2));
    let outer = begun(&mut rig, None, keyed(1));
    let inner = begun(&mut rig, Some(outer.1), JobSpec::default());
    assert_eq!(blocked(&mut rig, outer, inner.0), Ok(()));
    assert_eq!(rig.policy.waits_for(outer.0), Some(inner.0));
    let _ = rig.reply(inner.0, 1);
    assert_eq!(rig.policy.waits_for(outer.0), None);
}

#[test]
fn another_worker_cannot_speak_for_a_job() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(2));
    let job = begun(&mut rig, None, keyed(1));
    let other = workers.into_iter().find(|&worker| worker != job.1).expect("two");
    let inner = rig.try_submit(Some(job.1), keyed(1)).expect("the door is open");
    assert_eq!(rig.policy.blocked(other, job.0, inner, false), Ok(()));
    assert_eq!(rig.policy.waits_for(job.0), None);
}

#[test]
fn when_all_workers_there_may_be_wait_the_last_wait_is_refused() {
    let (mut rig, _) = Rig::with_workers(Config { max_workers: 3, ..Config::of_size(1) });
    let first = begun(&mut rig, None, JobSpec::default());
    let mut last = first;
    for _ in 0..2 {
        let next = rig.try_submit(Some(last.1), JobSpec::default()).expect("the door is open");
        assert_eq!(blocked(&mut rig, last, next), Ok(()));
        let worker = rig.worker_of(next).unwrap_or_else(|| rig.hire());
        assert_eq!(rig.begin(worker), Some(next));
        last = (next, worker);
    }
    let never = rig.try_submit(Some(last.1), JobSpec::default()).expect("the door is open");
    assert_eq!(blocked(&mut rig, last, never), Err(Deadlock::NoWorkerLeft(never)));
    rig.policy.unblocked(first.1, first.0);
    assert_eq!(rig.policy.blocked(last.1, last.0, never, false), Ok(()), "one of them may go on");
}
