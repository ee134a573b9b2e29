//! Parcels: the bytes of a call or of a result, on their way.
//!
//! A parcel has a head and, beside it, large parts that are not copied into the head. Small ones go through a lane; what
//! is larger goes through a blob: the head first, then each part, aligned. The head says how long the parts are; what
//! is in it is its maker's affair.
//!
//! A blob takes a descriptor, of which a process has few. So of many that wait, most are kept as plain memory, and become
//! blobs when their turn comes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::blob::{self, Blob, Mapped};

/// Heads up to this length go through a lane: two of them, and what a frame says besides, fit into one frame.
pub const INLINE_BYTES: usize = 32_000;

/// Blobs that a process has at a time; more wait as plain memory.
const BLOBS: usize = 128;

/// A call or a result.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// All of it.
    Inline(Arc<[u8]>),
    /// In a blob, which begins with a head of so many bytes.
    Blob(Arc<Blob>, u64),
    /// What is to be in a blob.
    Kept(Arc<[u8]>, u64),
    /// The system did not give what was needed to receive it.
    Lost(Errno),
}

impl Parcel {
    /// A parcel of a head and its parts.
    ///
    /// # Errors
    /// There is no memory for the blob.
    pub fn new(head: &[u8], parts: &[&[u8]]) -> io::Result<Self> {
        if parts.is_empty() && head.len() <= INLINE_BYTES {
            return Ok(Self::Inline(head.into()));
        }
        let length = head.len() as u64;
        let all: Vec<&[u8]> = std::iter::once(head).chain(parts.iter().copied()).collect();
        if Blob::count() < BLOBS {
            match Blob::write(&all) {
                Ok(blob) => return Ok(Self::Blob(Arc::new(blob), length)),
                Err(error) if !is_short_of_descriptors(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(Self::Kept(blob::laid_out(&all).into(), length))
    }

    /// One that came as a descriptor, with a head of so many bytes. When this process has many already it is kept as plain
    /// memory. Nothing came: it was lost, as there was no descriptor free for it.
    #[must_use]
    pub fn received(descriptor: Option<OwnedFd>, head: u64) -> Self {
        let Some(descriptor) = descriptor else { return Self::Lost(Errno::MFILE) };
        let blob = Blob::adopt(descriptor);
        if Blob::count() > BLOBS
            && let Ok(mapped) = blob.map()
        {
            return Self::Kept(mapped.to_vec().into(), head);
        }
        Self::Blob(Arc::new(blob), head)
    }

    /// How many bytes it takes, as far as that is known without opening it: a blob counts for the least that it can be.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Inline(bytes) | Self::Kept(bytes, _) => bytes.len(),
            Self::Blob(..) => INLINE_BYTES,
            Self::Lost(_) => 0,
        }
    }

    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::Inline(Arc::from([]))
    }

    /// Some bytes that need no blob.
    pub fn words(bytes: &[u8]) -> Self {
        Self::Inline(bytes[..bytes.len().min(INLINE_BYTES)].into())
    }

    /// The same, as it can be passed on: in a blob, if it needs one.
    ///
    /// # Errors
    /// There is no memory or no descriptor for the blob, or it was lost.
    pub fn passable(&self) -> io::Result<Self> {
        match self {
            Self::Inline(_) | Self::Blob(..) => Ok(self.clone()),
            Self::Kept(bytes, head) => Ok(Self::Blob(Arc::new(Blob::write(&[bytes])?), *head)),
            Self::Lost(error) => Err((*error).into()),
        }
    }

    /// Whether it takes another way than a lane.
    pub fn needs_blob(&self) -> bool {
        matches!(self, Self::Blob(..) | Self::Kept(..))
    }

    /// The blob of one that is passable.
    pub fn blob(&self) -> Option<&Blob> {
        match self {
            Self::Blob(blob, _) => Some(blob),
            _ => None,
        }
    }

    /// How long its head is, if that is in a blob.
    #[must_use]
    pub fn head_in_blob(&self) -> Option<u64> {
        match self {
            Self::Blob(_, head) | Self::Kept(_, head) => Some(*head),
            Self::Inline(_) | Self::Lost(_) => None,
        }
    }

    /// The bytes that need no blob.
    #[must_use]
    pub fn inline(&self) -> &[u8] {
        match self {
            Self::Inline(bytes) => bytes,
            _ => &[],
        }
    }

    /// Looks at its head, without keeping anything of it open. Nothing: it cannot be read.
    pub fn look<R>(&self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        match self {
            Self::Inline(bytes) => Some(look(bytes)),
            Self::Kept(bytes, head) => bytes.get(..usize::try_from(*head).ok()?).map(look),
            Self::Blob(..) => self.open().ok().map(|opened| look(opened.head())),
            Self::Lost(_) => None,
        }
    }

    /// Opens it, to be read.
    ///
    /// # Errors
    /// The blob cannot be mapped, is shorter than its head, or was lost.
    pub fn open(&self) -> io::Result<Opened> {
        if let Self::Inline(bytes) = self {
            return Ok(Opened::Inline(Arc::clone(bytes)));
        }
        let Self::Blob(blob, head) = self.passable()? else { return Err(Errno::INVAL.into()) };
        let mapped = blob.map()?;
        let head = usize::try_from(head).unwrap_or(usize::MAX);
        match head <= mapped.len() {
            true => Ok(Opened::Mapped(Arc::new(mapped), head)),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "a blob is shorter than its head")),
        }
    }
}

/// Whether there will be a descriptor later.
fn is_short_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// A parcel that can be read. Needs no descriptor.
#[derive(Clone, Debug)]
pub enum Opened {
    /// All of it.
    Inline(Arc<[u8]>),
    /// In memory that is shared with whoever wrote it, and the head's length.
    Mapped(Arc<Mapped>, usize),
}

impl Opened {
    /// The head.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Mapped(mapped, head) => &mapped[..*head],
        }
    }

    /// The memory that the parts stand in.
    #[must_use]
    pub fn mapped(&self) -> Option<&Arc<Mapped>> {
        match self {
            Self::Inline(_) => None,
            Self::Mapped(mapped, _) => Some(mapped),
        }
    }
}
