//! Whatever the other side writes into the lane, the worst is an error.

use thistledown_wire::{Error, max_frame};

use crate::rig::{CLAIMED, FRAMES, Lane, OFFERED, PASSED, PUSHED, REVOKED, SKIP, head};

const CAPACITY: usize = 4096;

/// A lane in which one short frame was taken, so that the position is 16.
fn begun() -> Lane {
    let mut lane = Lane::new(CAPACITY);
    lane.sender.push(&[b"frame"]).expect("room");
    lane.take();
    lane
}

#[test]
fn a_position_that_no_sender_can_have_is_refused() {
    let far = 16 + CAPACITY as u64 + 8;
    for found in [0, 8, 17, 20, far, u64::MAX, u64::MAX - 7, 1 << 63] {
        let mut lane = begun();
        lane.memory.poke(PUSHED, found);
        let refused = Err(Error::Corrupt { position: 16, found });
        assert_eq!(lane.next(), refused);
        assert_eq!(lane.next(), refused, "it stays so");
        assert!(!lane.receiver.about_to_sleep(), "nobody sleeps over it");
    }
}

#[test]
fn a_head_that_cannot_stand_there_is_refused() {
    let longest = max_frame(CAPACITY) as u64;
    let to_end = CAPACITY as u64 - 16;
    let wrong = [
        0,
        u64::MAX,
        head(8, 0),
        head(8, CLAIMED),
        head(8, 5),
        head(8, OFFERED | 1 << 8),
        head(longest + 1, OFFERED),
        head(longest + 1, REVOKED),
        head(u64::from(u32::MAX), OFFERED),
        head(u64::from(u32::MAX), REVOKED),
        head(u64::from(u32::MAX), SKIP),
        head(0, SKIP),
        head(to_end - 16, SKIP),
        head(to_end, SKIP),
    ];
    for found in wrong {
        let mut lane = begun();
        lane.memory.poke(PUSHED, 16 + CAPACITY as u64);
        lane.memory.poke_ring(16, found);
        let refused = Err(Error::Corrupt { position: 16, found });
        assert_eq!(lane.next(), refused);
        assert_eq!(lane.next(), refused, "it stays so");
    }
}

#[test]
fn a_frame_behind_the_senders_position_is_refused() {
    for (length, state) in [(9, OFFERED), (9, REVOKED), (CAPACITY as u64 - 24, SKIP)] {
        let mut lane = begun();
        lane.memory.poke(PUSHED, 32);
        lane.memory.poke_ring(16, head(length, state));
        assert_eq!(lane.next(), Err(Error::Corrupt { position: 16, found: head(length, state) }));
    }
}

#[test]
fn a_frame_that_would_wrap_around_is_refused() {
    let mut lane = Lane::new(CAPACITY);
    for _ in 0..CAPACITY / 8 - 2 {
        lane.sender.push(&[]).expect("room");
        lane.take();
    }
    let position = CAPACITY as u64 - 16;
    lane.memory.poke(PUSHED, position + 64);
    lane.memory.poke_ring(position as usize, head(9, OFFERED));
    assert_eq!(lane.next(), Err(Error::Corrupt { position, found: head(9, OFFERED) }));
    lane.memory.poke_ring(position as usize, head(8, OFFERED));
    assert_eq!(lane.take().len(), 8, "to the end and no farther");
}

#[test]
fn a_skip_mark_with_nothing_behind_it_is_nothing() {
    let mut lane = begun();
    lane.memory.poke(PUSHED, CAPACITY as u64);
    lane.memory.poke_ring(16, head(CAPACITY as u64 - 24, SKIP));
    assert_eq!(lane.next(), Ok(None));
}

#[test]
fn a_receivers_position_that_none_can_have_is_refused_when_room_is_needed() {
    for found in [0, 56, CAPACITY as u64 + 72, u64::MAX] {
        let mut lane = Lane::new(CAPACITY);
        let push = |lane: &mut Lane| lane.sender.push(&[&[1; 56]]);
        while push(&mut lane).is_ok() {}
        lane.take();
        push(&mut lane).expect("the receiver has passed 64");
        lane.memory.poke(PASSED, found);
        assert_eq!(push(&mut lane), Err(Error::Corrupt { position: CAPACITY as u64 + 64, found }));
    }
}

#[test]
fn a_spoiled_head_cannot_be_revoked() {
    let mut lane = Lane::new(CAPACITY);
    let place = lane.sender.push(&[b"frame"]).expect("room");
    lane.memory.poke_ring(0, u64::MAX);
    assert!(!lane.sender.revoke(place));
}

#[test]
fn a_count_is_believed_as_far_as_there_is_room() {
    let lane = begun();
    let most = CAPACITY / 8;
    lane.memory.poke(FRAMES, u64::MAX);
    assert_eq!(lane.receiver.len(), most);
}
