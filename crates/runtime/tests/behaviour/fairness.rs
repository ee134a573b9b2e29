//! Fairness: tasks take turns, and a busy run still looks at the operating system and at the clock.

use std::sync::Arc;
use std::time::Duration;

use thistledown_kernel::Want;
use thistledown_testkit::{ScriptedPoller, readable};

use crate::rig::{Log, Next, Rig, at};

#[test]
fn tasks_that_give_way_take_turns() {
    let (rig, log) = (Rig::new(), Log::default());
    for name in ["a", "b", "c"] {
        let log = log.clone();
        let mut left = 3;
        rig.spawn(move |_, _| {
            log.add(name);
            left -= 1;
            if left == 0 { Next::End } else { Next::GiveWay }
        });
    }
    rig.run(&mut ScriptedPoller::default(), &mut rig.host()).expect("a run");
    assert_eq!(log.entries().concat(), "abcabcabc");
    rig.leaves_nothing();
}

/// Spawns a task that gives way so many times.
fn spawn_busy(rig: &Rig, log: &Log, turns: usize, mut each: impl FnMut(usize) + Send + 'static) {
    let log = log.clone();
    let mut turn = 0;
    rig.spawn(move |_, _| {
        turn += 1;
        each(turn);
        if turn < turns {
            return Next::GiveWay;
        }
        log.add("busy has ended");
        Next::End
    });
}

#[test]
fn a_busy_run_still_looks_at_the_operating_system() {
    let (rig, log) = (Rig::new(), Log::default());
    let source = rig.dry_source();
    spawn_busy(&rig, &log, 20_000, |_| {});
    rig.spawn_waits(&log, "reader", vec![vec![Want::Readable(source)]]);
    let mut poller = ScriptedPoller::new([vec![], vec![], vec![readable(source.number())]]);
    let mut host = rig.host();
    rig.run(&mut poller, &mut host).expect("a run");
    let entries = ["reader Start", "reader Event { branch: 0, event: Ready }", "busy has ended"];
    assert_eq!(log.entries(), entries);
    let polls = poller.timeouts().len();
    assert!(polls >= host.turns / 512, "{polls} looks in {} turns", host.turns);
    assert!(
        poller.timeouts().iter().all(|&timeout| timeout == Some(Duration::ZERO)),
        "a busy run never sleeps"
    );
    rig.leaves_nothing();
}

#[test]
fn a_busy_run_still_looks_at_the_clock() {
    let (rig, log) = (Rig::new(), Log::default());
    let clock = Arc::clone(&rig.clock);
    spawn_busy(&rig, &log, 20_000, move |turn| {
        clock.jump_to(at(turn as u64));
    });
    rig.spawn_waits(&log, "sleeper", vec![vec![Want::Until(at(5))]]);
    rig.run(&mut ScriptedPoller::default(), &mut rig.host()).expect("a run");
    let entries = ["sleeper Start", "sleeper Event { branch: 0, event: Elapsed }", "busy has ended"];
    assert_eq!(log.entries(), entries);
    rig.leaves_nothing();
}

#[test]
fn turns_that_take_long_are_each_followed_by_a_look() {
    let (rig, log) = (Rig::new(), Log::default());
    let clock = Arc::clone(&rig.clock);
    spawn_busy(&rig, &log, 100, move |turn| {
        clock.jump_to(at(turn as u64));
    });
    let mut poller = ScriptedPoller::default();
    rig.run(&mut poller, &mut rig.host()).expect("a run");
    assert!(poller.timeouts().len() > 90, "{} looks in 100 turns", poller.timeouts().len());
    rig.leaves_nothing();
}

#[test]
fn two_that_only_wake_each_other_do_not_keep_a_third_from_its_socket() {
    let (rig, log) = (Rig::new(), Log::default());
    let source = rig.dry_source();
    let [there, back] = [0; 2].map(|capacity| rig.world.with(|kernel| kernel.open_channel(capacity)));
    for (out, from) in [(there, back), (back, there)] {
        let log = log.clone();
        let mut turn = 0;
        rig.spawn(move |_, _| {
            turn += 1;
            match turn % 2 {
                _ if turn == 5_000 => {
                    log.add("a player has ended");
                    Next::End
                }
                1 => Next::Wait(vec![Want::Send(out, turn), Want::Until(at(1))]),
                _ => Next::Wait(vec![Want::Receive(from), Want::Until(at(1))]),
            }
        });
    }
    rig.spawn_waits(&log, "reader", vec![vec![Want::Readable(source)]]);
    let mut poller = ScriptedPoller::new([vec![], vec![readable(source.number())]]);
    rig.run(&mut poller, &mut rig.host()).expect("a run");
    let entries = log.entries();
    assert_eq!(entries[..2], ["reader Start", "reader Event { branch: 0, event: Ready }"]);
    assert_eq!(entries.len(), 4);
    for channel in [there, back] {
        rig.world.with(|kernel| kernel.drop_channel(channel));
    }
    rig.leaves_nothing();
}
