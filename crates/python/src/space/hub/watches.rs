//! Who watches from elsewhere: what he is to see is noted to him, as it comes.
//!
//! As many are on their way as the watch may keep; beyond that, while he does not even hear, they are kept in the space as
//! those of a watch in its own process are: the oldest are dropped, and counted.

use thistledown_exchange::{Party, Post};
use thistledown_runtime::Name;
use thistledown_space::{News, Template, WatchId};

use crate::payload::WORLD;
use crate::space::hub::Hub;
use crate::space::hub::waits::Turn;

pub(super) struct Watch {
    pub(super) party: Party,
    /// Their number for it.
    pub(super) number: u64,
    pub(super) id: WatchId,
    pub(super) turn: Turn,
    /// How many may be on their way to him.
    capacity: u64,
    /// How many are: noted to him, and not heard yet.
    unheard: u64,
}

impl Watch {
    fn is_full(&self) -> bool {
        self.unheard >= self.capacity
    }
}

impl Hub {
    pub(super) fn watch(&self, party: Party, number: u64, template: Template, capacity: usize) {
        let ours = {
            let mut state = self.state.lock();
            state.last += 1;
            state.last
        };
        let id =
            self.shared.with(&WORLD, self.now(), |space, _| space.watch(template, capacity, Name::Far(ours)));
        let before = {
            let mut state = self.state.lock();
            let turn = Turn::default();
            let watch = Watch { party, number, id, turn, capacity: capacity.max(1) as u64, unheard: 0 };
            state.watches.insert(ours, watch);
            state.parties.entry(party).or_default().watches.insert(number, ours)
        };
        // Who did not hear whether he was heard has asked again.
        if let Some(before) = before {
            self.unwatch(before);
        }
    }

    pub(super) fn unwatch(&self, ours: u64) {
        let watch = self.state.lock().watches.remove(&ours);
        if let Some(watch) = watch {
            self.shared.with(&WORLD, self.now(), |space, _| space.unwatch(watch.id));
        }
    }

    /// Whoever watches has heard of so many more.
    pub(super) fn heard_of(&self, party: Party, number: u64, count: u64, post: &mut Post<'_>) {
        let ours = {
            let mut state = self.state.lock();
            let ours = state.parties.get(&party).and_then(|has| has.watches.get(&number)).copied();
            if let Some(watch) = ours.and_then(|ours| state.watches.get_mut(&ours)) {
                watch.unheard = watch.unheard.saturating_sub(count);
            }
            ours
        };
        if let Some(ours) = ours {
            self.show(ours, post);
        }
    }

    /// Whether another one may be on its way, which then is.
    fn sends_one(&self, ours: u64) -> bool {
        let mut state = self.state.lock();
        let Some(watch) = state.watches.get_mut(&ours).filter(|watch| !watch.is_full()) else { return false };
        watch.unheard += 1;
        true
    }

    fn sends_none(&self, ours: u64) {
        if let Some(watch) = self.state.lock().watches.get_mut(&ours) {
            watch.unheard -= 1;
        }
    }

    /// Tells what a watch has seen. False: there is no such watch.
    pub(super) fn show(&self, ours: u64, post: &mut Post<'_>) -> bool {
        loop {
            let (party, number, id) = {
                let mut state = self.state.lock();
                let Some(watch) = state.watches.get_mut(&ours) else { return false };
                if !watch.turn.begin() {
                    return true;
                }
                (watch.party, watch.number, watch.id)
            };
            while self.sends_one(ours) {
                let seen =
                    self.shared.with(&WORLD, self.now(), |space, outside| space.next_seen(id, outside));
                match seen {
                    Ok(Some(tuple)) => self.note(party, &News::Seen(number, tuple), post),
                    Err(missed) => self.note(party, &News::Missed(number, missed.0), post),
                    Ok(None) => {
                        self.sends_none(ours);
                        break;
                    }
                }
            }
            let again = self.state.lock().watches.get_mut(&ours).is_some_and(|watch| watch.turn.end());
            if !again {
                return true;
            }
        }
    }
}
