//! A port, as the channel sees it.

use std::collections::VecDeque;

use thistledown_parcel::Word;

use super::claims::Claims;

/// A value, and its place in the channel.
pub(super) type Placed<V> = (u64, V);

#[derive(Debug)]
pub(super) struct Side<V> {
    /// How many values it was ever lent.
    lent_ever: u64,
    /// Those that it has neither taken nor returned, as far as that is known: the number there, the place, the value.
    lent: VecDeque<(u64, u64, V)>,
    /// By what it says which it has taken, and the first number of which it does, when it has said so. It tells of those
    /// before.
    claims: Option<(Claims, Option<u64>)>,
    /// What it had not claimed was revoked, and it has not heard of that. It is lent nothing, and what it asks for is void.
    pub(super) is_revoked: bool,
    /// It has returned a value. What it is lent has to come back as well, so that values stay in order, and until it has
    /// settled it is lent no more.
    pub(super) is_settling: bool,
    pub(super) granted: usize,
    /// It is granted slots ahead.
    pub(super) streams: bool,
    /// They were recalled, and have not come back.
    pub(super) is_recalled: bool,
}

impl<V> Default for Side<V> {
    fn default() -> Self {
        Self {
            lent_ever: 0,
            lent: VecDeque::new(),
            claims: None,
            is_revoked: false,
            is_settling: false,
            granted: 0,
            streams: false,
            is_recalled: false,
        }
    }
}

/// Whether a port can be lent values ahead.
pub(super) enum Ready {
    Now,
    /// When it has this word.
    Soon(Word),
    No,
}

impl<V> Side<V> {
    pub(super) fn lend(&mut self, place: u64, value: V) {
        self.lent.push_back((self.lent_ever, place, value));
        self.lent_ever += 1;
    }

    /// How many values it has that it has not taken, as things stand.
    pub(super) fn untaken(&self) -> usize {
        let past = self.claims.as_ref().map_or(0, |(claims, _)| claims.past());
        self.lent.iter().filter(|(number, ..)| *number >= past).count()
    }

    /// How many values it has that it has not taken, as was known at the last look.
    pub(super) fn lent(&self) -> usize {
        self.lent.len()
    }

    /// Takes out what was lent under this number: its place and itself.
    pub(super) fn take(&mut self, number: u64) -> Option<Placed<V>> {
        let at = self.lent.iter().position(|(known, ..)| *known == number)?;
        self.lent.remove(at).map(|(_, place, value)| (place, value))
    }

    /// Whether it can be lent values ahead, so that all it has can be revoked at any time: whatever it has not taken stands in
    /// a word, and none of that is older than what others were lent. It alone was served so often.
    pub(super) fn may_be_ahead(&mut self, streak: usize, make: fn() -> Option<Word>) -> Ready {
        if let Some((_, first)) = &self.claims {
            let is_told = |first| self.lent.front().is_some_and(|(number, ..)| *number < first);
            return if first.is_none_or(is_told) || self.lent.len() > streak {
                Ready::No
            } else {
                Ready::Now
            };
        }
        let Some(word) = make() else { return Ready::No };
        self.claims = Some((Claims(word.kept()), None));
        Ready::Soon(word)
    }

    /// It has its word, and uses it from this number on.
    pub(super) fn has_word(&mut self, number: u64) {
        if let Some((_, first)) = &mut self.claims {
            *first = first.or(Some(number));
        }
    }

    /// Looks which values it has taken.
    pub(super) fn look(&mut self) {
        if let Some((claims, _)) = self.claims.as_ref().filter(|_| !self.lent.is_empty()) {
            let past = claims.past();
            self.forget(past);
        }
    }

    /// The same, and it is to tell of the next one. Whether there was one meanwhile.
    pub(super) fn watch(&mut self) -> bool {
        let Some((claims, _)) = self.claims.as_ref().filter(|_| !self.lent.is_empty()) else { return false };
        let (known, past) = (self.lent.len(), claims.watch());
        self.forget(past);
        self.lent.len() < known
    }

    fn forget(&mut self, past: u64) {
        while self.lent.front().is_some_and(|(number, ..)| *number < past) {
            self.lent.pop_front();
        }
    }

    /// What it has not claimed until now is the channel's again.
    pub(super) fn revoke(&mut self) -> VecDeque<Placed<V>> {
        self.is_revoked = true;
        self.is_settling = false;
        self.give_up()
    }

    /// The same for one that is no more.
    pub(super) fn give_up(&mut self) -> VecDeque<Placed<V>> {
        if let Some((claims, _)) = &self.claims {
            let past = claims.revoke();
            self.forget(past);
        }
        self.lent.drain(..).map(|(_, place, value)| (place, value)).collect()
    }

    /// It has heard that it was revoked.
    pub(super) fn restore(&mut self) {
        self.is_revoked = false;
        if let Some((claims, _)) = &self.claims {
            claims.restore();
        }
    }
}
