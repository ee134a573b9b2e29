//! Cancelling and timeouts: asked first, killed after the grace, and ended so whatever is replied.

use thistledown_workers::policy::{Action, Cancel, Config, Ending, JobSpec, Verdict};

use crate::rig::{End, MICROSECOND, MILLISECOND, Rig, SECOND};

const TIMED: JobSpec = JobSpec {
    weightless: false,
    priority: 0,
    key: None,
    timeout: Some(SECOND),
    retries: 3,
    solo: false,
    actor: None,
    last: false,
    halts: false,
};

#[test]
fn a_job_that_has_not_begun_is_removed() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let offered = rig.plain();
    let queued = rig.plain();
    assert_eq!(rig.worker_of(offered), Some(workers[0]));
    assert_eq!(rig.cancel(queued), Cancel::Removed);
    assert_eq!(rig.cancel(offered), Cancel::Removed);
    assert_eq!(rig.cancel(offered), Cancel::TooLate);
    assert_eq!(rig.begin(workers[0]), None);
}

#[test]
fn a_job_that_has_begun_is_asked_and_then_its_worker_is_killed() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let job = rig.plain();
    rig.begin(workers[0]);
    assert_eq!(rig.cancel(job), Cancel::Asked);
    assert_eq!(rig.actions, [Action::Interrupt(workers[0], job)]);
    assert_eq!(rig.cancel(job), Cancel::Asked);
    assert_eq!(rig.actions, [], "asked once");
    rig.pass(SECOND - 1);
    assert_eq!(rig.actions, []);
    rig.pass(1);
    assert_eq!(rig.actions, [Action::Kill(workers[0])]);
    assert_eq!(rig.end(job), None, "it ends with its worker");
    rig.die(workers[0]);
    assert_eq!(rig.end(job), Some(End::Otherwise(Ending::Cancelled)));
}

#[test]
fn a_job_whose_time_is_over_cannot_be_cancelled() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let job = rig.submit(TIMED);
    rig.begin(workers[0]);
    rig.pass(SECOND);
    assert_eq!(rig.actions, [Action::Interrupt(workers[0], job)]);
    assert_eq!(rig.cancel(job), Cancel::TooLate);
    assert_eq!(rig.reply(job, 1), Verdict::Overruled(Ending::TimedOut));
    assert_eq!(rig.end(job), Some(End::Otherwise(Ending::TimedOut)));
}

#[test]
fn a_job_that_stops_in_time_costs_no_worker() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let job = rig.plain();
    rig.begin(workers[0]);
    assert_eq!(rig.cancel(job), Cancel::Asked);
    assert_eq!(rig.reply(job, 1), Verdict::Overruled(Ending::Cancelled));
    assert_eq!(rig.end(job), Some(End::Otherwise(Ending::Cancelled)));
    assert_eq!(rig.policy.next_deadline(), None);
    let next = rig.plain();
    assert_eq!(rig.worker_of(next), Some(workers[0]));
}

#[test]
fn a_stopped_job_is_not_tried_again() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let job = rig.submit(JobSpec { retries: 3, ..JobSpec::default() });
    rig.begin(workers[0]);
    let _ = rig.cancel(job);
    assert_eq!(rig.reply_as(job, 1, true), Verdict::Overruled(Ending::Cancelled));
}

#[test]
fn what_lies_behind_a_stopped_job_goes_elsewhere() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let taught = rig.plain();
    rig.begin(workers[0]);
    let _ = rig.reply(taught, MICROSECOND);
    let [first, second] = [rig.plain(), rig.plain()];
    rig.begin(workers[0]);
    assert_eq!(rig.worker_of(second), Some(workers[0]));
    let _ = rig.cancel(first);
    let third = rig.plain();
    assert_eq!((rig.worker_of(second), rig.worker_of(third)), (None, None));
    let _ = rig.reply(first, MICROSECOND);
    assert_eq!(rig.begin(workers[0]), Some(second));
}

