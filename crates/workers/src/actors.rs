//! The actors of a pool, as people and workers know them: by the names that their makers gave them, who wants to hear of
//! their ends, and how those that are no more have ended.
//!
//! A name is a number that its maker draws by lot, in whatever process he is, so that he can pass it on before anybody
//! has heard of it. What lives where is the policy's affair.

use std::collections::{HashMap, VecDeque};

use slotmap::SecondaryMap;

use crate::desk::Owner;
use crate::name::Name;
use crate::outcome::Gone;
use crate::parcel::Parcel;
use crate::policy::{ActorId, WorkerId};

/// So many ends are remembered; of older ones it is only known that there is no such actor.
const GRAVES: usize = 4_096;

/// An actor that lives.
#[derive(Debug)]
pub(crate) struct Life<C> {
    /// What its maker named it.
    pub(crate) number: u64,
    /// What people call it.
    pub(crate) name: Name,
    /// What it was named where it came from.
    others: Vec<u64>,
    /// Who wants to hear of its end.
    pub(crate) watchers: Vec<Owner<C>>,
    /// Why it could not be made.
    pub(crate) unmade: Option<Parcel>,
}

/// The actors of a pool.
#[derive(Debug)]
pub(crate) struct Actors<C> {
    numbers: HashMap<u64, ActorId>,
    pub(crate) lives: SecondaryMap<ActorId, Life<C>>,
    graves: HashMap<u64, Gone>,
    /// The oldest first.
    order: VecDeque<u64>,
}

impl<C> Default for Actors<C> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            lives: SecondaryMap::new(),
            graves: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<C> Actors<C> {
    /// A new one.
    pub(crate) fn born(&mut self, id: ActorId, number: u64, name: Name) {
        self.numbers.insert(number, id);
        self.lives.insert(id, Life { number, name, others: Vec::new(), watchers: Vec::new(), unmade: None });
    }

    /// The actor of this name, if it lives.
    pub(crate) fn find(&self, number: u64) -> Option<ActorId> {
        self.numbers.get(&number).copied()
    }

    /// How the actor of this name has ended.
    pub(crate) fn grave(&self, number: u64) -> Gone {
        self.graves.get(&number).cloned().unwrap_or(Gone::Unknown)
    }

    /// It has ended so. Gives who wants to hear of it.
    pub(crate) fn bury(&mut self, id: ActorId, gone: Gone) -> Vec<Owner<C>> {
        let Some(life) = self.lives.remove(id) else { return Vec::new() };
        for number in life.others.into_iter().chain([life.number]) {
            self.numbers.remove(&number);
            if self.order.len() >= GRAVES
                && let Some(oldest) = self.order.pop_front()
            {
                self.graves.remove(&oldest);
            }
            self.order.push_back(number);
            self.graves.insert(number, gone.clone());
        }
        life.watchers
    }

    /// It has this name as well.
    pub(crate) fn name_too(&mut self, number: u64, id: ActorId) {
        if let Some(life) = self.lives.get_mut(id)
            && self.numbers.insert(number, id) != Some(id)
        {
            life.others.push(number);
            self.graves.remove(&number);
        }
    }

    /// What is asked of the one, and who waits for its end, belongs to the other from now on.
    pub(crate) fn move_in(&mut self, number: u64, from: ActorId, to: ActorId) {
        self.numbers.insert(number, to);
        let watchers = self.lives.remove(from).map(|life| life.watchers).unwrap_or_default();
        if let Some(life) = self.lives.get_mut(to) {
            life.watchers.extend(watchers);
            life.others.push(number);
        }
    }

    /// A worker is gone: it wants to hear of nothing.
    pub(crate) fn forget_watches_of(&mut self, worker: WorkerId) {
        for life in self.lives.values_mut() {
            life.watchers.retain(|owner| !matches!(owner, Owner::Worker(watcher, _) if *watcher == worker));
        }
    }

    /// Takes everybody who wants to hear of an end.
    pub(crate) fn take_watchers(&mut self) -> Vec<Owner<C>> {
        self.lives.values_mut().flat_map(|life| std::mem::take(&mut life.watchers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_remembered_for_a_while() {
        let mut actors: Actors<()> = Actors::default();
        for number in 1..=GRAVES as u64 + 1 {
            let id = ActorId::from_number((1 << 32) | number);
            actors.born(id, number, Name::given("account"));
            assert_eq!(actors.find(number), Some(id));
            actors.lives[id].watchers.push(Owner::Customer(()));
            assert_eq!(actors.bury(id, Gone::Stopped).len(), 1);
            assert_eq!(actors.find(number), None);
        }
        assert!(matches!(actors.grave(2), Gone::Stopped));
        assert!(matches!(actors.grave(1), Gone::Unknown), "the oldest is forgotten");
        assert_eq!(actors.graves.len(), GRAVES);
    }
}
