//! Any bytes are a message or an error; a message comes out of its own bytes again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thistledown_wire::{Answer, MAX_HEAD, Reply, Work};

macro_rules! check {
    ($kind:ty, $frame:expr) => {
        if let Ok((message, body)) = <$kind>::decode($frame) {
            let mut again = Vec::new();
            message.encode(&mut again);
            assert!(again.len() <= MAX_HEAD);
            again.extend(body);
            assert_eq!(<$kind>::decode(&again), Ok((message, body)));
        }
    };
}

fuzz_target!(|frame: &[u8]| {
    check!(Work, frame);
    check!(Answer, frame);
    check!(Reply, frame);
});
