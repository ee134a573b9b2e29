//! The files of spaces that this process has open: one space each, however often it is opened.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_ledger::Error;
use thistledown_runtime::SharedSpace;

use crate::current::Run;
use crate::errors;
use crate::outside::outside;
use crate::space::home::Home;

/// Spaces by file.
static OPEN: Mutex<Option<HashMap<PathBuf, Use>>> = Mutex::new(None);

struct Use {
    home: Arc<Home>,
    /// How often it is open here.
    count: usize,
}

/// A file, as one who opened it has it.
pub(crate) struct Opened {
    path: PathBuf,
    /// Who opened it.
    process: u32,
    closed: AtomicBool,
}

impl Opened {
    /// Opens a file, or finds it open. The lock is kept meanwhile, and the interpreter is not.
    pub(crate) fn open(
        py: Python<'_>,
        path: &Path,
        fsync: bool,
        repair: bool,
    ) -> PyResult<(Arc<Home>, Self)> {
        let (now, process) = (Run::now(), std::process::id());
        let found = outside(py, || -> Result<_, Error> {
            let path = whole(path)?;
            let mut open = OPEN.lock();
            let open = open.get_or_insert_default();
            if let Some(found) = open.get_mut(&path) {
                found.count += 1;
                return Ok((path, Arc::clone(&found.home), None));
            }
            let (shared, repaired) = SharedSpace::open(&path, fsync, repair, now)?;
            let home = Home::new(Arc::new(shared));
            open.insert(path.clone(), Use { home: Arc::clone(&home), count: 1 });
            Ok((path, home, repaired))
        });
        let (path, home, repaired) = found.map_err(|error| errors::of_ledger(&error))?;
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
        Ok((home, Self { path, process, closed: AtomicBool::new(false) }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_of_parent(&self) -> bool {
        self.process != std::process::id()
    }

    pub(crate) fn check(&self) -> PyResult<()> {
        let path = self.path.display();
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
    pub(crate) fn close(&self, py: Python<'_>, home: &Arc<Home>) {
        if self.is_of_parent() {
            // Its thread is not here, and whatever happens to the file is the parent's doing.
            std::mem::forget(Arc::clone(home));
            return;
        }
        if self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        outside(py, || {
            let mut open = OPEN.lock();
            let Some(open) = open.as_mut() else { return };
            let Some(found) = open.get_mut(&self.path) else { return };
            found.count -= 1;
            if found.count == 0 {
                open.remove(&self.path);
                if let Some(ledger) = home.shared.ledger() {
                    ledger.close();
                }
                home.close();
            }
        });
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

/// The path by which a file is known, whoever opens it from wherever.
fn whole(path: &Path) -> Result<PathBuf, Error> {
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let wrong = |source| Error::System { path: path.into(), doing: "opening it", source: Arc::new(source) };
    let name = path.file_name().ok_or_else(|| wrong(std::io::Error::from_raw_os_error(libc::EISDIR)))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize().map_err(wrong)?.join(name))
}
