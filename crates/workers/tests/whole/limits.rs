//! Limits of time and of memory.

use std::time::Duration;

use thistledown_workers::{Cause, Order, Outcome};

use crate::stage::{Job, assert_echoed, play};

const SHORT: Duration = Duration::from_millis(20);

fn assert_timed_out(job: &Job) {
    match job.outcome() {
        Outcome::TimedOut(after) => assert_eq!(after, SHORT),
        other => panic!("its time was not up: {other:?}"),
    }
}

#[test]
fn a_job_whose_time_is_up_is_stopped_and_its_worker_goes_on() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet_with(|order| order.timeout = Some(SHORT));
        assert_timed_out(&job);
        assert_echoed(&stage.echoes(3));
        assert_eq!(stage.engine().statistics().1, [puppet.process]);
    });
}

#[test]
fn one_that_does_not_stop_is_killed() {
    play(1, |stage| {
        let job = stage.submit(Order { timeout: Some(SHORT), ..stage.order("deaf", b"") });
        assert_timed_out(&job);
        assert_echoed(&stage.echoes(3));
        assert_eq!(stage.engine().statistics().0.started, 2);
    });
}

#[test]
fn a_limit_that_is_set_while_the_pool_sleeps_counts() {
    play(2, |stage| {
        // The pool has nothing to do until the end of this one, and sleeps.
        let (job, puppet) = stage.puppet();
        for _ in 0..5 {
            stage.go("echo", b"").value();
            let (limited, _puppet) = stage.puppet_with(|order| order.timeout = Some(SHORT));
            assert_timed_out(&limited);
        }
        puppet.returns(b"");
        job.value();
    });
}

#[test]
fn time_in_the_queue_does_not_count() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let queued =
            stage.submit(Order { timeout: Some(Duration::from_secs(3600)), ..stage.order("echo", b"x") });
        assert_eq!(stage.engine().statistics().0.queued, 1);
        puppet.returns(b"");
        job.value();
        assert_eq!(queued.value(), b"x");
    });
}

#[test]
fn a_job_that_grows_too_large_is_killed() {
    play(2, |stage| {
        let (other, beside) = stage.puppet();
        let (job, puppet) = stage.puppet_with(|order| order.memory = Some(20 << 20));
        puppet.tell("grow", (1 << 20).to_string().as_bytes());
        puppet.begin("grow", (200 << 20).to_string().as_bytes());
        let death = job.death();
        assert_eq!((death.pid, death.cause), (Some(puppet.process), Cause::Memory(20 << 20)));
        beside.returns(b"unhurt");
        assert_eq!(other.value(), b"unhurt");
    });
}
