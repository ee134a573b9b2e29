//! Random programs, given to the space and to a naive reference: both must give the same, after every step.
//!
//! Each number of a program is the seed of one step, so that a failing program can be made shorter.

mod machine;
mod reference;

use proptest::prelude::{ProptestConfig, any, proptest};

use machine::Machine;

#[test]
fn long_programs_give_the_same_too() {
    for first in 0..5 {
        let mut machine = Machine::default();
        (0..4_000).for_each(|step| machine.step(first * 1_000_003 + step));
        machine.ends();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_space_does_what_its_reference_does(program in proptest::collection::vec(any::<u64>(), 0..120)) {
        let mut machine = Machine::default();
        program.into_iter().for_each(|seed| machine.step(seed));
        machine.ends();
    }
}
