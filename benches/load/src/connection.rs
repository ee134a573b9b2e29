//! One connection: a request on its way out, then a reply on its way in.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::arguments::Reply;

const CHUNK_SIZE: usize = 64 * 1024;

/// How far a connection came without waiting.
pub enum Step {
    /// The socket is not ready; try again at its next event.
    Waiting,
    /// A reply is complete; the time since its request began to leave.
    Answered(Duration),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Active,
    Resting,
    Closed,
}

pub struct Connection {
    stream: TcpStream,
    phase: Phase,
    asked: Instant,
    sent: usize,
    received: usize,
    /// The last bytes of the reply so far, as many as the longest end that is looked for.
    tail: Vec<u8>,
    chunk: Vec<u8>,
}

impl Connection {
    /// Connects (waiting for it) and makes the socket non-blocking.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            phase: Phase::Active,
            asked: Instant::now(),
            sent: 0,
            received: 0,
            tail: Vec::new(),
            chunk: vec![0; CHUNK_SIZE],
        })
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether it asks or is answered now. Events of one that does neither mean nothing.
    pub fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    pub fn rest(&mut self) {
        self.phase = Phase::Resting;
    }

    pub fn wake(&mut self) {
        self.phase = Phase::Active;
    }

    /// Gives the connection up. Its socket stays registered, but is never touched again.
    pub fn close(&mut self) {
        self.phase = Phase::Closed;
        // The peer may be gone already, which is what we want.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends what is left of the request, then reads what is there of the reply.
    ///
    /// Readiness is edge-triggered. A reply that is complete leaves the socket empty, because the
    /// server has nothing else to say until it is asked. So a request that left at once needs no
    /// look at the socket: its reply makes a new edge.
    pub fn step(&mut self, request: &[u8], reply: &Reply) -> io::Result<Step> {
        let begins = self.sent == 0;
        if begins {
            self.asked = Instant::now();
        }
        while self.sent < request.len() {
            match self.stream.write(&request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An echo server sends while we still do: what it sent has to be taken, or both
                // sides wait for room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if begins && self.sent == request.len() {
            return Ok(Step::Waiting);
        }
        loop {
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    if self.take(count, reply)? {
                        if self.sent < request.len() {
                            return Err(unasked("a reply came before its request had left"));
                        }
                        (self.sent, self.received) = (0, 0);
                        self.tail.clear();
                        return Ok(Step::Answered(self.asked.elapsed()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Step::Waiting);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Counts `count` new bytes; says whether the reply is complete.
    fn take(&mut self, count: usize, reply: &Reply) -> io::Result<bool> {
        self.received += count;
        match reply {
            Reply::Size(size) if self.received > *size => Err(unasked("a reply is too long")),
            Reply::Size(size) => Ok(self.received == *size),
            Reply::End(end) => {
                self.tail.extend_from_slice(&self.chunk[..count]);
                let surplus = self.tail.len().saturating_sub(end.len());
                self.tail.drain(..surplus);
                Ok(self.tail == *end)
            }
        }
    }
}

fn unasked(sentence: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}
