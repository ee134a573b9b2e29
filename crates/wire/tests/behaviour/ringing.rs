//! Who sleeps is rung for, once.

use crate::rig::Lane;

const CAPACITY: usize = 4096;

#[test]
fn one_ring_for_each_sleep() {
    let mut lane = Lane::new(CAPACITY);
    lane.sender.push(&[b"a"]).expect("room");
    assert!(!lane.sender.must_ring(), "the receiver is awake");
    lane.take();
    for _ in 0..2 {
        assert!(lane.receiver.about_to_sleep());
        lane.sender.push(&[b"b"]).expect("room");
        assert!(lane.sender.must_ring());
        assert!(!lane.sender.must_ring(), "it was rung for");
        lane.receiver.awake();
        lane.take();
    }
}

#[test]
fn who_finds_something_does_not_sleep() {
    let mut lane = Lane::new(CAPACITY);
    lane.sender.push(&[b"a"]).expect("room");
    assert!(!lane.receiver.about_to_sleep());
    assert!(!lane.sender.must_ring());
}

#[test]
fn who_wakes_for_another_reason_is_not_rung_for() {
    let mut lane = Lane::new(CAPACITY);
    assert!(lane.receiver.about_to_sleep());
    lane.receiver.awake();
    lane.sender.push(&[b"a"]).expect("room");
    assert!(!lane.sender.must_ring());
}

#[test]
fn revoked_frames_keep_from_sleep_until_they_are_passed() {
    let mut lane = Lane::new(CAPACITY);
    let place = lane.sender.push(&[b"a"]).expect("room");
    assert!(lane.sender.revoke(place));
    assert!(!lane.receiver.about_to_sleep());
    assert_eq!(lane.next(), Ok(None));
    assert!(lane.receiver.about_to_sleep());
}
