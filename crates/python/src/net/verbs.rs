//! Verbs: what operations do with a socket, and what each of them waits for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pyo3::exceptions::PyConnectionAbortedError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use rustix::io::Errno;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{Direction, SourceId, Want};

use crate::errors;
use crate::net::buffer::Held;
use crate::net::descriptor::Registration;
use crate::net::socket::{Socket, Tried, number};
use crate::net::stream::Buffered;
use crate::operation::{Kind, Operation, Wants};
use crate::payload::WORLD;

/// What an operation on a socket does.
pub(crate) enum Verb {
    Accept,
    Connect(Py<PyAny>),
    Recv(usize),
    RecvInto(Py<PyAny>, usize),
    Send(Py<PyAny>),
    /// The bytes, and how far they are sent.
    SendAll(Py<PyAny>, Sent),
    SendTo(Py<PyAny>, Py<PyAny>),
    RecvFrom(usize),
    Read(Buffered),
    Handshake,
    Ready(Direction),
}

/// How far a `sendall` is.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) bytes: AtomicUsize,
    /// The buffer cannot be resized before all of it is sent.
    held: Mutex<Option<Held>>,
}

/// An operation on a socket.
pub(crate) struct SocketOperation {
    socket: Py<Socket>,
    verb: Verb,
    /// What the last attempt waits for.
    blocked: AtomicBool,
}

impl Sent {
    pub(crate) fn hold(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut held = self.held.lock();
        if held.is_none() {
            *held = Held::new(data)?;
        }
        Ok(())
    }

    pub(crate) fn reset(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        let held = self.held.lock().take();
        drop(held);
    }
}

impl SocketOperation {
    pub(crate) fn release(&self) {
        if let Verb::SendAll(_, sent) = &self.verb {
            sent.reset();
        }
    }

    pub(crate) fn can_be_undone(&self) -> bool {
        !matches!(self.verb, Verb::SendAll(..))
    }

    pub(crate) fn attempt(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let socket = self.socket.get();
        socket.check_open(py)?;
        let tried = match &self.verb {
            Verb::Accept => self.try_accept(py, socket),
            Verb::Connect(address) => socket.try_connect(py, address),
            Verb::Recv(count) => socket.try_recv(py, *count),
            Verb::RecvInto(buffer, count) => socket.try_recv_into(py, buffer, *count),
            Verb::Send(data) => socket.try_send(py, data, 0).map(|sent| sent.map(|count| number(py, count))),
            Verb::SendAll(data, sent) => socket.try_send_all(py, data, sent),
            Verb::SendTo(data, address) => {
                socket.through_python(py, Direction::Write, intern!(py, "sendto"), (data, address))
            }
            Verb::RecvFrom(count) => {
                socket.through_python(py, Direction::Read, intern!(py, "recvfrom"), (*count,))
            }
            Verb::Read(buffered) => buffered.attempt(py, socket),
            Verb::Handshake => socket.through_python(py, Direction::Read, intern!(py, "do_handshake"), ()),
            Verb::Ready(direction) => socket.try_ready(py, *direction),
        }?;
        match tried {
            Ok(value) => Ok(Some(value)),
            Err(direction) => {
                self.blocked.store(direction == Direction::Write, Ordering::Relaxed);
                socket.mark_dry(direction);
                Ok(None)
            }
        }
    }

    fn try_accept(&self, py: Python<'_>, socket: &Socket) -> PyResult<Tried<Py<PyAny>>> {
        loop {
            let accepted = match socket.through_python(py, Direction::Read, intern!(py, "accept"), ()) {
                // The peer gave up before it was its turn.
                Err(error) if error.is_instance_of::<PyConnectionAbortedError>(py) => continue,
                tried => tried?,
            };
            return match accepted {
                Ok(pair) => {
                    let (connection, address): (Py<PyAny>, Py<PyAny>) = pair.extract(py)?;
                    self.socket.call_method1(py, intern!(py, "_accepted"), (connection, address)).map(Ok)
                }
                Err(direction) => Ok(Err(direction)),
            };
        }
    }

