//! Frames come out as they went in, whole, in order, as long as there is room.

use std::panic::{AssertUnwindSafe, catch_unwind};

use thistledown_wire::{Error, max_frame};

use crate::rig::Lane;

const CAPACITY: usize = 4096;

#[test]
fn what_is_pushed_comes_out_in_order() {
    let mut lane = Lane::new(CAPACITY);
    assert_eq!(lane.next(), Ok(None));
    for number in 0..5_u8 {
        lane.sender.push(&[&[number; 3], &[], &[number]]).expect("room");
    }
    for number in 0..5_u8 {
        assert_eq!(lane.take(), [number; 4]);
    }
    assert_eq!(lane.next(), Ok(None));
}

#[test]
fn a_frame_may_be_empty() {
    let mut lane = Lane::new(CAPACITY);
    lane.sender.push(&[]).expect("room");
    lane.sender.push(&[&[]]).expect("room");
    assert_eq!((lane.take(), lane.take()), (vec![], vec![]));
    assert_eq!(lane.next(), Ok(None));
}

#[test]
fn a_frame_that_does_not_fit_leaves_no_trace() {
    let mut lane = Lane::new(CAPACITY);
    let limit = max_frame(CAPACITY);
    let long = vec![7; limit + 1];
    assert_eq!(lane.sender.push(&[&long]), Err(Error::TooLong { length: limit + 1, limit }));
    assert_eq!(lane.sender.push(&[&long[1..], &[1]]), Err(Error::TooLong { length: limit + 1, limit }));
    for _ in 0..3 {
        lane.sender.push(&[&long[1..]]).expect("room");
    }
    assert_eq!(lane.sender.push(&[&long[1..]]), Err(Error::Full), "four heads are too many");
    assert_eq!(lane.receiver.len(), 3);
    lane.sender.push(&[&[1]]).expect("room for a small one");
    for _ in 0..3 {
        assert_eq!(lane.take(), long[1..]);
    }
    assert_eq!(lane.take(), [1]);
    assert_eq!(lane.next(), Ok(None));
}

#[test]
fn room_comes_back_when_a_frame_is_passed_and_not_before() {
    let mut lane = Lane::new(CAPACITY);
    let frame = vec![1; max_frame(CAPACITY) - 8];
    for _ in 0..4 {
        lane.sender.push(&[&frame]).expect("room");
    }
    assert_eq!(lane.sender.push(&[&frame]), Err(Error::Full));
    let sender = &mut lane.sender;
    let meanwhile = lane.receiver.next(|_| sender.push(&[&frame]));
    assert_eq!(meanwhile, Ok(Some(Err(Error::Full))), "it is still being looked at");
    lane.sender.push(&[&frame]).expect("room");
}

#[test]
fn the_longest_frame_fits_wherever_the_rings_end_is() {
    for start in 0..CAPACITY / 8 {
        let mut lane = Lane::new(CAPACITY);
        for _ in 0..start {
            lane.sender.push(&[]).expect("room");
            lane.take();
        }
        let longest: Vec<u8> = (0..max_frame(CAPACITY)).map(|number| number as u8).collect();
        lane.sender.push(&[&longest]).expect("an empty lane has room");
        assert_eq!(lane.take(), longest, "after {start} small frames");
        assert_eq!(lane.next(), Ok(None));
    }
}

#[test]
fn a_frame_whose_work_panics_is_passed() {
    let mut lane = Lane::new(CAPACITY);
    lane.sender.push(&[b"bad"]).expect("room");
    lane.sender.push(&[b"good"]).expect("room");
    let work = AssertUnwindSafe(|| lane.receiver.next(|_| panic!("on purpose")));
    catch_unwind(work).map(drop).expect_err("a panic");
    assert_eq!(lane.receiver.len(), 1);
    assert_eq!(lane.take(), b"good");
}

#[test]
fn the_receiver_counts_frames_that_were_not_passed() {
    let mut lane = Lane::new(CAPACITY);
    assert!(lane.receiver.is_empty());
    for left in 1..=3 {
        lane.sender.push(&[b"frame"]).expect("room");
        assert_eq!(lane.receiver.len(), left);
    }
    for left in [2, 1, 0] {
        assert!(!lane.receiver.is_empty());
        lane.take();
        assert_eq!(lane.receiver.len(), left);
    }
    assert!(lane.receiver.is_empty());
}

#[test]
fn a_capacity_is_a_power_of_two_and_not_too_small() {
    for capacity in [0, CAPACITY / 2, CAPACITY + 8, CAPACITY * 3] {
        catch_unwind(|| Lane::new(capacity)).map(drop).expect_err("no lane");
    }
    Lane::new(CAPACITY * 2);
}
