//! One random step after the other, of the space and of its reference.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use thistledown_space::{
    ClaimId, Field, Given, How, Kind, Outside, Refused, Space, Template, Ticket, TransactionId, Value,
    Wanted, WatchId,
};

use crate::reference::{Reference, matches};

/// Numbers from one seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn value(&mut self) -> Value {
        let number = self.below(3);
        match self.below(8) {
            0 => Value::Bool(number == 1),
            1 => Value::Float(number as f64),
            2 | 3 => Value::Text([b"a", b"b", b"c"][number as usize].as_slice().into()),
            _ => Value::Int(number as i64),
        }
    }

    fn tuple(&mut self) -> Vec<Value> {
        (0..=self.below(3)).map(|_| self.value()).collect()
    }

    fn field(&mut self) -> Field {
        match self.below(12) {
            0 | 1 => Field::Anything,
            2 => Field::Kind(Kind::Int),
            3 => Field::Kind(Kind::Text),
            4 => Field::Between(Some(Value::Int(1)), None),
            5 => Field::OneOf([Field::Value(self.value()), Field::Kind(Kind::Bool)].into()),
            _ => Field::Value(self.value()),
        }
    }

    fn template(&mut self) -> Template {
        if self.below(20) == 0 {
            return Template::Anything;
        }
        Template::Fields((0..=self.below(3)).map(|_| self.field()).collect())
    }

    fn lease(&mut self) -> Option<Duration> {
        (self.below(4) == 0).then(|| Duration::from_secs(1 + self.below(5)))
    }
}

struct Waiting {
    name: usize,
    ticket: Ticket,
    wanted: Arc<Wanted>,
    within: Option<usize>,
    looks: bool,
}

#[derive(Default)]
pub(crate) struct Machine {
    space: Space<usize>,
    reference: Reference,
    listening: HashSet<usize>,
    heard: HashSet<usize>,
    waiting: Vec<Waiting>,
    /// What does not listen any more, and is not released.
    deaf: Vec<Ticket>,
    claims: Vec<(usize, ClaimId)>,
    transactions: Vec<(usize, TransactionId)>,
    names: usize,
    watch: Option<WatchId>,
    seen: Vec<Vec<Value>>,
}

fn shown(tuple: &[Value]) -> String {
    format!("{tuple:?}")
}

