//! Pools end. What is left of them is counted after each scene, here and elsewhere.

use std::time::Duration;

use crate::packets::LIMIT;
use crate::stage::{assert_echoed, config, play, play_with, signal};
use crate::zygote::Manner;

#[test]
fn one_that_was_never_used_has_nothing() {
    play(4, |stage| {
        assert!(!stage.engine().is_started());
        stage.engine().shut_down(false);
        assert!(stage.engine().wait_closed(Some(Duration::ZERO)));
    });
}

#[test]
fn what_was_accepted_is_done() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        let behind = stage.echoes(50);
        stage.engine().shut_down(false);
        assert!(!stage.engine().wait_closed(Some(Duration::ZERO)));
        puppet.returns(b"done");
        assert_eq!(job.value(), b"done");
        assert_echoed(&behind);
    });
}

#[test]
fn what_has_not_begun_is_cancelled_if_that_is_asked() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let behind = stage.echoes(50);
        stage.engine().shut_down(true);
        behind.iter().for_each(super::stage::Job::assert_cancelled);
        puppet.returns(b"done");
        assert_eq!(job.value(), b"done");
    });
}

#[test]
fn what_lies_before_a_worker_is_cancelled_too() {
    play(1, |stage| {
        let lingering = stage.lingering();
        let offered = stage.echoes(20);
        stage.engine().shut_down(true);
        offered.iter().for_each(super::stage::Job::assert_cancelled);
        lingering.tell("bye", b"");
    });
}

#[test]
fn killing_waits_for_nobody() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        puppet.tell("stubborn", b"");
        let behind = stage.echoes(50);
        stage.engine().kill();
        assert!(stage.engine().wait_closed(Some(LIMIT)));
        job.assert_cancelled();
        behind.iter().for_each(|job| drop(job.outcome()));
        assert_eq!(puppet.hear(), None);
    });
}

#[test]
fn a_worker_that_does_not_leave_is_killed() {
    play(1, |stage| {
        let lingering = stage.lingering();
        stage.close();
        assert_eq!(lingering.hear(), None);
    });
}

#[test]
fn a_worker_that_is_stopped_is_killed() {
    play(1, |stage| {
        let lingering = stage.lingering();
        signal(lingering.process, rustix::process::Signal::STOP);
        stage.close();
        assert_eq!(lingering.hear(), None);
    });
}

#[test]
fn one_that_nobody_has_any_more_does_what_it_has_and_ends() {
    play(1, |stage| {
        let other = stage.another(1);
        let (job, puppet) = other.puppet();
        let behind = other.echoes(20);
        drop(other);
        puppet.returns(b"done");
        assert_eq!(job.value(), b"done");
        assert_echoed(&behind);
    });
}

#[test]
fn one_that_has_begun_nothing_waits_for_idle_at_once() {
    play(1, |stage| {
        assert!(stage.engine().wait_idle(Some(Duration::ZERO)));
        let (job, puppet) = stage.puppet();
        assert!(!stage.engine().wait_idle(Some(Duration::ZERO)));
        puppet.returns(b"");
        job.value();
        assert!(stage.engine().wait_idle(Some(LIMIT)));
    });
}

#[test]
fn workers_are_replaced_when_they_have_done_enough() {
    let config = thistledown_workers::Config { max_tasks_per_child: Some(5), ..config(2) };
    play_with(config, Manner::Right, |stage| {
        assert_echoed(&stage.echoes(50));
        assert!(stage.engine().statistics().0.started >= 10);
        assert_eq!(stage.engine().statistics().0.died, 0);
    });
}

#[test]
fn two_pools_at_once_are_two() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let other = stage.another(1);
        assert_echoed(&other.echoes(10));
        other.close();
        puppet.returns(b"unhurt");
        assert_eq!(job.value(), b"unhurt");
    });
}
