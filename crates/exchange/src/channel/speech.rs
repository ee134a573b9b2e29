//! What a shared channel and its ports say to each other, as verbs and bodies of the exchange.

use std::sync::Arc;

use thistledown_parcel::{Parcel, Word};

use super::{Given, Say};

/// Told: a port begins.
pub const OPEN: u8 = 0;
/// Asked: how many values there are, and whether it is closed.
pub const STATE: u8 = 19;

/// What is told to the channel, and by it: a verb, and a number behind it or a value.
mod verb {
    pub(super) const WANT: u8 = 1;
    pub(super) const UNWANT: u8 = 2;
    pub(super) const NEED: u8 = 3;
    pub(super) const UNNEED: u8 = 4;
    pub(super) const TAKEN: u8 = 5;
    pub(super) const RETURNED: u8 = 6;
    pub(super) const RECALLED: u8 = 7;
    pub(super) const SLOTS_RETURNED: u8 = 8;
    pub(super) const VALUE: u8 = 10;
    pub(super) const CLOSE: u8 = 11;
    pub(super) const SETTLED: u8 = 12;
    pub(super) const SLOTS: u8 = 13;
    pub(super) const SLOTS_AHEAD: u8 = 14;
    pub(super) const RECALL: u8 = 15;
    pub(super) const SETTLE: u8 = 16;
    pub(super) const CLOSED: u8 = 17;
    pub(super) const ENDED: u8 = 18;
    pub(super) const WORD: u8 = 20;
    pub(super) const AHEAD: u8 = 21;
    pub(super) const REVOKED: u8 = 22;
    pub(super) const ANEW: u8 = 23;
    pub(super) const LOOK: u8 = 24;
}

/// A number as a body.
#[must_use]
pub fn number(number: u64) -> Parcel {
    Parcel::Inline(Arc::from(number.to_le_bytes()))
}

/// A body as a number. Nothing: it is none.
#[must_use]
pub fn number_of(body: &Parcel) -> Option<u64> {
    body.inline().try_into().map(u64::from_le_bytes).ok()
}

fn written(count: usize) -> Parcel {
    number(count as u64)
}

fn count_of(body: &Parcel) -> Option<usize> {
    number_of(body).and_then(|count| usize::try_from(count).ok())
}

fn pair(one: usize, other: usize) -> Parcel {
    Parcel::Inline([one as u64, other as u64].map(u64::to_le_bytes).as_flattened().into())
}

fn pair_of(body: &Parcel) -> Option<(usize, usize)> {
    let (one, other) = body.inline().split_first_chunk()?;
    let whole = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).ok();
    Some((whole(one)?, whole(other.try_into().ok()?)?))
}

/// What a port says, as it is told.
pub fn said(say: Say<Parcel>) -> (u8, Parcel) {
    match say {
        Say::Want(count) => (verb::WANT, written(count)),
        Say::Unwant(count) => (verb::UNWANT, written(count)),
        Say::Need(count) => (verb::NEED, written(count)),
        Say::Unneed(count) => (verb::UNNEED, written(count)),
        Say::Anew(count) => (verb::ANEW, written(count)),
        Say::HasWord(first) => (verb::WORD, number(first)),
        Say::Taken(which) => (verb::TAKEN, number(which)),
        Say::Look => (verb::LOOK, Parcel::empty()),
        Say::Returned(which) => (verb::RETURNED, number(which)),
        Say::Settled => (verb::SETTLED, Parcel::empty()),
        Say::Recalled => (verb::RECALLED, Parcel::empty()),
        Say::SlotsReturned(count) => (verb::SLOTS_RETURNED, written(count)),
        Say::Value(value) => (verb::VALUE, value),
        Say::Close => (verb::CLOSE, Parcel::empty()),
    }
}

