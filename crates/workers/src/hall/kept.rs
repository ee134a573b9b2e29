//! Names that outlive their actors: what is asked by one while there is no actor of it waits for the next.
//!
//! Who keeps a name decides when there is a next actor, and when there will be none. So whoever has the name, in whatever
//! process, need not know that one has died and another lives. What had been asked of the dead one has failed with it.
//!
//! Invariant: when an actor has the name, nobody waits. What is asked meanwhile is no job: it has no place in the pool. It is
//! known by who has asked: a worker can take it back by its own number of it.

use std::collections::{HashMap, VecDeque};

use thistledown_wire::Verb;

use super::Hall;
use crate::desk::Owner;
use crate::outcome::{Gone, Outcome};
use crate::policy::WorkerId;
use crate::terms::Order;

/// Something that is asked, by whom, and by a task of which worker.
struct Asked<C> {
    order: Order,
    owner: Owner<C>,
    by: Option<WorkerId>,
}

/// What is asked by one name, the oldest first, and how much of it there may be.
struct Line<C> {
    limit: usize,
    asked: VecDeque<Asked<C>>,
}

/// The names that are kept.
pub(crate) struct Kept<C> {
    lines: HashMap<u64, Line<C>>,
}

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self { lines: HashMap::new() }
    }
}

impl<C> Hall<C> {
    /// From now on what is asked by this name waits while there is no actor of it.
    pub(crate) fn keep(&mut self, name: u64, limit: usize) {
        self.kept.lines.entry(name).or_insert_with(|| Line { limit, asked: VecDeque::new() });
    }

    /// This actor has the name as well, if it lives. It is asked what waits.
    pub(crate) fn renew(&mut self, name: u64, actor: u64, now: u64) {
        let Some(actor) = self.desk.actors.find(actor) else { return };
        self.desk.actors.name_too(name, actor);
        let asked = self.kept.lines.get_mut(&name).map(|line| std::mem::take(&mut line.asked));
        for Asked { order, owner, by } in asked.into_iter().flatten() {
            if let Err(owner) = self.order(order, owner, by, now) {
                self.desk.conclude(owner, Outcome::Full);
            }
        }
        self.act();
    }

    /// A worker's task does not want any more what it has asked, if that waits.
    pub(super) fn ask_no_more(&mut self, worker: WorkerId, reference: u64) {
        let is_it = |asked: &Asked<C>| matches!(asked.owner, Owner::Worker(by, number) if (by, number) == (worker, reference));
        for line in self.kept.lines.values_mut() {
            if let Some(place) = line.asked.iter().position(is_it) {
                let asked = line.asked.remove(place);
                asked.into_iter().for_each(|asked| self.desk.conclude(asked.owner, Outcome::Cancelled));
                return;
            }
        }
    }

    /// There will be no further actor of this name.
    pub(crate) fn release(&mut self, name: u64) {
        let Some(line) = self.kept.lines.remove(&name) else { return };
        let gone = self.desk.actors.grave(name);
        for asked in line.asked {
            self.desk.conclude(asked.owner, Outcome::Gone(gone.clone()));
        }
    }

    /// The pool takes nothing any more.
    pub(crate) fn release_all(&mut self) {
        for line in std::mem::take(&mut self.kept.lines).into_values() {
            for asked in line.asked {
                self.desk.conclude(asked.owner, Outcome::Gone(Gone::Closed));
            }
        }
    }

