//! Timers, scopes and sources.

use thistledown_kernel::{Direction, Event, Moment, RunnerId, ScopeEnd, ScopeId, SourceId, TaskId, Want};

use super::{Kind, Reference, Scope, Source, is_never};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Task(usize, TaskId),
    Scope(ScopeId),
}

impl Reference {
    /// What is due when, in order.
    pub(super) fn timers(&self, runner: RunnerId) -> Vec<(Moment, u64, Due)> {
        let mut timers = Vec::new();
        for party in self.parties.iter().filter(|party| party.kind == Kind::Task(runner)) {
            for (branch, want) in party.wants.iter().enumerate().filter(|(_, want)| !is_never(want)) {
                if let Want::Until(at) = want {
                    timers.push((*at, party.number, Due::Task(branch, party.id)));
                }
            }
        }
        for scope in self.scopes.iter().filter(|scope| scope.runner == runner) {
            timers.extend(scope.deadline.map(|(at, number)| (at, number, Due::Scope(scope.id))));
        }
        timers.sort_unstable();
        timers
    }

    pub(crate) fn expire(&mut self, runner: RunnerId, now: Moment) {
        while let Some(&(_, _, due)) = self.timers(runner).first().filter(|timer| timer.0 <= now) {
            match due {
                Due::Task(branch, task) => self.wake_for(task, branch, Event::Elapsed),
                Due::Scope(id) => {
                    let scope = self.scope(id);
                    scope.deadline = None;
                    scope.end = ScopeEnd { cancelled: true, expired: !scope.end.cancelled };
                    self.settle();
                }
            }
        }
    }

    pub(crate) fn next_deadline(&self, thread: TaskId) -> Option<Moment> {
        self.around(thread).into_iter().flatten().filter_map(|scope| Some(scope.deadline?.0)).min()
    }

    pub(crate) fn expire_thread(&mut self, thread: TaskId, now: Moment) {
        for id in self.party(thread).open.clone() {
            let scope = self.scope(id);
            if scope.deadline.is_some_and(|(at, _)| at <= now) {
                scope.deadline = None;
                scope.end = ScopeEnd { cancelled: true, expired: !scope.end.cancelled };
                self.settle();
            }
        }
    }

    fn scope(&mut self, id: ScopeId) -> &mut Scope {
        self.scopes.iter_mut().find(|scope| scope.id == id).expect("an open scope")
    }

    pub(crate) fn members(&self, id: ScopeId) -> usize {
        self.parties.iter().filter(|party| party.base == Some(id)).count()
    }

    pub(crate) fn add_root(&mut self, id: ScopeId, runner: RunnerId) {
        let end = ScopeEnd { cancelled: false, expired: false };
        self.scopes.push(Scope { id, runner, parent: None, end, shield: false, deadline: None });
    }

    pub(crate) fn open_scope(&mut self, task: TaskId, id: ScopeId, deadline: Option<Moment>, shield: bool) {
        let number = self.next_number();
        let party = self.party(task);
        let runner = match party.kind {
            Kind::Task(runner) => runner,
            Kind::Thread => RunnerId::default(),
            Kind::Elsewhere(_) => unreachable!("it opens none"),
        };
        let parent = party.open.last().copied().or(party.base);
        party.open.push(id);
        let end = ScopeEnd { cancelled: false, expired: false };
        let deadline = deadline.map(|at| (at, number));
        self.scopes.push(Scope { id, runner, parent, end, shield, deadline });
    }

