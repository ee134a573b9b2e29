//! Jobs are cancelled wherever they are.

use thistledown_workers::Cancel;

use crate::nested::spawn_puppet;
use crate::stage::{assert_echoed, config, play, play_with};
use crate::zygote::Manner;

#[test]
fn one_in_the_queue_never_runs() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let queued = stage.echoes(3);
        assert_eq!(stage.engine().statistics().0.queued, 3);
        assert_eq!(stage.cancel(&queued[1]), Cancel::Removed);
        queued[1].assert_cancelled();
        puppet.returns(b"");
        job.value();
        assert_eq!((queued[0].value(), queued[2].value()), (b"0".to_vec(), b"2".to_vec()));
        assert_eq!(stage.engine().statistics().0.replied, 3);
    });
}

#[test]
fn one_that_lies_before_a_worker_never_runs() {
    play(1, |stage| {
        let lingering = stage.lingering();
        let crash = stage.go("crash", b"");
        let behind = stage.echoes(3);
        assert_eq!(stage.engine().statistics().0.offered, 4);
        assert_eq!(stage.cancel(&crash), Cancel::Removed);
        crash.assert_cancelled();
        lingering.tell("bye", b"");
        assert_echoed(&behind);
        assert_eq!(stage.engine().statistics().0.died, 0);
    });
}

#[test]
fn one_that_runs_is_stopped_and_its_worker_goes_on() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        assert_eq!(stage.cancel(&job), Cancel::Asked);
        job.assert_cancelled();
        assert_eq!(stage.cancel(&job), Cancel::TooLate);
        assert_echoed(&stage.echoes(3));
        assert_eq!(stage.engine().statistics().1, [puppet.process]);
    });
}

#[test]
fn one_that_does_not_stop_is_killed() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        puppet.tell("stubborn", b"");
        assert_eq!(stage.cancel(&job), Cancel::Asked);
        job.assert_cancelled();
        assert_eq!(puppet.hear(), None);
        assert_echoed(&stage.echoes(3));
        assert_ne!(stage.engine().statistics().1, [puppet.process]);
    });
}

#[test]
fn what_it_says_after_it_was_cancelled_does_not_count() {
    let patient = thistledown_workers::Config { grace: std::time::Duration::from_secs(3600), ..config(1) };
    play_with(patient, Manner::Right, |stage| {
        let (job, puppet) = stage.puppet();
        puppet.tell("stubborn", b"");
        assert_eq!(stage.cancel(&job), Cancel::Asked);
        puppet.returns(b"too late");
        job.assert_cancelled();
    });
}

#[test]
fn one_that_has_ended_is_left_alone() {
    play(1, |stage| {
        let job = stage.go("echo", b"done");
        assert_eq!(job.value(), b"done");
        assert_eq!(stage.cancel(&job), Cancel::TooLate);
        assert!(job.is_open(), "nobody is told twice");
    });
}

#[test]
fn one_whose_worker_waits_is_stopped() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        let (nested, entrance) = spawn_puppet(stage, &puppet);
        let child = entrance.enter();
        puppet.begin("wait", nested.as_bytes());
        assert_eq!(stage.cancel(&job), Cancel::Asked);
        job.assert_cancelled();
        child.returns(b"nobody waits for it");
    });
}
