//! Chance from a seed. Source: Sebastiano Vigna's splitmix64, which is public domain.

/// A generator of choices that come out the same for the same seed.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The choices of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, each about as likely.
    ///
    /// # Panics
    /// When `limit` is zero: there is no such number.
    pub fn below(&mut self, limit: usize) -> usize {
        assert!(limit > 0, "no number is below zero");
        let high = (u128::from(self.any()) * limit as u128) >> 64;
        usize::try_from(high).unwrap_or_else(|_| unreachable!("it is below a usize"))
    }

    /// Yes, once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these; nothing when there are none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let choices = |seed| {
            let mut chance = Chance::new(seed);
            (0..100).map(|_| chance.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(choices(7), choices(7));
        assert_ne!(choices(7), choices(8));
    }

    #[test]
    fn the_generator_is_the_published_one() {
        let mut chance = Chance::new(1_234_567);
        let numbers = [chance.any(), chance.any(), chance.any()];
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn every_choice_comes_up_about_as_often() {
        let mut chance = Chance::new(1);
        let mut times = [0; 5];
        (0..5_000).for_each(|_| times[chance.below(5)] += 1);
        assert!(times.iter().all(|&times| (800..1_200).contains(&times)), "{times:?}");
        let yes = (0..4_000).filter(|_| chance.once_in(4)).count();
        assert!((800..1_200).contains(&yes), "{yes} of 4000");
    }

    #[test]
    fn nothing_is_picked_from_nothing() {
        let mut chance = Chance::new(1);
        assert_eq!(chance.pick::<u8>(&[]), None);
        assert_eq!(chance.pick(&["one"]), Some("one"));
    }
}
