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
    /// Which actor's end a task of a worker waits for, that the worker knows by this number.
    watched: HashMap<(WorkerId, u64), u64>,
    graves: HashMap<u64, Gone>,
    /// The oldest first.
    order: VecDeque<u64>,
}

impl<C> Default for Actors<C> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            lives: SecondaryMap::new(),
            watched: HashMap::new(),
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
        for owner in &life.watchers {
            if let Owner::Worker(worker, reference) = owner {
                self.watched.remove(&(*worker, *reference));
            }
        }
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

    /// This one wants to hear of the end of an actor that lives.
    pub(crate) fn watch(&mut self, number: u64, id: ActorId, owner: Owner<C>) {
        let Some(life) = self.lives.get_mut(id) else { return };
        if let Owner::Worker(worker, reference) = owner {
            self.watched.insert((worker, reference), number);
        }
        life.watchers.push(owner);
    }

    /// Who wanted to hear of the end of this actor does not any more. Gives him, if he has not heard.
    pub(crate) fn unwatch(&mut self, number: u64, is_he: impl Fn(&Owner<C>) -> bool) -> Option<Owner<C>> {
        let watchers = &mut self.lives.get_mut(self.find(number)?)?.watchers;
        let at = watchers.iter().position(is_he)?;
        Some(watchers.swap_remove(at))
    }

    /// The same, of a worker's task.
    pub(crate) fn unwatch_by(&mut self, worker: WorkerId, reference: u64) -> Option<Owner<C>> {
        let number = self.watched.remove(&(worker, reference))?;
        self.unwatch(
            number,
            |owner| matches!(owner, Owner::Worker(by, known) if (*by, *known) == (worker, reference)),
        )
    }

    /// A worker is gone: it wants to hear of nothing.
    pub(crate) fn forget_watches_of(&mut self, worker: WorkerId) {
        self.watched.retain(|(watcher, _), _| *watcher != worker);
        for life in self.lives.values_mut() {
            life.watchers.retain(|owner| !matches!(owner, Owner::Worker(watcher, _) if *watcher == worker));
        }
    }

    /// Takes everybody who wants to hear of an end.
    pub(crate) fn take_watchers(&mut self) -> Vec<Owner<C>> {
        self.watched.clear();
        self.lives.values_mut().flat_map(|life| std::mem::take(&mut life.watchers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_watch_any_more_is_forgotten_also_after_a_move() {
        let mut actors: Actors<u8> = Actors::default();
        let [old, new] = [1, 2].map(|number| ActorId::from_number((1 << 32) | number));
        let worker = WorkerId::from_number((1 << 32) | 1);
        actors.born(old, 7, Name::given("account"));
        actors.watch(7, old, Owner::Worker(worker, 3));
        actors.watch(7, old, Owner::Worker(worker, 4));
        actors.watch(7, old, Owner::Customer(5));
        actors.born(new, 8, Name::given("account"));
        actors.move_in(7, old, new);
        assert!(matches!(actors.unwatch_by(worker, 3), Some(Owner::Worker(_, 3))));
        assert!(actors.unwatch_by(worker, 3).is_none());
        let is_he = |owner: &Owner<u8>| matches!(owner, Owner::Customer(5));
        assert!(matches!(actors.unwatch(7, is_he), Some(Owner::Customer(5))));
        assert!(actors.unwatch(7, is_he).is_none());
        assert_eq!(actors.lives[new].watchers.len(), 1);
        assert_eq!(actors.bury(new, Gone::Stopped).len(), 1);
        assert!(actors.watched.is_empty());
    }

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
