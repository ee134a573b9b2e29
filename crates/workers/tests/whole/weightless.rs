//! Weightless jobs share a worker.

use thistledown_workers::Cancel;

use crate::stage::{Job, play};

#[test]
fn many_run_in_one_worker() {
    play(1, |stage| {
        let held: Vec<Job> = (0..5).map(|_| stage.submit(stage.weightless("hold"))).collect();
        let release = stage.submit(stage.weightless("release"));
        for job in held.iter().chain([&release]) {
            assert_eq!(job.value(), b"released");
        }
        assert_eq!(stage.engine().statistics().0.started, 1);
    });
}

#[test]
fn one_that_is_cancelled_is_stopped_by_itself() {
    play(1, |stage| {
        let held: Vec<Job> = (0..5).map(|_| stage.submit(stage.weightless("hold"))).collect();
        // One behind the others has been taken when a puppet could be: this one was.
        let answer = stage.cancel(&held[2]);
        assert_ne!(answer, Cancel::TooLate);
        held[2].assert_cancelled();
        stage.submit(stage.weightless("release")).value();
        for (number, job) in held.iter().enumerate().filter(|(number, _)| *number != 2) {
            assert_eq!(job.value(), b"released", "{number}");
        }
    });
}
