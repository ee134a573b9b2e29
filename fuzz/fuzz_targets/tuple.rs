//! Tuples and templates that anybody wrote: errors at worst, and what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thistledown_space::{decode_template, decode_tuple, encode_template, encode_tuple};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tuple) = decode_tuple(bytes) {
        let written = encode_tuple(&tuple).expect("it was read");
        let again = encode_tuple(&decode_tuple(&written).expect("it was written"));
        assert_eq!(again.expect("it was read"), written);
    }
    if let Ok(template) = decode_template(bytes) {
        let written = encode_template(&template).expect("it was read");
        let again = encode_template(&decode_template(&written).expect("it was written"));
        assert_eq!(again.expect("it was read"), written);
    }
});
