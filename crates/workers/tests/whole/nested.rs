//! Tasks start tasks, and wait for them.

use thistledown_workers::Outcome;

use crate::puppet::Puppet;
use crate::stage::{Job, Stage, content, in_time, kill, play};

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
fn what_a_dead_worker_has_started_is_cancelled() {
    play(2, |stage| {
        let (job, puppet) = stage.puppet();
        let (_, entrance) = spawn_puppet(stage, &puppet);
        let child = entrance.enter();
        kill(puppet.process);
        job.death();
        assert_eq!(child.hear(), None, "it was stopped");
        assert!(stage.engine().wait_idle(Some(crate::packets::LIMIT)));
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
