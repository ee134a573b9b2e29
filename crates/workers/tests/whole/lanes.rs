//! Lanes that are full: who pushes waits, and nothing is lost.

use crate::stage::{assert_echoed, deafen, in_time, play, said};

#[test]
fn what_has_no_room_in_a_lane_waits_in_the_queue() {
    play(1, |stage| {
        let lingering = stage.lingering();
        let call = |number: usize| vec![number as u8; 30_000];
        let jobs: Vec<_> = (0..40).map(|number| stage.go("echo", &call(number))).collect();
        let offered = stage.engine().statistics().0.offered;
        assert!((2..40).contains(&offered), "a lane of 256 kB has room for a few: {offered}");
        lingering.tell("bye", b"");
        for (number, job) in jobs.iter().enumerate() {
            assert!(job.value() == call(number), "{number} has come back as another");
        }
    });
}

#[test]
fn a_worker_waits_while_nobody_hears_it() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let deaf = deafen();
        // Several times what the lane of replies takes.
        puppet.begin("chatter", b"100");
        drop(deaf);
        assert_eq!(puppet.hear(), Some(Vec::new()), "it has said all");
        puppet.returns(b"and this");
        assert_eq!(job.value(), b"and this");
        let heard = std::cell::RefCell::new(Vec::new());
        in_time("all was heard", || {
            heard.borrow_mut().extend(said());
            heard.borrow().len() == 100
        });
        for (number, said) in heard.take().into_iter().enumerate() {
            assert!(said == [number as u8; 20_000], "{number} is not in its place");
        }
    });
}

#[test]
fn results_wait_while_nobody_hears_them() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let deaf = deafen();
        puppet.tell("say", b"this is what the pool's thread hangs on");
        let behind = stage.echoes(2_000);
        puppet.returns(b"");
        drop(deaf);
        job.value();
        assert_echoed(&behind);
    });
}
