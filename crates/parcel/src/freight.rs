//! Freight: what stands in the head of a parcel, before anything of Python is made of it.
//!
//! A head begins with a byte that says which it is:
//!
//! - [`PLAIN`]: plain values, one behind the other: a tag each, and what the tag stands for. A value is one; a call is a
//!   count and so many arguments, and another count and so many pairs of a name and an argument.
//! - [`PICKLE`]: how many parts stand beside it in the parcel's memory and how long each is, then the pickle itself.
//! - [`LARGE_PICKLE`]: the same, but the pickle is the first of the parts.
//!
//! In front of a call there may stand [`FILTERS`], whose words are not looked at here; in front of a pickle that is a value,
//! [`TICKETS`], which are not either.
//!
//! Any bytes may come: what is not whole is an error, and nothing that is read lies outside of them.

use std::ops::Range;

use crate::blob::aligned;

/// A head of plain values.
pub const PLAIN: u8 = 0;
/// A pickle, with parts beside it.
pub const PICKLE: u8 = 1;
/// A pickle that is itself one of the parts.
pub const LARGE_PICKLE: u8 = 2;
/// In front of a call: how long the filters of warnings are that come with it, and they.
pub const FILTERS: u8 = 3;
/// In front of a value: how long that is by which the handles in it are kept, and it. For who will not unpack the value.
pub const TICKETS: u8 = 4;

/// Longer texts and bytes are not plain.
pub const SHORT: usize = 4096;

const NONE: u8 = b'N';
const FALSE: u8 = b'F';
const TRUE: u8 = b'T';
const INTEGER: u8 = b'i';
const FLOAT: u8 = b'f';
const TEXT: u8 = b's';
const BYTES: u8 = b'b';

/// What came is not whole, or nothing that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWhole;

/// A plain value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plain<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Flag(bool),
    /// A whole number of 64 bits.
    Integer(i64),
    /// A floating-point number; every bit is kept.
    Float(f64),
    /// A text in UTF-8, which is checked by whoever makes a text of it.
    Text(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl Plain<'_> {
    /// Writes it. False: it is too long to be plain, and nothing was written.
    #[inline]
    pub fn write(self, into: &mut Vec<u8>) -> bool {
        match self {
            Self::None => into.push(NONE),
            Self::Flag(flag) => into.push(if flag { TRUE } else { FALSE }),
            Self::Integer(number) => {
                into.push(INTEGER);
                into.extend(number.to_le_bytes());
            }
            Self::Float(number) => {
                into.push(FLOAT);
                into.extend(number.to_le_bytes());
            }
            Self::Text(text) => return write_short(TEXT, text, into),
            Self::Bytes(bytes) => return write_short(BYTES, bytes, into),
        }
        true
    }
}

#[inline]
fn write_short(tag: u8, bytes: &[u8], into: &mut Vec<u8>) -> bool {
    if bytes.len() > SHORT {
        return false;
    }
    let Ok(length) = u16::try_from(bytes.len()) else { return false };
    into.push(tag);
    into.extend(length.to_le_bytes());
    into.extend(bytes);
    true
}

/// Reads a head from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Reads over a byte if it is the next one.
    #[inline]
    pub fn skip(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// The next byte.
    ///
    /// # Errors
    /// There is none.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, NotWhole> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A plain value.
    ///
    /// # Errors
    /// There is none.
    #[inline]
    pub fn plain(&mut self) -> Result<Plain<'a>, NotWhole> {
        Ok(match self.byte()? {
            NONE => Plain::None,
            TRUE => Plain::Flag(true),
            FALSE => Plain::Flag(false),
            INTEGER => Plain::Integer(i64::from_le_bytes(self.array()?)),
            FLOAT => Plain::Float(f64::from_le_bytes(self.array()?)),
            TEXT => Plain::Text(self.short()?),
            BYTES => Plain::Bytes(self.short()?),
            _ => return Err(NotWhole),
        })
    }

    /// The words of filters, if there are some in front.
    ///
    /// # Errors
    /// They are not whole.
    pub fn filters(&mut self) -> Result<Option<&'a [u8]>, NotWhole> {
        self.front(FILTERS)
    }

    /// By what the handles in a value are kept, if there are some.
    ///
    /// # Errors
    /// They are not whole.
    pub fn tickets(&mut self) -> Result<Option<&'a [u8]>, NotWhole> {
        self.front(TICKETS)
    }

    fn front(&mut self, kind: u8) -> Result<Option<&'a [u8]>, NotWhole> {
        if !self.skip(kind) {
            return Ok(None);
        }
        let length = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(length).map_err(|_| NotWhole)?).map(Some)
    }

    /// Where a pickle and its parts stand, in a parcel whose head takes `head` bytes of `memory` bytes in all. Nothing is
    /// left to read.
    ///
    /// # Errors
    /// It is no pickle, or a part lies outside of the memory.
    pub fn pickle(mut self, head: usize, memory: usize) -> Result<Pickle<'a>, NotWhole> {
        let kind = self.byte()?;
        let count = u32::from_le_bytes(self.array()?);
        let mut at = head as u64;
        let mut parts = Vec::new();
        for _ in 0..count {
            let length = u64::from_le_bytes(self.array()?);
            let begin = aligned(at);
            at = begin.checked_add(length).filter(|&end| end <= memory as u64).ok_or(NotWhole)?;
            parts.push(index(begin)?..index(at)?);
        }
        match kind {
            PICKLE => Ok(Pickle { inside: Some(self.0), parts }),
            LARGE_PICKLE if !parts.is_empty() => Ok(Pickle { inside: None, parts }),
            _ => Err(NotWhole),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], NotWhole> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(NotWhole)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotWhole> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(NotWhole)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn short(&mut self) -> Result<&'a [u8], NotWhole> {
        let length = u16::from_le_bytes(self.array()?);
        self.take(length.into())
    }
}

