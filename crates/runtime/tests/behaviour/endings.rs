//! How a run ends: with its tasks, by being abandoned, or by an error of the poll.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thistledown_kernel::Want;
use thistledown_runtime::Flow;
use thistledown_testkit::{Counter, ScriptedPoller, readable};

use crate::rig::{Log, Next, Rig, at};

#[test]
fn a_run_without_tasks_ends_at_once() {
    let rig = Rig::new();
    let mut poller = ScriptedPoller::default();
    assert_eq!(rig.run(&mut poller, &mut rig.host()).expect("a run"), Flow::GoOn);
    assert_eq!(poller.timeouts(), []);
    rig.leaves_nothing();
}

#[test]
fn a_run_ends_with_its_last_task_whatever_else_there_is() {
    let (rig, log) = (Rig::new(), Log::default());
    let source = rig.dry_source();
    rig.world.with(|kernel| kernel.add_elsewhere(Some(rig.runner)));
    rig.spawn_waits(&log, "task", vec![vec![Want::Readable(source), Want::Until(at(9))]]);
    let mut poller = ScriptedPoller::new([vec![readable(source.number())]]);
    assert_eq!(rig.run(&mut poller, &mut rig.host()).expect("a run"), Flow::GoOn);
    assert_eq!(log.entries(), ["task Start", "task Event { branch: 0, event: Ready }"]);
    rig.leaves_nothing();
}

#[test]
fn a_task_that_a_task_starts_belongs_to_the_run() {
    let (rig, log) = (Rig::new(), Log::default());
    let (runner, other) = (rig.runner, log.clone());
    rig.spawn(move |world, _| {
        let log = other.clone();
        let child: crate::rig::Body = Box::new(move |_, _| {
            log.add("child");
            Next::End
        });
        let spawned = world.with(|kernel| kernel.spawn(runner, thistledown_kernel::Start::InRun, child));
        assert!(spawned.is_ok());
        Next::End
    });
    rig.run(&mut ScriptedPoller::default(), &mut rig.host()).expect("a run");
    assert_eq!(log.entries(), ["child"]);
    rig.leaves_nothing();
}

#[test]
fn an_abandoned_run_ends_and_gives_every_body_back() {
    for last in [Next::GiveWay, Next::Wait(vec![]), Next::End] {
        let rig = Rig::new();
        let (bodies, turns) = (Counter::default(), Arc::new(AtomicUsize::new(0)));
        let (counted, counts) = (bodies.make(1), Arc::clone(&turns));
        let ends = matches!(last, Next::End);
        let mut last = Some(last);
        rig.spawn(move |_, _| {
            assert_eq!(counted.number(), 1);
            // The eighth turn is followed by a look.
            if counts.fetch_add(1, Ordering::Relaxed) < 7 { Next::GiveWay } else { last.take().expect("one") }
        });
        let mut host = rig.host();
        host.on_pulse = Box::new(|| Flow::Abandon);
        let flow = rig.run(&mut ScriptedPoller::default(), &mut host).expect("a run");
        assert_eq!((flow, turns.load(Ordering::Relaxed)), (Flow::Abandon, 8));
        let named = rig.world.with(|kernel| kernel.tasks(rig.runner).count());
        assert_eq!((named, bodies.live()), if ends { (0, 0) } else { (1, 1) });
        rig.leaves_nothing();
        assert_eq!(bodies.live(), 0);
    }
}

#[test]
fn an_abandoned_run_ends_in_its_sleep_as_well() {
    let (rig, log) = (Rig::new(), Log::default());
    let source = rig.dry_source();
    rig.spawn_waits(&log, "task", vec![vec![Want::Readable(source)]]);
    let mut host = rig.host();
    host.on_pulse = Box::new(|| Flow::Abandon);
    let flow = rig.run(&mut ScriptedPoller::new([vec![]]), &mut host).expect("a run");
    assert_eq!(flow, Flow::Abandon);
    rig.leaves_nothing();
}

#[test]
fn an_error_of_the_poll_ends_the_run() {
    let (rig, log) = (Rig::new(), Log::default());
    let source = rig.dry_source();
    rig.spawn_waits(&log, "task", vec![vec![Want::Readable(source)]]);
    let mut poller = ScriptedPoller::default();
    let error = rig.run(&mut poller, &mut rig.host()).expect_err("the script has ended");
    assert_eq!(error.kind(), std::io::ErrorKind::Other);
    assert_eq!(rig.world.with(|kernel| kernel.tasks(rig.runner).count()), 1);
    rig.leaves_nothing();
}
