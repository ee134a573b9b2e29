//! The command line: what to send, what to expect, for how long.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub const USAGE: &str = "\
usage: thistledown-load --address 127.0.0.1:PORT --seconds S [--connections N] [--requests N]
                        [--pause-us N]
                        (--send TEXT | --send-size BYTES) (--reply-size BYTES | --reply-end TEXT)

  --seconds S         stop after S seconds (at most 600)
  --connections N     how many connections ask at the same time (default 1)
  --requests N        stop after N replies, if that comes first
  --pause-us N        wait after each reply before the next request (default: not at all)
  --send TEXT         the request; \\n, \\r, \\t and \\\\ are understood
  --send-size BYTES   a request of that many bytes
  --reply-size BYTES  a reply is complete when it has that many bytes
  --reply-end TEXT    a reply is complete when it ends with TEXT";

const LONGEST: f64 = 600.0;

/// How a reply is known to be complete.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Size(usize),
    End(Vec<u8>),
}

#[derive(Debug)]
pub struct Arguments {
    pub address: SocketAddr,
    pub connections: usize,
    pub duration: Duration,
    pub pause: Duration,
    pub request: Vec<u8>,
    pub reply: Reply,
    requests: Option<usize>,
}

impl Arguments {
    /// Reads the words after the program's name; an error is a sentence for the user.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = words;
        let (mut address, mut duration, mut request, mut reply) = (None, None, None, None);
        let (mut connections, mut requests, mut pause_us) = (1, None, 0);
        while let Some(option) = words.next() {
            let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--address" => address = Some(loopback(&value)?),
                "--connections" => connections = positive(&option, &value)?,
                "--requests" => requests = Some(positive(&option, &value)?),
                "--pause-us" => pause_us = positive(&option, &value)?,
                "--seconds" => duration = Some(seconds(&value)?),
                "--send" => request = Some(unescape(&value)?),
                "--send-size" => request = Some(vec![b'x'; positive(&option, &value)?]),
                "--reply-size" => reply = Some(Reply::Size(positive(&option, &value)?)),
                "--reply-end" => reply = Some(Reply::End(unescape(&value)?)),
                _ => return Err(format!("{option} is not an option")),
            }
        }
        Ok(Self {
            address: address.ok_or("--address is missing")?,
            connections,
            duration: duration.ok_or("--seconds is missing")?,
            pause: Duration::from_micros(pause_us as u64),
            request: request.ok_or("--send or --send-size is missing")?,
            reply: reply.ok_or("--reply-size or --reply-end is missing")?,
            requests,
        })
    }

    pub fn enough(&self, answered: usize) -> bool {
        self.requests.is_some_and(|wanted| answered >= wanted)
    }
}

fn loopback(value: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = value.parse().map_err(|_| format!("{value} is not ADDRESS:PORT"))?;
    let inside = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    if inside { Ok(address) } else { Err(format!("{value} is not on the loopback interface")) }
}

fn positive(option: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{option} needs a whole number above 0, not {value}")),
    }
}

fn seconds(value: &str) -> Result<Duration, String> {
    match value.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= LONGEST => Ok(Duration::from_secs_f64(number)),
        _ => Err(format!("--seconds needs a number above 0, at most {LONGEST}, not {value}")),
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (_, false) => byte,
            _ => match rest.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'\\') => b'\\',
                _ => return Err(format!("{text} holds a backslash that means nothing")),
            },
        });
    }
    if bytes.is_empty() {
        return Err("an empty text can be neither a request nor the end of a reply".into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split(' ').map(String::from))
    }

    #[test]
    fn a_full_line_is_understood() {
        let arguments = parse(
            "--address 127.0.0.1:25000 --seconds 0.5 --connections 3 --requests 7 \
             --pause-us 20 --send 1\\n --reply-end \\n",
        )
        .unwrap();
        assert_eq!(arguments.connections, 3);
        assert_eq!(arguments.duration, Duration::from_millis(500));
        assert_eq!(arguments.pause, Duration::from_micros(20));
        assert_eq!(arguments.request, b"1\n");
        assert_eq!(arguments.reply, Reply::End(b"\n".to_vec()));
        assert!(!arguments.enough(6));
        assert!(arguments.enough(7));
    }

    #[test]
    fn an_address_outside_this_machine_is_refused() {
        let sentence = parse("--address 192.0.2.1:80 --seconds 1 --send x --reply-size 1").unwrap_err();
        assert_eq!(sentence, "192.0.2.1:80 is not on the loopback interface");
    }

    #[test]
    fn a_run_without_an_end_is_refused() {
        assert_eq!(
            parse("--address 127.0.0.1:1 --send x --reply-size 1").unwrap_err(),
            "--seconds is missing"
        );
        assert!(parse("--seconds 601").is_err());
    }
}
