//! The process of a worker, as far as its parent knows it: the zygote's news of it may come later than its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Signal, pidfd_send_signal};

/// A process that is born, or will be.
#[derive(Debug, Default)]
pub(crate) struct Process {
    born: Option<(i32, OwnedFd)>,
    /// What is to be sent to it when it is known to be born.
    pending: Option<Signal>,
}

impl Process {
    /// It lives; the descriptor stands for it.
    pub(crate) fn born(&mut self, pid: i32, pidfd: OwnedFd) {
        self.born = Some((pid, pidfd));
        if let Some(signal) = self.pending.take() {
            self.signal(signal);
        }
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        self.born.as_ref().map(|(pid, _)| *pid)
    }

    /// Readable when it has ended.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.born.as_ref().map(|(_, pidfd)| pidfd.as_fd())
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        match &self.born {
            Some((_, pidfd)) => drop(pidfd_send_signal(pidfd, signal)),
            // It may take tasks before it is known to be born.
            None => self.pending = Some(signal),
        }
    }

    /// Resident memory of its own, in bytes.
    pub(crate) fn memory(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid()?)).ok()?;
        let mut pages = text.split(' ').skip(1).map_while(|number| number.parse::<u64>().ok());
        let (resident, shared) = (pages.next()?, pages.next()?);
        Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
    }
}
