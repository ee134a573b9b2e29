//! A word of memory that two processes share, and change by atomic operations alone.
//!
//! Made by one of them, in a page of its own that can neither grow nor shrink; it reaches the other as a descriptor, in a
//! parcel. It lives as long as one of them has it, so what one wrote can be read when it has died.
#![allow(unsafe_code, reason = "memory is mapped")]

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use crate::{Blob, Parcel};

const LENGTH: usize = size_of::<AtomicU64>();

/// A word that is shared. It begins as zero.
#[derive(Clone, Debug)]
pub struct Word {
    page: Arc<Page>,
    /// How it is passed on, by who made it.
    blob: Option<Arc<Blob>>,
}

#[derive(Debug)]
struct Page(NonNull<AtomicU64>);

impl Word {
    /// A new one.
    ///
    /// # Errors
    /// There is no memory or no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("thistledown-word", flags)?;
        rustix::fs::ftruncate(&fd, LENGTH as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let page = Arc::new(Page::map(fd.as_fd())?);
        Ok(Self { page, blob: Some(Arc::new(Blob::adopt(fd))) })
    }

    /// The same without a descriptor: it can be passed on no more.
    #[must_use]
    pub fn kept(&self) -> Self {
        Self { page: Arc::clone(&self.page), blob: None }
    }

    /// What another process [`adopts`](Self::adopt). Nothing: it is merely kept.
    #[must_use]
    pub fn parcel(&self) -> Option<Parcel> {
        self.blob.as_ref().map(|blob| Parcel::Blob(Arc::clone(blob), 0))
    }

    /// One that another process made.
    ///
    /// # Errors
    /// It is none, or the system refuses.
    pub fn adopt(parcel: &Parcel) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "this is no word");
        let fd = parcel.blob().ok_or_else(wrong)?.as_fd();
        // One that could be cut off under the mapping would be a signal.
        let is_firm = rustix::fs::fcntl_get_seals(fd)?.contains(SealFlags::SHRINK);
        if !is_firm || rustix::fs::fstat(fd)?.st_size < LENGTH as i64 {
            return Err(wrong());
        }
        Ok(Self { page: Arc::new(Page::map(fd)?), blob: None })
    }
}

impl Page {
    fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the system's choice.
        let memory =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), LENGTH, protection, MapFlags::SHARED, fd, 0)? };
        NonNull::new(memory.cast()).map(Self).ok_or_else(|| io::Error::other("mapped at address 0"))
    }
}

impl Deref for Word {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        // SAFETY: mapped until the page is dropped, aligned as pages are, and nobody uses it but as this type.
        unsafe { self.page.0.as_ref() }
    }
}

// SAFETY: all that is reached through it is an atomic.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, with this length.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.page, &other.page)
    }
}

impl Eq for Word {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_one_writes_the_other_reads() {
        let made = Word::new().expect("a word");
        let adopted = Word::adopt(&made.parcel().expect("a parcel")).expect("the same");
        made.store(7, Ordering::Release);
        drop(made);
        assert_eq!(adopted.fetch_add(1, Ordering::AcqRel), 7);
        assert!(adopted.parcel().is_none());
    }

    #[test]
    fn what_could_be_cut_off_is_refused() {
        let fd = rustix::fs::memfd_create("open", MemfdFlags::ALLOW_SEALING).expect("a descriptor");
        rustix::fs::ftruncate(&fd, 8).expect("eight bytes");
        let parcel = Parcel::Blob(Arc::new(Blob::adopt(fd)), 0);
        assert_eq!(Word::adopt(&parcel).expect_err("refused").kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_too_short_is_refused() {
        let short = Parcel::Blob(Arc::new(Blob::write(&[b"seven"]).expect("a blob")), 0);
        assert!(Word::adopt(&short).is_err());
        assert!(Word::adopt(&Parcel::empty()).is_err());
    }
}