#[test]
fn time_counts_from_the_offer() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let running = rig.plain();
    rig.begin(workers[0]);
    let timed = rig.submit(TIMED);
    rig.pass(10 * SECOND);
    assert_eq!(rig.worker_of(timed), None, "it waits in the queue for as long as it takes");
    let _ = rig.reply(running, 10 * SECOND);
    rig.begin(workers[0]);
    rig.pass(SECOND - 1);
    assert_eq!(rig.actions, []);
    rig.pass(1);
    assert_eq!(rig.actions, [Action::Interrupt(workers[0], timed)]);
    assert_eq!(rig.reply(timed, 1), Verdict::Overruled(Ending::TimedOut));
}

#[test]
fn a_reply_before_the_interrupt_counts() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let timed = rig.submit(TIMED);
    rig.begin(workers[0]);
    rig.now += 2 * SECOND;
    assert_eq!(rig.reply(timed, 1), Verdict::Final);
    rig.pass(SECOND);
    assert_eq!(rig.actions, []);
}

#[test]
fn a_job_whose_time_is_up_ends_so_when_its_worker_is_killed() {
    let (mut rig, workers) = Rig::with_workers(Config { grace: MILLISECOND, ..Config::of_size(1) });
    let timed = rig.submit(TIMED);
    rig.begin(workers[0]);
    rig.pass(SECOND);
    rig.pass(MILLISECOND);
    assert_eq!(rig.actions, [Action::Kill(workers[0])]);
    rig.die(workers[0]);
    assert_eq!(rig.end(timed), Some(End::Otherwise(Ending::TimedOut)), "and it is not tried again");
}

#[test]
fn without_grace_a_job_is_killed_at_once() {
    let (mut rig, workers) = Rig::with_workers(Config { grace: 0, ..Config::of_size(1) });
    let timed = rig.submit(TIMED);
    rig.begin(workers[0]);
    rig.pass(SECOND);
    assert_eq!(rig.actions, [Action::Interrupt(workers[0], timed), Action::Kill(workers[0])]);
}

#[test]
fn a_job_that_never_began_in_its_time_ends_without_an_interrupt() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let timed = rig.submit(TIMED);
    rig.pass(SECOND);
    assert_eq!(
        (rig.actions.as_slice(), rig.end(timed)),
        ([].as_slice(), Some(End::Otherwise(Ending::TimedOut)))
    );
    assert_eq!(rig.begin(workers[0]), None);
}

#[test]
fn a_stopped_weightless_job_does_not_hold_the_others_up() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let weightless = JobSpec { weightless: true, ..JobSpec::default() };
    let [stopped, other] = [rig.submit(weightless), rig.submit(weightless)];
    while rig.begin(workers[0]).is_some() {}
    let _ = rig.cancel(stopped);
    let late = rig.submit(weightless);
    assert_eq!(rig.worker_of(late), Some(workers[0]));
    assert_eq!(rig.reply(other, 1), Verdict::Final);
    assert_eq!(rig.reply(stopped, 1), Verdict::Overruled(Ending::Cancelled));
}

#[test]
fn a_weightless_job_that_does_not_stop_takes_those_that_have_begun_with_it() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let weightless = JobSpec { weightless: true, ..JobSpec::default() };
    let [stopped, begun] = [(); 2].map(|()| rig.submit(weightless));
    while rig.begin(workers[0]).is_some() {}
    let unbegun = rig.submit(weightless);
    assert_eq!(rig.worker_of(unbegun), Some(workers[0]));
    let _ = rig.cancel(stopped);
    rig.pass(SECOND);
    assert_eq!(rig.worker_of(unbegun), None, "taken back from a worker that is being killed");
    rig.die(workers[0]);
    assert_eq!(rig.end(stopped), Some(End::Otherwise(Ending::Cancelled)));
    assert_eq!(rig.end(begun), Some(End::Otherwise(Ending::Died(workers[0]))));
    assert_eq!(rig.end(unbegun), None);
}
