//! The pages of a space's file, read without the database when that finds them damaged: rows that are whole, and nothing
//! else, whatever stands there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thistledown_fuzz::{base, spoil};
use thistledown_ledger::salvaged;

fuzz_target!(|steps: &[u8]| {
    let base = base();
    let (mut file, mut log) = (base.file.clone(), base.log.clone());
    spoil(steps, &mut file, &mut log);
    let (contents, _damage) = salvaged(&file, &log);
    if let Some(contents) = contents {
        assert!(contents.tuples.iter().all(|tuple| tuple.number <= contents.last));
        assert!(contents.tuples.is_sorted_by_key(|tuple| tuple.number));
    }
});
