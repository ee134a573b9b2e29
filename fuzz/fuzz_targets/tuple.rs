//! Tuples and templates that anybody wrote, and what is asked of a space and told by it: errors at worst, and what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thistledown_space::{
    Ask, News, decode_given, decode_template, decode_tuple, decode_tuples, encode_template, encode_tuple,
};

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
    if let Ok(ask) = Ask::from_bytes(bytes) {
        let written = ask.to_bytes().expect("it was read");
        let again = Ask::from_bytes(&written).expect("it was written").to_bytes();
        assert_eq!(again.expect("it was read"), written);
    }
    if let Ok(news) = News::from_bytes(bytes) {
        assert!(News::from_bytes(&news.to_bytes().expect("it was read")).is_ok());
    }
    let _ = (decode_given(bytes), decode_tuples(bytes));
});