/// The same, as it was heard. Nothing: it is none.
pub fn heard(verb: u8, body: Parcel) -> Option<Say<Parcel>> {
    Some(match verb {
        verb::WANT => Say::Want(count_of(&body)?),
        verb::UNWANT => Say::Unwant(count_of(&body)?),
        verb::NEED => Say::Need(count_of(&body)?),
        verb::UNNEED => Say::Unneed(count_of(&body)?),
        verb::ANEW => Say::Anew(count_of(&body)?),
        verb::WORD => Say::HasWord(number_of(&body)?),
        verb::TAKEN => Say::Taken(number_of(&body)?),
        verb::LOOK => Say::Look,
        verb::RETURNED => Say::Returned(number_of(&body)?),
        verb::SETTLED => Say::Settled,
        verb::RECALLED => Say::Recalled,
        verb::SLOTS_RETURNED => Say::SlotsReturned(count_of(&body)?),
        verb::VALUE => Say::Value(body),
        verb::CLOSE => Say::Close,
        _ => return None,
    })
}

/// What a port is given, as it is noted.
pub fn given(given: &Given<Parcel>) -> (u8, Parcel) {
    match given {
        Given::Value(value) => (verb::VALUE, value.clone()),
        Given::Unwanted(count, removed) => (verb::UNWANT, pair(*count, *removed)),
        Given::Unneeded(count, removed) => (verb::UNNEED, pair(*count, *removed)),
        Given::Slots(count, false) => (verb::SLOTS, written(*count)),
        Given::Slots(count, true) => (verb::SLOTS_AHEAD, written(*count)),
        Given::Word(word) => (verb::WORD, word.parcel().unwrap_or_else(Parcel::empty)),
        Given::Ahead => (verb::AHEAD, Parcel::empty()),
        Given::Revoked => (verb::REVOKED, Parcel::empty()),
        Given::Settle => (verb::SETTLE, Parcel::empty()),
        Given::Recall => (verb::RECALL, Parcel::empty()),
        Given::Closed => (verb::CLOSED, Parcel::empty()),
        Given::Ended => (verb::ENDED, Parcel::empty()),
    }
}

/// The same, as it came. Nothing: it is none.
pub fn noted(verb: u8, body: Parcel) -> Option<Given<Parcel>> {
    Some(match verb {
        verb::VALUE => Given::Value(body),
        verb::UNWANT => pair_of(&body).map(|(count, removed)| Given::Unwanted(count, removed))?,
        verb::UNNEED => pair_of(&body).map(|(count, removed)| Given::Unneeded(count, removed))?,
        verb::SLOTS => Given::Slots(count_of(&body)?, false),
        verb::SLOTS_AHEAD => Given::Slots(count_of(&body)?, true),
        verb::WORD => Given::Word(Word::adopt(&body).ok()?),
        verb::AHEAD => Given::Ahead,
        verb::REVOKED => Given::Revoked,
        verb::SETTLE => Given::Settle,
        verb::RECALL => Given::Recall,
        verb::CLOSED => Given::Closed,
        verb::ENDED => Given::Ended,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let counts = [0, 1, usize::MAX];
        let says = counts.into_iter().flat_map(|count| {
            [Say::Want(count), Say::Unwant(count), Say::Need(count), Say::Unneed(count), Say::Anew(count)]
        });
        for say in says.chain([
            Say::Taken(u64::MAX),
            Say::Returned(7),
            Say::HasWord(9),
            Say::Look,
            Say::Settled,
            Say::Recalled,
            Say::Close,
        ]) {
            let (verb, body) = said(say);
            let (again, same) = said(heard(verb, body.clone()).expect("it is one"));
            assert_eq!((again, same.inline()), (verb, body.inline()));
        }
        assert!(heard(verb::WANT, Parcel::empty()).is_none());
        assert!(heard(verb::VALUE + 100, Parcel::empty()).is_none());
    }

    #[test]
    fn what_is_given_is_noted() {
        for act in
            [Given::Slots(usize::MAX, true), Given::Unwanted(usize::MAX, 1), Given::Ahead, Given::Revoked]
        {
            let (verb, body) = given(&act);
            let (again, same) = given(&noted(verb, body.clone()).expect("it is one"));
            assert_eq!((again, same.inline()), (verb, body.inline()));
        }
        assert!(noted(verb::WORD, Parcel::empty()).is_none());
        assert!(noted(verb::UNWANT, number(7)).is_none());
    }
}
