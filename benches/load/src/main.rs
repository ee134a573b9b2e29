//! A closed-loop load generator: N connections, each sends a request, waits for the whole reply,
//! sends the next. One thread, so that it takes one core at most; loopback only; bounded in time.
//!
//! It prints one JSON object: requests, seconds, p50_us, p99_us, errors.
//!
//! What it is not: an open-loop generator. A slow server is asked less often, so latencies say
//! how long a client waits that has nothing else to do, not how a queue of strangers would grow.

mod arguments;
mod connection;
mod report;

use std::collections::VecDeque;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use arguments::Arguments;
use connection::{Connection, Step};
use report::Report;

const EVENTS: usize = 1024;
/// How long an asked request is waited for when time is up.
const PATIENCE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(sentence) => {
            eprintln!("thistledown-load: {sentence}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    match drive(&arguments) {
        Ok(report) => {
            println!("{}", report.into_json());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("thistledown-load: {}: {error}", arguments.address);
            ExitCode::FAILURE
        }
    }
}

/// Runs the load until time is up, the requests are done, or no connection is left.
///
/// Then nobody asks again, and what was asked is still waited for a little: a server that finds
/// its clients gone in the middle of a reply would spend its time on complaints.
fn drive(arguments: &Arguments) -> io::Result<Report> {
    let mut poll = Poll::new()?;
    let connections = open_all(arguments, &poll)?;
    let mut events = Events::with_capacity(EVENTS);
    let begin = Instant::now();
    let mut load = Load {
        arguments,
        end: begin + arguments.duration,
        busy: connections.len(),
        connections,
        resting: VecDeque::new(),
        report: Report::new(),
    };
    for index in 0..arguments.connections {
        load.advance(index);
    }
    while load.busy > 0 {
        let Some(left) = load.longest_wait(Instant::now()) else {
            break;
        };
        match poll.poll(&mut events, Some(left)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            load.advance(event.token().0);
        }
        load.wake(Instant::now());
    }
    load.report.add_unanswered(load.busy);
    load.report.finish(begin.elapsed());
    Ok(load.report)
}

fn open_all(arguments: &Arguments, poll: &Poll) -> io::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(arguments.connections);
    for index in 0..arguments.connections {
        let mut connection = Connection::open(arguments.address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(connection.stream(), Token(index), interest)?;
        connections.push(connection);
    }
    Ok(connections)
}

struct Load<'a> {
    arguments: &'a Arguments,
    end: Instant,
    connections: Vec<Connection>,
    /// Connections that are not closed.
    busy: usize,
    /// Connections between a reply and the next request, the first to wake up first.
    resting: VecDeque<(Instant, usize)>,
    report: Report,
}

impl Load<'_> {
    /// Takes one connection as far as it goes without waiting.
    fn advance(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        while connection.is_active() {
            match connection.step(&self.arguments.request, &self.arguments.reply) {
                Ok(Step::Waiting) => return,
                Ok(Step::Answered(latency)) => {
                    self.report.add(latency);
                    let now = Instant::now();
                    let enough = self.arguments.enough(self.report.requests());
                    if enough || now >= self.end {
                        connection.close();
                        self.busy -= 1;
                    } else if !self.arguments.pause.is_zero() {
                        connection.rest();
                        self.resting.push_back((now + self.arguments.pause, index));
                    }
                }
                Err(error) => {
                    self.report.add_error(&error);
                    connection.close();
                    self.busy -= 1;
                }
            }
        }
    }

    /// Lets those ask again whose pause is over.
    fn wake(&mut self, now: Instant) {
        while let Some(&(due, index)) = self.resting.front() {
            if due > now {
                break;
            }
            self.resting.pop_front();
            self.connections[index].wake();
            self.advance(index);
        }
    }

    /// How long nothing needs to be done but wait for replies; None when time is up for good.
    fn longest_wait(&self, now: Instant) -> Option<Duration> {
        let last = self.end + PATIENCE;
        let due = self.resting.front().map_or(last, |&(due, _)| due.min(last));
        (now < last).then(|| due.saturating_duration_since(now))
    }
}
