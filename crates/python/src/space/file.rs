//! The files of spaces that this process has open: one space each, however often it is opened.
//!
//! One process owns a file, and the others that open it use it from there. Which one is decided by the lock of the file
//! alone; [`heir`](crate::space::heir) asks for it when a file is opened, and when its owner is gone.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_ledger::{Error, Repaired};

use crate::current::Run;
use crate::errors;
use crate::outside::{outside, outside_until};
use crate::payload::WORLD;
use crate::space::act;
use crate::space::far::line::Gone;
use crate::space::far::{FarSpace, Seat};
use crate::space::heir::{self, Failure};

/// Spaces by file.
static OPEN: Mutex<Option<HashMap<PathBuf, Use>>> = Mutex::new(None);

struct Use {
    place: Arc<Place>,
    /// Of the file, whatever its name is now.
    id: Option<FileId>,
    /// How often it is open here.
    count: usize,
}

/// A file that is open here, whoever owns it now.
pub(crate) struct Place {
    pub(super) path: PathBuf,
    pub(super) fsync: bool,
    /// Set before anybody else knows it; another one when this process becomes the owner.
    seat: Mutex<Option<Seat>>,
    /// The space as it is asked elsewhere: also later, by those who have asked when it was elsewhere.
    pub(super) far: OnceLock<Arc<FarSpace>>,
    closed: AtomicBool,
    me: Weak<Self>,
}

impl Place {
    fn new(path: &Path, fsync: bool) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            path: path.into(),
            fsync,
            seat: Mutex::new(None),
            far: OnceLock::new(),
            closed: AtomicBool::new(false),
            me: Weak::clone(me),
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn sit(&self, seat: Seat) {
        let before = self.seat.lock().replace(seat);
        drop(before);
    }

    pub(super) fn seat(&self) -> Seat {
        let seat = self.seat.lock();
        seat.clone().unwrap_or_else(|| unreachable!("nobody knows it before it is set"))
    }

    /// Its owner is gone. Does not wait for the next one.
    pub(crate) fn find_next(&self) {
        if let Some(place) = self.me.upgrade() {
            heir::find_next(place);
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Seat::Here(home) = self.seat() {
            // What it asked of owners before, it does not ask again.
            if let Some(far) = self.far.get() {
                home.shared.forget_asker(&WORLD, Run::now(), far.asker());
            }
            if let Some(ledger) = home.shared.ledger() {
                ledger.close();
            }
            home.close();
        }
        if let Some(far) = self.far.get() {
            far.fail(Gone::Words(format!("{} is closed: open it again", self.path.display())));
        }
    }
}

/// Does something while no file is opened or closed.
pub(super) fn with_files<T>(work: impl FnOnce() -> T) -> T {
    let _files = OPEN.lock();
    work()
}

/// What is the same of a file under all its names.
type FileId = (u64, u64);

/// A file that was found or opened, and what was repaired.
type Found = (Arc<Place>, Option<Repaired>);

/// A file, as one who opened it has it.
pub(crate) struct Opened {
    place: Arc<Place>,
    /// Who opened it.
    process: u32,
    closed: AtomicBool,
}

impl Opened {
    /// Opens a file, or finds it open, here or in another process. The interpreter is not kept meanwhile.
    pub(crate) fn open(py: Python<'_>, path: &Path, fsync: bool, repair: bool) -> PyResult<Self> {
        let whole = outside(py, || whole(path)).map_err(Failure::error)?;
        let mut patience = heir::Patience::new(&whole);
        let found = outside_until(py, |_| {
            let found = Self::find_or_settle(&whole, fsync, repair).transpose();
            found.or_else(|| patience.wait().err().map(|error| Err(error.into())))
        });
        let (place, repaired) = found?.map_err(Failure::error)?;
        if let Some(repaired) = repaired {
            let words = format!(
                "{} was damaged: {} tuples are whole and kept, and the damaged file is {} now",
                path.display(),
                repaired.tuples,
                repaired.kept_as.display()
            );
            let words = std::ffi::CString::new(words).unwrap_or_default();
            PyErr::warn(py, &py.get_type::<pyo3::exceptions::PyRuntimeWarning>(), &words, 1)?;
        }
        Ok(Self { place, process: std::process::id(), closed: AtomicBool::new(false) })
    }

