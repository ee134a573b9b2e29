//! Readiness and wake-up from the operating system, on `mio`.
//!
//! A file descriptor is registered once, for both directions, and reported when it *becomes* ready (edge-triggered):
//! whoever waits for it has tried it and found nothing. It keeps no time of its own and knows nobody who waits: a
//! registration is a number, and what comes out is numbers. Whatever cannot be polled (a regular file) is an error.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

const WAKE: Token = Token(usize::MAX);
/// Reports taken from the system in one call.
const EVENTS: usize = 1024;

/// A registration that became ready. An error or a closed end counts as ready: the attempt tells which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The number it was registered under.
    pub token: u64,
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// Nothing more will come: reading stays ready.
    pub read_closed: bool,
    /// Nothing more can be written: writing stays ready.
    pub write_closed: bool,
    /// Something urgent came: a read may stop at it, with more behind.
    pub urgent: bool,
}

/// Where readiness comes from: the operating system, or a script in tests.
pub trait Poller {
    /// Sleeps until something is ready, somebody calls the waker, a signal arrives or the time is over; `None` sleeps
    /// for as long as it takes. What is ready is added to `ready`. Returning early with nothing is allowed.
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()>;
}

/// The operating system's readiness.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    events: Events,
    waker: Waker,
}

/// Ends a sleep of its reactor, from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Ends the present sleep, or else the next one. A reactor that is gone is nobody to wake.
    pub fn wake(&self) {
        // The only failures are those of a descriptor that is being torn down.
        let _ = self.0.wake();
    }
}

/// The part of a reactor that registers; it can be kept apart from the part that sleeps.
#[derive(Debug)]
pub struct Registry(mio::Registry);

impl Registry {
    /// Registers a descriptor under a number, for both directions.
    pub fn register(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let token = usize::try_from(token).map_err(|_| io::ErrorKind::InvalidInput)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let interest = interest | Interest::PRIORITY;
        self.0.register(&mut SourceFd(&fd.as_raw_fd()), Token(token), interest)
    }

    /// Ends a registration.
    pub fn deregister(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.0.deregister(&mut SourceFd(&fd.as_raw_fd()))
    }
}

impl Reactor {
    /// A reactor of its own: one poll descriptor and one to wake it.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKE)?));
        Ok(Self { poll, events: Events::with_capacity(EVENTS), waker })
    }

    /// What ends its sleep.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What registers with it.
    pub fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone().map(Registry)
    }
}

impl AsRawFd for Reactor {
    /// A descriptor that is readable while there is something to report, for who watches it in a poll of their own.
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl Poller for Reactor {
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        ready.extend(self.events.iter().filter(|event| event.token() != WAKE).map(|event| Ready {
            token: event.token().0 as u64,
            readable: event.is_readable() || event.is_read_closed() || event.is_error(),
            writable: event.is_writable() || event.is_write_closed() || event.is_error(),
            read_closed: event.is_read_closed() || event.is_error(),
            write_closed: event.is_write_closed() || event.is_error(),
            urgent: is_urgent(event),
        }));
        Ok(())
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_urgent(event: &mio::event::Event) -> bool {
    event.is_priority()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_urgent(_event: &mio::event::Event) -> bool {
    false
}

#[cfg(test)]
#[allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the tests bring what the reactor watches"
)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn poll(reactor: &mut Reactor, timeout: Option<Duration>) -> Vec<Ready> {
        let mut ready = Vec::new();
        reactor.poll(timeout, &mut ready).expect("a working poll");
        ready
    }

    #[test]
    fn reports_each_arrival_once() {
        let mut reactor = Reactor::new().expect("a reactor");
        let (mut near, mut far) = UnixStream::pair().expect("a socket pair");
        near.set_nonblocking(true).expect("non-blocking");
        reactor.registry().expect("a registry").register(near.as_fd(), 7).expect("a registration");
        poll(&mut reactor, Some(Duration::ZERO));
        far.write_all(b"x").expect("a write");
        let ready = poll(&mut reactor, None);
        let open = Ready {
            token: 7,
            readable: true,
            writable: true,
            read_closed: false,
            write_closed: false,
            urgent: false,
        };
        assert_eq!(ready, [open]);
        assert_eq!(poll(&mut reactor, Some(Duration::ZERO)), [], "an edge is reported once");
        near.read_exact(&mut [0]).expect("a read");
        drop(far);
        let ended = poll(&mut reactor, None)[0];
        assert!(ended.readable && ended.read_closed, "the end of file is an arrival");
    }

    #[test]
    fn a_wake_is_kept_for_the_next_sleep() {
        let mut reactor = Reactor::new().expect("a reactor");
        let waker = reactor.waker();
        std::thread::spawn(move || waker.wake()).join().expect("the thread");
        assert_eq!(poll(&mut reactor, None), []);
    }

    #[test]
    fn its_own_descriptor_is_readable_while_there_is_something_to_report() {
        let mut inner = Reactor::new().expect("a reactor");
        let mut outer = Reactor::new().expect("a reactor");
        // SAFETY: the descriptor of a reactor that lives until the end of the test.
        let watched = unsafe { BorrowedFd::borrow_raw(inner.as_raw_fd()) };
        outer.registry().expect("a registry").register(watched, 3).expect("a registration");
        assert_eq!(poll(&mut outer, Some(Duration::ZERO)).iter().filter(|ready| ready.readable).count(), 0);
        inner.waker().wake();
        assert!(poll(&mut outer, None)[0].readable);
        poll(&mut inner, Some(Duration::ZERO));
        inner.waker().wake();
        assert!(poll(&mut outer, None)[0].readable, "the next wake is reported as well");
    }

    #[test]
    fn a_regular_file_is_refused() {
        let reactor = Reactor::new().expect("a reactor");
        let file = std::fs::File::open("/proc/self/exe").expect("a file");
        let refused = reactor.registry().expect("a registry").register(file.as_fd(), 1);
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::PermissionDenied));
    }
}
