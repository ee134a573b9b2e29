//! A lock for work of some tens of nanoseconds, which it must not double.
//!
//! Letting go is a plain store. A lock with a queue looks for sleepers with a second atomic exchange, which takes as
//! long as what the kernel does behind it. Here nobody queues: who finds the lock taken spins, which is enough while its
//! holder runs; when the holder has lost its processor they give away their own, and then sleep a moment at a time. So it
//! is not fair, and it is good for short work alone, which never waits for anything.
#![allow(unsafe_code, reason = "whoever has taken the lock is alone with the value; a model checks that")]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::sync::{AtomicBool, Ordering};

/// A value that one thread at a time can work with.
pub struct Lock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: it hands the value from thread to thread, one at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> std::fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

impl<T> Lock<T> {
    /// A lock that nobody has taken.
    pub fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the lock.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        let mut tries = 0;
        loop {
            match self.try_lock() {
                Some(guard) => return guard,
                None => pause(&mut tries),
            }
        }
    }

    /// Takes the lock, unless somebody has.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let taken = self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok().then(|| Guard { lock: self, of_this_thread: PhantomData })
    }

    /// Releases a lock whose guard was forgotten.
    ///
    /// # Safety
    /// This thread has the lock.
    pub unsafe fn force_unlock(&self) {
        self.taken.store(false, Ordering::Release);
    }
}

#[cold]
#[cfg(not(loom))]
#[allow(clippy::disallowed_methods, reason = "a moment's sleep needs nobody to wake from it")]
fn pause(tries: &mut u32) {
    /// Many times what the work behind the lock takes.
    const SPINS: u32 = 200;
    const YIELDS: u32 = 20;
    *tries += 1;
    if *tries <= SPINS {
        std::hint::spin_loop();
    } else if *tries <= SPINS + YIELDS {
        std::thread::yield_now();
    } else {
        std::thread::sleep(std::time::Duration::from_micros(50));
    }
}

#[cfg(loom)]
fn pause(_: &mut u32) {
    loom::thread::yield_now();
}

/// Proof that this thread has the lock, until it is dropped.
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
    of_this_thread: PhantomData<*const ()>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread alone has the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed for it.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.taken.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_lock_is_alone() {
        let lock = Lock::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| *lock.lock() += 1));
            }
        });
        assert_eq!(*lock.lock(), 40_000);
    }

    #[test]
    fn a_lock_that_is_taken_is_waited_for() {
        let lock = Lock::new(0);
        let guard = lock.lock();
        assert!(lock.try_lock().is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| *lock.lock());
            let mut tries = 0;
            // Longer than anybody spins or yields.
            (0..230).for_each(|_| pause(&mut tries));
            drop(guard);
            assert_eq!(waiting.join().ok(), Some(0));
        });
        assert!(lock.try_lock().is_some());
    }

    #[test]
    fn a_guard_that_was_forgotten_is_released_by_hand() {
        let lock = Lock::new(());
        std::mem::forget(lock.lock());
        // SAFETY: this thread has taken it.
        unsafe { lock.force_unlock() };
        assert!(lock.try_lock().is_some());
    }
}
