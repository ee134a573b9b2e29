//! The parent's side of the zygote: a process that was started clean and does nothing but fork workers.
//!
//! Started by exec, with one thread, in a process group of its own; so a worker costs a fork and inherits nothing of the
//! parent's threads, locks and descriptors, and a Ctrl-C in the terminal reaches only the parent. The zygote is the
//! workers' parent: it reaps them, says how each ended, and kills them all when its socket closes, whatever became of
//! whoever held the other end. Source: Android's process of that name; `forkserver` of `multiprocessing`.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix_futex_sync::Mutex;

use crate::blob::Blob;
use crate::control::{self, Heard};
use crate::lifeline;

/// How long a zygote has for its end.
const PATIENCE: Duration = Duration::from_secs(2);

/// How to start a zygote.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments. A last argument says which descriptor its socket is: 0, its standard input.
    pub command: Vec<OsString>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What it has to know first.
    pub preparation: Vec<u8>,
}

/// What a zygote says.
#[derive(Debug)]
pub(crate) enum News {
    /// The worker of this number lives: its process id, and a descriptor that stands for it.
    Born(u64, i32, OwnedFd),
    /// The fork failed.
    Unborn(u64, String),
    /// The worker of this number has ended, with this wait status.
    Died(u64, i32),
    /// It cannot do what it was prepared for, and goes.
    Broken(String),
    /// It is gone.
    Gone,
}

/// A zygote that was started.
#[derive(Debug)]
pub(crate) struct Zygote {
    process: Mutex<Option<Child>>,
    socket: OwnedFd,
    /// Closed when this process ends, upon which the zygote is killed should it hang.
    _lifeline: OwnedFd,
}

impl Zygote {
    /// Starts one. It is not ready yet; what is asked of it waits in the socket.
    pub(crate) fn launch(launch: &Launch) -> io::Result<Self> {
        let [program, arguments @ ..] = launch.command.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program to start"));
        };
        let (socket, theirs) = control::pair()?;
        let (lifeline, their_lifeline) = lifeline::new()?;
        let process = Command::new(program)
            .args(arguments)
            // The number of the descriptor that is its socket.
            .arg("0")
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(theirs))
            .process_group(0)
            .spawn()?;
        let zygote = Self { process: Mutex::new(Some(process)), socket, _lifeline: lifeline };
        let blob = Blob::write(&[&launch.preparation])?;
        let words = format!("prepare {}", launch.preparation.len());
        control::send(&zygote.socket, words.as_bytes(), &[blob.as_fd(), their_lifeline.as_fd()])?;
        Ok(zygote)
    }

    /// Asks for a worker.
    pub(crate) fn fork(&self, number: u64, descriptors: &[BorrowedFd<'_>; 7]) -> io::Result<()> {
        control::send(&self.socket, format!("fork {number}").as_bytes(), descriptors)
    }

    /// The next thing that it says, if there is any.
    pub(crate) fn hear(&self) -> io::Result<Option<News>> {
        let mut bytes = [0; 4096];
        match control::receive(&self.socket, &mut bytes, false)? {
            Heard::Nothing => Ok(None),
            Heard::Gone => Ok(Some(News::Gone)),
            Heard::Message(length, descriptors) => {
                parse(&bytes[..length], descriptors).map(Some).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "the zygote says what nobody understands")
                })
            }
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Closes the socket, upon which it kills what it has forked and goes; waits for that.
    pub(crate) fn close(self) {
        // Also when a fork of this process holds it too.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let mut pause = Duration::from_micros(200);
        let patience = Instant::now() + PATIENCE;
        let Some(mut process) = self.process.lock().take() else { return };
        while let Ok(None) = process.try_wait() {
            if Instant::now() > patience {
                // It is stopped, or hangs.
                let _ = process.kill();
                let _ = process.wait();
                return;
            }
            let _ = rustix::event::poll(&mut [], Some(&timespec(pause)));
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// In a forked child: it is the parent's. Its socket is closed here, and it is not waited for.
    pub(crate) fn desert(self) {
        drop(self.process.lock().take());
    }
}

impl Drop for Zygote {
    /// One that was not closed does not behave, or could not be prepared.
    fn drop(&mut self) {
        if let Some(mut process) = self.process.get_mut().take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: 0, tv_nsec: duration.subsec_nanos().into() }
}

fn parse(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Option<News> {
    let text = String::from_utf8_lossy(bytes);
    let (verb, rest) = text.split_once(' ').unwrap_or((&text, ""));
    if verb == "broken" {
        return Some(News::Broken(rest.to_owned()));
    }
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let number = number.parse().ok()?;
    match verb {
        "born" => Some(News::Born(number, rest.parse().ok()?, descriptors.into_iter().next()?)),
        "failed" => Some(News::Unborn(number, rest.to_owned())),
        "died" => Some(News::Died(number, rest.split_once(' ')?.1.parse().ok()?)),
        _ => None,
    }
}

/// Whether anything that the zygote might say is understood; for `fuzz/`, which has nothing of ours to expect.
#[cfg(fuzzing)]
#[must_use]
pub fn understands(bytes: &[u8]) -> bool {
    parse(bytes, Vec::new()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_nothing() {
        for text in ["", "born", "born x 3", "born 1", "died 1 2", "died 1 2 x", "failed", "hello 1"] {
            assert!(parse(text.as_bytes(), Vec::new()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn what_is_said_is_understood() {
        assert!(matches!(parse(b"died 7 1234 9", Vec::new()), Some(News::Died(7, 9))));
        assert!(
            matches!(parse(b"failed 7 no memory", Vec::new()), Some(News::Unborn(7, words)) if words == "no memory")
        );
        assert!(
            matches!(parse(b"broken No module x", Vec::new()), Some(News::Broken(words)) if words == "No module x")
        );
    }
}
