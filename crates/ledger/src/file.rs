//! The database in the file. The one module that knows which it is.
//!
//! Four tables of one shape, a number and a row: `tuples`, `claims` by the number of their tuple, `outcomes`, and `state`
//! with one row. So whoever saves rows from a damaged file need not know where one stood.
//!
//! Deleted rows are overwritten (`secure_delete`), so that none of them is taken for one that is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::error::Error;
use crate::log;
use crate::row::{Claim, Lease, Row, State, sum_of};

/// What SQLite keeps for those who made the file: that it is one of ours, and its version, in each byte, so that a flipped
/// one is no other version.
pub(crate) const APPLICATION: i64 = 0x5468_5370;
const VERSION: i64 = 0x0101_0101;
/// Pages of a new file, in bytes; who saves rows from a file without its header rests on it.
pub(crate) const PAGE: usize = 4096;
/// Pages in the log before it is brought into the file.
const LOG_PAGES: u32 = 1_000;

/// One change of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A tuple is there: for the first time, or again.
    Insert {
        /// Its number.
        number: u64,
        /// When it is gone by itself.
        lease: Option<Lease>,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// A tuple is gone.
    Remove {
        /// Its number.
        number: u64,
    },
    /// A tuple is claimed, or its claim is another now.
    Claim {
        /// Its number.
        number: u64,
        /// By whom and how long.
        claim: Claim,
    },
    /// A tuple is claimed no more.
    Release {
        /// Its number.
        number: u64,
    },
    /// What became of an act, for who asks again.
    Outcome {
        /// The number under which it is kept.
        number: u64,
        /// When it was, by the clock on the wall, in milliseconds since 1970.
        at: u64,
        /// Whatever its owner wrote.
        data: Vec<u8>,
    },
    /// Nobody will ask for an outcome again.
    Forget {
        /// The number under which it was kept.
        number: u64,
    },
}

/// A tuple that lay in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// When it is gone by itself.
    pub lease: Option<Lease>,
    /// Who has claimed it.
    pub claim: Option<Claim>,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// All that lay in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// In the order of their numbers.
    pub tuples: Vec<Found>,
    /// Numbers of outcomes, when they were, and what they are.
    pub outcomes: Vec<(u64, u64, Vec<u8>)>,
    /// The last number that was given.
    pub last: u64,
}

#[derive(Debug)]
pub(crate) struct File {
    connection: Connection,
    path: PathBuf,
    state: State,
}

impl File {
    /// Opens the file, or makes it, and reads all that is in it.
    pub(crate) fn open(path: &Path, fsync: bool) -> Result<(Self, Contents), Error> {
        if let Some(damage) = log::damage(path) {
            return Err(Error::Damaged { path: path.into(), damage });
        }
        let opened = Self::open_and_read(path, fsync);
        opened.map_err(|error| match error {
            // Of a file that is whole the database has nothing else to say.
            Error::Database { path, words } => Error::Damaged { path, damage: words },
            other => other,
        })
    }

    fn open_and_read(path: &Path, fsync: bool) -> Result<(Self, Contents), Error> {
        make_private(path)?;
        let connection = Connection::open(path).map_err(|error| error_of(path, &error))?;
        let mut file = Self { connection, path: path.into(), state: State::default() };
        file.prepare(fsync)?;
        let contents = file.read()?;
        Ok((file, contents))
    }

