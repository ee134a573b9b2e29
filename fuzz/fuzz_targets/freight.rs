//! What stands in the head of a value, a call or a result: errors at worst; plain values are written again as they were,
//! and no part of a pickle lies outside of its memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thistledown_parcel::freight::{Plain, Reader, write_pickle};

fuzz_target!(|input: (u16, &[u8])| {
    let (more, head) = input;
    let memory = head.len() + usize::from(more);
    let mut reader = Reader::new(head);
    let _ = reader.filters();
    let _ = reader.tickets();
    values(reader);
    let Ok(pickle) = reader.pickle(head.len(), memory) else { return };
    assert!(pickle.parts.iter().all(|part| part.start <= part.end && part.end <= memory));
    assert!(pickle.parts.is_sorted_by_key(|part| part.start));
    assert!(pickle.inside.is_some() || !pickle.parts.is_empty());

    // The parts stand where the head that is read says, if one is written for parts of their lengths.
    let bytes = vec![0; memory];
    let parts: Vec<&[u8]> = pickle.parts.iter().map(|part| &bytes[part.clone()]).collect();
    let mut again = Vec::new();
    write_pickle(pickle.inside, &parts, &mut again).expect("no more than there were");
    assert!(reader.rest().starts_with(&again));
});

fn values(mut reader: Reader<'_>) {
    loop {
        let before = reader.rest();
        let Ok(plain) = reader.plain() else { return };
        // Longer texts than are written may be read.
        let mut again = Vec::new();
        let is_written = plain.write(&mut again);
        assert!(is_written || matches!(plain, Plain::Text(_) | Plain::Bytes(_)));
        assert!(!is_written || before.starts_with(&again));
        assert!(reader.rest().len() < before.len());
    }
}
