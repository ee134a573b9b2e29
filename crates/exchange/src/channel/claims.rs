//! Which of the values that lie with a receiver it has taken: a word that it shares with the channel.
//!
//! The receiver *claims* a value in the moment in which a wait commits to it, and says nothing. The channel looks when it
//! wants to know, also when that process is dead; and it *revokes*: from that moment on nothing is claimed, and what was
//! not is the channel's again, at once and whatever the receiver's process does meanwhile. One atomic word decides between
//! the two. When the receiver has heard of it the word is *restored*.
//!
//! A channel that waits for room asks to be told: then the next claim says so.

use std::sync::atomic::Ordering;

use thistledown_parcel::Word;

/// Nothing is claimed any more.
const REVOKED: u64 = 1;
/// The channel wants to hear of the next claim.
const AWAITED: u64 = 2;
/// Above these: the number behind that of the last value which was claimed.
const SHIFT: u32 = 2;

/// What comes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// The value is the receiver's; whether the channel wants to hear of it.
    Taken(bool),
    /// It is the channel's again.
    Revoked,
}

/// One side of the word.
#[derive(Debug)]
pub(super) struct Claims(pub(super) Word);

impl Claims {
    /// The receiver takes the value of this number.
    pub(super) fn claim(&self, number: u64) -> Claimed {
        let claimed = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            (word & REVOKED == 0).then_some((number + 1) << SHIFT)
        });
        claimed.map_or(Claimed::Revoked, |word| Claimed::Taken(word & AWAITED != 0))
    }

    /// How many values of those ever lent the receiver is past.
    pub(super) fn past(&self) -> u64 {
        self.0.load(Ordering::Acquire) >> SHIFT
    }

    /// The channel is to be told of the next claim. What [`Self::past`] was in that moment.
    pub(super) fn watch(&self) -> u64 {
        self.0.fetch_or(AWAITED, Ordering::AcqRel) >> SHIFT
    }

    /// Nothing more is claimed. What [`Self::past`] was in that moment, and stays.
    pub(super) fn revoke(&self) -> u64 {
        self.0.fetch_or(REVOKED, Ordering::AcqRel) >> SHIFT
    }

    /// The receiver has heard that nothing of what it had is its own.
    pub(super) fn restore(&self) {
        self.0.fetch_and(!REVOKED, Ordering::AcqRel);
    }
}

#[cfg(test)]
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
