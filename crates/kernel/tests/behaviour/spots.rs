//! Spots: a call commits the first who waits there, and one that nobody hears is kept for whoever comes next.

use thistledown_kernel::{ChannelId, SpotId, Wake, Want};

use crate::rig::{Rig, event};

fn spot(rig: &mut Rig) -> SpotId {
    rig.with(thistledown_kernel::Kernel::open_spot)
}

fn call(rig: &mut Rig, spot: SpotId) -> bool {
    rig.with(|kernel| kernel.call(spot))
}

fn ends(mut rig: Rig, spots: &[SpotId], channels: &[ChannelId]) {
    rig.with(|kernel| {
        spots.iter().for_each(|&spot| kernel.drop_spot(spot));
        channels.iter().for_each(|&channel| kernel.drop_channel(channel));
    });
    rig.leaves_nothing();
}

#[test]
fn a_call_is_heard_by_who_waits_first() {
    let mut rig = Rig::new();
    let spot = spot(&mut rig);
    let (first, second) = (rig.waiting([Want::Called(spot)]), rig.waiting([Want::Called(spot)]));
    assert!(call(&mut rig, spot));
    rig.ends_with(first, event!(0, Ready));
    rig.nobody_is_ready();
    assert!(call(&mut rig, spot));
    rig.ends_with(second, event!(0, Ready));
    ends(rig, &[spot], &[]);
}

#[test]
fn a_call_that_nobody_heard_is_kept_once() {
    let mut rig = Rig::new();
    let spot = spot(&mut rig);
    assert!(!call(&mut rig, spot) && !call(&mut rig, spot));
    let task = rig.waiting([Want::Called(spot)]);
    rig.has_turn(task, event!(0, Ready));
    rig.wait(task, [Want::Called(spot)]);
    rig.nobody_is_ready();
    assert!(call(&mut rig, spot));
    rig.ends_with(task, event!(0, Ready));
    ends(rig, &[spot], &[]);
}

#[test]
fn a_wait_that_committed_to_something_else_does_not_hear_a_call() {
    let mut rig = Rig::new();
    let spot = spot(&mut rig);
    let channel = rig.with(|kernel| kernel.open_channel(1));
    let task = rig.waiting([Want::Called(spot), Want::Receive(channel)]);
    let value = rig.value(7);
    rig.with(|kernel| kernel.try_send(channel, value)).expect("it is waited for");
    assert!(!call(&mut rig, spot), "its wait is over, though it had no turn yet");
    rig.ends_with(task, Wake::Event { branch: 1, event: thistledown_kernel::Event::Received(7) });
    ends(rig, &[spot], &[channel]);
}

#[test]
fn a_cancelled_wait_does_not_hear_a_call_and_a_call_is_not_cancelled() {
    let mut rig = Rig::new();
    let spot = spot(&mut rig);
    let (cancelled, called) = (rig.waiting([Want::Called(spot)]), rig.waiting([Want::Called(spot)]));
    rig.with(|kernel| kernel.cancel_task(cancelled));
    assert!(call(&mut rig, spot));
    rig.with(|kernel| kernel.cancel_task(called));
    rig.ends_with(cancelled, Wake::Cancelled);
    rig.ends_with(called, event!(0, Ready));
    ends(rig, &[spot], &[]);
}

#[test]
fn a_spot_that_is_gone_ends_the_waits_there() {
    let mut rig = Rig::new();
    let spot = spot(&mut rig);
    let task = rig.waiting([Want::Called(spot)]);
    rig.with(|kernel| kernel.drop_spot(spot));
    rig.has_turn(task, event!(0, Gone));
    rig.wait(task, [Want::Called(spot)]);
    rig.ends_with(task, event!(0, Gone));
    assert!(!call(&mut rig, spot));
    ends(rig, &[], &[]);
}
