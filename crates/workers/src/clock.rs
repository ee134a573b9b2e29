//! The machine's monotonic clock, which all processes share.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine was started.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
