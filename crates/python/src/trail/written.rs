//! A trail as it is written: whose it is, how far it has come, and the words.

use thistledown_workers::LONGEST_TRAIL;

use crate::actor::far::Call;

/// It goes through so many processes, and is lost then: it may have come into a cycle that is not its own.
const LONGEST_WAY: u16 = 250;

/// What is written in front of the words: the origin, how far it has come, and the marks.
const HEAD_BYTES: usize = 23;

/// Marks: it has come round before; and its call had not begun when it set out.
const SECOND: u8 = 1;
const BEHIND: u8 = 2;

/// One with so many bytes of words gets no more, also in a pool.
const MOST_WORDS: usize = LONGEST_TRAIL - HEAD_BYTES;

/// Before the number of the process that somebody is in, who was named.
const PLACES: [&str; 2] = [", in process ", ", in worker "];

/// The call that a trail has begun with, and first when it was asked. So all are in one order, and a call is older than those
/// that it brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) asked_at: u64,
    pub(crate) pid: u32,
    pub(crate) number: u64,
}

/// See the module above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trail {
    origin: Origin,
    hops: u16,
    /// It has come round before.
    is_second: bool,
    /// Its call waited for its turn when it set out.
    is_behind: bool,
    words: String,
}

impl Trail {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, hops: 0, is_second: false, is_behind: false, words: String::new() }
    }

    /// It has begun with this call.
    pub(crate) fn began_with(&self, call: &Call) -> bool {
        call.origin() == Some(self.origin)
    }

    /// A call that is waited for is younger than the one it has begun with.
    pub(crate) fn is_before(&self, call: &Call) -> bool {
        call.origin().is_some_and(|origin| self.origin < origin)
    }

    /// Goes to another process. False: it has gone far enough.
    pub(crate) fn hop(&mut self) -> bool {
        self.hops += 1;
        self.hops <= LONGEST_WAY
    }

    /// The one that goes round once more. Nothing: it has done so.
    pub(crate) fn again(&self) -> Option<Self> {
        (!self.is_second).then(|| Self { is_second: true, ..Self::new(self.origin) })
    }

    /// It sets out from what its call asks for, which waits for its turn, or does not.
    pub(crate) fn set_out(&mut self, is_behind: bool) {
        self.is_behind = is_behind;
    }

    /// Whether it has just come to what its call asks for.
    pub(crate) fn is_at_call(&self) -> bool {
        self.hops == 0
    }

    /// Its call had not begun when it set out.
    pub(crate) fn set_out_behind(&self) -> bool {
        self.is_behind
    }

    /// A line begins with this.
    pub(crate) fn line(&mut self, words: &str) {
        self.add("\n  ");
        self.add(words);
    }

    /// Goes on with the last line.
    pub(crate) fn add(&mut self, words: &str) {
        if self.words.len() < MOST_WORDS {
            self.words.push_str(words);
        }
    }

    /// Why the wait can never end that closes the cycle.
    pub(crate) fn explained(&self, call: &str) -> String {
        // What closes the cycle is the last line, if there was room for all.
        let closing = self.words.rsplit("\n  ").next().filter(|_| self.words.len() < MOST_WORDS);
        let who = closing.and_then(subject).unwrap_or("a task");
        format!("{who} would wait for {call}, which waits for it in turn:{}", self.words)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Origin { asked_at, pid, number } = self.origin;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.words.len());
        bytes.extend_from_slice(&asked_at.to_le_bytes());
        bytes.extend_from_slice(&pid.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&self.hops.to_le_bytes());
        bytes.push((u8::from(self.is_second) * SECOND) | (u8::from(self.is_behind) * BEHIND));
        bytes.extend_from_slice(self.words.as_bytes());
        bytes
    }

    /// Nothing: it is none.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let asked_at = u64::from_le_bytes(*take(&mut bytes)?);
        let pid = u32::from_le_bytes(*take(&mut bytes)?);
        let number = u64::from_le_bytes(*take(&mut bytes)?);
        let hops = u16::from_le_bytes(*take(&mut bytes)?);
        let [marks] = *take(&mut bytes)?;
        let words = String::from_utf8_lossy(bytes).into_owned();
        let (is_second, is_behind) = (marks & SECOND != 0, marks & BEHIND != 0);
        Some(Self { origin: Origin { asked_at, pid, number }, hops, is_second, is_behind, words })
    }
}

/// Of whom a line tells: what is before his process.
fn subject(line: &str) -> Option<&str> {
    let is_number = |rest: &str| {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit());
        digits.is_some_and(|count| count > 0 && rest[count..].starts_with(','))
    };
    let places = PLACES.iter().flat_map(|place| line.match_indices(place));
    let found = places.filter(|(at, place)| is_number(&line[at + place.len()..])).map(|(at, _)| &line[..at]);
    found.min_by_key(|who| who.len())
}

fn take<'a, const LENGTH: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; LENGTH]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(first)
}
