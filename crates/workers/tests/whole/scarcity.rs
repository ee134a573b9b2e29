//! The program has no descriptor left: what needs one fails and says so, and no worker is hurt.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thistledown_workers::Outcome;

use crate::stage::{Job, assert_echoed, content, play};

/// More than a lane takes: it comes as a descriptor.
const LARGE: usize = 40_000;

/// All that this process may open, until it is dropped.
struct Scarcity {
    before: Rlimit,
    _held: Vec<OwnedFd>,
}

impl Scarcity {
    fn new() -> Self {
        let before = getrlimit(Resource::Nofile);
        let few = Rlimit { current: Some(256), ..before };
        setrlimit(Resource::Nofile, few).expect("fewer descriptors");
        let held = std::iter::from_fn(|| rustix::io::dup(rustix::stdio::stderr()).ok()).collect();
        Self { before, _held: held }
    }
}

impl Drop for Scarcity {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.before).expect("as many as before");
    }
}

fn assert_lost(job: &Job) {
    match job.outcome() {
        Outcome::Value(parcel) => {
            let error = content(&parcel).expect_err("no descriptor, no content");
            assert_eq!(Errno::from_io_error(&error), Some(Errno::MFILE));
        }
        other => panic!("its worker has done what it should: {other:?}"),
    }
}

#[test]
fn a_large_result_is_lost_alone() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let scarcity = Scarcity::new();
        puppet.tell("value", &[b'x'; LARGE]);
        assert_lost(&job);
        drop(scarcity);
        puppet.tell("bye", b"");
        assert_echoed(&stage.echoes(5));
        assert_eq!(stage.engine().statistics().1, [puppet.process]);
    });
}

#[test]
fn a_task_whose_large_function_does_not_come_through_is_refused_alone() {
    play(1, |stage| {
        let (job, puppet) = stage.puppet();
        let scarcity = Scarcity::new();
        let function = "x".repeat(LARGE);
        puppet.tell("spawn", format!("{function} a-call").as_bytes());
        let answer = puppet.tell("wait", b"6");
        assert!(answer.starts_with(b"Refused "), "{}", String::from_utf8_lossy(&answer));
        drop(scarcity);
        puppet.returns(b"unhurt");
        assert_eq!(job.value(), b"unhurt");
    });
}
