//! How a plain thread sleeps: in `poll`, on a pipe of its own and on the descriptors it waits for.
//!
//! Not a condition variable: `poll` returns when a signal arrives, so that one Ctrl-C ends a main thread that waits,
//! and it can watch a socket in the same sleep.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, ioctl_fionbio};
use thistledown_kernel::Direction;

use crate::world::Wakes;

/// What ended a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// Somebody called the waker.
    Woken,
    /// The descriptor at this place may be ready.
    Ready(usize),
    /// The time is over.
    TimedOut,
    /// A signal arrived.
    Interrupted,
}

/// The bed of one thread.
#[derive(Debug)]
pub struct Parker {
    reader: PipeReader,
    waker: ParkerWaker,
}

/// Wakes the thread of its [`Parker`].
#[derive(Clone, Debug)]
pub struct ParkerWaker(Arc<PipeWriter>);

impl Wakes for ParkerWaker {
    fn wake(&self) {
        // A full pipe is a thread that is woken already.
        let _ = (&*self.0).write(&[1]);
    }
}

impl Parker {
    /// A new one. It takes two descriptors, until it is dropped.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        ioctl_fionbio(&reader, true)?;
        ioctl_fionbio(&writer, true)?;
        Ok(Self { reader, waker: ParkerWaker(Arc::new(writer)) })
    }

    /// What ends its sleep.
    #[must_use]
    pub fn waker(&self) -> ParkerWaker {
        self.waker.clone()
    }

    /// What a byte has to be written to, to end its sleep. It does not block.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.waker.0.as_fd()
    }

    /// Sleeps. `None` is for as long as it takes.
    pub fn sleep(
        &mut self,
        watch: &[(BorrowedFd<'_>, Direction)],
        timeout: Option<Duration>,
    ) -> io::Result<Parked> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.reader.as_fd(), PollFlags::IN)];
        fds.extend(watch.iter().map(|&(fd, direction)| {
            let flags = match direction {
                Direction::Read => PollFlags::IN,
                Direction::Write => PollFlags::OUT,
            };
            PollFd::from_borrowed_fd(fd, flags)
        }));
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(Parked::Interrupted),
            Ok(0) => return Ok(Parked::TimedOut),
            polled => polled?,
        };
        let ready = fds.iter().skip(1).position(|fd| !fd.revents().is_empty());
        let woken = !fds[0].revents().is_empty();
        drop(fds);
        if woken {
            while self.reader.read(&mut [0; 64]).is_ok_and(|count| count == 64) {}
            return Ok(Parked::Woken);
        }
        Ok(ready.map_or(Parked::Woken, Parked::Ready))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_before_the_sleep_is_not_lost() {
        let mut parker = Parker::new().expect("a parker");
        parker.waker().wake();
        assert_eq!(parker.sleep(&[], None).expect("a sleep"), Parked::Woken);
        assert_eq!(parker.sleep(&[], Some(Duration::ZERO)).expect("a sleep"), Parked::TimedOut);
    }

    #[test]
    fn many_wakes_are_one() {
        let mut parker = Parker::new().expect("a parker");
        (0..100_000).for_each(|_| parker.waker().wake());
        assert_eq!(parker.sleep(&[], None).expect("a sleep"), Parked::Woken);
        while parker.sleep(&[], Some(Duration::ZERO)).expect("a sleep") == Parked::Woken {}
    }
}
