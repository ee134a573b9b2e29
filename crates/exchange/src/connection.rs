//! One connection: a socket that keeps borders, and what is to go out through it.
//!
//! Whoever has something to say puts it into the queue, at any time and under any lock, and sends it when he holds none:
//! so what comes of one step goes out in one packet. What the system does not take at once is sent by the thread, when
//! the socket says that there is room.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix_futex_sync::Mutex;
use thistledown_parcel::control;
use thistledown_parcel::{Blob, Parcel};

use crate::frame::{self, MAX_DESCRIPTORS, Message};

/// A packet that is so long takes nothing more.
const FULL: usize = 60 * 1024;

#[derive(Debug, Default)]
struct Packet {
    bytes: Vec<u8>,
    blobs: Vec<Parcel>,
}

#[derive(Debug, Default)]
struct Out {
    packets: VecDeque<Packet>,
    /// The thread is told when there is room.
    watches: bool,
    /// Nobody will ever read it.
    dead: bool,
}

/// How far a queue was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing is left, or there is nobody to hear it.
    All,
    /// The thread goes on when there is room.
    Partly,
    /// The system is short of something: it is to be tried again after a while.
    Short,
}

/// A socket, and what is to go out.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its name here.
    pub(crate) number: u64,
    socket: OwnedFd,
    epoll: Arc<OwnedFd>,
    out: Mutex<Out>,
}

impl Connection {
    pub(crate) fn new(number: u64, socket: OwnedFd, epoll: &Arc<OwnedFd>) -> io::Result<Self> {
        epoll::add(&**epoll, &socket, EventData::new_u64(number), EventFlags::IN)?;
        Ok(Self { number, socket, epoll: Arc::clone(epoll), out: Mutex::default() })
    }

    /// Queues a message.
    pub(crate) fn put(&self, message: impl Message, body: &Parcel) {
        let mut out = self.out.lock();
        if out.dead {
            return;
        }
        let needs_blob = body.needs_blob();
        let room = frame::room(body.inline().len());
        let fits = |packet: &Packet| {
            packet.bytes.len() + room <= FULL && !(needs_blob && packet.blobs.len() == MAX_DESCRIPTORS)
        };
        if !out.packets.back().is_some_and(fits) {
            out.packets.push_back(Packet::default());
        }
        let Some(packet) = out.packets.back_mut() else { return };
        frame::write(&message, body.inline(), &mut packet.bytes);
        if needs_blob {
            packet.blobs.push(body.clone());
        }
    }

    /// Sends what is queued, as far as the system takes it.
    pub(crate) fn send(&self) -> Sent {
        let mut out = self.out.lock();
        while let Some(packet) = out.packets.front_mut() {
            match self.send_packet(packet) {
                Ok(()) => drop(out.packets.pop_front()),
                Err(error) if is_full(&error) => {
                    self.watch(&mut out, true);
                    return Sent::Partly;
                }
                Err(error) if is_short(&error) => return Sent::Short,
                Err(_) => {
                    // Both sides hear of the end by reading, whatever was wrong; what is on its way here is still read.
                    out.dead = true;
                    out.packets.clear();
                    let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
                }
            }
        }
        self.watch(&mut out, false);
        Sent::All
    }

    fn send_packet(&self, packet: &mut Packet) -> io::Result<()> {
        for parcel in &mut packet.blobs {
            *parcel = parcel.passable()?;
        }
        let descriptors: Vec<BorrowedFd<'_>> =
            packet.blobs.iter().filter_map(Parcel::blob).map(Blob::as_fd).collect();
        control::send(&self.socket, &packet.bytes, &descriptors)
    }

    fn watch(&self, out: &mut Out, watches: bool) {
        if out.watches == watches {
            return;
        }
        out.watches = watches;
        let flags = if watches { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        // It fails for a socket that is there only when memory is short; then what is left is sent with what comes next.
        let _ = epoll::modify(&*self.epoll, &self.socket, EventData::new_u64(self.number), flags);
    }

    /// Nothing more is to be sent; the other side is told.
    pub(crate) fn close(&self) {
        let mut out = self.out.lock();
        if !std::mem::replace(&mut out.dead, true) {
            out.packets.clear();
            let _ = epoll::delete(&*self.epoll, &self.socket);
            let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether there will be room, of which the system tells.
fn is_full(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::AGAIN)
}

/// Whether the system lacks something for it, and does not tell when it has that: memory, descriptors, or there are too
/// many of these on their way.
fn is_short(error: &io::Error) -> bool {
    let short = [Errno::NOBUFS, Errno::TOOMANYREFS, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| short.contains(&error))
}
