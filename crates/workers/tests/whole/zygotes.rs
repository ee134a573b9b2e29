//! The zygote fails, or is killed.

use thistledown_workers::{Launch, Refusal};

use crate::stage::{Stage, assert_echoed, config, content, kill, play, play_with};
use crate::zygote::Manner;

fn refused(manner: Manner, check: impl Fn(&Stage, Refusal) + Send + 'static) {
    play_with(config(2), manner, move |stage| {
        let jobs: Vec<_> = (0..3).map(|_| stage.go("echo", b"")).collect();
        jobs.iter().for_each(|job| check(stage, job.refusal()));
        check(stage, stage.go("echo", b"").refusal());
    });
}

#[test]
fn one_that_is_killed_while_all_is_quiet_is_replaced() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let zygote = puppet.zygote;
        puppet.returns(b"");
        job.value();
        kill(zygote);
        assert_echoed(&stage.echoes(20));
    });
}

#[test]
fn a_task_ends_well_although_its_zygote_is_gone() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        kill(puppet.zygote);
        let (others, other) = stage.puppet();
        assert_ne!(other.process, puppet.process);
        other.returns(b"the other");
        puppet.returns(b"the orphan");
        assert_eq!((job.value(), others.value()), (b"the orphan".to_vec(), b"the other".to_vec()));
    });
}

#[test]
fn an_orphan_that_dies_is_noticed() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        kill(puppet.zygote);
        kill(puppet.process);
        assert_eq!(job.death().pid, Some(puppet.process));
        assert_echoed(&stage.echoes(20));
    });
}

#[test]
fn a_zygote_that_dies_after_its_worker_has_is_no_loss() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        crate::stage::signal(puppet.zygote, rustix::process::Signal::STOP);
        kill(puppet.process);
        kill(puppet.zygote);
        assert_eq!(job.death().pid, Some(puppet.process));
        assert_echoed(&stage.echoes(20));
    });
}

#[test]
fn an_orphan_does_not_survive_its_pool() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        puppet.tell("stubborn", b"");
        kill(puppet.zygote);
        stage.engine().kill();
        job.assert_cancelled();
        assert_eq!(puppet.hear(), None);
    });
}

#[test]
fn an_orphan_that_does_not_leave_is_killed() {
    play(1, |stage| {
        let lingering = stage.lingering();
        kill(lingering.zygote);
        stage.close();
        assert_eq!(lingering.hear(), None);
    });
}

#[test]
fn one_that_cannot_be_prepared_says_why() {
    refused(Manner::Broken, |_, refusal| match refusal {
        Refusal::Start(words) => assert!(words.contains("there is no such module"), "{words}"),
        other => panic!("{other:?}"),
    });
}

#[test]
fn one_that_forks_nobody_says_why() {
    refused(Manner::Barren, |_, refusal| match refusal {
        Refusal::Start(words) => assert!(words.contains("it is barren"), "{words}"),
        other => panic!("{other:?}"),
    });
}

#[test]
fn one_that_makes_no_sense_is_not_asked_for_ever() {
    refused(Manner::Babbling, |_, refusal| assert!(matches!(refusal, Refusal::Start(_)), "{refusal:?}"));
}

#[test]
fn workers_that_die_before_they_are_ready_are_not_forked_for_ever() {
    refused(Manner::Stillbirths, |_, refusal| match refusal {
        Refusal::Stillborn(death) => {
            assert_eq!((death.status, &death.stderr[..]), (Some(3 << 8), "it does not live\n"))
        }
        other => panic!("{other:?}"),
    });
}

#[test]
fn an_initializer_that_fails_is_heard() {
    refused(Manner::Uninitialized, |_, refusal| match refusal {
        Refusal::Initializer(parcel) => assert_eq!(content(&parcel).expect("an error"), b"it cannot work"),
        other => panic!("{other:?}"),
    });
}

#[test]
fn a_program_that_is_not_there_is_named() {
    play(1, |stage| {
        let launch =
            Launch { command: vec!["/nowhere/at/all".into()], environment: vec![], preparation: vec![] };
        let job = stage.submit_to(launch, stage.order("echo", b""));
        match job.refusal() {
            Refusal::Start(words) => assert!(words.contains("/nowhere/at/all"), "{words}"),
            other => panic!("{other:?}"),
        }
        assert!(stage.engine().statistics().0.died <= 1, "nobody tries again what cannot be");
    });
}
