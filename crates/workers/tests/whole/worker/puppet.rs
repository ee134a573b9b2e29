//! A puppet, on its own side: it calls the test and does what it is told.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;
use thistledown_workers::{End, Reply};

use super::{NANOS, Worker, number, sleep_for_ever};
use crate::packets;

impl Worker {
    /// Does what the test says:
    ///
    /// | verb | what is done |
    /// |---|---|
    /// | `value`, `error` | the task ends so |
    /// | `bye` | the worker goes on to what lies in its lane |
    /// | `stubborn` | from now on it does not stop when it is told to |
    /// | `spawn NAME CALL` | has a task run, which it calls by the length of `CALL` |
    /// | `unspawn REFERENCE` | cancels that |
    /// | `wait REFERENCE` | waits for its end, and says it |
    /// | `grow BYTES` | takes so much memory |
    /// | `say WORDS`, `mutter WORDS` | to the program; to standard error |
    /// | `chatter COUNT` | says 20,000 bytes, so often, each time others |
    /// | `hang-up` | closes its connection |
    /// | `scribble` | writes over the memory that it shares with its parent |
    /// | `promise` | names a blob that it has not sent |
    /// | `stray` | says that a task has ended which it was never given |
    pub(super) fn obey(&mut self, id: u64, name: &[u8]) {
        let Ok(strings) = packets::call(name) else { return self.finish(id, End::Value, b"") };
        let greeting = format!("{} {}", std::process::id(), std::os::unix::process::parent_id());
        packets::say(&strings, greeting.as_bytes()).expect("a test");
        let mut runs = true;
        let mut grown = Vec::new();
        loop {
            if runs && self.is_to_stop() {
                return self.finish(id, End::Cancelled, b"");
            }
            let message = match packets::hear(&strings) {
                Err(Errno::INTR) => continue,
                Ok(Some(message)) => message,
                // The test has lost its interest.
                Ok(None) | Err(_) if runs => return self.finish(id, End::Value, b""),
                Ok(None) | Err(_) => return,
            };
            let space = message.iter().position(|byte| *byte == b' ').expect("a verb and an argument");
            let (verb, argument) = (&message[..space], &message[space + 1..]);
            let mut answer = Vec::new();
            match verb {
                b"value" | b"error" => {
                    self.finish(id, if verb == b"value" { End::Value } else { End::Error }, argument);
                    runs = false;
                }
                b"stubborn" => self.stubborn = true,
                b"wait" => match self.wait(number(argument)) {
                    Some((end, value)) => answer = [format!("{end:?} ").into_bytes(), value].concat(),
                    None => continue,
                },
                b"grow" => grown.resize(grown.len() + number(argument) as usize, 1_u8),
                _ => self.speak(verb, argument),
            }
            let _ = packets::say(&strings, &[b"done ", &answer[..]].concat());
            if verb == b"bye" {
                return;
            }
        }
    }

    /// The verbs by which a puppet says something to its parent.
    fn speak(&mut self, verb: &[u8], argument: &[u8]) {
        let child = Arc::clone(&self.child);
        match verb {
            b"bye" => {}
            b"spawn" => {
                let space = argument.iter().position(|byte| *byte == b' ').expect("a name and a call");
                let call = &argument[space + 1..];
                self.spawn(call.len() as u64, &argument[..space], call);
            }
            b"unspawn" => {
                let reply = Reply::CancelSpawned { reference: number(argument) };
                child.reply(&reply, 0, b"", None).expect("a parent");
            }
            b"say" => child.reply(&Reply::Say, 0, argument, None).expect("a parent"),
            b"chatter" => {
                for number in 0..number(argument) {
                    child.reply(&Reply::Say, 0, &[number as u8; 20_000], None).expect("a parent");
                }
            }
            b"mutter" => eprintln!("{}", String::from_utf8_lossy(argument)),
            _ => self.misbehave(verb),
        }
    }

    /// The verbs by which a puppet does what no right worker does.
    fn misbehave(&mut self, verb: &[u8]) {
        let child = Arc::clone(&self.child);
        match verb {
            b"hang-up" => {
                let control = &self.secrets.control;
                rustix::net::shutdown(control, rustix::net::Shutdown::Both).expect("a socket");
            }
            b"scribble" => {
                self.scribble();
                // Whatever it said now would put some of it right again.
                sleep_for_ever();
            }
            b"promise" => {
                let reply = Reply::Done { id: 1, end: End::Value, retry: false, nanos: NANOS, blob: Some(1) };
                child.reply(&reply, 1, b"", None).expect("a parent");
            }
            b"stray" => {
                let reply =
                    Reply::Done { id: 77 << 32, end: End::Value, retry: false, nanos: NANOS, blob: None };
                child.reply(&reply, 77, b"", None).expect("a parent");
            }
            _ => panic!("no such verb: {}", String::from_utf8_lossy(verb)),
        }
    }

    pub(super) fn is_to_stop(&self) -> bool {
        !self.stubborn && self.child.region().is_interrupted()
    }

    /// Writes over all the memory that it shares with its parent, and wakes that.
    fn scribble(&self) {
        let region = std::fs::File::from(self.secrets.region.try_clone().expect("a descriptor"));
        let length = region.metadata().expect("a size").len();
        let nonsense = vec![0xa5; usize::try_from(length).expect("a length")];
        std::os::unix::fs::FileExt::write_all_at(&region, &nonsense, 0).expect("memory");
        rustix::io::write(self.secrets.parent_bell.as_fd(), &1_u64.to_ne_bytes()).expect("a bell");
    }
}