    pub(crate) fn close_scope(&mut self, task: TaskId, id: ScopeId) -> ScopeEnd {
        self.wake_all(|want| matches!(want, Want::Drain(scope) if *scope == id), || Event::Drained);
        let (parent, end) = (self.scope(id).parent, self.scope(id).end);
        self.scopes.retain(|scope| scope.id != id);
        self.scopes.iter_mut().filter(|s| s.parent == Some(id)).for_each(|s| s.parent = parent);
        for member in self.parties.iter_mut().filter(|party| party.base == Some(id)) {
            let is_elsewhere = matches!(member.kind, Kind::Elsewhere(_));
            member.base = parent.filter(|_| !is_elsewhere);
            // What was cancelled stays so, also outside; what runs elsewhere is told to stop in any case.
            member.cancelled |= end.cancelled || is_elsewhere;
        }
        self.party(task).open.pop();
        self.settle();
        end
    }

    pub(crate) fn cancel_scope(&mut self, id: ScopeId) {
        self.scope(id).end.cancelled = true;
        self.settle();
    }

    pub(crate) fn cancel_task(&mut self, id: TaskId) {
        self.party(id).cancelled = true;
        self.settle();
    }

    /// The scopes around a party, innermost first; nothing stands for the party itself.
    fn around(&self, id: TaskId) -> Vec<Option<&Scope>> {
        let find = |id: ScopeId| self.scopes.iter().find(|scope| scope.id == id);
        let party = self.parties.iter().find(|party| party.id == id).expect("a party that lives");
        let mut around: Vec<_> = party.open.iter().rev().map(|&id| find(id)).collect();
        around.push(None);
        let mut at = party.base.and_then(find);
        while let Some(scope) = at {
            around.push(Some(scope));
            at = scope.parent.and_then(find);
        }
        around
    }

    pub(crate) fn is_cancelled(&self, id: TaskId) -> bool {
        for place in self.around(id) {
            match place {
                Some(scope) if scope.end.cancelled => return true,
                Some(scope) if scope.shield => return false,
                Some(_) => {}
                None if self.parties.iter().any(|party| party.id == id && party.cancelled) => return true,
                None => {}
            }
        }
        false
    }

    pub(super) fn has_way_out(&self, id: TaskId) -> bool {
        for scope in self.around(id).into_iter().flatten() {
            if scope.deadline.is_some() {
                return true;
            }
            if scope.shield {
                return false;
            }
        }
        false
    }

    pub(crate) fn add_source(&mut self, id: SourceId, runner: RunnerId) {
        let (readable, writable) = (true, true);
        self.sources.push(Source { id, runner, readable, writable, read_closed: false, write_closed: false });
    }

    pub(crate) fn source(&mut self, id: SourceId) -> &mut Source {
        self.sources.iter_mut().find(|source| source.id == id).expect("a source")
    }

    pub(crate) fn source_is_dry(&mut self, id: SourceId, direction: Direction) {
        let source = self.source(id);
        match direction {
            Direction::Read => source.readable = source.read_closed,
            Direction::Write => source.writable = source.write_closed,
        }
    }

    pub(crate) fn source_became_ready(&mut self, id: SourceId, read: bool, write: bool) {
        let source = self.source(id);
        source.readable |= read;
        source.writable |= write;
        self.tell_source(id, read, write, || Event::Ready);
    }

    pub(crate) fn source_closed(&mut self, id: SourceId, read: bool, write: bool) {
        let source = self.source(id);
        source.read_closed |= read;
        source.write_closed |= write;
    }

    pub(crate) fn remove_source(&mut self, id: SourceId) {
        self.tell_source(id, true, true, || Event::Gone);
        self.sources.retain(|source| source.id != id);
    }

    fn tell_source(&mut self, id: SourceId, read: bool, write: bool, event: fn() -> Event<u64>) {
        let reads = move |want: &Want<u64>| read && matches!(want, Want::Readable(at) if *at == id);
        let writes = move |want: &Want<u64>| write && matches!(want, Want::Writable(at) if *at == id);
        let told: Vec<_> = self.waiters(reads).into_iter().chain(self.waiters(writes)).collect();
        for (task, _) in told {
            if let Some(branch) = self.party(task).wants.iter().position(|w| reads(w) || writes(w)) {
                self.wake_for(task, branch, event());
            }
        }
    }
}
