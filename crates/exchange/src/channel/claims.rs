//! Which of the values that lie with a receiver it has taken: a word that it shares with the channel.
//!
//! The receiver *claims* a value in the moment in which a wait commits to it, and says nothing. The channel looks when it
//! wants to know, also when that process is dead; and it *revokes*: from that moment on nothing is claimed, and what was
//! not is the channel's again, at once and whatever the receiver's process does meanwhile. One atomic word decides between
//! the two. When the receiver has heard of it the word is *restored*.
//!
//! A channel that waits for room asks to be told: then the next claim says so.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use thistledown_parcel::Word;

/// A word that is changed by atomic operations alone; in a model, one that the model sees.
pub trait Atomic {
    /// What it is.
    fn read(&self) -> u64;
    /// Changes it, unless there is nothing to change it to. What it was; an error, if it is that still.
    fn change(&self, change: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64>;
    /// Sets these bits. What it was.
    fn set(&self, bits: u64) -> u64;
    /// Clears these bits.
    fn clear(&self, bits: u64);
}

macro_rules! atomic {
    ($kind:ty) => {
        impl Atomic for $kind {
            fn read(&self) -> u64 {
                self.load(Ordering::Acquire)
            }

            fn change(&self, change: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
                self.fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
            }

            fn set(&self, bits: u64) -> u64 {
                self.fetch_or(bits, Ordering::AcqRel)
            }

            fn clear(&self, bits: u64) {
                self.fetch_and(!bits, Ordering::AcqRel);
            }
        }
    };
}

atomic!(AtomicU64);
#[cfg(loom)]
atomic!(loom::sync::atomic::AtomicU64);

/// Nothing is claimed any more.
const REVOKED: u64 = 1;
/// The channel wants to hear of the next claim.
const AWAITED: u64 = 2;
/// Above these: the number behind that of the last value which was claimed.
const SHIFT: u32 = 2;

/// What comes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The value is the receiver's; whether the channel wants to hear of it.
    Taken(bool),
    /// It is the channel's again.
    Revoked,
}

/// One side of the word.
#[derive(Debug)]
pub struct Claims<W = Word>(pub W);

impl<W: Deref<Target: Atomic>> Claims<W> {
    /// The receiver takes the value of this number.
    pub fn claim(&self, number: u64) -> Claimed {
        let claimed = self.0.change(|word| (word & REVOKED == 0).then_some((number + 1) << SHIFT));
        claimed.map_or(Claimed::Revoked, |word| Claimed::Taken(word & AWAITED != 0))
    }

    /// How many values of those ever lent the receiver is past.
    pub fn past(&self) -> u64 {
        self.0.read() >> SHIFT
    }

    /// The channel is to be told of the next claim. What [`Self::past`] was in that moment.
    pub fn watch(&self) -> u64 {
        self.0.set(AWAITED) >> SHIFT
    }

    /// Nothing more is claimed. What [`Self::past`] was in that moment, and stays.
    pub fn revoke(&self) -> u64 {
        self.0.set(REVOKED) >> SHIFT
    }

    /// The receiver has heard that nothing of what it had is its own.
    pub fn restore(&self) {
        self.0.clear(REVOKED);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims(Word::new().expect("a word"))
    }

    #[test]
    fn who_waits_for_a_claim_is_told_once() {
        let claims = claims();
        assert_eq!(claims.claim(0), Claimed::Taken(false));
        assert_eq!(claims.watch(), 1);
        assert_eq!(claims.claim(4), Claimed::Taken(true));
        assert_eq!(claims.claim(5), Claimed::Taken(false));
        assert_eq!(claims.past(), 6);
    }

    #[test]
    fn each_value_is_claimed_or_revoked_and_never_both() {
        const VALUES: u64 = 20_000;
        let claims = claims();
        let (mut taken, mut kept) = (0, 0);
        std::thread::scope(|scope| {
            let receiver = scope
                .spawn(|| (0..VALUES).take_while(|number| claims.claim(*number) != Claimed::Revoked).count());
            while claims.past() < 100 {
                std::hint::spin_loop();
            }
            kept = claims.revoke();
            taken = receiver.join().expect("a count") as u64;
        });
        assert_eq!(taken, kept);
        assert_eq!(claims.claim(taken), Claimed::Revoked);
        claims.restore();
        assert_eq!(claims.claim(taken), Claimed::Taken(false));
    }
}
