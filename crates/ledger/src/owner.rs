//! Who has a file open: one process, which says in a file beside it where it can be reached.
//!
//! The file `<name>-owner` is locked by the process that owns `<name>`; the system lets the lock go when that dies,
//! however it does, and a forked child does not inherit it. In the file is the owner's address. A lock of POSIX is lost
//! when its process closes any descriptor of the file; so nobody else in a process may open it, and who would is sent to
//! what is open already.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix_futex_sync::Mutex;

use crate::error::Error;

/// What the file says while a space is in it, before its owner has an address.
const BEGUN: &str = "\n";

#[derive(Debug)]
pub(crate) struct Owner {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push("-owner");
    name.into()
}

fn wrong<'a>(path: &'a Path, doing: &'static str) -> impl Fn(std::io::Error) -> Error + 'a {
    move |source| Error::System { path: path.into(), doing, source: Arc::new(source) }
}

impl Owner {
    /// Becomes the owner of a file; no other process can meanwhile.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(beside(path)).map_err(wrong(path, "opening it"))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.into(), file: Mutex::new(Some(file)) }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                Err(Error::Owned { path: path.into() })
            }
            Err(error) => Err(wrong(path, "locking it")(error.into())),
        }
    }

    /// A file that held a space cannot be empty: the database would take it for a new one.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Error> {
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let log = std::fs::metadata(crate::log::beside(path)).map_or(0, |metadata| metadata.len());
        let was_there =
            self.file.lock().as_ref().and_then(|file| file.metadata().ok()).map_or(0, |file| file.len());
        if length == 0 && (log > 0 || was_there > 0) && path.exists() {
            let damage = "it is empty, and a space was in it".into();
            return Err(Error::Damaged { path: path.into(), damage });
        }
        Ok(())
    }

    /// A space is in the file, and its owner has no address.
    pub(crate) fn begin(&self) {
        // It is for telling later what was there; nothing else rests on it.
        let _ = self.publish(BEGUN);
    }

    pub(crate) fn publish(&self, address: &str) -> Result<(), Error> {
        let mut file = self.file.lock();
        let Some(file) = file.as_mut() else { return Err(Error::Closed { path: self.path.clone() }) };
        let mut write = || {
            file.rewind()?;
            file.set_len(0)?;
            file.write_all(address.as_bytes())
        };
        write().map_err(wrong(&self.path, "saying where its owner is"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn release(&self) {
        drop(self.file.lock().take());
    }
}

/// Whether a space was in a file, as far as the file beside it tells. Opens nothing.
pub(crate) fn has_begun(path: &Path) -> bool {
    std::fs::metadata(beside(path)).is_ok_and(|about| about.len() > 0)
}

/// What the owner of a file has published, if there is one. Not in the process that owns it.
pub fn address_of(path: &Path) -> Option<String> {
    let mut address = String::new();
    File::open(beside(path)).ok()?.take(4096).read_to_string(&mut address).ok()?;
    let address = address.trim();
    (!address.is_empty()).then(|| address.to_owned())
}
