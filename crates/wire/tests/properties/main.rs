//! Random programs, bytes and messages: what must hold whatever they are.

mod lanes;
mod memory;
mod messages;
#[path = "../rig/mod.rs"]
mod rig;

use proptest::prelude::ProptestConfig;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
