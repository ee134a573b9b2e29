//! When nothing of a run can happen any more by itself, its host is asked.

use std::time::Duration;

use thistledown_kernel::{Moment, Want};
use thistledown_testkit::{ScriptedPoller, readable};

use crate::rig::{Log, Rig};

#[test]
fn the_host_is_asked_when_nothing_can_happen() {
    let (rig, log) = (Rig::new(), Log::default());
    let channel = rig.world.with(|kernel| kernel.open_channel(0));
    rig.spawn_waits(&log, "task", vec![vec![Want::Receive(channel), Want::Until(Moment::NEVER)]]);
    let (root, asked) = (rig.root, log.clone());
    let mut host = rig.host();
    host.when_stuck = Box::new(move |world| {
        asked.add("stuck");
        world.with(|kernel| kernel.cancel_scope(root));
        None
    });
    let mut poller = ScriptedPoller::default();
    rig.run(&mut poller, &mut host).expect("a run");
    drop(host);
    assert_eq!(log.entries(), ["task Start", "stuck", "task Cancelled"]);
    assert_eq!(poller.timeouts(), [Some(Duration::ZERO)], "the host has seen to it");
    rig.world.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_host_that_hopes_is_asked_again_after_its_sleep() {
    let (rig, log) = (Rig::new(), Log::default());
    let channel = rig.world.with(|kernel| kernel.open_channel(0));
    rig.spawn_waits(&log, "task", vec![vec![Want::Receive(channel)]]);
    let mut asked = 0;
    let mut host = rig.host();
    host.when_stuck = Box::new(move |world| {
        asked += 1;
        if asked == 3 {
            world.with(|kernel| kernel.close_channel(channel));
            return None;
        }
        Some(Duration::from_secs(asked))
    });
    let mut poller = ScriptedPoller::default();
    rig.run(&mut poller, &mut host).expect("a run");
    let seconds: Vec<_> =
        poller.timeouts().iter().map(|timeout| timeout.expect("a limit").as_secs()).collect();
    assert_eq!(seconds, [1, 2, 0]);
    rig.world.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_run_that_waits_for_a_source_or_for_a_body_elsewhere_is_not_stuck() {
    let (rig, log) = (Rig::new(), Log::default());
    let source = rig.dry_source();
    rig.spawn_waits(&log, "reader", vec![vec![Want::Readable(source)]]);
    let mut poller = ScriptedPoller::new([vec![], vec![readable(source.number())]]);
    rig.run(&mut poller, &mut rig.host()).expect("a run");
    assert_eq!(poller.timeouts(), [None, None]);

    let elsewhere = rig.world.with(|kernel| kernel.add_elsewhere(Some(rig.runner)));
    rig.spawn_waits(&log, "joiner", vec![vec![Want::End(elsewhere)]]);
    let mut host = rig.host();
    host.on_idle = Box::new(move |world| world.with(|kernel| kernel.finish(elsewhere)));
    rig.run(&mut ScriptedPoller::new([vec![]]), &mut host).expect("a run");
    drop(host);
    assert_eq!(log.entries().len(), 4);
    rig.leaves_nothing();
}
