//! Buffered reading: what has been received and not yet been asked for.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors;
use crate::net::scratch;
use crate::net::socket::{Socket, Tried};

/// Bytes received in one call when the reader does not know how many there will be.
const CHUNK: usize = 16 * 1024;

/// The bytes of a socket that came before they were asked for.
#[derive(Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    ended: bool,
}

impl Incoming {
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn take(&mut self, py: Python<'_>, count: usize) -> Py<PyAny> {
        let taken = PyBytes::new(py, &self.rest()[..count]).into_any().unbind();
        self.skip(count);
        taken
    }

    fn skip(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > CHUNK && self.start * 2 > self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Up to so many bytes, if there are any.
    pub(crate) fn take_up_to(&mut self, py: Python<'_>, count: usize) -> Option<Py<PyAny>> {
        let count = count.min(self.rest().len());
        (count > 0).then(|| self.take(py, count))
    }

    /// Moves bytes into a buffer; says how many.
    pub(crate) fn take_into(&mut self, target: &mut [u8]) -> usize {
        let count = target.len().min(self.rest().len());
        target[..count].copy_from_slice(&self.rest()[..count]);
        self.skip(count);
        count
    }
}

/// What a look at the bytes has found.
#[derive(Clone, Copy)]
enum Found {
    /// So many bytes to give.
    Bytes(usize),
    /// No end within the limit; so many were looked at.
    Beyond(usize),
    Nothing,
}

/// A buffered read.
#[derive(Clone)]
pub(crate) enum Buffered {
    Exactly(usize),
    Until { separator: Box<[u8]>, limit: usize, line: bool },
}

impl Buffered {
    pub(crate) fn exactly(count: usize) -> Self {
        Self::Exactly(count)
    }

    pub(crate) fn until(separator: &[u8], limit: usize, line: bool) -> Self {
        Self::Until { separator: separator.into(), limit, line }
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Exactly(count) => format!("readexactly({count})"),
            Self::Until { line: true, .. } => "readline".into(),
            Self::Until { separator, .. } => format!("readuntil({:?})", String::from_utf8_lossy(separator)),
        }
    }

    pub(crate) fn attempt(&self, py: Python<'_>, socket: &Socket) -> PyResult<Tried<Py<PyAny>>> {
        let mut looked = 0;
        loop {
            let mut incoming = socket.incoming.lock();
            let (found, ended) = (self.find(&incoming, &mut looked), incoming.ended);
            if let Found::Bytes(count) = found {
                return Ok(Ok(incoming.take(py, count)));
            }
            drop(incoming);
            if let Found::Beyond(consumed) = found {
                return Err(self.overrun(py, consumed));
            }
            if ended {
                return self.at_end(py, socket).map(Ok);
            }
            match self.fill(py, socket)? {
                Ok(()) => {}
                Err(direction) => return Ok(Err(direction)),
            }
        }
    }

    /// Looks at what has come. `looked` is how many bytes have been searched before.
    fn find(&self, incoming: &Incoming, looked: &mut usize) -> Found {
        let rest = incoming.rest();
        match self {
            Self::Exactly(count) if rest.len() >= *count => Found::Bytes(*count),
            Self::Exactly(_) => Found::Nothing,
            Self::Until { separator, limit, .. } => {
                let from = looked.saturating_sub(separator.len() - 1);
                *looked = rest.len();
                match memchr::memmem::find(&rest[from..], separator).map(|at| from + at) {
                    Some(at) if at > *limit => Found::Beyond(at),
                    Some(at) => Found::Bytes(at + separator.len()),
                    None if rest.len() >= *limit + separator.len() => {
                        Found::Beyond(rest.len() + 1 - separator.len())
                    }
                    None => Found::Nothing,
                }
            }
        }
    }

    fn overrun(&self, py: Python<'_>, consumed: usize) -> PyErr {
        let Self::Until { limit, line, .. } = self else {
            return errors::misuse("a read without a limit overran it");
        };
        let what = if *line { "line" } else { "separator" };
        let words = format!("no end of the {what} within {limit} bytes; they can still be read with recv");
        errors::limit_overrun(py, &words, consumed)
    }

    fn at_end(&self, py: Python<'_>, socket: &Socket) -> PyResult<Py<PyAny>> {
        let mut incoming = socket.incoming.lock();
        let left = incoming.rest().len();
        let rest = incoming.take(py, left);
        incoming.ended = false;
        drop(incoming);
        let expected = match self {
            Self::Until { line: true, .. } => return Ok(rest),
            Self::Until { .. } => None,
            Self::Exactly(count) => Some(*count),
        };
        let partial = rest.bind(py).cast::<PyBytes>()?.as_bytes();
        Err(errors::incomplete_read(py, partial, expected))
    }

    fn fill(&self, py: Python<'_>, socket: &Socket) -> PyResult<Tried<()>> {
        let want = match self {
            Self::Exactly(count) => (*count).clamp(CHUNK, 16 * CHUNK),
            Self::Until { .. } => CHUNK,
        };
        scratch::with(want, |buffer| {
            Ok(socket.receive(py, buffer)?.map(|count| {
                let mut incoming = socket.incoming.lock();
                incoming.bytes.extend_from_slice(&buffer[..count]);
                incoming.ended = count == 0;
            }))
        })
    }
}
