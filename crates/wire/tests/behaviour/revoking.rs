//! A frame is claimed or revoked, never both.

use thistledown_wire::Error;

use crate::rig::Lane;

const CAPACITY: usize = 4096;

#[test]
fn a_frame_that_is_not_claimed_can_be_revoked_once() {
    let mut lane = Lane::new(CAPACITY);
    let places = [b"a", b"b", b"c"].map(|frame| lane.sender.push(&[frame]).expect("room"));
    assert!(lane.sender.revoke(places[1]));
    assert!(!lane.sender.revoke(places[1]), "it is revoked already");
    assert_eq!((lane.take(), lane.take()), (b"a".to_vec(), b"c".to_vec()));
    assert_eq!(lane.next(), Ok(None));
    for place in places {
        assert!(!lane.sender.revoke(place), "they were passed");
    }
}

#[test]
fn a_frame_at_work_cannot_be_revoked() {
    let mut lane = Lane::new(CAPACITY);
    let place = lane.sender.push(&[b"a"]).expect("room");
    let sender = &mut lane.sender;
    assert_eq!(lane.receiver.next(|_| sender.revoke(place)), Ok(Some(false)));
}

#[test]
fn frames_behind_the_one_at_work_can_be_revoked() {
    let mut lane = Lane::new(CAPACITY);
    let places = [b"a", b"b"].map(|frame| lane.sender.push(&[frame]).expect("room"));
    let sender = &mut lane.sender;
    assert_eq!(lane.receiver.next(|_| sender.revoke(places[1])), Ok(Some(true)));
    assert_eq!(lane.next(), Ok(None));
    assert!(lane.receiver.is_empty(), "the room of revoked ones comes back");
}

#[test]
fn a_place_whose_memory_has_another_frame_cannot_be_revoked() {
    let mut lane = Lane::new(CAPACITY);
    let first = lane.sender.push(&[&[1; 56]]).expect("room");
    lane.take();
    let rest: Vec<_> = std::iter::from_fn(|| lane.sender.push(&[&[2; 56]]).ok()).collect();
    assert_eq!(rest.len(), CAPACITY / 64, "the last one stands where the first one stood");
    assert!(!lane.sender.revoke(first));
    for _ in rest {
        assert_eq!(lane.take(), [2; 56]);
    }
}

#[test]
fn revoked_frames_leave_the_lane_when_they_are_passed() {
    let mut lane = Lane::new(CAPACITY);
    let places = [b"a", b"b", b"c"].map(|frame| lane.sender.push(&[frame]).expect("room"));
    assert!(lane.sender.revoke(places[0]) && lane.sender.revoke(places[2]));
    assert_eq!(lane.receiver.len(), 3);
    assert_eq!(lane.take(), b"b");
    assert_eq!(lane.receiver.len(), 1);
    assert_eq!(lane.next(), Ok(None));
    assert_eq!(lane.receiver.len(), 0);
}

#[test]
fn a_lane_full_of_revoked_frames_has_room_when_the_receiver_has_looked() {
    let mut lane = Lane::new(CAPACITY);
    let places: Vec<_> = std::iter::from_fn(|| lane.sender.push(&[&[2; 56]]).ok()).collect();
    for place in places {
        assert!(lane.sender.revoke(place));
    }
    assert_eq!(lane.sender.push(&[b"a"]), Err(Error::Full));
    assert_eq!(lane.next(), Ok(None));
    lane.sender.push(&[b"a"]).expect("room");
    assert_eq!(lane.take(), b"a");
}

#[test]
fn behind_revoked_frames_that_were_seen_stands_one_that_was_not() {
    let mut lane = Lane::new(CAPACITY);
    let places = [b"a", b"b"].map(|frame| lane.sender.push(&[frame]).expect("room"));
    assert_eq!(lane.take(), b"a");
    assert!(lane.sender.revoke(places[1]));
    lane.sender.push(&[b"c"]).expect("room");
    assert_eq!(lane.take(), b"c");
}