    fn find_or_settle(path: &Path, fsync: bool, repair: bool) -> Result<Option<Found>, Failure> {
        let mut open = OPEN.lock();
        let open = open.get_or_insert_default();
        if let Some(found) = open.get_mut(path) {
            found.count += 1;
            return Ok(Some((Arc::clone(&found.place), None)));
        }
        // To open it would take the locks from it that the database has: those of POSIX go with any descriptor.
        if let Some(id) = id_of(path)
            && let Some((known, _)) = open.iter().find(|(_, found)| found.id == Some(id))
        {
            return Err(Error::Named { path: path.into(), known: known.clone() }.into());
        }
        let place = Place::new(path, fsync);
        let Some(repaired) = heir::settle(&place, repair)? else { return Ok(None) };
        open.insert(path.into(), Use { place: Arc::clone(&place), id: id_of(path), count: 1 });
        Ok(Some((place, repaired)))
    }

    /// Where the space is now.
    pub(crate) fn seat(&self) -> Seat {
        self.place.seat()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.place.path
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.place.fsync
    }

    pub(crate) fn is_of_parent(&self) -> bool {
        self.process != std::process::id()
    }

    pub(crate) fn check(&self) -> PyResult<()> {
        let path = self.path().display();
        let words = if self.is_of_parent() {
            format!(
                "{path} was opened before this process was forked from that which has it: open it here again"
            )
        } else if self.closed.load(Ordering::Relaxed) {
            format!("{path} is closed: open it again")
        } else {
            return Ok(());
        };
        Err(Python::attach(|py| errors::space_broken(py, &words)))
    }

    /// Closes it for this one; and the file, if he is the last who has it open.
    pub(crate) fn close(&self, py: Python<'_>) {
        if self.is_of_parent() {
            // Its thread is not here, and whatever happens to the file is the parent's doing.
            std::mem::forget(Arc::clone(&self.place));
            return;
        }
        if self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        outside(py, || {
            let mut open = OPEN.lock();
            let Some(open) = open.as_mut() else { return };
            let Some(found) = open.get_mut(self.path()) else { return };
            found.count -= 1;
            if found.count == 0 {
                open.remove(self.path());
                self.place.close();
            }
        });
        // Who waits by what is closed now, is told so when he looks.
        if let Seat::Here(home) = self.seat() {
            act(&home.shared, |space, outside| space.call_all(outside));
        }
    }
}

/// Waits until nobody opens or closes a file, and keeps it so; for a fork.
pub(crate) fn lock_for_fork() {
    std::mem::forget(OPEN.lock());
}

/// Releases what [`lock_for_fork`] took.
///
/// # Safety
/// Only after that in this thread, and once in each process.
#[allow(unsafe_code, reason = "the guard cannot live across a fork, so the lock is released by hand")]
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: the caller holds the lock, by the contract above.
    unsafe { OPEN.force_unlock() };
}

/// In a forked child: what is open is the parent's.
pub(crate) fn forget() {
    std::mem::forget(std::mem::take(&mut *OPEN.lock()));
}

/// The device and the number of a file, if it is there.
fn id_of(path: &Path) -> Option<FileId> {
    std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

/// The path by which a file is known, whoever opens it from wherever.
fn whole(path: &Path) -> Result<PathBuf, Failure> {
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let wrong = |source| {
        Failure::File(Error::System { path: path.into(), doing: "opening it", source: Arc::new(source) })
    };
    let name = path.file_name().ok_or_else(|| wrong(std::io::Error::from_raw_os_error(libc::EISDIR)))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize().map_err(wrong)?.join(name))
}
