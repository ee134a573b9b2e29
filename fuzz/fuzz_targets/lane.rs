//! Both sides of a lane, over memory in which the other side writes what it likes: errors at worst. What is outside of
//! the memory is the sanitizer's to see.
#![no_main]
#![allow(unsafe_code, reason = "a lane is made over borrowed memory")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use libfuzzer_sys::fuzz_target;
use thistledown_wire::{Error, HEADER, MIN_CAPACITY, Position, Receiver, Sender, max_frame};

const CAPACITY: usize = MIN_CAPACITY;
const SIZE: usize = HEADER + CAPACITY;

struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn new() -> Self {
        let layout = Layout::from_size_align(SIZE, 64).expect("a layout");
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        Self { base, layout }
    }

    fn spoil(&self, slot: u16, word: [u8; 8]) {
        let offset = usize::from(slot) * 8 % SIZE;
        // SAFETY: it is inside, and nobody looks at it now: there is one thread.
        unsafe { self.base.as_ptr().add(offset).cast::<[u8; 8]>().write(word) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated so.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// So many frames there can be at most, behind one look.
fn drain(receiver: &mut Receiver) {
    for _ in 0..2 * CAPACITY / 8 {
        match receiver.next(|frame| frame.iter().fold(frame.len(), |sum, byte| sum ^ usize::from(*byte))) {
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. }));
                assert_eq!(receiver.next(|_| ()), Err(error), "it stays so");
                return;
            }
        }
    }
    panic!("more frames than there is room for");
}

fn push(sender: &mut Sender, places: &mut Vec<Position>, length: usize) {
    match sender.push(&[&vec![1; length / 2], &vec![1; length - length / 2]]) {
        Ok(place) => places.push(place),
        Err(Error::TooLong { .. }) => assert!(length > max_frame(CAPACITY)),
        Err(error) => assert!(matches!(error, Error::Full | Error::Corrupt { .. })),
    }
}

// Each eleven bytes are a step: what is done, where, and with what.
fuzz_target!(|program: &[u8]| {
    let memory = Memory::new();
    // SAFETY: the memory is as large as it must be, zero, and outlives the one sender and the one receiver.
    let (mut sender, mut receiver) =
        unsafe { (Sender::new(memory.base, CAPACITY), Receiver::new(memory.base, CAPACITY)) };
    let mut places = Vec::new();
    for step in program.as_chunks::<11>().0 {
        let [kind, low, high, word @ ..] = *step;
        let number = u16::from_le_bytes([low, high]);
        match kind % 8 {
            0 => push(&mut sender, &mut places, usize::from(number) % 1100),
            1 => drain(&mut receiver),
            2 => drop(receiver.next(|frame| frame.to_vec())),
            3 if !places.is_empty() => drop(sender.revoke(places[usize::from(number) % places.len()])),
            4 => drop((receiver.about_to_sleep(), sender.must_ring(), receiver.len())),
            5 => memory.spoil(0, word),
            6 => memory.spoil(16, word),
            _ => memory.spoil(number, word),
        }
    }
    drain(&mut receiver);
});
