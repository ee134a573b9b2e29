//! A lane and a naive queue are given the same random program, and must show the same after every step.

use std::collections::VecDeque;

use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::sample::Index;
use thistledown_wire::{Error, Position, max_frame};

use crate::cases;
use crate::rig::Lane;

const CAPACITY: usize = 4096;

#[derive(Clone, Debug)]
enum Step {
    /// A frame of this length, in parts that are cut here.
    Push(usize, Vec<Index>),
    Take,
    /// One of all frames that ever were.
    Revoke(Index),
    Sleep,
    Awake,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![
        8 => 0..40_usize,
        4 => 0..max_frame(CAPACITY) + 2,
        1 => max_frame(CAPACITY) - 1..max_frame(CAPACITY) + 2,
    ];
    let cuts = proptest::collection::vec(any::<Index>(), 0..3);
    let step = prop_oneof![
        6 => (length, cuts).prop_map(|(length, cuts)| Step::Push(length, cuts)),
        4 => proptest::strategy::Just(Step::Take),
        2 => any::<Index>().prop_map(Step::Revoke),
        1 => proptest::strategy::Just(Step::Sleep),
        1 => proptest::strategy::Just(Step::Awake),
    ];
    proptest::collection::vec(step, 0..300)
}

/// What a lane is, without the memory.
#[derive(Default)]
struct Reference {
    /// What was pushed and not passed; none: revoked.
    queue: VecDeque<Option<Vec<u8>>>,
    /// Where each frame that ever was is, and its number.
    places: Vec<Position>,
    passed: usize,
    asleep: bool,
}

impl Reference {
    fn take(&mut self) -> Option<Vec<u8>> {
        loop {
            let frame = self.queue.pop_front()?;
            self.passed += 1;
            if frame.is_some() {
                return frame;
            }
        }
    }

    fn revoke(&mut self, number: usize) -> bool {
        number.checked_sub(self.passed).is_some_and(|behind| self.queue[behind].take().is_some())
    }

    /// What the frames take at least, with their heads.
    fn used(&self, sizes: &[usize]) -> usize {
        sizes[self.passed..].iter().sum()
    }
}

struct Pair {
    lane: Lane,
    reference: Reference,
    sizes: Vec<usize>,
}

impl Pair {
    fn push(&mut self, length: usize, cuts: &[Index]) {
        let number = self.sizes.len() as u8;
        let bytes: Vec<u8> = (0..length).map(|place| number.wrapping_add(place as u8)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(length + 1)).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut from = 0;
        for to in cuts.into_iter().chain([length]) {
            parts.push(&bytes[from..to]);
            from = to;
        }
        let size = 8 + length.next_multiple_of(8);
        let used = self.reference.used(&self.sizes);
        match self.lane.sender.push(&parts) {
            Ok(place) => {
                assert!(length <= max_frame(CAPACITY) && used + size <= CAPACITY);
                assert!(self.reference.places.last().is_none_or(|last| *last < place), "places go up");
                self.reference.places.push(place);
                self.reference.queue.push_back(Some(bytes));
                self.sizes.push(size);
            }
            Err(Error::TooLong { length: found, limit }) => {
                assert_eq!((found, limit), (length, max_frame(CAPACITY)));
                assert!(length > limit);
            }
            Err(Error::Full) => {
                // At worst, the ring's end is filled twice: by this frame, and by one before it.
                assert!(
                    used + 3 * size.max(max_frame(CAPACITY) + 8) > CAPACITY,
                    "{used} + {size} are not full"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn step(&mut self, step: Step) {
        let Self { lane, reference, .. } = self;
        match step {
            Step::Push(length, cuts) => self.push(length, &cuts),
            Step::Take => assert_eq!(lane.next(), Ok(reference.take())),
            Step::Revoke(which) if !reference.places.is_empty() => {
                let number = which.index(reference.places.len());
                assert_eq!(lane.sender.revoke(reference.places[number]), reference.revoke(number));
            }
            Step::Revoke(_) => {}
            Step::Sleep => {
                reference.asleep = lane.receiver.about_to_sleep();
                assert_eq!(reference.asleep, reference.queue.is_empty());
            }
            Step::Awake => assert_eq!(lane.sender.must_ring(), std::mem::take(&mut reference.asleep)),
        }
    }

    fn compare(&self) {
        let Self { lane, reference, .. } = self;
        assert_eq!(lane.receiver.len(), reference.queue.len());
        assert_eq!(lane.receiver.is_empty(), reference.queue.is_empty());
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_lane_does_what_a_queue_does(program in steps()) {
        let mut pair =
            Pair { lane: Lane::new(CAPACITY), reference: Reference::default(), sizes: Vec::new() };
        for step in program {
            pair.step(step);
            pair.compare();
        }
        while pair.reference.passed < pair.sizes.len() {
            pair.step(Step::Take);
        }
        pair.step(Step::Take);
        pair.compare();
    }
}
