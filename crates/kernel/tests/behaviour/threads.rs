//! Threads that wait like tasks do: woken through their own waker, withdrawn by themselves.

use thistledown_kernel::{Moment, SendRefused, TaskId, Want};
use thistledown_testkit::Counted;

use crate::rig::{Rig, at, event, plain};

fn thread(rig: &mut Rig, wants: impl IntoIterator<Item = Want<Counted>>) -> TaskId {
    let party = rig.with(|kernel| kernel.add_thread("thread"));
    rig.wait(party, wants);
    party
}

fn leaves(rig: &mut Rig, party: TaskId) -> Option<thistledown_kernel::Wake<u64>> {
    let wake = rig.with(|kernel| kernel.withdraw(party));
    rig.finish(party);
    wake.map(plain)
}

#[test]
fn a_thread_is_woken_once_through_its_own_waker() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(1));
    let party = thread(&mut rig, [Want::Receive(channel), Want::Until(at(1))]);
    assert!(!rig.with(|kernel| kernel.is_woken(party)));
    assert_eq!(rig.send(channel, 1), Ok(()));
    assert_eq!(rig.woken(), ["thread"]);
    assert!(rig.with(|kernel| kernel.is_woken(party)));
    rig.with(|kernel| kernel.close_channel(channel));
    assert_eq!(rig.woken(), [""; 0]);
    assert_eq!(leaves(&mut rig, party), Some(event!(0, Received(1))));
    assert!(rig.with(|kernel| kernel.is_woken(party)), "one that is gone waits for nothing");
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_thread_that_gives_up_takes_its_value_along() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let want = rig.sending(channel, 1);
    let party = thread(&mut rig, [want]);
    assert_eq!(leaves(&mut rig, party), None);
    assert_eq!(rig.spent(), [1]);
    assert_eq!(rig.receive(channel), Err(thistledown_kernel::RecvRefused::Empty));
    assert_eq!(rig.send(channel, 2), Err(SendRefused::Full(2)));
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_thread_keeps_its_own_time() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let party = thread(&mut rig, [Want::Until(at(1))]);
    let prospects = rig.with(|kernel| kernel.park(runner)).expect("nobody is ready");
    assert_eq!(prospects.timer, None);
    rig.with(|kernel| kernel.expire(runner, Moment::NEVER));
    assert!(!rig.with(|kernel| kernel.is_woken(party)));
    assert_eq!(leaves(&mut rig, party), None);
    rig.leaves_nothing();
}

#[test]
fn two_threads_meet_without_a_run() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let want = rig.sending(channel, 1);
    let sender = thread(&mut rig, [want]);
    let receiver = thread(&mut rig, [Want::Receive(channel)]);
    assert_eq!(leaves(&mut rig, sender), Some(event!(0, Sent)));
    assert_eq!(leaves(&mut rig, receiver), Some(event!(0, Received(1))));
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_thread_that_left_with_its_value_untaken_leaves_it_to_be_spent() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(1));
    assert_eq!(rig.send(channel, 1), Ok(()));
    let party = thread(&mut rig, [Want::Receive(channel)]);
    rig.finish(party);
    assert_eq!(rig.spent(), [1]);
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}