    pub(crate) fn want(&self, wants: &mut Wants<'_>) -> PyResult<()> {
        let socket = self.socket.get();
        if socket.fd() < 0 {
            return Err(errors::errno(Errno::BADF));
        }
        let direction = if self.blocked.load(Ordering::Relaxed) { Direction::Write } else { Direction::Read };
        let Some(run) = wants.run else {
            let source = *socket
                .watched
                .lock()
                .get_or_insert_with(|| WORLD.with(|kernel| kernel.add_watched_source()));
            wants.watch(socket.fd(), direction, direction_of(source, direction));
            return Ok(());
        };
        let mut registrations = socket.registrations.lock();
        let known = registrations.iter().find(|registration| registration.run == run.runner);
        let source = match known {
            Some(registration) => registration.source,
            None => {
                registrations.retain(|old| WORLD.with(|kernel| kernel.has_runner(old.run)));
                let registration = Registration::new(run, socket.fd(), direction)?;
                let source = registration.source;
                registrations.push(registration);
                source
            }
        };
        wants.push(direction_of(source, direction));
        Ok(())
    }

    pub(crate) fn copy(&self, py: Python<'_>) -> Self {
        let verb = match &self.verb {
            Verb::Accept => Verb::Accept,
            Verb::Connect(address) => Verb::Connect(address.clone_ref(py)),
            Verb::Recv(count) => Verb::Recv(*count),
            Verb::RecvInto(buffer, count) => Verb::RecvInto(buffer.clone_ref(py), *count),
            Verb::Send(data) => Verb::Send(data.clone_ref(py)),
            Verb::SendAll(data, _) => Verb::SendAll(data.clone_ref(py), Sent::default()),
            Verb::SendTo(data, address) => Verb::SendTo(data.clone_ref(py), address.clone_ref(py)),
            Verb::RecvFrom(count) => Verb::RecvFrom(*count),
            Verb::Read(buffered) => Verb::Read(buffered.clone()),
            Verb::Handshake => Verb::Handshake,
            Verb::Ready(direction) => Verb::Ready(*direction),
        };
        Self { socket: self.socket.clone_ref(py), verb, blocked: AtomicBool::new(false) }
    }

    pub(crate) fn describe(&self) -> String {
        let verb = match &self.verb {
            Verb::Accept => "accept".into(),
            Verb::Connect(_) => "connect".into(),
            Verb::Recv(count) => format!("recv({count})"),
            Verb::RecvInto(..) => "recv_into".into(),
            Verb::Send(_) => "send".into(),
            Verb::SendAll(..) => "sendall".into(),
            Verb::SendTo(..) => "sendto".into(),
            Verb::RecvFrom(count) => format!("recvfrom({count})"),
            Verb::Read(buffered) => buffered.describe(),
            Verb::Handshake => "the TLS handshake".into(),
            Verb::Ready(Direction::Read) => "readable".into(),
            Verb::Ready(Direction::Write) => "writable".into(),
        };
        format!("{verb} on socket fd {}", self.socket.get().fd())
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.socket)?;
        match &self.verb {
            Verb::Connect(held) | Verb::RecvInto(held, _) | Verb::Send(held) | Verb::SendAll(held, _) => {
                visit.call(held)
            }
            Verb::SendTo(data, address) => {
                visit.call(data)?;
                visit.call(address)
            }
            _ => Ok(()),
        }
    }
}

fn direction_of(source: SourceId, direction: Direction) -> Want<Py<PyAny>> {
    match direction {
        Direction::Read => Want::Readable(source),
        Direction::Write => Want::Writable(source),
    }
}

/// An operation on a socket.
pub(crate) fn operation(socket: Bound<'_, Socket>, verb: Verb) -> Operation {
    let blocked = matches!(verb, Verb::Ready(Direction::Write));
    Operation::new(Kind::Socket(Box::new(SocketOperation {
        socket: socket.unbind(),
        verb,
        blocked: AtomicBool::new(blocked),
    })))
}
