//! What comes from another exchange: errors at worst, and what is understood is written again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thistledown_exchange::frame::{Request, Response};

macro_rules! look {
    ($kind:ty, $packet:expr) => {{
        let mut rest: &[u8] = $packet;
        while let Ok(Some((message, body))) = <$kind>::read(&mut rest) {
            let mut again = Vec::new();
            message.write(body, &mut again);
            let mut written = &again[..];
            assert_eq!(<$kind>::read(&mut written), Ok(Some((message, body))));
            assert!(written.is_empty());
        }
    }};
}

fuzz_target!(|packet: &[u8]| {
    look!(Request, packet);
    look!(Response, packet);
});
