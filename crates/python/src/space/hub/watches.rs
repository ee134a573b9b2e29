//! Who watches from elsewhere: what he is to see is noted to him, as it comes.

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
            state.watches.insert(ours, Watch { party, number, id, turn: Turn::default() });
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
            loop {
                let seen =
                    self.shared.with(&WORLD, self.now(), |space, outside| space.next_seen(id, outside));
                match seen {
                    Ok(Some(tuple)) => self.note(party, &News::Seen(number, tuple), post),
                    Err(missed) => self.note(party, &News::Missed(number, missed.0), post),
                    Ok(None) => break,
                }
            }
            let again = self.state.lock().watches.get_mut(&ours).is_some_and(|watch| watch.turn.end());
            if !again {
                return true;
            }
        }
    }
}
