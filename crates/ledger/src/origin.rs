//! Whether a file may be a space's at all: read from its bytes, before anything is made or changed.
//!
//! The database that is used here writes as soon as it opens a file, and whoever is refused is to find his own as it was.
//! So what bears no mark of a space is refused by what is read here. What may be one that is damaged is let through: what
//! is wrong with it is said by others, and they save what is whole.
//!
//! Not a check: a file that is let through may still be anything.
//!
//! Source: "The Database Header" and "B-tree Pages" of SQLite's "Database File Format".

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::file::{APPLICATION, PAGE};
use crate::salvage::saved_from;
use crate::{log, owner, repair};

/// How a file of the database begins.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// A page of it has so many bytes at least.
const SMALLEST: usize = 512;
/// Where the header says which version of its owner's the file has.
const VERSION_AT: usize = 60;
/// Where the header says whose the file is.
const APPLICATION_AT: usize = 68;
/// A table of a space, as the first page names it.
const TABLE: &[u8] = b"CREATE TABLE outcomes (number INTEGER PRIMARY KEY, data BLOB NOT NULL)";
/// Of a file without any mark so much is searched for rows: the tables begin on its first pages.
const SEARCHED: u64 = 64 * PAGE as u64;
/// Of a log so much is searched: the first that a space writes is small, and its tables are in that.
const LOG_SEARCHED: u64 = 2_048 * PAGE as u64;

/// Refuses what is no space's file. Changes nothing; not for a file that is open in this process.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    let refused = |source| Error::System { path: path.into(), doing: "opening it", source: Arc::new(source) };
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    let is_special = !about.is_file() && !about.is_dir();
    // To read from one that is no plain file may have no end.
    if !is_special && (may_be_a_spaces(path).map_err(refused)? || repair::is_to_be_finished(path)) {
        return Ok(());
    }
    Err(Error::Foreign { path: path.into() })
}

fn may_be_a_spaces(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(SEARCHED).read_to_end(&mut start)?;
    if start.is_empty() || is_marked(&start) {
        return Ok(true);
    }
    if is_another_programs(&start) {
        return Ok(false);
    }
    let mut log = Vec::new();
    if let Ok(file) = File::open(log::beside(path)) {
        // What cannot be read is not there, as far as this goes.
        let _ = file.take(LOG_SEARCHED).read_to_end(&mut log);
    }
    Ok(may_be_of_a_space(&start, &log, owner::has_begun(path)))
}

/// The same, of how a file begins, of its log, and of whether a space is known to have been in it.
fn may_be_of_a_space(start: &[u8], log: &[u8], was_one: bool) -> bool {
    let later = log::pages(log).into_iter().rev().find(|page| page.number == 1);
    let first = later.map_or(start, |page| page.bytes);
    let is_marked = is_marked(start) || log::all_pages(log).any(is_marked);
    if start.is_empty() || is_marked || saved_from(start, log).is_some() {
        return true;
    }
    if first.starts_with(MAGIC) && first.len() >= SMALLEST {
        // Whole, and of somebody else: also where a space was before. One without any table is as good as empty; of what
        // is in a log that was not read to its end nobody knows.
        return is_unused(first) && (log.len() as u64) < LOG_SEARCHED;
    }
    was_one
}

/// Whether a first page says that it is a space's; one byte of it may be wrong.
fn is_marked(page: &[u8]) -> bool {
    let application = (APPLICATION as u32).to_be_bytes();
    page.get(APPLICATION_AT..APPLICATION_AT + 4) == Some(&application[..])
        || page.windows(TABLE.len()).take(PAGE).any(|words| words == TABLE)
}

/// Whether a first page, which has no mark of a space, has two of somebody else: so that it is no matter of one wrong byte.
fn is_another_programs(first: &[u8]) -> bool {
    let application = first.get(APPLICATION_AT..APPLICATION_AT + 4);
    first.starts_with(MAGIC)
        && first.len() >= SMALLEST
        && application != Some(&[0; 4][..])
        && !is_without_tables(first)
}

/// Whether a first page is as the database makes it, before anybody has put anything of his in it.
fn is_unused(first: &[u8]) -> bool {
    let is_zero = |at: usize| first.get(at..at + 4) == Some(&[0; 4][..]);
    is_zero(APPLICATION_AT) && is_zero(VERSION_AT) && is_without_tables(first)
}

/// Of the tree of tables: a leaf with no rows.
fn is_without_tables(first: &[u8]) -> bool {
    first.get(100) == Some(&0x0d) && first.get(103..105) == Some(&[0, 0][..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A first page of the database, of this application and with so many tables.
    fn page(application: u32, tables: u8) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[..16].copy_from_slice(MAGIC);
        page[APPLICATION_AT..APPLICATION_AT + 4].copy_from_slice(&application.to_be_bytes());
        page[100] = 0x0d;
        page[104] = tables;
        page
    }

    #[test]
    fn a_database_of_somebody_else_is_none_even_where_a_space_was() {
        for was_one in [false, true] {
            assert!(!may_be_of_a_space(&page(0, 1), &[], was_one));
            assert!(!may_be_of_a_space(&page(7, 0), &[], was_one));
            assert!(may_be_of_a_space(&page(APPLICATION as u32, 4), &[], was_one));
        }
    }

    #[test]
    fn what_is_empty_or_a_database_without_tables_may_become_one() {
        assert!(may_be_of_a_space(&[], &[], false));
        assert!(may_be_of_a_space(&page(0, 0), &[], false));
    }

    #[test]
    fn a_database_without_tables_that_has_a_version_or_a_long_log_is_somebody_elses() {
        let mut numbered = page(0, 0);
        numbered[VERSION_AT + 3] = 7;
        let log = vec![0; LOG_SEARCHED as usize];
        for was_one in [false, true] {
            assert!(!may_be_of_a_space(&numbered, &[], was_one));
            assert!(!may_be_of_a_space(&page(0, 0), &log, was_one));
        }
    }

    #[test]
    fn no_one_wrong_byte_makes_a_database_another_programs_before_its_log_is_read() {
        for (at, byte) in (0..SMALLEST).flat_map(|at| [1, 0x05, 0xff].map(|byte| (at, byte))) {
            let mut hurt = page(0, 0);
            hurt[at] ^= byte;
            assert!(!is_another_programs(&hurt), "byte {at}");
        }
        assert!(is_another_programs(&page(7, 1)));
    }

    #[test]
    fn one_mark_is_enough_and_what_has_none_is_ours_where_a_space_was() {
        let mut hurt = page(0, 4);
        hurt[PAGE - TABLE.len()..].copy_from_slice(TABLE);
        assert!(may_be_of_a_space(&hurt, &[], false));
        let text = b"just text, and no space at all\n".repeat(500);
        assert!(!may_be_of_a_space(&text, &[], false));
        assert!(may_be_of_a_space(&text, &[], true));
    }
}
