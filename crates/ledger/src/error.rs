//! What can go wrong with the file of a space.

use std::path::PathBuf;
use std::sync::Arc;

/// Why the file cannot be used, or something was not written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What is in the file is not what was written.
    #[error("{path} is damaged: {damage}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, in words.
        damage: String,
    },
    /// It is a file of something else.
    #[error(
        "{path} is a file of something else, and not a space's; it is left as it was: choose another path",
        path = .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// This process has it open under another name.
    #[error(
        "{path} is open in this process as {known}: open it by that name, as a space's file has one name only",
        path = .path.display(), known = .known.display()
    )]
    Named {
        /// The file.
        path: PathBuf,
        /// The name under which it is open.
        known: PathBuf,
    },
    /// A version that is not known wrote it.
    #[error("{path} was written in version {found} of its format, and this is version {known}", path = .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The one that is known.
        known: i64,
    },
    /// Another process has it open.
    #[error("{path} is open in another process, which cannot be reached from here", path = .path.display())]
    Owned {
        /// The file.
        path: PathBuf,
    },
    /// The system has refused something.
    #[error("{path}: {doing}: {source}", path = .path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What it says.
        source: Arc<std::io::Error>,
    },
    /// The disk is full. What was to be written is not, and all else goes on.
    #[error("{path}: no space is left on the disk, so it was not written", path = .path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The database has refused something.
    #[error(
        "{path}: {words}; nothing more is written until the process that has the file closes the space, and it is opened again",
        path = .path.display()
    )]
    Database {
        /// The file.
        path: PathBuf,
        /// What it says.
        words: String,
    },
    /// It was closed.
    #[error("{path} is closed", path = .path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
}
