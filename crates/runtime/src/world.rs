//! The kernel of a process behind one lock.
//!
//! One lock for everything: a wait may name a channel, a task of another thread and a socket at once, and commits to
//! exactly one, so it has to see them together. The lock is held for some tens of nanoseconds and never while foreign
//! code runs: sleepers are woken, and what is left over is dropped, after it is released.

use thistledown_kernel::{Kernel, Payload};

use crate::sync::{WorldGuard, WorldLock};

/// Something that sleeps and can be woken, from any thread.
pub trait Wakes {
    /// Ends its sleep, or else the next one.
    fn wake(&self);
}

/// The kernel behind its lock.
pub struct World<P: Payload> {
    kernel: WorldLock<Kernel<P>>,
}

impl<P: Payload> std::fmt::Debug for World<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl<P: Payload> Default for World<P> {
    fn default() -> Self {
        Self { kernel: WorldLock::new(Kernel::default()) }
    }
}

impl<P: Payload<Waker: Wakes>> World<P> {
    /// Does something with the kernel, then what the kernel wants done outside.
    #[inline(always)]
    pub fn with<R>(&self, work: impl FnOnce(&mut Kernel<P>) -> R) -> R {
        let mut kernel = self.kernel.lock();
        let result = work(&mut kernel);
        if kernel.has_remains() {
            Self::clear_away(kernel);
        }
        result
    }

    /// The same for who holds another lock, under which nothing is dropped: what the kernel wants done outside is left to
    /// whoever comes next, which is to be the caller, by [`Self::with`].
    pub fn with_left<R>(&self, work: impl FnOnce(&mut Kernel<P>) -> R) -> R {
        work(&mut self.kernel.lock())
    }

    #[cold]
    fn clear_away(mut kernel: WorldGuard<'_, Kernel<P>>) {
        let wakers = kernel.take_wakers();
        let spent = kernel.take_spent();
        drop(kernel);
        wakers.iter().for_each(Wakes::wake);
        drop(spent);
    }

    /// The same, unless somebody holds the lock; for those who must not wait, such as a garbage collector.
    #[cfg(not(loom))]
    pub fn try_with<R>(&self, work: impl FnOnce(&mut Kernel<P>) -> R) -> Option<R> {
        Some(work(&mut *self.kernel.try_lock()?))
    }

    /// Takes the lock and keeps it, so that a fork finds the kernel whole.
    #[cfg(not(loom))]
    pub fn lock_for_fork(&self) {
        std::mem::forget(self.kernel.lock());
    }

    /// Releases the lock that [`Self::lock_for_fork`] took, in the parent and in the child.
    ///
    /// # Safety
    /// Only after [`Self::lock_for_fork`] in this thread, and once in each process.
    #[cfg(not(loom))]
    #[allow(unsafe_code, reason = "the guard cannot live across a fork, so the lock is released by hand")]
    pub unsafe fn unlock_after_fork(&self) {
        // SAFETY: the caller holds the lock, by the contract above.
        unsafe { self.kernel.force_unlock() };
    }
}
