//! The wait graph: who can only go on when whom has ended.
//!
//! An edge is a wait with a single want, for a task's end or for a scope to drain, or a task's place behind who holds
//! its key; a wait with alternatives binds nobody. A new wait that would close a cycle is refused, in the one that would close it. The search is bounded: a
//! cycle beyond the bound is found by the runner, when nothing can happen any more.

use std::collections::HashSet;

use crate::ids::{ScopeId, TaskId};
use crate::kernel::{Kernel, Payload};
use crate::list::{ListName, NIL};
use crate::party::Phase;
use crate::wait::Want;

/// Tasks looked at before the search gives up.
const SEARCH_LIMIT: usize = 1_000;

/// Steps that are tried before the search remembers where it was.
const SOON: usize = 4;

/// A cycle of waits, beginning with the one that would close it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cycle of {} tasks that wait for each other", .0.len())]
pub struct Cycle(pub Vec<TaskId>);

/// What a waiting task cannot go on without.
#[derive(Clone, Copy)]
enum Bond {
    Task(TaskId),
    Scope(ScopeId),
}

impl<P: Payload> Kernel<P> {
    /// Whether this wait of `task` would close a cycle.
    pub(crate) fn check_cycle(&self, task: TaskId, want: &Want<P::Value>) -> Result<(), Cycle> {
        let bond = match *want {
            Want::End(target) => Bond::Task(target),
            Want::Drain(scope) => Bond::Scope(scope),
            _ => return Ok(()),
        };
        if self.has_way_out(task) || self.ends_soon(task, bond) {
            return Ok(());
        }
        let mut search = Search { goal: task, path: vec![task], seen: HashSet::new() };
        if self.leads_back(&mut search, bond) { Err(Cycle(search.path)) } else { Ok(()) }
    }

    /// Whether a few steps lead to somebody who waits for nobody, as nearly always: then there is nothing to remember.
    fn ends_soon(&self, goal: TaskId, mut bond: Bond) -> bool {
        for _ in 0..SOON {
            let Bond::Task(next) = bond else { return false };
            match self.bond(next) {
                _ if next == goal => return false,
                None => return true,
                Some(further) => bond = further,
            }
        }
        false
    }

    fn leads_back(&self, search: &mut Search, bond: Bond) -> bool {
        match bond {
            Bond::Task(next) => self.follow(search, next),
            Bond::Scope(scope) => {
                let mut member = self.scopes.get(scope).map_or_else(TaskId::default, |s| s.first_member);
                while let Some(party) = self.parties.get(member) {
                    if search.seen.len() >= SEARCH_LIMIT {
                        return false;
                    }
                    if self.follow(search, member) {
                        return true;
                    }
                    member = party.next_member;
                }
                false
            }
        }
    }

    fn follow(&self, search: &mut Search, next: TaskId) -> bool {
        if next == search.goal {
            return true;
        }
        if search.seen.len() >= SEARCH_LIMIT || !search.seen.insert(next) {
            return false;
        }
        let Some(bond) = self.bond(next) else { return false };
        search.path.push(next);
        if self.leads_back(search, bond) {
            return true;
        }
        search.path.pop();
        false
    }

    /// Whether a deadline will end its waits anyway.
    #[must_use]
    pub fn has_way_out(&self, task: TaskId) -> bool {
        let mut at = self.parties.get(task).map_or_else(ScopeId::default, |party| party.scope);
        while let Some(scope) = self.scopes.get(at) {
            if scope.timed {
                return true;
            }
            if scope.shield {
                return false;
            }
            at = scope.parent;
        }
        false
    }

    /// The ways of waits from a task, itself first: each leads to one that waits here for nobody's end. So whoever asks
    /// beyond this kernel knows where to go on.
    #[must_use]
    pub fn ways(&self, from: TaskId) -> Vec<Vec<TaskId>> {
        let mut ways = Ways { path: Vec::new(), seen: HashSet::new(), found: Vec::new() };
        self.collect_ways(&mut ways, from);
        ways.found
    }

    fn collect_ways(&self, ways: &mut Ways, at: TaskId) {
        if ways.seen.len() >= SEARCH_LIMIT || !self.parties.contains_key(at) || !ways.seen.insert(at) {
            return;
        }
        ways.path.push(at);
        match self.bond(at) {
            None => ways.found.push(ways.path.clone()),
            Some(Bond::Task(next)) => self.collect_ways(ways, next),
            Some(Bond::Scope(scope)) => {
                let mut member = self.scopes.get(scope).map_or_else(TaskId::default, |s| s.first_member);
                while let Some(party) = self.parties.get(member)
                    && ways.seen.len() < SEARCH_LIMIT
                {
                    self.collect_ways(ways, member);
                    member = party.next_member;
                }
            }
        }
        ways.path.pop();
    }

    fn bond(&self, task: TaskId) -> Option<Bond> {
        let party = self.parties.get(task)?;
        if party.phase != Phase::Waiting || party.timers > 0 || party.nodes == NIL || self.has_way_out(task) {
            return None;
        }
        let node = &self.nodes[party.nodes as usize];
        match node.list {
            _ if node.sibling != NIL => None,
            ListName::End(target) => Some(Bond::Task(target)),
            ListName::Drain(scope) => Some(Bond::Scope(scope)),
            ListName::Key(line) => self.keys.get(line).map(|line| Bond::Task(line.holder)),
            _ => None,
        }
    }
}

struct Ways {
    path: Vec<TaskId>,
    seen: HashSet<TaskId>,
    found: Vec<Vec<TaskId>>,
}

struct Search {
    goal: TaskId,
    path: Vec<TaskId>,
    seen: HashSet<TaskId>,
}
