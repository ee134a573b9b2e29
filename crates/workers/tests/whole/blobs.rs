//! What is too large for a lane travels as a blob.

use crate::stage::{Job, Stage, assert_echoed, kill, play};

/// Different for each seed, and too large for a lane.
fn large(seed: usize) -> Vec<u8> {
    (0..300_000).map(|place| (place * (seed + 3)) as u8).collect()
}

fn large_echoes(stage: &Stage, count: usize) -> Vec<Job> {
    (0..count).map(|seed| stage.go("echo", &large(seed))).collect()
}

fn assert_large(echoes: &[Job]) {
    for (seed, echo) in echoes.iter().enumerate() {
        assert!(echo.value() == large(seed), "{seed} has come back as another");
    }
}

#[test]
fn a_large_call_comes_and_a_large_result_goes() {
    play(1, |stage| assert_large(&large_echoes(stage, 3)));
}

#[test]
fn more_of_them_than_descriptors_are_kept_for_wait_as_memory() {
    play(2, |stage| assert_large(&large_echoes(stage, 300)));
}

#[test]
fn a_large_function_is_sent_as_a_large_call_is() {
    play(1, |stage| {
        let name = format!("echo {}", "x".repeat(200_000));
        assert_eq!(stage.go(&name, b"heard").value(), b"heard");
    });
}

#[test]
fn one_that_was_taken_back_is_not_taken_for_the_next_one() {
    play(1, |stage| {
        let lingering = stage.lingering();
        let offered = large_echoes(stage, 5);
        assert_eq!(stage.engine().statistics().0.offered, 5);
        for (seed, job) in offered.iter().enumerate() {
            if seed % 2 == 0 {
                let _ = stage.cancel(job);
                job.assert_cancelled();
            }
        }
        lingering.tell("bye", b"");
        assert!(offered[1].value() == large(1));
        assert!(offered[3].value() == large(3));
    });
}

#[test]
fn those_that_were_taken_back_are_not_kept_by_the_worker() {
    play(1, |stage| {
        let lingering = stage.lingering();
        let offered = large_echoes(stage, 10);
        assert_eq!(stage.engine().statistics().0.offered, 10);
        for job in &offered[..9] {
            let _ = stage.cancel(job);
            job.assert_cancelled();
        }
        lingering.tell("bye", b"");
        assert!(offered[9].value() == large(9));
        let (job, puppet) = stage.puppet();
        assert_eq!(puppet.process, lingering.process);
        let kept = descriptors_of(puppet.process).filter(|target| target.contains("thistledown-blob"));
        assert_eq!(kept.count(), 0);
        puppet.returns(b"");
        job.value();
    });
}

/// What a process has open.
fn descriptors_of(process: i32) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd")).expect("a process");
    entries.filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
}

#[test]
fn one_that_is_offered_to_a_worker_without_a_connection_goes_to_the_next() {
    play(1, |stage| {
        let lingering = stage.lingering();
        lingering.tell("hang-up", b"");
        assert_large(&large_echoes(stage, 5));
    });
}

#[test]
fn one_that_is_offered_to_a_dead_worker_goes_to_the_next() {
    play(1, |stage| {
        let lingering = stage.lingering();
        kill(lingering.process);
        assert_large(&large_echoes(stage, 5));
        assert_eq!(lingering.hear(), None, "it is gone");
    });
}

#[test]
fn those_that_a_dead_worker_had_not_begun_go_to_the_next() {
    play(1, |stage| {
        let lingering = stage.lingering();
        let offered = large_echoes(stage, 5);
        let small = stage.echoes(5);
        assert_eq!(stage.engine().statistics().0.offered, 10);
        kill(lingering.process);
        assert_large(&offered);
        assert_echoed(&small);
    });
}

#[test]
fn threads_of_a_task_that_send_them_at_once_do_not_cross() {
    play(2, |stage| {
        let job = stage.go("cross", b"");
        assert_eq!(job.value(), b"all have crossed");
    });
}
