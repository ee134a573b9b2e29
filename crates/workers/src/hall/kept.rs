//! Names that outlive their actors: what is asked by one while there is no actor of it waits for the next.
//!
//! Who keeps a name decides when there is a next actor, and when there will be none. So whoever has the name, in whatever
//! process, need not know that one has died and another lives. What had been asked of the dead one has failed with it.
//!
//! Invariant: when an actor has the name, nobody waits. What is asked meanwhile is no job: it has no place in the pool, and
//! cannot be cancelled.

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
