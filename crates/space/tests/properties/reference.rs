//! The space as one would write it in an afternoon: lists, and loops over them.
//!
//! Waiting is an agreement: a waiter that listens is handed what matches, at once.

use std::time::Duration;

use thistledown_space::{Field, How, Template, Value};

/// A lease or a claim, in the order in which it ends.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) number: usize,
    tuple: Vec<Value>,
    until: Option<Duration>,
    ends: Option<Duration>,
    /// Which of the waiters' or takers' claims it is.
    pub(crate) name: usize,
    transaction: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) name: usize,
    template: Template,
    how: How,
    within: Option<usize>,
    pub(crate) handed: Option<Vec<Value>>,
}

/// What a transaction has written, each with its lease.
type Written = Vec<(Vec<Value>, Option<Duration>)>;

#[derive(Debug, Default)]
pub(crate) struct Reference {
    pub(crate) now: Duration,
    /// Number, tuple, end: in the order of the numbers.
    tuples: Vec<(usize, Vec<Value>, Option<Duration>)>,
    pub(crate) held: Vec<Held>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) transactions: Vec<(usize, Written)>,
    pub(crate) seen: Vec<Vec<Value>>,
    count: usize,
}

pub(crate) fn matches(template: &Template, tuple: &[Value]) -> bool {
    let Template::Fields(fields) = template else { return true };
    fields.len() == tuple.len() && fields.iter().zip(tuple).all(|(field, value)| fits(field, value))
}

fn fits(field: &Field, value: &Value) -> bool {
    let order = |end: &Value| match (value, end) {
        (Value::Int(one), Value::Int(two)) => Some(one.cmp(two)),
        _ => None,
    };
    match field {
        Field::Anything => true,
        Field::Value(wanted) => format!("{wanted:?}") == format!("{value:?}"),
        Field::Kind(kind) => match value {
            Value::Int(_) => kind.to_string() == "int",
            Value::Bool(_) => kind.to_string() == "bool",
            Value::Text(_) => kind.to_string() == "str",
            Value::Float(_) => kind.to_string() == "float",
            _ => false,
        },
        Field::Between(low, high) => {
            low.as_ref().is_none_or(|low| order(low).is_some_and(|order| order.is_ge()))
                && high.as_ref().is_none_or(|high| order(high).is_some_and(|order| order.is_le()))
        }
        Field::OneOf(fields) => fields.iter().any(|field| fits(field, value)),
        Field::Tuple(_) => false,
    }
}

impl Reference {
    pub(crate) fn settle(&mut self) {
        let now = self.now;
        self.tuples.retain(|(_, _, until)| until.is_none_or(|until| until > now));
        loop {
            let due = self.held.iter().filter(|held| held.ends.is_some_and(|ends| ends <= now));
            let Some(name) = due.min_by_key(|held| (held.ends, held.name)).map(|held| held.name) else {
                return;
            };
            self.return_held(name);
        }
    }

    fn take_held(&mut self, name: usize) -> Option<Held> {
        let place = self.held.iter().position(|held| held.name == name)?;
        Some(self.held.remove(place))
    }

    pub(crate) fn return_held(&mut self, name: usize) -> bool {
        let Some(held) = self.take_held(name) else { return false };
        if held.until.is_none_or(|until| until > self.now) {
            self.offer(held.number, held.tuple, held.until);
        }
        true
    }

    pub(crate) fn confirm(&mut self, name: usize) -> bool {
        self.settle();
        self.take_held(name).is_some()
    }

    pub(crate) fn write(&mut self, tuple: Vec<Value>, lease: Option<Duration>) {
        self.settle();
        self.seen.push(tuple.clone());
        self.count += 1;
        let until = lease.map(|lease| self.now + lease);
        self.offer(self.count, tuple, until);
    }

    fn offer(&mut self, number: usize, tuple: Vec<Value>, until: Option<Duration>) {
        let fits = |waiter: &&mut Waiter| waiter.handed.is_none() && matches(&waiter.template, &tuple);
        for waiter in self.waiters.iter_mut().filter(fits).filter(|waiter| waiter.how == How::Read) {
            waiter.handed = Some(tuple.clone());
        }
        let taker = self.waiters.iter_mut().filter(fits).find(|waiter| waiter.how != How::Read);
        let Some(taker) = taker else {
            self.tuples.push((number, tuple, until));
            self.tuples.sort_by_key(|&(number, ..)| number);
            return;
        };
        taker.handed = Some(tuple.clone());
        let (name, how, within) = (taker.name, taker.how, taker.within);
        self.hold(number, tuple, until, name, how, within);
    }

    fn hold(
        &mut self,
        number: usize,
        tuple: Vec<Value>,
        until: Option<Duration>,
        name: usize,
        how: How,
        transaction: Option<usize>,
    ) {
        let ends = match how {
            How::Claim(lease) => Some(self.now + lease),
            _ => None,
        };
        self.held.push(Held { number, tuple, until, ends, name, transaction });
    }

    /// Looks, and waits under this name if there is nothing.
    pub(crate) fn look(
        &mut self,
        name: usize,
        template: &Template,
        how: How,
        within: Option<usize>,
        waits: bool,
    ) -> Option<Vec<Value>> {
        self.settle();
        if let Some((_, written)) = self.transactions.iter_mut().find(|(id, _)| Some(*id) == within)
            && let Some(place) = written.iter().position(|(tuple, _)| matches(template, tuple))
        {
            return Some(if how == How::Read { written[place].0.clone() } else { written.remove(place).0 });
        }
        let Some(place) = self.tuples.iter().position(|(_, tuple, _)| matches(template, tuple)) else {
            if waits {
                let template = template.clone();
                self.waiters.push(Waiter { name, template, how, within, handed: None });
            }
            return None;
        };
        if how == How::Read {
            return Some(self.tuples[place].1.clone());
        }
        let (number, tuple, until) = self.tuples.remove(place);
        if how != How::Take || within.is_some() {
            self.hold(number, tuple.clone(), until, name, how, within);
        }
        Some(tuple)
    }

    /// The wait is over: what was handed is fetched, or comes back.
    pub(crate) fn stop_waiting(&mut self, name: usize, fetches: bool) -> Option<Vec<Value>> {
        self.settle();
        let place = self.waiters.iter().position(|waiter| waiter.name == name)?;
        let waiter = self.waiters.remove(place);
        let is_held = self.held.iter().any(|held| held.name == name);
        match waiter.handed {
            Some(tuple) if fetches && (is_held || waiter.how == How::Read) => {
                if waiter.how == How::Take && waiter.within.is_none() {
                    self.take_held(name);
                }
                Some(tuple)
            }
            _ => {
                self.return_held(name);
                None
            }
        }
    }

    pub(crate) fn end(&mut self, transaction: usize, commits: bool) {
        self.settle();
        let Some(place) = self.transactions.iter().position(|&(id, _)| id == transaction) else { return };
        let (_, written) = self.transactions.remove(place);
        let taken: Vec<usize> = self
            .held
            .iter()
            .filter(|held| held.transaction == Some(transaction))
            .map(|held| held.name)
            .collect();
        for name in taken {
            if commits {
                self.take_held(name);
            } else {
                self.return_held(name);
            }
        }
        if commits {
            written.into_iter().for_each(|(tuple, lease)| self.write(tuple, lease));
        }
    }

    pub(crate) fn all(&mut self, template: &Template) -> Vec<Vec<Value>> {
        self.settle();
        self.tuples
            .iter()
            .filter(|(_, tuple, _)| matches(template, tuple))
            .map(|(_, t, _)| t.clone())
            .collect()
    }
}