    fn prepare(&mut self, fsync: bool) -> Result<(), Error> {
        let path = self.path.clone();
        let wrong = |error| error_of(&path, &error);
        let set = |name: &str, value: &dyn rusqlite::ToSql| {
            self.connection.pragma_update_and_check(None, name, value, |_| Ok(())).optional().map(drop)
        };
        set("page_size", &(PAGE as i64)).map_err(wrong)?;
        set("locking_mode", &"exclusive").map_err(wrong)?;
        set("journal_mode", &"wal").map_err(wrong)?;
        set("synchronous", &if fsync { "full" } else { "normal" }).map_err(wrong)?;
        set("secure_delete", &"on").map_err(wrong)?;
        set("wal_autocheckpoint", &LOG_PAGES).map_err(wrong)?;
        self.connection.set_prepared_statement_cache_capacity(16);
        let asked = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (application, version) =
            (asked("application_id").map_err(wrong)?, asked("user_version").map_err(wrong)?);
        let tables: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(wrong)?;
        if tables == 0 && application == 0 && version == 0 {
            return self.make().map_err(wrong);
        }
        let known: i64 = self
            .connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' \
                 AND name IN ('tuples', 'claims', 'outcomes', 'state')",
                [],
                |row| row.get(0),
            )
            .map_err(wrong)?;
        match (application == APPLICATION, version == VERSION, known == 4 && tables == 4) {
            (true, true, true) => Ok(()),
            (false, _, false) => Err(Error::Foreign { path }),
            (true, false, true) if version > 0 => {
                Err(Error::Version { path, found: version, known: VERSION })
            }
            _ => Err(self.damaged("its header is not what it was")),
        }
    }

    fn make(&self) -> rusqlite::Result<()> {
        let row = Row::State(State::default()).to_bytes(1);
        self.connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};
             CREATE TABLE tuples (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
             CREATE TABLE claims (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
             CREATE TABLE outcomes (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
             CREATE TABLE state (number INTEGER PRIMARY KEY, data BLOB NOT NULL);"
        ))?;
        self.connection.execute("INSERT INTO state VALUES (1, ?)", params![row])?;
        self.connection.execute_batch("COMMIT")
    }

    fn damaged(&self, damage: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), damage: damage.into() }
    }

    /// Reads all, and says what is not whole.
    fn read(&mut self) -> Result<Contents, Error> {
        let mut damages: Vec<String> = Vec::new();
        let mut rows = |table: &str, each: &mut dyn FnMut(u64, Row, u32)| -> Result<(), Error> {
            let wrong = |error| error_of(&self.path, &error);
            let query = format!("SELECT number, data FROM {table} ORDER BY number");
            let mut statement = self.connection.prepare(&query).map_err(wrong)?;
            let mut found = statement.query([]).map_err(wrong)?;
            while let Some(row) = found.next().map_err(wrong)? {
                let number: i64 = row.get(0).map_err(wrong)?;
                let bytes = row.get_ref(1).map_err(wrong)?.as_bytes().unwrap_or_default();
                match (Row::from_bytes(number as u64, bytes), sum_of(bytes)) {
                    (Some(row), Some(sum)) => each(number as u64, row, sum),
                    _ => damages.push(format!("row {number} of {table} is not what was written")),
                }
            }
            Ok(())
        };
        let (mut contents, mut state, mut is) = (Contents::default(), None, State::default());
        rows("tuples", &mut |number, row, sum| {
            if let Row::Tuple(lease, data) = row {
                is.tuples += 1;
                is.sum = is.sum.wrapping_add(u64::from(sum));
                contents.tuples.push(Found { number, lease, claim: None, data });
            }
        })?;
        rows("claims", &mut |number, row, _| {
            let place = contents.tuples.binary_search_by_key(&number, |found| found.number);
            if let (Row::Claim(claim), Ok(place)) = (row, place) {
                contents.tuples[place].claim = Some(claim);
            }
        })?;
        rows("outcomes", &mut |number, row, _| {
            if let Row::Outcome { at, data } = row {
                contents.outcomes.push((number, at, data));
            }
        })?;
        rows("state", &mut |_, row, _| {
            if let Row::State(found) = row {
                state = Some(found);
            }
        })?;
        match state {
            None => damages.push("what it says of itself is not there".into()),
            Some(state) if damages.is_empty() && (state.tuples, state.sum) != (is.tuples, is.sum) => {
                damages.push(format!("it has {} tuples and says that it has {}", is.tuples, state.tuples));
            }
            Some(state) => (self.state, contents.last) = (state, state.last),
        }
        damages.extend(self.faults()?);
        if damages.is_empty() { Ok(contents) } else { Err(self.damaged(listed(&damages))) }
    }

    /// What the database finds wrong with its pages.
    fn faults(&self) -> Result<Vec<String>, Error> {
        let wrong = |error| error_of(&self.path, &error);
        let mut statement = self.connection.prepare("PRAGMA quick_check(5)").map_err(wrong)?;
        let faults = statement.query_map([], |row| row.get::<_, String>(0)).map_err(wrong)?;
        let faults: Result<Vec<String>, _> = faults.collect();
        Ok(faults.map_err(wrong)?.into_iter().filter(|fault| fault != "ok").collect())
    }

    /// Does all of this, or nothing. It is in the file when this is over.
    pub(crate) fn write<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        last: u64,
    ) -> Result<(), Error> {
        let before = self.state;
        let done = self.write_all(changes, last);
        done.map_err(|error| {
            self.state = before;
            if !self.connection.is_autocommit() {
                // It may have been rolled back by itself.
                let _ = self.connection.execute_batch("ROLLBACK");
            }
            error_of(&self.path, &error)
        })
    }

    fn write_all<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        last: u64,
    ) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for change in changes {
            self.write_one(change)?;
        }
        self.state.last = self.state.last.max(last);
        let row = Row::State(self.state).to_bytes(1);
        self.connection
            .prepare_cached("UPDATE state SET data = ? WHERE number = 1")?
            .execute(params![row])?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    fn write_one(&mut self, change: &Change) -> rusqlite::Result<()> {
        let put = |query: &str, number: u64, row: Row| {
            let bytes = row.to_bytes(number);
            let count = self.connection.prepare_cached(query)?.execute(params![number as i64, bytes])?;
            Ok::<_, rusqlite::Error>((count, sum_of(&bytes).unwrap_or_default()))
        };
        let delete =
            |query: &str, number: u64| self.connection.prepare_cached(query)?.execute(params![number as i64]);
        match change {
            Change::Insert { number, lease, data } => {
                let row = Row::Tuple(*lease, data.clone());
                // One whose removal failed is there still.
                let (count, sum) = put("INSERT OR IGNORE INTO tuples VALUES (?, ?)", *number, row)?;
                self.state.tuples += count as u64;
                self.state.sum = self.state.sum.wrapping_add(count as u64 * u64::from(sum));
            }
            Change::Remove { number } => {
                let mut statement = self
                    .connection
                    .prepare_cached("DELETE FROM tuples WHERE number = ? RETURNING substr(data, 1, 5)")?;
                let gone: Option<Vec<u8>> =
                    statement.query_row(params![*number as i64], |row| row.get(0)).optional()?;
                if let Some(sum) = gone.as_deref().and_then(sum_of) {
                    self.state.tuples -= 1;
                    self.state.sum = self.state.sum.wrapping_sub(u64::from(sum));
                }
                delete("DELETE FROM claims WHERE number = ?", *number)?;
            }
            Change::Claim { number, claim } => {
                put("INSERT OR REPLACE INTO claims VALUES (?, ?)", *number, Row::Claim(*claim))?;
            }
            Change::Release { number } => {
                delete("DELETE FROM claims WHERE number = ?", *number)?;
            }
            Change::Outcome { number, at, data } => {
                let row = Row::Outcome { at: *at, data: data.clone() };
                put("INSERT OR REPLACE INTO outcomes VALUES (?, ?)", *number, row)?;
            }
            Change::Forget { number } => {
                delete("DELETE FROM outcomes WHERE number = ?", *number)?;
            }
        }
        Ok(())
    }

    /// Brings the log into the file.
    pub(crate) fn close(self) -> Result<(), Error> {
        self.connection.close().map_err(|(_, error)| error_of(&self.path, &error))
    }
}

