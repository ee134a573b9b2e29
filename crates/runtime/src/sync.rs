//! The lock, the condition and the numbers that threads share, so that models can put theirs in their place.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use crate::lock::{Guard as WorldGuard, Lock as WorldLock};
#[cfg(not(loom))]
pub(crate) use rustix_futex_sync::{Condvar, Mutex, MutexGuard};

// These sleep on words of their own, as all locks of the house do. A lock that keeps its sleepers in a table of the
// process cannot be used in a forked child: the table has threads there that do not exist, in memory that new ones get.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::MutexGuard;
// Who waits for the world's lock is of no interest to a model of what happens behind it.
#[cfg(loom)]
pub(crate) use {Mutex as WorldLock, MutexGuard as WorldGuard};

#[cfg(loom)]
pub(crate) use model::{Condvar, Mutex};

/// Waits for the condition; the lock is released meanwhile.
#[cfg(not(loom))]
pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard)
}

#[cfg(loom)]
pub(crate) use model::wait;

#[cfg(loom)]
mod model {
    use loom::sync::MutexGuard;

    pub(crate) use loom::sync::Condvar;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|_| unreachable!("no panic under the lock"))
        }
    }

    pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        condition.wait(guard).unwrap_or_else(|_| unreachable!("no panic under the lock"))
    }
}
