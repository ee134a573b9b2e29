//! A poller that follows a script and never sleeps.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use thistledown_reactor::{Poller, Ready};

/// Says at each poll what its script says there, and remembers for how long it was asked to sleep.
///
/// Behind the end of the script nothing is reported. A poll that would then sleep for ever is an error, so that a
/// test which waits for nothing fails instead of hanging.
#[derive(Debug, Default)]
pub struct ScriptedPoller {
    script: VecDeque<Vec<Ready>>,
    timeouts: Vec<Option<Duration>>,
}

impl ScriptedPoller {
    /// A script with one entry for each poll.
    #[must_use]
    pub fn new(script: impl IntoIterator<Item = Vec<Ready>>) -> Self {
        Self { script: script.into_iter().collect(), timeouts: Vec::new() }
    }

    /// The timeout of each poll so far.
    #[must_use]
    pub fn timeouts(&self) -> &[Option<Duration>] {
        &self.timeouts
    }

    /// How many entries of the script are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.script.len()
    }
}

impl Poller for ScriptedPoller {
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.timeouts.push(timeout);
        match (self.script.pop_front(), timeout) {
            (Some(reports), _) => ready.extend(reports),
            (None, None) => return Err(io::Error::other("the script has ended, and this sleep never would")),
            (None, Some(_)) => {}
        }
        Ok(())
    }
}

/// The report that a registration became readable.
#[must_use]
pub fn readable(token: u64) -> Ready {
    Ready { token, readable: true, writable: false, read_closed: false, write_closed: false, urgent: false }
}

/// The report that a registration became writable.
#[must_use]
pub fn writable(token: u64) -> Ready {
    Ready { token, readable: false, writable: true, read_closed: false, write_closed: false, urgent: false }
}

/// The report that the other end of a registration is gone.
#[must_use]
pub fn hung_up(token: u64) -> Ready {
    Ready { token, readable: true, writable: true, read_closed: true, write_closed: true, urgent: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(poller: &mut ScriptedPoller, timeout: Option<Duration>) -> io::Result<Vec<Ready>> {
        let mut ready = Vec::new();
        poller.poll(timeout, &mut ready).map(|()| ready)
    }

    #[test]
    fn each_poll_takes_one_entry_and_its_timeout_is_kept() {
        let mut poller = ScriptedPoller::new([vec![readable(1), writable(2)], vec![], vec![hung_up(3)]]);
        assert_eq!(poll(&mut poller, None).expect("an entry"), [readable(1), writable(2)]);
        assert_eq!(poll(&mut poller, Some(Duration::ZERO)).expect("an entry"), []);
        assert_eq!(poller.left(), 1);
        assert_eq!(poll(&mut poller, None).expect("an entry"), [hung_up(3)]);
        assert_eq!(poller.timeouts(), [None, Some(Duration::ZERO), None]);
    }

    #[test]
    fn behind_the_end_a_sleep_for_ever_is_an_error() {
        let mut poller = ScriptedPoller::default();
        assert_eq!(poll(&mut poller, Some(Duration::from_secs(1))).expect("a sleep that ends"), []);
        assert!(poll(&mut poller, None).is_err());
    }
}
