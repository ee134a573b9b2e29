//! Rows: what lies in the file, with a checksum each, so that a flipped byte is found.
//!
//! A row is a number and bytes: what it is, the checksum of the number and of all that follows, then its parts. So a row
//! says for itself whether it is whole, also when it is found outside of any order.

/// A tuple, as its own bytes say.
const TUPLE: u8 = b'T';
const CLAIM: u8 = b'C';
const STATE: u8 = b'S';
const OUTCOME: u8 = b'O';

/// Bytes in front of the parts.
const HEADER: usize = 5;

/// A time that ends, by the clock on the wall, in milliseconds since 1970; and how long it was to be.
///
/// Who reads it holds the rest against the length: a clock that was set back makes no lease longer than it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When it ends.
    pub ends: u64,
    /// How many milliseconds it was to last.
    pub length: u64,
}

impl Lease {
    /// Milliseconds that are left at this time; no more than there were.
    #[must_use]
    pub fn left(self, now: u64) -> u64 {
        self.ends.saturating_sub(now).min(self.length)
    }
}

/// Who has claimed a tuple, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Larger than that of each earlier claim.
    pub token: u64,
    /// None: until it is confirmed or given back.
    pub lease: Option<Lease>,
}

/// What the space says of itself: with it, rows that are missing are missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The last number that was given.
    pub(crate) last: u64,
    /// How many tuples there are.
    pub(crate) tuples: u64,
    /// The sum of their checksums.
    pub(crate) sum: u64,
}

/// A row that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Tuple(Option<Lease>, Vec<u8>),
    Claim(Claim),
    State(State),
    Outcome { at: u64, data: Vec<u8> },
}

impl Row {
    pub(crate) fn to_bytes(&self, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[0] = match self {
            Self::Tuple(lease, data) => {
                push_lease(&mut bytes, *lease);
                bytes.extend_from_slice(data);
                TUPLE
            }
            Self::Claim(claim) => {
                bytes.extend_from_slice(&claim.token.to_le_bytes());
                push_lease(&mut bytes, claim.lease);
                CLAIM
            }
            Self::State(state) => {
                for part in [state.last, state.tuples, state.sum] {
                    bytes.extend_from_slice(&part.to_le_bytes());
                }
                STATE
            }
            Self::Outcome { at, data } => {
                bytes.extend_from_slice(&at.to_le_bytes());
                bytes.extend_from_slice(data);
                OUTCOME
            }
        };
        let sum = checksum(number, &bytes);
        bytes[1..HEADER].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// None: it is not whole.
    pub(crate) fn from_bytes(number: u64, bytes: &[u8]) -> Option<Self> {
        if sum_of(bytes)? != checksum(number, bytes) {
            return None;
        }
        let mut parts = &bytes[HEADER..];
        let row = match bytes[0] {
            TUPLE => {
                let lease = pull_lease(&mut parts)?;
                return Some(Self::Tuple(lease, parts.into()));
            }
            CLAIM => {
                let token = pull(&mut parts)?;
                Self::Claim(Claim { token, lease: pull_lease(&mut parts)? })
            }
            STATE => {
                let (last, tuples) = (pull(&mut parts)?, pull(&mut parts)?);
                Self::State(State { last, tuples, sum: pull(&mut parts)? })
            }
            OUTCOME => {
                let at = pull(&mut parts)?;
                return Some(Self::Outcome { at, data: parts.into() });
            }
            _ => return None,
        };
        parts.is_empty().then_some(row)
    }
}

/// The checksum that stands in a row.
pub(crate) fn sum_of(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(1..HEADER)?.try_into().ok()?))
}

fn checksum(number: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&bytes[..1]);
    hasher.update(&bytes[HEADER..]);
    hasher.finalize()
}

fn push_lease(bytes: &mut Vec<u8>, lease: Option<Lease>) {
    bytes.push(u8::from(lease.is_some()));
    for part in lease.into_iter().flat_map(|lease| [lease.ends, lease.length]) {
        bytes.extend_from_slice(&part.to_le_bytes());
    }
}

fn pull(bytes: &mut &[u8]) -> Option<u64> {
    let (part, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*part))
}

fn pull_lease(bytes: &mut &[u8]) -> Option<Option<Lease>> {
    let (&is_there, rest) = bytes.split_first()?;
    *bytes = rest;
    match is_there {
        0 => Some(None),
        1 => Some(Some(Lease { ends: pull(bytes)?, length: pull(bytes)? })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let lease = Lease { ends: 1 << 40, length: 30_000 };
        vec![
            Row::Tuple(None, vec![1, 2, 3]),
            Row::Tuple(Some(lease), Vec::new()),
            Row::Claim(Claim { token: 7, lease: Some(lease) }),
            Row::Claim(Claim { token: 8, lease: None }),
            Row::State(State { last: 9, tuples: 2, sum: 1 << 60 }),
            Row::Outcome { at: 5, data: vec![4; 4] },
        ]
    }

    #[test]
    fn a_flipped_bit_and_another_number_are_found() {
        for row in rows() {
            let bytes = row.to_bytes(7);
            assert_eq!(Row::from_bytes(7, &bytes).as_ref(), Some(&row));
            assert_eq!(Row::from_bytes(8, &bytes), None);
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Row::from_bytes(7, &flipped), None, "bit {bit} of {row:?}");
            }
            for length in 0..bytes.len() {
                assert_eq!(Row::from_bytes(7, &bytes[..length]), None);
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_makes_no_lease_longer() {
        let lease = Lease { ends: 100_000, length: 30_000 };
        assert_eq!((lease.left(90_000), lease.left(10), lease.left(200_000)), (10_000, 30_000, 0));
    }
}
