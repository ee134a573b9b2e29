//! The file of a durable space, and its log, after anybody wrote into them: errors at worst. What is read is read the same
//! again, and what was saved from a damaged file is in a file that is whole.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use thistledown_fuzz::{base, beside, clear, spoil};
use thistledown_ledger::{Contents, Ledger, address_of};

fn open(path: &Path, repair: bool) -> Option<Contents> {
    let (ledger, contents, _) = Ledger::open(path, false, repair).ok()?;
    ledger.close();
    Some(contents)
}

fuzz_target!(|steps: &[u8]| {
    let base = base();
    let (mut file, mut log) = (base.file.clone(), base.log.clone());
    spoil(steps, &mut file, &mut log);
    clear(&base.path);
    std::fs::write(&base.path, &file).expect("written");
    std::fs::write(beside(&base.path, "-wal"), &log).expect("written");
    // The address of an owner, from a file that anybody wrote too.
    std::fs::write(beside(&base.path, "-owner"), steps).expect("written");
    let _ = address_of(&base.path);
    if let Some(contents) = open(&base.path, true) {
        let again = open(&base.path, false).expect("it is whole, or was made so");
        assert_eq!((again.tuples, again.outcomes), (contents.tuples, contents.outcomes));
    }
    clear(&base.path);
});
