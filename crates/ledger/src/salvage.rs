//! What is whole in a damaged file: found page by page, believed row by row.
//!
//! Neither the header, nor the tree of pages, nor the tables' names are asked: each page that looks like a leaf is read,
//! and a row counts if its checksum says so. Pages are those of the file, with those of its log laid over them. An older
//! page may stand in for one that is damaged; then a tuple that was taken since may be back.
//!
//! Source: "B-tree Pages" and "Record Format" of SQLite's "Database File Format".

use std::collections::BTreeMap;
use std::path::Path;

use crate::file::{Contents, Found, PAGE};
use crate::log;
use crate::row::Row;

/// A page of a table's rows.
const LEAF: u8 = 0x0d;
/// Of the first page, what stands before it begins as others do.
const FILE_HEADER: usize = 100;
/// As many numbers may have been given that nothing whole tells of.
const UNKNOWN: u64 = 1 << 32;

/// All rows of a file that are whole. None: not one is, so perhaps it was a file of something else.
pub(crate) fn salvage(path: &Path) -> std::io::Result<Option<Contents>> {
    let file = std::fs::read(path)?;
    let log = std::fs::read(log::beside(path)).unwrap_or_default();
    Ok(saved_from(&file, &log))
}

/// The same, of the bytes of a file and of its log.
pub(crate) fn saved_from(file: &[u8], log: &[u8]) -> Option<Contents> {
    let mut pages: BTreeMap<u32, &[u8]> = (1..).zip(file.chunks_exact(PAGE)).collect();
    pages.extend(log::pages(log).into_iter().map(|page| (page.number, page.bytes)));
    let mut saved = Saved::default();
    for (&number, page) in &pages {
        let start = if number == 1 { FILE_HEADER } else { 0 };
        let _ = read_page(&pages, page, start, &mut saved);
    }
    let is_something = saved.last.is_some() || !saved.tuples.is_empty() || !saved.outcomes.is_empty();
    is_something.then(|| saved.finish())
}

#[derive(Default)]
struct Saved {
    tuples: BTreeMap<u64, Found>,
    claims: Vec<(u64, crate::row::Claim)>,
    outcomes: BTreeMap<u64, (u64, Vec<u8>)>,
    last: Option<u64>,
}

impl Saved {
    fn add(&mut self, number: u64, row: Row) {
        match row {
            Row::Tuple(lease, data) => {
                self.tuples.insert(number, Found { number, lease, claim: None, data });
            }
            Row::Claim(claim) => self.claims.push((number, claim)),
            Row::Outcome { at, data } => {
                self.outcomes.insert(number, (at, data));
            }
            Row::State(state) => self.last = self.last.max(Some(state.last)),
        }
    }

    fn finish(mut self) -> Contents {
        let tokens = self.claims.iter().map(|(_, claim)| claim.token).max();
        let numbers = [tokens, self.tuples.keys().max().copied(), self.outcomes.keys().max().copied()];
        let known = numbers.into_iter().flatten().max().unwrap_or_default();
        let last = self.last.unwrap_or(known + UNKNOWN).max(known);
        for (number, claim) in self.claims {
            if let Some(found) = self.tuples.get_mut(&number)
                && found.claim.is_none_or(|known| known.token < claim.token)
            {
                found.claim = Some(claim);
            }
        }
        let outcomes = self.outcomes.into_iter().map(|(number, (at, data))| (number, at, data)).collect();
        Contents { tuples: self.tuples.into_values().collect(), outcomes, last }
    }
}

/// Nothing in here is believed: each look says whether it is inside of the page.
fn read_page(pages: &BTreeMap<u32, &[u8]>, page: &[u8], start: usize, saved: &mut Saved) -> Option<()> {
    if *page.get(start)? != LEAF {
        return None;
    }
    let count = short(page, start + 3)?;
    for place in 0..count {
        let at = short(page, start + 8 + 2 * place)?;
        if let Some((number, row)) = page.get(at..).and_then(|cell| read_cell(pages, cell)) {
            saved.add(number, row);
        }
    }
    Some(())
}

fn read_cell(pages: &BTreeMap<u32, &[u8]>, mut cell: &[u8]) -> Option<(u64, Row)> {
    let length = usize::try_from(varint(&mut cell)?).ok()?;
    let number = varint(&mut cell)?;
    // Pages that name each other in a circle would have no end.
    if length > pages.len() * PAGE {
        return None;
    }
    let local = local_length(length);
    let mut record = cell.get(..local)?.to_vec();
    let mut rest = cell.get(local..)?;
    while record.len() < length {
        let next = u32::from_be_bytes(*rest.first_chunk()?);
        let page = pages.get(&next)?;
        let taken = (length - record.len()).min(PAGE - 4);
        record.extend_from_slice(page.get(4..4 + taken)?);
        rest = page;
    }
    Some((number, read_record(&record, number)?))
}

/// A record of a number, which stands elsewhere, and of bytes.
fn read_record(record: &[u8], number: u64) -> Option<Row> {
    let mut header = record;
    let header_length = usize::try_from(varint(&mut header)?).ok()?;
    let (first, second) = (varint(&mut header)?, varint(&mut header)?);
    if first != 0 || second < 12 || second % 2 != 0 {
        return None;
    }
    let length = usize::try_from((second - 12) / 2).ok()?;
    let bytes = record.get(header_length..header_length.checked_add(length)?)?;
    Row::from_bytes(number, bytes)
}

/// How much of a record stands in its cell; the rest is on pages of its own.
fn local_length(length: usize) -> usize {
    let most = PAGE - 35;
    if length <= most {
        return length;
    }
    let least = (PAGE - 12) * 32 / 255 - 23;
    let local = least + (length - least) % (PAGE - 4);
    if local <= most { local } else { least }
}

fn short(page: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(*page.get(at..)?.first_chunk()?)))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..9 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if place == 8 {
            return Some(number << 8 | u64::from(byte));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            break;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_name_each_other_in_a_circle_come_to_an_end() {
        let mut file = vec![0; 3 * PAGE];
        // On the second page a cell of 2^62 bytes, whose rest is on the third, which goes on with itself.
        let cell = [&[0xff; 8][..], &[0xff, 1]].concat();
        file[PAGE..PAGE + 10].copy_from_slice(&[LEAF, 0, 0, 0, 1, 0, 0, 0, 0, 16]);
        file[PAGE + 16..PAGE + 16 + cell.len()].copy_from_slice(&cell);
        let local = local_length(usize::MAX);
        let next = PAGE + 16 + cell.len() + local;
        file[next..next + 4].copy_from_slice(&3_u32.to_be_bytes());
        file[2 * PAGE..2 * PAGE + 4].copy_from_slice(&3_u32.to_be_bytes());
        assert_eq!(saved_from(&file, &[]), None);
    }
}
