//! The file of a durable space: what happens in the space is written down here, and read back once, when it is opened.
//!
//! It holds rows, and knows nothing of what is in them: no templates, no waiters. Nobody searches in it; who looks for a
//! tuple does so in memory.
//!
//! Invariants:
//! - What a [`Mark`] says is in the file survives the death of the process; and of the machine, unless `fsync` is off.
//! - Acts are in the file in the order in which they were laid down, each whole or not at all.
//! - What is read is what was written: rows have checksums, and what is missing is missed. Else it is an error, which
//!   names what is damaged, and what is whole can be had.
//! - One process has the file.
//!
//! Not a database: it is the only crate that names the one which it uses.
//!
//! Sources: `SQLite`'s file format and its WAL; group commit as in Gray and Reuter, "Transaction Processing", 9.4.

mod error;
mod file;
mod ledger;
mod log;
mod origin;
mod owner;
mod repair;
mod row;
mod salvage;

pub use error::Error;
pub use file::{Change, Contents, Found};
pub use ledger::{Ledger, Mark, Told};
pub use owner::address_of;
pub use repair::{NOTHING_WHOLE, Repaired};
pub use row::{Claim, Lease};

/// What is saved from a damaged file and its log, and whether the log is whole; for `fuzz/`, without a file.
#[cfg(fuzzing)]
#[must_use]
pub fn salvaged(file: &[u8], log: &[u8]) -> (Option<Contents>, Option<String>) {
    (salvage::saved_from(file, log), log::damage_of(log))
}
