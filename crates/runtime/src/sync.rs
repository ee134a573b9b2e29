//! The lock, the condition and the numbers that threads share, so that models can put theirs in their place.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use crate::lock::{Guard as WorldGuard, Lock as WorldLock};
#[cfg(not(loom))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

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
pub(crate) fn wait<'a, T>(condition: &Condvar, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(&mut guard);
    guard
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
