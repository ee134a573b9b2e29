//! A lane over memory in which anything may stand: an error at worst.

use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use thistledown_wire::{Error, HEADER, max_frame};

use crate::cases;
use crate::rig::{CLAIMED, Lane, OFFERED, PASSED, PUSHED, REVOKED, SKIP, head};

const CAPACITY: usize = 4096;

/// What the other side writes: anywhere in the ring, or its position. Likely things, and others.
#[derive(Clone, Debug)]
enum Spoil {
    Ring { slot: usize, word: u64 },
    Pushed(u64),
    Passed(u64),
    Anything { slot: usize, word: u64 },
}

fn spoils() -> impl Strategy<Value = Vec<Spoil>> {
    let state = prop_oneof![0..=SKIP, any::<u32>().prop_map(u64::from)];
    let length = prop_oneof![
        6 => 0..64_u64,
        2 => 0..=CAPACITY as u64,
        1 => any::<u32>().prop_map(u64::from),
    ];
    let word =
        prop_oneof![6 => (length, state).prop_map(|(length, state)| head(length, state)), 1 => any::<u64>()];
    let position =
        || prop_oneof![6 => (0..2 * CAPACITY as u64 / 8).prop_map(|slot| slot * 8), 1 => any::<u64>()];
    let spoil = prop_oneof![
        4 => (0..CAPACITY / 8, word.clone()).prop_map(|(slot, word)| Spoil::Ring { slot, word }),
        4 => (0..4_usize, word.clone()).prop_map(|(slot, word)| Spoil::Ring { slot, word }),
        4 => position().prop_map(Spoil::Pushed),
        2 => position().prop_map(Spoil::Passed),
        1 => (0..(HEADER + CAPACITY) / 8, word).prop_map(|(slot, word)| Spoil::Anything { slot, word }),
    ];
    proptest::collection::vec(spoil, 0..100)
}

fn spoil(lane: &Lane, spoil: &Spoil) {
    match *spoil {
        Spoil::Ring { slot, word } => lane.memory.poke_ring(slot * 8, word),
        Spoil::Pushed(position) => lane.memory.poke(PUSHED, position),
        Spoil::Passed(position) => lane.memory.poke(PASSED, position),
        Spoil::Anything { slot, word } => lane.memory.poke(slot * 8, word),
    }
}

/// What comes, until nothing does.
fn drain(lane: &mut Lane) -> Result<usize, Error> {
    let mut frames = 0;
    while let Some(frame) = lane.next()? {
        assert!(frame.len() <= max_frame(CAPACITY));
        frames += 1;
        assert!(frames <= 2 * CAPACITY / 8, "there is not room for so many");
    }
    Ok(frames)
}

fn is_refusal(error: Error) -> bool {
    matches!(error, Error::Corrupt { .. })
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn a_receiver_takes_anything_and_refuses_what_is_wrong(spoiled in spoils()) {
        let mut lane = Lane::new(CAPACITY);
        for each in &spoiled {
            spoil(&lane, each);
            if let Err(error) = drain(&mut lane) {
                assert!(is_refusal(error), "{error}");
                assert_eq!(drain(&mut lane), Err(error), "it stays so");
            }
            let _ = (lane.receiver.len(), lane.receiver.about_to_sleep());
        }
    }

    #[test]
    fn a_sender_writes_only_into_the_ring(spoiled in spoils(), lengths in proptest::collection::vec(0..1100_usize, 100)) {
        let mut lane = Lane::new(CAPACITY);
        let mut places = Vec::new();
        for (each, length) in spoiled.iter().zip(lengths) {
            spoil(&lane, each);
            match lane.sender.push(&[&vec![1; length]]) {
                Ok(place) => places.push(place),
                Err(Error::Full | Error::TooLong { .. }) => {}
                Err(error) => assert!(is_refusal(error), "{error}"),
            }
            for place in places.iter().rev().step_by(3) {
                lane.sender.revoke(*place);
            }
            let _ = lane.sender.must_ring();
        }
    }
}

/// A lane whose receiver is at this slot, and whose sender claims to have filled the ring.
fn lane_at(slot: u64) -> Lane {
    let mut lane = Lane::new(CAPACITY);
    for _ in 0..slot {
        lane.sender.push(&[]).expect("room");
        lane.take();
    }
    lane.memory.poke(PUSHED, slot * 8 + CAPACITY as u64);
    lane
}

#[test]
fn every_length_at_every_slot_is_taken_or_refused() {
    for slot in 0..CAPACITY as u64 / 8 {
        let position = slot * 8;
        let limit = (max_frame(CAPACITY) as u64).min(CAPACITY as u64 - position - 8);
        for length in [limit + 1, limit, 0] {
            for state in [0, OFFERED, CLAIMED, REVOKED] {
                let mut lane = lane_at(slot);
                let found = head(length, state);
                lane.memory.poke_ring(position as usize, found);
                let next = lane.receiver.next(<[u8]>::len);
                match state {
                    OFFERED if length <= limit => assert_eq!(next, Ok(Some(length as usize))),
                    REVOKED if length <= limit => {
                        assert_ne!(next, Err(Error::Corrupt { position, found }), "it is behind us");
                    }
                    _ => assert_eq!(next, Err(Error::Corrupt { position, found })),
                }
            }
        }
    }
}
