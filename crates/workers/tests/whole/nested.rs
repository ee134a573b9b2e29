//! Tasks start tasks, and wait for them.

use thistledown_workers::Outcome;

use crate::packets::LIMIT;
use crate::puppet::Puppet;
use crate::stage::{Job, Stage, content, in_time, kill, orphaned, play};

/// A puppet that this one starts, and what it calls it.
pub(crate) fn spawn_puppet(stage: &Stage, puppet: &Puppet) -> (String, crate::puppet::Entrance) {
    let (_, entrance) = stage.puppet_to_be();
    let reference = spawn(puppet, "puppet", &entrance.name);
    (reference, entrance)
}

/// Has a puppet start a task; what it calls it.
fn spawn(puppet: &Puppet, name: &str, call: &[u8]) -> String {
    puppet.tell("spawn", &[name.as_bytes(), b" ", call].concat());
    call.len().to_string()
}

fn assert_all_return(jobs: &[Job], value: &[u8]) {
    for job in jobs {
        match job.outcome() {
            Outcome::Value(parcel) => assert_eq!(content(&parcel).expect("a value"), value),
            Outcome::Error(parcel) => {
                panic!("{}", String::from_utf8_lossy(&content(&parcel).expect("an error")));
            }
            other => panic!("it has not returned: {other:?}"),
        }
    }
}

#[test]
fn a_task_that_waits_gives_up_its_place_and_hears_the_end() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let reference = spawn(&puppet, "echo", b"nested");
        assert_eq!(puppet.tell("wait", reference.as_bytes()), b"Value nested");
        puppet.returns(b"all is well");
        assert_eq!(job.value(), b"all is well");
    });
}

#[test]
fn each_kind_of_end_is_heard() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let error = spawn(&puppet, "fail", b"an error");
        assert_eq!(puppet.tell("wait", error.as_bytes()), b"Error an error");
        let crash = spawn(&puppet, "crash", b"");
        assert!(puppet.tell("wait", crash.as_bytes()).starts_with(b"Died "));
        let (nested, entrance) = spawn_puppet(stage, &puppet);
        puppet.begin("wait", nested.as_bytes());
        let child = entrance.enter();
        child.returns(&[b'x'; 10_000]);
        assert_eq!(puppet.hear().expect("an end").len(), "Value ".len() + 10_000);
        puppet.returns(b"");
        job.value();
    });
}

#[test]
fn one_that_is_cancelled_by_who_started_it_is_stopped() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        let (nested, entrance) = spawn_puppet(stage, &puppet);
        let child = entrance.enter();
        puppet.tell("unspawn", nested.as_bytes());
        assert_eq!(puppet.tell("wait", nested.as_bytes()), b"Cancelled ");
        assert_eq!(child.hear(), None);
        puppet.returns(b"");
        job.value();
    });
}

#[test]
fn what_a_dead_worker_has_started_goes_on_for_nobody() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        let (_, entrance) = spawn_puppet(stage, &puppet);
        let child = entrance.enter();
        kill(puppet.process);
        job.death();
        child.returns(b"nobody asks");
        assert!(stage.engine().wait_idle(Some(LIMIT)));
        let counted = stage.engine().statistics().0;
        assert_eq!((counted.submitted, counted.replied), (2, 1));
        assert!(orphaned().is_empty(), "only a failure is told");
    });
}

#[test]
fn what_a_dead_worker_has_started_and_nobody_has_begun_runs() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        spawn(&puppet, "echo", b"nested");
        kill(puppet.process);
        job.death();
        assert!(stage.engine().wait_idle(Some(LIMIT)));
        assert_eq!(stage.engine().statistics().0.replied, 1);
    });
}

#[test]
fn a_failure_that_nobody_asks_for_is_told_with_who_had_started_it() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        let (_, entrance) = spawn_puppet(stage, &puppet);
        let child = entrance.enter();
        let process = puppet.process;
        kill(process);
        job.death();
        kill(child.process);
        assert!(stage.engine().wait_idle(Some(LIMIT)));
        in_time("it is told", || match orphaned().as_slice() {
            [] => false,
            [(by, Outcome::Died(_))] => *by == Some(process),
            told => panic!("this is not what failed: {told:?}"),
        });
    });
}

#[test]
fn what_goes_on_for_nobody_ends_with_its_pool() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        let (_, entrance) = spawn_puppet(stage, &puppet);
        let child = entrance.enter();
        kill(puppet.process);
        job.death();
        stage.engine().kill();
        assert_eq!(child.hear(), None, "it was stopped");
    });
}

#[test]
fn waits_go_deeper_than_the_pool_is_large() {
    play(1, |stage| {
        assert_all_return(&[stage.go("descend", &[12])], &[12]);
        assert_eq!(stage.engine().statistics().0.waiting, 0);
    });
}

#[test]
fn many_tasks_that_wait_all_come_to_their_end() {
    play(2, |stage| {
        let jobs: Vec<Job> = (0..30).map(|_| stage.go("descend", &[2])).collect();
        assert_all_return(&jobs, &[2]);
    });
}

#[test]
fn more_answers_than_a_lane_holds_arrive() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        let echoes = 5_000..5_100;
        for length in echoes.clone() {
            spawn(&puppet, "echo", &vec![b'x'; length]);
        }
        // None is read before all have ended: half of them have no room, and nothing more happens that could make some.
        in_time("all have ended", || stage.engine().statistics().0.replied == 100);
        for length in echoes {
            let answer = puppet.tell("wait", length.to_string().as_bytes());
            assert_eq!(answer.len(), "Value ".len() + length);
        }
        puppet.returns(b"");
        job.value();
    });
}

#[test]
fn a_task_waits_for_many_others() {
    play(2, |stage| assert_all_return(&[stage.go("gather", b"200")], b"200"));
}

#[test]
fn a_pool_that_is_shut_down_takes_what_its_tasks_need() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        stage.engine().shut_down(false);
        let reference = spawn(&puppet, "echo", b"nested");
        assert_eq!(puppet.tell("wait", reference.as_bytes()), b"Value nested");
        puppet.returns(b"at last");
        assert_eq!(job.value(), b"at last");
    });
}
