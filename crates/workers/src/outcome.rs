//! How a task ended.

use std::time::Duration;

use crate::parcel::Parcel;

/// How a task ended, for whoever gave it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It returned.
    Value(Parcel),
    /// It raised.
    Error(Parcel),
    /// It was cancelled.
    Cancelled,
    /// It took longer than it was given.
    TimedOut(Duration),
    /// It could not be sent: the system's number for why.
    Unsent(Option<i32>),
    /// Its worker died.
    Died(Death),
    /// No worker can be had; why.
    Refused(Refusal),
    /// It was a call of an actor, which has ended.
    Gone(Gone),
    /// It was a call of an actor that has as many as it may have.
    Full,
}

/// How an actor ended.
#[derive(Clone, Debug)]
pub enum Gone {
    /// It was stopped, after its last call.
    Stopped,
    /// Its pool came to its end.
    Closed,
    /// It was killed, and its worker was not.
    Killed,
    /// It could not be made: the packed error.
    Unmade(Parcel),
    /// Its worker died.
    Died(Death),
    /// No worker could be had.
    NoWorkers(Refusal),
    /// Nobody knows: there is none of that name, or it ended long ago.
    Unknown,
}

/// The end of a worker.
#[derive(Clone, Debug)]
pub struct Death {
    /// Its process.
    pub pid: Option<i32>,
    /// What `wait` said. Nothing when nobody could ask.
    pub status: Option<i32>,
    /// Why, as far as its parent knows.
    pub cause: Cause,
    /// The last that it wrote to its standard error.
    pub stderr: String,
}

/// Why a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// By itself, or by somebody else.
    Unknown,
    /// Its task grew beyond this many bytes.
    Memory(u64),
    /// What it ran, or another task beside it, did not stop when it was told to.
    Stubborn,
    /// It closed its connection.
    HungUp,
    /// What it said made no sense.
    Garbled,
    /// The pool was told to end everything.
    Killed,
    /// Its actor was killed.
    Dismissed,
}

/// Why there are no workers.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The initializer raised: the packed error.
    Initializer(Parcel),
    /// Workers, or the process that makes them, do not start.
    Start(String),
    /// Workers die before they are ready; so did this one.
    Stillborn(Death),
    /// This process is a fork of the one that the pool belongs to.
    Forked,
}

impl Death {
    /// As bytes, for the worker whose task waits for the one that died.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (cause, amount) = match self.cause {
            Cause::Unknown => (0, 0),
            Cause::Memory(limit) => (1, limit),
            Cause::Stubborn => (2, 0),
            Cause::HungUp => (3, 0),
            Cause::Garbled => (4, 0),
            Cause::Killed => (5, 0),
            Cause::Dismissed => (6, 0),
        };
        let mut bytes = vec![cause];
        bytes.extend(u64::to_le_bytes(amount));
        for number in [self.pid, self.status] {
            bytes.push(u8::from(number.is_some()));
            bytes.extend(number.unwrap_or(0).to_le_bytes());
        }
        bytes.extend(self.stderr.as_bytes());
        bytes
    }

    /// What [`Self::encode`] gave; as much of it as is there.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let unknown = Self { pid: None, status: None, cause: Cause::Unknown, stderr: String::new() };
        let Some((head, stderr)) = bytes.split_at_checked(19) else { return unknown };
        let number = |at: usize| {
            let number = i32::from_le_bytes([head[at + 1], head[at + 2], head[at + 3], head[at + 4]]);
            (head[at] != 0).then_some(number)
        };
        let amount = head[1..9].try_into().map_or(0, u64::from_le_bytes);
        let cause = match head[0] {
            1 => Cause::Memory(amount),
            2 => Cause::Stubborn,
            3 => Cause::HungUp,
            4 => Cause::Garbled,
            5 => Cause::Killed,
            6 => Cause::Dismissed,
            _ => Cause::Unknown,
        };
        Self {
            pid: number(9),
            status: number(14),
            cause,
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        }
    }
}

impl Refusal {
    /// In words, for the worker whose task waits.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Initializer(_) => "the initializer of the workers failed".into(),
            Self::Start(words) => words.clone(),
            Self::Stillborn(_) => "workers die before they are ready".into(),
            Self::Forked => "the pool belongs to the process that this one was forked from".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_the_same_on_the_other_side() {
        let death = Death {
            pid: Some(12),
            status: Some(-9),
            cause: Cause::Memory(1 << 40),
            stderr: "the last words".into(),
        };
        let decoded = Death::decode(&death.encode());
        assert_eq!((decoded.pid, decoded.status, decoded.cause), (death.pid, death.status, death.cause));
        assert_eq!(decoded.stderr, death.stderr);
    }

    #[test]
    fn half_a_death_is_one_of_unknown_cause() {
        assert_eq!(Death::decode(&[1, 2]).cause, Cause::Unknown);
    }
}
