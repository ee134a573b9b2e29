//! Both sides at once, in two threads. (`model` tries every order; this is the real memory.)
#![allow(clippy::disallowed_methods, reason = "the other side of a lane runs elsewhere")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use thistledown_wire::{Error, Receiver, Sender};

use crate::rig::Lane;

const FRAMES: u32 = if cfg!(miri) { 200 } else { 50_000 };

/// A frame: its number, and as many bytes more as the number says, each the number's last.
fn frame(number: u32) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(4 + number as usize % 97, number as u8);
    bytes
}

/// Pushes all, revokes some as soon as they are there; the numbers of those that were revoked.
fn send(sender: &mut Sender, ring: impl Fn()) -> Vec<u32> {
    let mut revoked = Vec::new();
    for number in 0..FRAMES {
        let place = loop {
            match sender.push(&[&frame(number)]) {
                Ok(place) => break place,
                Err(Error::Full) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        if number % 3 == 0 && sender.revoke(place) {
            revoked.push(number);
        }
        if sender.must_ring() {
            ring();
        }
    }
    revoked
}

/// Takes until the last is there, which is never revoked; the numbers of what came.
fn receive(receiver: &mut Receiver, sleep: impl Fn()) -> Vec<u32> {
    let mut taken = Vec::new();
    while taken.last() != Some(&(FRAMES - 1)) {
        let number = receiver.next(|bytes| {
            let number = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
            assert_eq!(bytes, frame(number));
            number
        });
        match number.expect("a lane in order") {
            Some(number) => taken.push(number),
            None if receiver.about_to_sleep() => {
                sleep();
                receiver.awake();
            }
            None => {}
        }
    }
    taken
}

#[test]
fn every_frame_is_taken_or_revoked_and_the_receiver_may_sleep() {
    assert_ne!((FRAMES - 1) % 3, 0, "the last is not revoked");
    let Lane { mut sender, mut receiver, memory } = Lane::new(4096);
    let bell = AtomicBool::new(false);
    let (taken, revoked) = thread::scope(|scope| {
        let ring = || bell.store(true, Ordering::Release);
        let sending = scope.spawn(move || send(&mut sender, ring));
        let sleep = || {
            while !bell.swap(false, Ordering::Acquire) {
                thread::yield_now();
            }
        };
        let taken = receive(&mut receiver, sleep);
        (taken, sending.join().expect("the sender"))
    });
    let mut all = [taken.clone(), revoked].concat();
    all.sort_unstable();
    assert!(taken.is_sorted(), "in order");
    assert!(all.into_iter().eq(0..FRAMES), "each once");
    drop(memory);
}