impl Machine {
    /// One act of the space.
    fn act<R>(&mut self, work: impl FnOnce(&mut Space<usize>, &mut Outside<'_, usize>) -> R) -> R {
        let Self { space, listening, heard, reference, .. } = self;
        let call = &mut |name| {
            let hears = listening.remove(&name);
            if hears {
                heard.insert(name);
            }
            hears
        };
        work(space, &mut Outside { now: reference.now, call })
    }

    pub(crate) fn step(&mut self, seed: u64) {
        let mut chance = Chance(seed);
        if self.watch.is_none() {
            self.watch = Some(self.space.watch(Template::Anything, 10_000, usize::MAX));
        }
        match chance.below(20) {
            0..=5 => {
                let (tuple, lease) = (chance.tuple(), chance.lease());
                self.reference.write(tuple.clone(), lease);
                self.act(|space, outside| space.write(tuple.into(), lease, outside));
            }
            6..=9 => self.look(&mut chance, true),
            10 | 11 => self.look(&mut chance, false),
            12 => self.stop_waiting(&mut chance),
            13 => self.goes_deaf(&mut chance),
            14 => self.ends_claim(&mut chance),
            15 => self.reference.now += Duration::from_secs(chance.below(4)),
            16 => self.begins_or_writes_within(&mut chance),
            17 => self.ends_transaction(&mut chance),
            _ => self.shows_all(&mut chance),
        }
        self.those_who_heard_look(&mut chance);
    }

    fn next_name(&mut self) -> usize {
        self.names += 1;
        self.names
    }

    fn look(&mut self, chance: &mut Chance, waits: bool) {
        let within = (chance.below(3) == 0).then(|| self.transactions.first().copied()).flatten();
        let how = match chance.below(4) {
            0 => How::Read,
            1 if within.is_none() => How::Claim(Duration::from_secs(1 + chance.below(4))),
            _ => How::Take,
        };
        let (name, template) = (self.next_name(), chance.template());
        let expected = self.reference.look(name, &template, how, within.map(|(name, _)| name), waits);
        let wanted = Arc::new(Wanted { template, how, within: within.map(|(_, id)| id), held: false });
        let given = self.act(|space, outside| space.attempt(&wanted, None, outside)).expect("no end");
        self.compare(name, given, expected.clone());
        if expected.is_none() && waits {
            let enlisted = self.act(|space, outside| space.enlist(&wanted, None, || name, outside));
            assert_eq!(enlisted.name, name);
            self.listening.insert(name);
            let within = within.map(|(name, _)| name);
            let looks = enlisted.looks.is_some();
            self.waiting.push(Waiting { name, ticket: enlisted.ticket, wanted, within, looks });
        }
    }

    fn compare(&mut self, name: usize, given: Option<Given>, expected: Option<Vec<Value>>) {
        let claim = given.as_ref().and_then(|given| given.claim);
        assert_eq!(given.map(|given| shown(&given.tuple)), expected.map(|tuple| shown(&tuple)));
        self.claims.extend(claim.map(|claim| (name, claim)));
    }

    /// Who has heard a call looks, or does so later.
    fn those_who_heard_look(&mut self, chance: &mut Chance) {
        let mut heard: Vec<usize> = self.heard.iter().copied().collect();
        heard.sort_unstable();
        for name in heard {
            if chance.below(2) == 0 {
                self.heard.remove(&name);
                let place = self.waiting.iter().position(|waiting| waiting.name == name).expect("it waits");
                self.looks_again(place);
            }
        }
    }

    fn looks_again(&mut self, place: usize) {
        let waiting = &self.waiting[place];
        let (name, ticket, wanted, within) =
            (waiting.name, waiting.ticket, Arc::clone(&waiting.wanted), waiting.within);
        self.reference.settle();
        let is_handed =
            self.reference.waiters.iter().any(|waiter| waiter.name == name && waiter.handed.is_some());
        if !is_handed {
            let given =
                self.act(|space, outside| space.attempt(&wanted, Some(ticket), outside)).expect("no end");
            assert!(given.is_none(), "nobody was handed {given:?}");
            let enlist = |space: &mut Space<usize>, outside: &mut Outside<'_, usize>| {
                space.enlist(&wanted, Some(ticket), || unreachable!(), outside)
            };
            self.waiting[place].looks = self.act(enlist).looks.is_some();
            self.listening.insert(name);
            return;
        }
        self.waiting.remove(place);
        let expected = self.reference.stop_waiting(name, true);
        let expected =
            expected.or_else(|| self.reference.look(name, &wanted.template, wanted.how, within, false));
        let given = self.act(|space, outside| space.attempt(&wanted, Some(ticket), outside)).expect("no end");
        self.compare(name, given, expected);
        self.act(|space, outside| space.release(ticket, outside));
    }

    fn stop_waiting(&mut self, chance: &mut Chance) {
        if !self.waiting.is_empty() {
            let place = chance.below(self.waiting.len() as u64) as usize;
            self.releases(place);
        }
    }

    fn releases(&mut self, place: usize) {
        let waiting = self.waiting.remove(place);
        self.listening.remove(&waiting.name);
        self.heard.remove(&waiting.name);
        self.reference.stop_waiting(waiting.name, false);
        // Releasing settles nothing by itself.
        self.act(|space, outside| space.count(&Template::Anything, outside));
        self.act(|space, outside| space.release(waiting.ticket, outside));
    }

    fn goes_deaf(&mut self, chance: &mut Chance) {
        if let Some(ticket) = self.deaf.pop() {
            self.act(|space, outside| space.release(ticket, outside));
            return;
        }
        let listening: Vec<usize> = (0..self.waiting.len())
            .filter(|&place| self.listening.contains(&self.waiting[place].name) && !self.waiting[place].looks)
            .collect();
        if !listening.is_empty() {
            let waiting = self.waiting.remove(listening[chance.below(listening.len() as u64) as usize]);
            self.listening.remove(&waiting.name);
            self.reference.stop_waiting(waiting.name, false);
            self.deaf.push(waiting.ticket);
        }
    }

