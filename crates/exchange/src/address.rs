//! Names across processes: of an exchange, of an object in it, of a ticket that keeps an object.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Where an exchange is reached. Never used again, also when the system uses its process's number again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// Its process.
    pub pid: u32,
    /// Which of that process's.
    pub nonce: u64,
}

impl Address {
    /// One that was never used.
    pub(crate) fn fresh() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let pid = std::process::id();
        let now = clock_gettime(ClockId::Monotonic);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // The time, because forked processes may have inherited the same chance.
        let nonce = RandomState::new().hash_one((pid, now.tv_sec, now.tv_nsec, count));
        Self { pid, nonce }
    }

    /// The name of its socket, which stands in no directory.
    pub(crate) fn socket_name(self) -> String {
        format!("thistledown-exchange-{}-{:016x}", self.pid, self.nonce)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// An object, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId {
    /// The exchange that has it.
    pub owner: Address,
    /// Which one there.
    pub number: u64,
}

impl ObjectId {
    /// How many bytes it is written in.
    pub const BYTES: usize = 20;

    /// As bytes, to be kept in a file or in a pickle.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.owner.pid.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.owner.nonce.to_le_bytes());
        bytes[12..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// From such bytes. Nothing: they are not as many.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let pid = u32::from_le_bytes(bytes[..4].try_into().ok()?);
        let nonce = u64::from_le_bytes(bytes[4..12].try_into().ok()?);
        let number = u64::from_le_bytes(bytes[12..].try_into().ok()?);
        Some(Self { owner: Address { pid, nonce }, number })
    }
}

/// What keeps an object while a handle to it is on its way: made by who sends it, shown by who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TicketId {
    /// The exchange that made it.
    pub maker: Address,
    /// Which of its tickets.
    pub number: u64,
}

/// Who asks: the owner's own process, or another one for as long as it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Party(pub u64);

impl Party {
    /// The process that has the object.
    pub const HERE: Self = Self(0);

    /// Whether it is that process.
    #[must_use]
    pub fn is_here(self) -> bool {
        self == Self::HERE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_the_same_after_its_bytes() {
        let id = ObjectId { owner: Address::fresh(), number: 7 };
        assert_eq!(ObjectId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(ObjectId::from_bytes(&id.to_bytes()[1..]), None);
    }

    #[test]
    fn no_address_is_used_twice() {
        assert_ne!(Address::fresh(), Address::fresh());
    }
}
