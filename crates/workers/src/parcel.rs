//! Parcels: the bytes of a call or of a result, on their way.
//!
//! A parcel has a head and, beside it, large parts that are not copied into the head. Small ones go through a lane; what
//! is larger goes through a blob: the head first, then each part, aligned. The head says how long the parts are; what
//! is in it is its maker's affair.

use std::io;
use std::sync::Arc;

use crate::blob::{Blob, Mapped};

/// Heads up to this length go through a lane.
pub(crate) const INLINE_BYTES: usize = 32 * 1024;

/// A call or a result.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// All of it.
    Inline(Arc<[u8]>),
    /// In a blob, which begins with a head of so many bytes.
    Blob(Arc<Blob>, u64),
}

impl Parcel {
    /// A parcel of a head and its parts.
    ///
    /// # Errors
    /// There is no memory or no descriptor for the blob.
    pub fn new(head: &[u8], parts: &[&[u8]]) -> io::Result<Self> {
        if parts.is_empty() && head.len() <= INLINE_BYTES {
            return Ok(Self::Inline(head.into()));
        }
        let all: Vec<&[u8]> = std::iter::once(head).chain(parts.iter().copied()).collect();
        Ok(Self::Blob(Arc::new(Blob::write(&all)?), head.len() as u64))
    }

    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::Inline(Arc::from([]))
    }

    /// Some bytes that need no blob.
    pub(crate) fn words(bytes: &[u8]) -> Self {
        Self::Inline(bytes[..bytes.len().min(INLINE_BYTES)].into())
    }

    /// What a frame says of its blob.
    pub(crate) fn blob(&self) -> Option<(&Blob, u64)> {
        match self {
            Self::Inline(_) => None,
            Self::Blob(blob, head) => Some((blob, *head)),
        }
    }

    /// How long its head is, if that is in a blob.
    #[must_use]
    pub fn head_in_blob(&self) -> Option<u64> {
        self.blob().map(|(_, head)| head)
    }

    /// The bytes that did not need a blob.
    #[must_use]
    pub fn inline(&self) -> &[u8] {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Blob(..) => &[],
        }
    }

    /// Opens it, to be read.
    ///
    /// # Errors
    /// The blob cannot be mapped, or is shorter than its head.
    pub fn open(&self) -> io::Result<Opened> {
        match self {
            Self::Inline(bytes) => Ok(Opened::Inline(Arc::clone(bytes))),
            Self::Blob(blob, head) => {
                let mapped = blob.map()?;
                let head = usize::try_from(*head).unwrap_or(usize::MAX);
                match head <= mapped.len() {
                    true => Ok(Opened::Mapped(Arc::new(mapped), head)),
                    false => {
                        Err(io::Error::new(io::ErrorKind::InvalidData, "a blob is shorter than its head"))
                    }
                }
            }
        }
    }
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
