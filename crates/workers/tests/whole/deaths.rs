//! Workers die, and what they say makes no sense: it hurts the task that ran, and no other.

use thistledown_workers::{Cause, Gone, Order, Outcome};

use crate::stage::{assert_echoed, kill, play};

const SIGKILL: i32 = 9;

#[test]
fn a_worker_that_dies_with_twenty_jobs_before_it_loses_only_the_one_that_runs() {
    play(1, |stage| {
        let lingering = stage.lingering();
        let crash = stage.go("crash", b"");
        let behind = stage.echoes(20);
        assert_eq!(stage.engine().statistics().0.offered, 21, "all of them lie in its lane");
        lingering.tell("bye", b"");
        let death = crash.death();
        assert_eq!((death.pid, death.status), (Some(lingering.process), Some(SIGKILL)));
        assert_eq!(death.cause, Cause::Unknown);
        assert_echoed(&behind);
        assert_eq!(stage.engine().statistics().0.died, 1);
    });
}

#[test]
fn a_worker_that_dies_before_it_has_begun_anything_loses_nothing() {
    play(1, |stage| {
        let lingering = stage.lingering();
        let offered = stage.echoes(20);
        assert_eq!(stage.engine().statistics().0.offered, 20);
        kill(lingering.process);
        assert_echoed(&offered);
    });
}

#[test]
fn a_job_is_tried_again_when_its_worker_has_died() {
    play(1, |stage| {
        let job = stage.submit(Order { retries: 2, ..stage.order("crash", b"") });
        job.death();
        assert_eq!(stage.engine().statistics().0.died, 3);
    });
}

#[test]
fn a_result_that_was_said_before_the_death_counts() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        puppet.tell("value", b"the last one");
        kill(puppet.process);
        assert_eq!(job.value(), b"the last one");
    });
}

#[test]
fn an_obituary_has_the_last_words() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        puppet.tell("mutter", b"this is expected: I shall be killed");
        kill(puppet.process);
        let death = job.death();
        assert_eq!(death.stderr, "this is expected: I shall be killed\n");
    });
}

#[test]
fn a_worker_that_writes_over_the_shared_memory_is_killed_and_hurts_nobody_else() {
    play(2, |stage| {
        let (others, other) = stage.puppet();
        let (job, puppet) = stage.puppet();
        puppet.begin("scribble", b"");
        assert_eq!(job.death().cause, Cause::Garbled);
        assert_echoed(&stage.echoes(20));
        other.returns(b"unhurt");
        assert_eq!(others.value(), b"unhurt");
    });
}

#[test]
fn a_worker_that_names_a_blob_which_it_has_not_sent_is_killed() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        puppet.begin("promise", b"");
        assert_eq!(job.death().cause, Cause::Garbled);
        assert_echoed(&stage.echoes(20));
    });
}

#[test]
fn the_end_of_a_job_that_a_worker_was_never_given_is_nobodys_end() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        puppet.tell("stray", b"");
        puppet.returns(b"its own");
        assert_eq!(job.value(), b"its own");
    });
}

#[test]
fn a_worker_that_closes_its_connection_is_killed() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        puppet.begin("hang-up", b"");
        let death = job.death();
        assert_eq!((death.pid, death.cause), (Some(puppet.process), Cause::HungUp));
        assert_echoed(&stage.echoes(20));
    });
}

#[test]
fn every_job_of_dying_workers_has_one_end() {
    play(2, |stage| {
        let jobs: Vec<_> = (0..200)
            .map(|number| if number % 10 == 7 { stage.go("crash", b"") } else { stage.go("echo", b"x") })
            .collect();
        for (number, job) in jobs.iter().enumerate() {
            match job.outcome() {
                Outcome::Value(_) if number % 10 != 7 => {}
                Outcome::Died(_) if number % 10 == 7 => {}
                other => panic!("job {number}: {other:?}"),
            }
        }
        assert!(stage.engine().wait_idle(Some(crate::packets::LIMIT)));
        assert!(jobs.iter().all(super::stage::Job::is_open), "nobody is told twice");
    });
}

#[test]
fn who_watches_a_worker_hears_of_its_death_once_also_afterwards() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let worker = stage.number(puppet.process);
        let watches = [stage.watch(worker), stage.watch(worker)];
        assert!(watches[0].is_open(), "it lives");
        kill(puppet.process);
        job.death();
        let late = stage.watch(worker);
        for watch in watches.iter().chain([&late]) {
            let Gone::Died(death) = watch.obituary() else { panic!("it has died") };
            assert_eq!((death.pid, death.status), (Some(puppet.process), Some(SIGKILL)));
            assert!(watch.is_open(), "it is said once");
        }
        assert_echoed(&stage.echoes(3));
        assert!(matches!(stage.watch(u64::MAX).obituary(), Gone::Unknown), "there is none of that name");
    });
}

#[test]
fn a_worker_that_leaves_as_it_was_told_to_has_a_good_end() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let worker = stage.number(puppet.process);
        let watch = stage.watch(worker);
        puppet.returns(b"done");
        assert_eq!(job.value(), b"done");
        stage.close();
        for watch in [watch, stage.watch(worker)] {
            let gone = watch.obituary();
            assert!(matches!(gone, Gone::Stopped), "{gone:?}");
        }
        assert!(stage.engine().crew().is_empty());
    });
}