    fn ends_claim(&mut self, chance: &mut Chance) {
        if self.claims.is_empty() {
            return;
        }
        let (name, claim) = self.claims.remove(chance.below(self.claims.len() as u64) as usize);
        if chance.below(2) == 0 {
            let confirmed = self.act(|space, outside| space.confirm(claim, outside));
            assert_eq!(confirmed.is_ok(), self.reference.confirm(name));
            assert!(matches!(confirmed, Ok(_) | Err(Refused::ClaimOver)));
        } else {
            self.reference.settle();
            let expected = self.reference.return_held(name);
            assert_eq!(self.act(|space, outside| space.give_back(claim, outside)), expected);
        }
    }

    fn begins_or_writes_within(&mut self, chance: &mut Chance) {
        let Some(&(name, id)) = self.transactions.first() else {
            let (name, id) = (self.next_name(), self.space.begin());
            self.transactions.push((name, id));
            self.reference.transactions.push((name, Vec::new()));
            return;
        };
        let (tuple, lease) = (chance.tuple(), chance.lease());
        // Waiting for what one writes oneself is tried elsewhere.
        let own = self.waiting.iter().filter(|waiting| waiting.within == Some(name));
        if own.filter(|waiting| matches(&waiting.wanted.template, &tuple)).count() > 0 {
            return;
        }
        self.reference.transactions[0].1.push((tuple.clone(), lease));
        let written = self.act(|space, outside| space.write_within(id, tuple.into(), lease, outside));
        assert_eq!(written, Ok(()));
    }

    fn ends_transaction(&mut self, chance: &mut Chance) {
        let Some((name, id)) = self.transactions.pop() else { return };
        while let Some(place) = self.waiting.iter().position(|waiting| waiting.within == Some(name)) {
            self.releases(place);
        }
        let commits = chance.below(2) == 0;
        self.reference.end(name, commits);
        if commits {
            assert_eq!(self.act(|space, outside| space.commit(id, outside)), Ok(()));
        } else {
            assert!(self.act(|space, outside| space.roll_back(id, outside)));
        }
        assert!(!self.act(|space, outside| space.roll_back(id, outside)));
    }

    fn shows_all(&mut self, chance: &mut Chance) {
        let template = chance.template();
        let mut all = Vec::new();
        self.act(|space, outside| space.visit(&template, outside, &mut |tuple| all.push(shown(tuple))));
        let expected: Vec<String> = self.reference.all(&template).iter().map(|tuple| shown(tuple)).collect();
        assert_eq!(all, expected);
        let count = self.act(|space, outside| space.count(&template, outside));
        assert_eq!(count, expected.len());
    }

    /// Everybody stops; what is held comes back, and the watch has seen all that was written.
    pub(crate) fn ends(mut self) {
        self.deaf.clone().into_iter().for_each(|ticket| {
            self.act(|space, outside| space.release(ticket, outside));
        });
        while !self.waiting.is_empty() {
            self.releases(0);
        }
        self.ends_transaction(&mut Chance(0));
        for (name, claim) in std::mem::take(&mut self.claims) {
            self.reference.settle();
            let expected = self.reference.return_held(name);
            assert_eq!(self.act(|space, outside| space.give_back(claim, outside)), expected);
        }
        let expected = self.reference.all(&Template::Anything).len();
        assert_eq!(self.act(|space, outside| space.count(&Template::Anything, outside)), expected);
        assert!(self.reference.held.is_empty() && self.space.waiting() == 0);
        let Some(watch) = self.watch else { return };
        while let Some(tuple) = self.act(|space, outside| space.next_seen(watch, outside)).expect("room") {
            self.seen.push(tuple.to_vec());
        }
        let written: Vec<String> = self.reference.seen.iter().map(|tuple| shown(tuple)).collect();
        assert_eq!(self.seen.iter().map(|tuple| shown(tuple)).collect::<Vec<_>>(), written);
    }
}
