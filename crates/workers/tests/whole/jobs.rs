//! Jobs are given and answered.

use thistledown_workers::{Closed, Order, Outcome};

use crate::stage::{assert_echoed, content, play};

#[test]
fn a_job_returns_what_its_function_returns() {
    play(1, |stage| assert_eq!(stage.go("echo", b"a call").value(), b"a call"));
}

#[test]
fn a_job_that_raises_says_what() {
    play(1, |stage| match stage.go("fail", b"an error").outcome() {
        Outcome::Error(parcel) => assert_eq!(content(&parcel).expect("an error"), b"an error"),
        other => panic!("it has not raised: {other:?}"),
    });
}

#[test]
fn each_of_many_jobs_gets_its_own_result() {
    play(2, |stage| {
        assert_echoed(&stage.echoes(1_000));
        let (statistics, processes) = stage.engine().statistics();
        assert_eq!((statistics.submitted, statistics.replied, statistics.died), (1_000, 1_000, 0));
        assert!((1..=2).contains(&processes.len()), "{processes:?}");
    });
}

#[test]
fn a_worker_forgets_functions_when_it_has_too_many_and_is_sent_them_again() {
    play(1, |stage| {
        let names: Vec<String> = (0..1_200).map(|number| format!("echo {number}")).collect();
        for _ in 0..2 {
            let jobs: Vec<_> = names.iter().map(|name| stage.go(name, name.as_bytes())).collect();
            for (name, job) in names.iter().zip(jobs) {
                assert_eq!(job.value(), name.as_bytes());
            }
        }
    });
}

#[test]
fn a_job_that_asks_for_it_is_tried_again_as_often_as_it_may() {
    play(1, |stage| {
        let job = stage.submit(Order { retries: 2, ..stage.order("again", b"the last error") });
        match job.outcome() {
            Outcome::Error(parcel) => assert_eq!(content(&parcel).expect("an error"), b"the last error"),
            other => panic!("it has not raised: {other:?}"),
        }
        assert_eq!(stage.engine().statistics().0.retried, 2);
    });
}

#[test]
fn a_job_that_runs_is_known_to_run() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let next = stage.go("echo", b"");
        assert!(stage.is_running(&job));
        assert!(!stage.is_running(&next));
        puppet.returns(b"");
        next.value();
        assert!(!stage.is_running(&job));
    });
}

#[test]
fn what_a_busy_worker_has_not_begun_another_one_does() {
    play(2, |stage| {
        let lingering = stage.lingering();
        let (order, entrance) = stage.puppet_to_be();
        // The other worker starts with what comes now; this one has all of it in its lane until then.
        let busy = stage.submit(order);
        let behind = stage.echoes(20);
        lingering.tell("bye", b"");
        let puppet = entrance.enter();
        assert_echoed(&behind);
        assert!(busy.is_open());
        puppet.returns(b"at last");
        assert_eq!(busy.value(), b"at last");
    });
}

#[test]
fn what_has_not_begun_makes_room_for_what_is_of_higher_priority() {
    play(1, |stage| {
        let lingering = stage.lingering();
        let behind = stage.echoes(20);
        assert_eq!(stage.engine().statistics().0.offered, 20);
        let (order, entrance) = stage.puppet_to_be();
        let first = stage.submit(Order { priority: 1, ..order });
        lingering.tell("bye", b"");
        let puppet = entrance.enter();
        assert_eq!(stage.engine().statistics().0.replied, 1, "none but the lingering one's");
        puppet.returns(b"first");
        assert_eq!(first.value(), b"first");
        assert_echoed(&behind);
    });
}

#[test]
fn a_pool_that_is_shut_down_takes_no_job() {
    play(1, |stage| {
        stage.go("echo", b"").value();
        stage.engine().shut_down(false);
        assert_eq!(stage.try_submit(stage.order("echo", b"")).err(), Some(Closed::ShutDown));
    });
}