/// The first few, and how many more.
fn listed(damages: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut words = damages[..damages.len().min(SHOWN)].join("; ");
    if damages.len() > SHOWN {
        words.push_str(&format!("; and {} more", damages.len() - SHOWN));
    }
    words
}

/// Makes the file, if it is not there, so that nobody else can read it; the database gives its log the same rights.
fn make_private(path: &Path) -> Result<(), Error> {
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.write(true).create_new(true).open(path) {
        Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::System { path: path.into(), doing: "opening it", source: Arc::new(source) })
        }
        _ => Ok(()),
    }
}

fn is_writable(path: &Path) -> bool {
    std::fs::OpenOptions::new().write(true).open(path).is_ok()
}

fn error_of(path: &Path, error: &rusqlite::Error) -> Error {
    let path = path.to_path_buf();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Damaged { path, damage: error.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Owned { path },
        Some(ErrorCode::DiskFull) => Error::Full { path },
        Some(ErrorCode::CannotOpen) => {
            let source = match std::fs::OpenOptions::new().read(true).write(true).open(&path) {
                Err(source) => source,
                Ok(_) => std::io::Error::other(error.to_string()),
            };
            Error::System { path, doing: "opening it", source: Arc::new(source) }
        }
        Some(ErrorCode::ReadOnly) if !is_writable(&path) => {
            let source = Arc::new(std::io::ErrorKind::PermissionDenied.into());
            Error::System { path, doing: "opening it", source }
        }
        _ => Error::Database { path, words: error.to_string() },
    }
}
