//! Blobs: what is too large for a lane, as sealed memory that passes from process to process as a descriptor.
//!
//! Written once, by copying; read in place. Sealed, so that no reader has to fear that it shrinks or changes.
#![allow(unsafe_code, reason = "memory is mapped")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// Each part begins at a multiple of this, which is enough for every type of NumPy and for vector instructions.
pub const ALIGNMENT: u64 = 64;

/// Where a part begins that comes after `length` bytes.
#[must_use]
pub fn aligned(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT)
}

/// Parts as they stand in a blob.
pub fn laid_out(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| part.len() + ALIGNMENT as usize).sum());
    for part in parts {
        all.resize(aligned(all.len() as u64) as usize, 0);
        all.extend(*part);
    }
    all
}

/// A blob that was written.
#[derive(Debug)]
pub struct Blob {
    fd: OwnedFd,
}

impl Blob {
    /// Writes the parts, each aligned.
    ///
    /// # Errors
    /// What the system says when there is no memory or no descriptor left; nothing is kept then.
    pub fn write(parts: &[&[u8]]) -> io::Result<Self> {
        let fd =
            rustix::fs::memfd_create("thistledown-blob", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut at = 0;
        for part in parts {
            at = aligned(at);
            let mut rest = *part;
            while !rest.is_empty() {
                // A write, not a mapping: memory that is not there is an error here and a signal there.
                let written = rustix::io::pwrite(&fd, rest, at)?;
                at += written as u64;
                rest = &rest[written..];
            }
        }
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&fd, seals)?;
        Ok(Self::adopt(fd))
    }

    /// One that somebody else wrote.
    #[must_use]
    pub fn adopt(fd: OwnedFd) -> Self {
        COUNT.fetch_add(1, Ordering::Relaxed);
        Self { fd }
    }

    /// How many there are in this process.
    pub fn count() -> usize {
        COUNT.load(Ordering::Relaxed)
    }

    /// Maps it, to be read.
    ///
    /// # Errors
    /// The system refuses, or its writer has not sealed it.
    pub fn map(&self) -> io::Result<Mapped> {
        let needed = SealFlags::SHRINK | SealFlags::WRITE;
        if !rustix::fs::fcntl_get_seals(&self.fd)?.contains(needed) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the blob is not sealed"));
        }
        let length = usize::try_from(rustix::fs::fstat(&self.fd)?.st_size).unwrap_or(0);
        if length == 0 {
            return Ok(Mapped { memory: NonNull::dangling(), length });
        }
        // Private and writable would be copied on write; shared and for reading only it stays one.
        // SAFETY: a new mapping at an address of the system's choice.
        let memory = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &self.fd, 0)?
        };
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Mapped { memory, length })
    }
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Drop for Blob {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsFd for Blob {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A blob in this process's memory. The descriptor is not needed for it.
#[derive(Debug)]
pub struct Mapped {
    memory: NonNull<u8>,
    length: usize,
}

// SAFETY: read-only memory that nobody can change: the blob is sealed.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl std::ops::Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped with this length until it is dropped, and sealed.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: mapped by `map`, with this length.
            let _ = unsafe { rustix::mm::munmap(self.memory.as_ptr().cast(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_where_they_are_aligned() {
        let blob = Blob::write(&[b"head", &[7; 100], b"tail"]).expect("a blob");
        let mapped = blob.map().expect("a mapping");
        assert_eq!(&mapped[..4], b"head");
        assert_eq!(&mapped[64..164], &[7; 100]);
        assert_eq!(&mapped[192..], b"tail");
    }

    #[test]
    fn nothing_can_be_written_any_more() {
        let blob = Blob::write(&[b"head"]).expect("a blob");
        assert!(rustix::io::pwrite(&blob, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&blob, 0).is_err());
    }

    #[test]
    fn what_is_not_sealed_is_refused() {
        let fd = rustix::fs::memfd_create("open", MemfdFlags::ALLOW_SEALING).expect("a descriptor");
        assert_eq!(Blob::adopt(fd).map().expect_err("refused").kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn an_empty_one_is_empty() {
        assert!(Blob::write(&[]).and_then(|blob| blob.map()).expect("a mapping").is_empty());
    }
}
