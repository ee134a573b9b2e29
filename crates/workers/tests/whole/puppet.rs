//! Puppets: tasks that do what the test tells them, and say when it is done.
//!
//! The task's only argument is a name to call. From then on each message is a verb and its argument, and each is
//! answered when it is done; see `worker::puppet` for the verbs. A puppet whose task has ended still obeys: its worker takes
//! nothing else before it was told `bye`, though its parent believes that it has nothing to do.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::packets;

/// Where a puppet will call.
pub(crate) struct Entrance {
    pub(crate) name: Vec<u8>,
    listener: OwnedFd,
}

impl Entrance {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("thistledown-puppet-{}-{number}", std::process::id()).into_bytes();
        Self { listener: packets::listen_as(&name), name }
    }

    /// The puppet that comes. It runs when this returns.
    pub(crate) fn enter(self) -> Puppet {
        let strings = packets::accept_in_time(&self.listener);
        let greeting = packets::hear_in_time(&strings).expect("a puppet greets");
        let greeting = String::from_utf8(greeting).expect("words");
        let numbers: Vec<i32> = greeting.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [process, zygote] = numbers[..] else { panic!("not a greeting: {greeting}") };
        Puppet { strings, process, zygote }
    }
}

/// A task that runs, and its worker.
pub(crate) struct Puppet {
    strings: OwnedFd,
    pub(crate) process: i32,
    /// The process that has forked its worker.
    pub(crate) zygote: i32,
}

impl Puppet {
    /// Tells it something, and gives what it answers; nothing when it could not.
    pub(crate) fn ask(&self, verb: &str, argument: &[u8]) -> Option<Vec<u8>> {
        self.begin(verb, argument);
        self.hear()
    }

    /// Tells it something that ends, and that it can answer.
    pub(crate) fn tell(&self, verb: &str, argument: &[u8]) -> Vec<u8> {
        self.ask(verb, argument).unwrap_or_else(|| panic!("it is gone before it has done: {verb}"))
    }

    /// Tells it something, and does not wait until it is done.
    pub(crate) fn begin(&self, verb: &str, argument: &[u8]) {
        packets::say(&self.strings, &[verb.as_bytes(), b" ", argument].concat())
            .expect("a puppet that listens");
    }

    /// What it says next; nothing when it is gone.
    pub(crate) fn hear(&self) -> Option<Vec<u8>> {
        let message = packets::hear_in_time(&self.strings)?;
        Some(message.strip_prefix(b"done ").expect("it says when it has done").to_vec())
    }

    /// Its task returns this, and the worker goes on.
    pub(crate) fn returns(self, value: &[u8]) {
        self.tell("value", value);
        self.tell("bye", b"");
    }
}
