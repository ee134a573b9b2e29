//! A point in time, as nanoseconds since an epoch that the caller chose. The kernel reads no clock.

use std::time::Duration;

/// A point in time. Saturates some 584 years after its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// So long after the epoch.
    #[must_use]
    pub fn after_epoch(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    /// So long after this moment.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::after_epoch(duration).0))
    }

    /// How long it is from `earlier` to this moment; zero when it is already past.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
