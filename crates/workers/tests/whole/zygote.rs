//! A zygote without Python: this test binary once more, which speaks the zygote's protocol and forks workers.
//!
//! What it is prepared with says how it behaves; see [`Manner`].
#![allow(unsafe_code, reason = "it forks, and takes descriptors by number")]

use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use thistledown_workers::{Inheritance, Launch};

use crate::worker;

/// How a zygote behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As it should.
    Right,
    /// It cannot do what it is prepared for.
    Broken,
    /// It forks nobody.
    Barren,
    /// It says what nobody understands.
    Babbling,
    /// Its workers die before they are ready.
    Stillbirths,
    /// The initializer of its workers fails.
    Uninitialized,
}

const MANNERS: [Manner; 6] = [
    Manner::Right,
    Manner::Broken,
    Manner::Barren,
    Manner::Babbling,
    Manner::Stillbirths,
    Manner::Uninitialized,
];

/// How to start one. The shell only keeps the words of the test harness off the terminal.
pub(crate) fn launch(manner: Manner) -> Launch {
    let binary = std::env::current_exe().expect("this program");
    let harness = ["zygote::is_one_when_it_is_started_as_one", "--exact", "--ignored", "--nocapture"];
    let shell = ["/bin/sh", "-c", "exec \"$0\" \"$@\" > /dev/null"];
    let command = shell.iter().map(OsString::from).chain([binary.into()]).chain(harness.map(OsString::from));
    // A sanitizer is told by its variables what is no finding.
    let sanitizers = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().ends_with("SAN_OPTIONS"));
    Launch { command: command.collect(), environment: sanitizers.collect(), preparation: vec![manner as u8] }
}

/// The descriptor that the engine names as the last argument.
const SOCKET: &str = "0";

#[test]
#[ignore = "it is the zygote of the other tests, and starts as one only when an engine asks for it"]
fn is_one_when_it_is_started_as_one() {
    if std::env::args().next_back().as_deref() == Some(SOCKET) {
        // SAFETY: the engine has started this process with its socket there.
        Zygote { socket: unsafe { OwnedFd::from_raw_fd(0) }, manner: Manner::Right, workers: Vec::new() }
            .serve();
    }
}

struct Zygote {
    socket: OwnedFd,
    manner: Manner,
    workers: Vec<Worker>,
}

struct Worker {
    number: u64,
    process: Pid,
    pidfd: OwnedFd,
}

impl Zygote {
    fn serve(mut self) -> ! {
        loop {
            let mut watched = vec![PollFd::new(&self.socket, PollFlags::IN)];
            watched.extend(self.workers.iter().map(|worker| PollFd::new(&worker.pidfd, PollFlags::IN)));
            let polled = rustix::io::retry_on_intr(|| rustix::event::poll(&mut watched, None));
            polled.expect("descriptors that are open");
            let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(watched);
            for (place, _) in ready[1..].iter().enumerate().rev().filter(|(_, ready)| **ready) {
                self.reap(place);
            }
            if ready[0] && !self.hear() {
                self.end();
            }
        }
    }

    /// Takes one message. False: there will be no more.
    fn hear(&mut self) -> bool {
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(7))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let heard = recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags);
        let length = heard.map_or(0, |heard| heard.bytes);
        let rights = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        let descriptors: Vec<OwnedFd> = rights.flatten().collect();
        let words = String::from_utf8_lossy(&bytes[..length]).into_owned();
        match words.split_once(' ') {
            Some(("prepare", _)) => self.prepare(&descriptors[0]),
            Some(("fork", number)) => self.fork(number.parse().expect("a number"), descriptors),
            _ => return false,
        }
        true
    }

    fn prepare(&mut self, preparation: &OwnedFd) {
        let mut manner = [0];
        rustix::io::pread(preparation, &mut manner, 0).expect("a preparation");
        self.manner = MANNERS[usize::from(manner[0])];
        match self.manner {
            Manner::Broken => {
                self.say("broken there is no such module", None);
                self.end();
            }
            Manner::Babbling => self.say("what nobody understands", None),
            _ => {}
        }
    }

    fn fork(&mut self, number: u64, descriptors: Vec<OwnedFd>) {
        if self.manner == Manner::Barren {
            return self.say(&format!("failed {number} it is barren"), None);
        }
        // SAFETY: this process has no thread that holds a lock: the harness's own waits for this one.
        let process = unsafe { libc::fork() };
        if process == 0 {
            self.be_worker(descriptors);
        }
        let process = Pid::from_raw(process).expect("a fork");
        let pidfd = pidfd_open(process, PidfdFlags::empty()).expect("a descriptor");
        self.say(&format!("born {number} {}", process.as_raw_nonzero()), Some(&pidfd));
        self.workers.push(Worker { number, process, pidfd });
    }

    fn be_worker(&mut self, descriptors: Vec<OwnedFd>) -> ! {
        let manner = self.manner;
        self.workers.clear();
        let null = std::fs::File::open("/dev/null").expect("nothing");
        rustix::stdio::dup2_stdin(&null).expect("a standard input");
        let [region, control, work_bell, answers_bell, parent_bell, lifeline, stderr] =
            descriptors.try_into().expect("seven descriptors");
        rustix::stdio::dup2_stderr(&stderr).expect("a standard error");
        drop((null, stderr));
        let inherited = Inheritance { region, control, work_bell, answers_bell, parent_bell, lifeline };
        let served = std::panic::catch_unwind(move || worker::serve(inherited, manner));
        // SAFETY: nothing of the zygote's is to be seen to.
        unsafe { libc::_exit(if served.is_ok() { 0 } else { 101 }) }
    }

    fn reap(&mut self, place: usize) {
        let worker = self.workers.remove(place);
        let mut status = 0;
        // SAFETY: the status outlives the call.
        unsafe { libc::waitpid(worker.process.as_raw_nonzero().get(), &raw mut status, 0) };
        self.say(&format!("died {} {} {status}", worker.number, worker.process.as_raw_nonzero()), None);
    }

    fn say(&self, words: &str, descriptor: Option<&OwnedFd>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        // When the parent is gone, the next message says so.
        let _ = sendmsg(&self.socket, &[IoSlice::new(words.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL);
    }

    /// Leaves nothing behind.
    fn end(&mut self) -> ! {
        for worker in &self.workers {
            let _ = pidfd_send_signal(&worker.pidfd, Signal::KILL);
        }
        while !self.workers.is_empty() {
            self.reap(0);
        }
        // SAFETY: nothing is left to be seen to.
        unsafe { libc::_exit(0) }
    }
}
