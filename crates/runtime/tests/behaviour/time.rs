//! Time: a virtual clock jumps when nothing else can happen; the system's is slept on.

use std::sync::Arc;
use std::time::Duration;

use thistledown_kernel::{Moment, Want};
use thistledown_runtime::Clock;
use thistledown_testkit::{ScriptedPoller, readable};

use crate::rig::{Log, Next, Rig, at};

#[test]
fn a_virtual_clock_jumps_from_timer_to_timer() {
    let (rig, log) = (Rig::new(), Log::default());
    for (name, seconds) in [("late", 3_600), ("soon", 1), ("between", 60)] {
        let (log, clock) = (log.clone(), Arc::clone(&rig.clock));
        let mut waits = false;
        rig.spawn(move |_, _| {
            waits = !waits;
            if waits {
                return Next::Wait(vec![Want::Until(at(seconds))]);
            }
            log.add(format!("{name} at {}", clock.now().since(Moment::default()).as_secs()));
            Next::End
        });
    }
    let mut poller = ScriptedPoller::default();
    rig.run(&mut poller, &mut rig.host()).expect("a run");
    assert_eq!(log.entries(), ["soon at 1", "between at 60", "late at 3600"]);
    assert!(poller.timeouts().iter().all(|&timeout| timeout == Some(Duration::ZERO)), "nobody sleeps");
    rig.leaves_nothing();
}

#[test]
fn what_is_ready_already_comes_before_a_jump() {
    let (rig, log) = (Rig::new(), Log::default());
    let source = rig.dry_source();
    let wants = vec![Want::Until(at(1)), Want::Readable(source)];
    rig.spawn_waits(&log, "task", vec![wants]);
    let mut poller = ScriptedPoller::new([vec![readable(source.number())]]);
    rig.run(&mut poller, &mut rig.host()).expect("a run");
    assert_eq!(log.entries(), ["task Start", "task Event { branch: 1, event: Ready }"]);
    assert_eq!(rig.clock.now(), at(0));
    rig.leaves_nothing();
}

#[test]
fn a_virtual_clock_stands_while_a_body_runs_elsewhere() {
    let (rig, log) = (Rig::new(), Log::default());
    let elsewhere = rig.world.with(|kernel| kernel.add_elsewhere(Some(rig.runner)));
    rig.spawn_waits(&log, "joiner", vec![vec![Want::End(elsewhere)]]);
    rig.spawn_waits(&log, "sleeper", vec![vec![Want::Until(at(9))]]);
    let mut poller = ScriptedPoller::new([vec![]]);
    let mut host = rig.host();
    host.on_idle = Box::new(move |world| world.with(|kernel| kernel.finish(elsewhere)));
    rig.run(&mut poller, &mut host).expect("a run");
    let woken = ["joiner Event { branch: 0, event: Ended }", "sleeper Event { branch: 0, event: Elapsed }"];
    assert_eq!(log.entries()[2..], woken);
    assert_eq!(poller.timeouts()[0], None, "a sleep that the body elsewhere ends");
    rig.leaves_nothing();
}

#[test]
fn the_system_clock_is_slept_on_until_the_next_timer() {
    let (mut rig, log) = (Rig::new(), Log::default());
    rig.clock = Arc::new(Clock::System);
    let source = rig.dry_source();
    let hour = Duration::from_secs(3_600);
    let deadline = rig.clock.now().after(hour);
    rig.spawn_waits(&log, "task", vec![vec![Want::Until(deadline), Want::Readable(source)]]);
    let mut poller = ScriptedPoller::new([vec![readable(source.number())]]);
    rig.run(&mut poller, &mut rig.host()).expect("a run");
    assert_eq!(log.entries(), ["task Start", "task Event { branch: 1, event: Ready }"]);
    let [Some(timeout)] = *poller.timeouts() else { panic!("{:?}", poller.timeouts()) };
    assert!(Duration::ZERO < timeout && timeout <= hour);
    rig.leaves_nothing();
}

#[test]
fn a_clock_that_is_not_virtual_cannot_be_moved() {
    assert!(!Clock::System.jump_to(at(1)));
    assert!(!Clock::System.is_virtual());
    let clock = Clock::new_virtual();
    assert!(clock.is_virtual() && clock.jump_to(at(5)) && clock.jump_to(at(3)));
    assert_eq!(clock.now(), at(5), "time does not go back");
}
