//! Random programs, given to the kernel and to a naive reference: both must show the same, after every step, and
//! at the end nothing may be left over.
//!
//! Each number of a program is the seed of one step, so that a failing program can be made shorter.

mod machine;
mod reference;

use proptest::prelude::{ProptestConfig, any, proptest};

use machine::Machine;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_does_what_its_reference_does(program in proptest::collection::vec(any::<u64>(), 0..250)) {
        let mut machine = Machine::new();
        program.into_iter().for_each(|seed| machine.step(seed));
        machine.ends();
    }
}

#[test]
fn long_programs_leave_nothing_behind() {
    for seed in 0..5 {
        let mut chance = thistledown_testkit::Chance::new(seed);
        let mut machine = Machine::new();
        (0..3_000).for_each(|_| machine.step(chance.any()));
        machine.ends();
    }
}