    /// What is asked by a name that no actor has: it waits, or comes back.
    ///
    /// # Errors
    /// So much waits as may; the owner comes back.
    pub(super) fn ask_later(
        &mut self,
        order: Order,
        owner: Owner<C>,
        by: Option<WorkerId>,
    ) -> Result<Option<(Order, Owner<C>)>, Owner<C>> {
        let errand = order.errand.filter(|errand| errand.verb == Verb::Call);
        let Some(line) = errand.and_then(|errand| self.kept.lines.get_mut(&errand.actor)) else {
            return Ok(Some((order, owner)));
        };
        if line.asked.len() >= line.limit {
            return Err(owner);
        }
        line.asked.push_back(Asked { order, owner, by });
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use thistledown_wire::Errand;

    use super::*;
    use crate::name::Name;
    use crate::parcel::Parcel;
    use crate::terms::Config;

    const NAME: u64 = 7;

    fn hall() -> Hall<u32> {
        let config = Config { size: 1, grace: Duration::ZERO, concurrency: 1, max_tasks_per_child: None };
        Hall::new(&config)
    }

    fn order(hall: &mut Hall<u32>, verb: Verb) -> Order {
        let function = hall.functions.intern(b"method", false).expect("room for a function");
        let errand = Some(Errand { actor: NAME, verb });
        Order { errand, ..Order::new(Name::given("call"), function, Parcel::empty()) }
    }

    /// Asks by the name; the customers whose answer is there.
    fn ask(hall: &mut Hall<u32>, verb: Verb, customer: u32) -> Result<(), u32> {
        let order = order(hall, verb);
        match hall.order(order, Owner::Customer(customer), None, 0) {
            Ok(job) => {
                assert_eq!(job, None, "what waits for an actor is no job");
                Ok(())
            }
            Err(Owner::Customer(customer)) => Err(customer),
            Err(owner) => panic!("the owner that was given comes back: {owner:?}"),
        }
    }

    fn told(hall: &mut Hall<u32>) -> Vec<(u32, Outcome)> {
        std::mem::take(&mut hall.desk.ended)
    }

    fn customers(told: &[(u32, Outcome)]) -> Vec<u32> {
        told.iter().map(|(customer, _)| *customer).collect()
    }

    #[test]
    fn what_is_asked_by_a_kept_name_waits_up_to_the_limit() {
        let mut hall = hall();
        hall.keep(NAME, 2);
        assert_eq!(ask(&mut hall, Verb::Call, 1), Ok(()));
        assert_eq!(ask(&mut hall, Verb::Call, 2), Ok(()));
        assert_eq!(ask(&mut hall, Verb::Call, 3), Err(3), "there is room for two");
        assert!(told(&mut hall).is_empty(), "they wait");
        hall.release(NAME);
        let told = told(&mut hall);
        assert_eq!(customers(&told), [1, 2], "in their order");
        assert!(told.iter().all(|(_, outcome)| matches!(outcome, Outcome::Gone(_))), "{told:?}");
    }

    #[test]
    fn without_a_kept_name_and_for_all_but_calls_there_is_an_answer_at_once() {
        let mut hall = hall();
        assert_eq!(ask(&mut hall, Verb::Call, 1), Ok(()));
        assert_eq!(customers(&told(&mut hall)), [1], "nobody keeps the name");
        hall.keep(NAME, 2);
        assert_eq!(ask(&mut hall, Verb::Watch, 2), Ok(()));
        assert_eq!(customers(&told(&mut hall)), [2], "there is no instance that could end");
    }

    #[test]
    fn a_worker_takes_back_what_it_has_asked_and_nothing_else() {
        let mut hall = hall();
        hall.keep(NAME, 2);
        let worker = WorkerId::from_number(1 << 32 | 1);
        assert_eq!(ask(&mut hall, Verb::Call, 1), Ok(()));
        let order = order(&mut hall, Verb::Call);
        assert!(matches!(hall.order(order, Owner::Worker(worker, 5), None, 0), Ok(None)));
        let waiting = |hall: &Hall<u32>| hall.kept.lines[&NAME].asked.len();
        hall.ask_no_more(worker, 6);
        assert_eq!(waiting(&hall), 2, "of another number");
        hall.ask_no_more(worker, 5);
        assert_eq!(waiting(&hall), 1);
        hall.release(NAME);
        assert_eq!(customers(&told(&mut hall)), [1]);
    }

    #[test]
    fn the_end_of_a_pool_is_the_end_of_what_waits() {
        let mut hall = hall();
        hall.keep(NAME, 2);
        assert_eq!(ask(&mut hall, Verb::Call, 1), Ok(()));
        hall.close(false, 0);
        let told = told(&mut hall);
        assert!(matches!(told.as_slice(), [(1, Outcome::Gone(Gone::Closed))]), "{told:?}");
    }

    #[test]
    fn an_actor_that_does_not_live_cannot_have_the_name() {
        let mut hall = hall();
        hall.keep(NAME, 2);
        assert_eq!(ask(&mut hall, Verb::Call, 1), Ok(()));
        hall.renew(NAME, 99, 0);
        assert!(told(&mut hall).is_empty(), "it waits on");
    }
}
