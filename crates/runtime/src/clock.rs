//! What time it is: the system's monotonic clock, or one that only moves when it is told to.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thistledown_kernel::Moment;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A clock.
#[derive(Debug)]
pub enum Clock {
    /// The system's monotonic clock, since the first time it was asked.
    System,
    /// Nanoseconds that move by [`Clock::jump_to`] only.
    Virtual(AtomicU64),
}

impl Clock {
    /// A virtual clock at its epoch.
    #[must_use]
    pub fn new_virtual() -> Self {
        Self::Virtual(AtomicU64::new(0))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Moment {
        match self {
            Self::System => Moment::after_epoch(EPOCH.elapsed()),
            Self::Virtual(nanos) => Moment::after_epoch(Duration::from_nanos(nanos.load(Ordering::Relaxed))),
        }
    }

    /// Moves a virtual clock forward. False for the system's, which cannot be moved.
    pub fn jump_to(&self, moment: Moment) -> bool {
        let Self::Virtual(nanos) = self else { return false };
        let since_epoch = moment.since(Moment::default()).as_nanos();
        nanos.fetch_max(u64::try_from(since_epoch).unwrap_or(u64::MAX), Ordering::Relaxed);
        true
    }

    /// Whether it only moves when it is told to.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual(_))
    }
}