fn index(number: u64) -> Result<usize, NotWhole> {
    usize::try_from(number).map_err(|_| NotWhole)
}

/// What stands in front of a call or a value: filters, or tickets.
///
/// # Errors
/// It is too long.
pub fn write_front(kind: u8, words: &[u8], into: &mut Vec<u8>) -> Result<(), NotWhole> {
    let length = u32::try_from(words.len()).map_err(|_| NotWhole)?;
    into.reserve(5 + words.len());
    into.push(kind);
    into.extend(length.to_le_bytes());
    into.extend(words);
    Ok(())
}

/// Where a pickle stands, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pickle<'a> {
    /// The pickle, if it stands in the head; else it is the first of the parts.
    pub inside: Option<&'a [u8]>,
    /// Where each part stands in the memory.
    pub parts: Vec<Range<usize>>,
}

/// Writes where a pickle's parts stand, in front of it; `inside` is the pickle, if it is to stand in the head.
///
/// # Errors
/// There are too many parts.
pub fn write_pickle(inside: Option<&[u8]>, parts: &[&[u8]], into: &mut Vec<u8>) -> Result<(), NotWhole> {
    let count = u32::try_from(parts.len()).map_err(|_| NotWhole)?;
    let data = inside.unwrap_or_default();
    into.reserve(5 + 8 * parts.len() + data.len());
    into.push(if inside.is_some() { PICKLE } else { LARGE_PICKLE });
    into.extend(count.to_le_bytes());
    parts.iter().for_each(|part| into.extend((part.len() as u64).to_le_bytes()));
    into.extend(data);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: Plain<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(value.write(&mut bytes));
        bytes
    }

    #[test]
    fn a_plain_value_is_read_as_it_was_written() {
        let long = vec![b'x'; SHORT];
        for value in [
            Plain::None,
            Plain::Flag(true),
            Plain::Flag(false),
            Plain::Integer(i64::MIN),
            Plain::Float(-0.0),
            Plain::Text("\u{20ac}".as_bytes()),
            Plain::Bytes(&long),
        ] {
            let bytes = written(value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.plain(), Ok(value));
            assert!(reader.rest().is_empty());
            for cut in 0..bytes.len() {
                assert_eq!(Reader::new(&bytes[..cut]).plain(), Err(NotWhole));
            }
        }
    }

    #[test]
    fn what_is_too_long_leaves_nothing_behind() {
        let (mut bytes, long) = (Vec::new(), vec![b'x'; SHORT + 1]);
        assert!(!Plain::Bytes(&long).write(&mut bytes));
        assert!(!Plain::Text(&long).write(&mut bytes));
        assert!(bytes.is_empty());
    }

    #[test]
    fn parts_stand_aligned_behind_the_head() {
        let mut head = Vec::new();
        write_pickle(Some(b"pickle"), &[&[1; 100], &[], &[2; 3]], &mut head).unwrap();
        let (first, last) = (aligned(head.len() as u64) as usize, 64 * 4);
        let read = Reader::new(&head).pickle(head.len(), last + 3).unwrap();
        assert_eq!(read.inside, Some(&b"pickle"[..]));
        assert_eq!(read.parts, [first..first + 100, 192..192, 192..195]);
    }

    #[test]
    fn a_part_outside_of_the_memory_is_an_error() {
        let mut head = Vec::new();
        write_pickle(None, &[&[1; 100]], &mut head).unwrap();
        assert_eq!(Reader::new(&head).pickle(head.len(), 164).map(|pickle| pickle.parts.len()), Ok(1));
        assert_eq!(Reader::new(&head).pickle(head.len(), 163), Err(NotWhole));
        head.truncate(5);
        head.extend(u64::MAX.to_le_bytes());
        assert_eq!(Reader::new(&head).pickle(head.len(), 1 << 20), Err(NotWhole));
    }

    #[test]
    fn a_large_pickle_without_parts_is_an_error() {
        let mut head = Vec::new();
        write_pickle(None, &[], &mut head).unwrap();
        assert_eq!(Reader::new(&head).pickle(head.len(), head.len()), Err(NotWhole));
    }

    #[test]
    fn filters_stand_in_front_or_are_not_there() {
        let bytes = [&[FILTERS, 2, 0, 0, 0], &b"ab"[..], &[PLAIN]].concat();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.tickets(), Ok(None));
        assert_eq!(reader.filters(), Ok(Some(&b"ab"[..])));
        assert_eq!(reader.filters(), Ok(None));
        assert!(reader.skip(PLAIN) && !reader.skip(PLAIN));
        assert_eq!(Reader::new(&bytes[..6]).filters(), Err(NotWhole));
    }

    #[test]
    fn tickets_stand_in_front_of_the_pickle_that_they_are_of() {
        let mut bytes = Vec::new();
        write_front(TICKETS, b"tickets", &mut bytes).unwrap();
        write_pickle(Some(b"pickle"), &[], &mut bytes).unwrap();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.filters(), Ok(None));
        assert_eq!(reader.tickets(), Ok(Some(&b"tickets"[..])));
        assert_eq!(reader.pickle(bytes.len(), bytes.len()).unwrap().inside, Some(&b"pickle"[..]));
        assert_eq!(Reader::new(&bytes[..11]).tickets(), Err(NotWhole));
    }
}
