//! What a pool is told beside its lanes: by the zygote, of births and deaths; and how a worker died. Any bytes mean
//! something or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thistledown_workers::{Death, understands};

fuzz_target!(|bytes: &[u8]| {
    // News of a birth need a descriptor, which are not bytes.
    assert!(!understands(bytes) || !bytes.starts_with(b"born"));
    let death = Death::decode(bytes);
    assert!(death.stderr.chars().count() <= bytes.len());
});
