//! The ledger: what is to be written down, and the thread that does it.
//!
//! Whoever acts lays down what has changed, under the lock of the space, so that the order in the file is the order in
//! which it happened; then lets that lock go, and waits for its [`Mark`]. The thread takes all that has been laid down,
//! writes it as one transaction, and marks all of it: so many who wait for the disk share one wait.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix_futex_sync::{Condvar, Mutex};

use crate::error::Error;
use crate::file::{Change, Contents, File};
use crate::origin;
use crate::owner::Owner;
use crate::repair::{self, Repaired};

/// Says when an act is in the file.
#[derive(Debug)]
pub struct Mark {
    state: Mutex<Option<Result<(), Error>>>,
    changed: Condvar,
}

impl Mark {
    /// Whether it is in the file. None: not yet.
    #[must_use]
    pub fn state(&self) -> Option<Result<(), Error>> {
        self.state.lock().clone()
    }

    /// Sleeps until it is in the file.
    pub fn wait(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        loop {
            if let Some(result) = &*state {
                return result.clone();
            }
            state = self.changed.wait(state);
        }
    }

    fn set(&self, result: Result<(), Error>) {
        *self.state.lock() = Some(result);
        self.changed.notify_all();
    }
}

/// Who is told when an act is in the file, or will never be.
pub type Told = Box<dyn FnOnce() + Send>;

struct Act {
    changes: Vec<Change>,
    mark: Arc<Mark>,
    told: Option<Told>,
}

#[derive(Default)]
struct Desk {
    laid: Vec<Act>,
    /// What nobody waits for: it is written with what is laid down next.
    later: Vec<Change>,
    /// The last number that was given.
    last: u64,
    /// It is no longer written to: it was closed, or could not be written.
    over: Option<Error>,
}

struct Shared {
    desk: Mutex<Desk>,
    /// Something was laid down, or it is over.
    has_work: Condvar,
}

/// A file in which the changes of a space are written down.
pub struct Ledger {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    owner: Owner,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Ledger {
    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.owner.path()
    }

    /// Opens a file, or makes it, and reads all that is in it. It is this process's until it is closed.
    ///
    /// With `repair`, what is whole in a damaged file is written into a new one, and the damaged one is kept beside it.
    pub fn open(path: &Path, fsync: bool, repair: bool) -> Result<(Self, Contents, Option<Repaired>), Error> {
        origin::check(path)?;
        let owner = Owner::of(path)?;
        repair::finish(path)?;
        let first = owner.check(path).and_then(|()| File::open(path, fsync));
        let (opened, repaired) = match first {
            Err(Error::Damaged { .. }) if repair => {
                let repaired = repair::renew(path, fsync)?;
                (File::open(path, fsync), Some(repaired))
            }
            opened => (opened, None),
        };
        let (file, contents) = opened?;
        owner.begin();
        let desk = Mutex::new(Desk { last: contents.last, ..Desk::default() });
        let shared = Arc::new(Shared { desk, has_work: Condvar::new() });
        let other = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("thistledown-ledger".into()).spawn(move || other.run(file));
        let thread = thread.map_err(|source| Error::System {
            path: path.into(),
            doing: "starting a thread",
            source: Arc::new(source),
        })?;
        Ok((Self { shared, thread: Mutex::new(Some(thread)), owner }, contents, repaired))
    }

    /// Lays down what has changed in one act, all of which will be in the file or nothing of it. Never sleeps.
    ///
    /// `last` is the last number that was given. Who is `told` is so from the ledger's thread; not if
    /// the file is over already, as the mark says then at once.
    pub fn lay(&self, changes: Vec<Change>, last: u64, told: Option<Told>) -> Arc<Mark> {
        let mark = Arc::new(Mark { state: Mutex::new(None), changed: Condvar::new() });
        let act = Act { changes, mark: Arc::clone(&mark), told };
        let mut desk = self.shared.desk.lock();
        desk.last = desk.last.max(last);
        if let Some(error) = &desk.over {
            let error = error.clone();
            drop(desk);
            mark.set(Err(error));
            return mark;
        }
        let is_first = desk.laid.is_empty();
        desk.laid.push(act);
        drop(desk);
        if is_first {
            self.shared.has_work.notify_one();
        }
        mark
    }

    /// Lays down what nobody waits for, and what the file is as good without: it is written with the next act, or at the end.
    pub fn lay_later(&self, changes: impl IntoIterator<Item = Change>) {
        let mut desk = self.shared.desk.lock();
        if desk.over.is_none() {
            desk.later.extend(changes);
        }
    }

    /// Where its owner can be found by others; see [`crate::address_of`].
    pub fn publish(&self, address: &str) -> Result<(), Error> {
        self.owner.publish(address)
    }

    /// Whether something that is laid down would be written.
    pub fn check(&self) -> Result<(), Error> {
        self.shared.desk.lock().over.clone().map_or(Ok(()), Err)
    }

    /// Writes what is laid down, and closes the file. What is laid down later is not written.
    pub fn close(&self) {
        let thread = self.thread.lock().take();
        self.shared.desk.lock().over.get_or_insert(Error::Closed { path: self.owner.path().into() });
        self.shared.has_work.notify_one();
        if let Some(thread) = thread {
            // A panic of its own has been shown.
            let _ = thread.join();
        }
        // Who looks for the next owner is not to find this one.
        self.owner.begin();
        self.owner.release();
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

impl Act {
    fn end(self, result: &Result<(), Error>) {
        self.mark.set(result.clone());
        if let Some(told) = self.told {
            told();
        }
    }
}

impl Shared {
    fn run(&self, mut file: File) {
        while let Some((acts, later, last)) = self.next() {
            let changes = acts.iter().flat_map(|act| &act.changes).chain(&later);
            let result = file.write(changes, last);
            if let Err(error) = &result
                && !matches!(error, Error::Full { .. })
            {
                self.desk.lock().over = Some(error.clone());
            }
            acts.into_iter().for_each(|act| act.end(&result));
        }
    }

    /// All that was laid down. None: it is over, and all is written.
    fn next(&self) -> Option<(Vec<Act>, Vec<Change>, u64)> {
        let mut desk = self.desk.lock();
        while desk.laid.is_empty() {
            match desk.over {
                Some(Error::Closed { .. }) if !desk.later.is_empty() => break,
                Some(_) => return None,
                None => desk = self.has_work.wait(desk),
            }
        }
        Some((std::mem::take(&mut desk.laid), std::mem::take(&mut desk.later), desk.last))
    }
}
