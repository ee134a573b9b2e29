//! Sockets that keep the borders of messages, with a time limit for whoever waits at one.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, send, socket_with,
};

/// How long anybody waits for anything. It is only reached when something is wrong.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The longest message.
const BYTES: usize = 64 * 1024;

fn socket() -> OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a socket")
}

fn address(name: &[u8]) -> SocketAddrUnix {
    SocketAddrUnix::new_abstract_name(name).expect("a name that is not too long")
}

/// A socket that others call by this name.
pub(crate) fn listen_as(name: &[u8]) -> OwnedFd {
    let socket = socket();
    bind(&socket, &address(name)).expect("the name is free");
    listen(&socket, 1).expect("a listening socket");
    socket
}

/// Calls whoever listens by this name.
pub(crate) fn call(name: &[u8]) -> Result<OwnedFd, Errno> {
    let socket = socket();
    connect(&socket, &address(name)).map(|()| socket)
}

/// Whoever calls.
pub(crate) fn accept_in_time(listener: &OwnedFd) -> OwnedFd {
    wait_in_time(listener, "nobody came");
    accept_with(listener, SocketFlags::CLOEXEC).expect("somebody called")
}

pub(crate) fn say(socket: &OwnedFd, message: &[u8]) -> Result<(), Errno> {
    send(socket, message, SendFlags::NOSIGNAL).map(drop)
}

/// The next message; nothing at the end of all. A signal ends the wait.
pub(crate) fn hear(socket: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut bytes = vec![0; BYTES];
    let (_, length) = recv(socket, bytes.as_mut_slice(), RecvFlags::empty())?;
    bytes.truncate(length);
    Ok((length > 0).then_some(bytes))
}

/// The next message, or nothing when the other side is gone.
pub(crate) fn hear_in_time(socket: &OwnedFd) -> Option<Vec<u8>> {
    wait_in_time(socket, "nothing was said");
    match hear(socket) {
        Err(Errno::CONNRESET) => None,
        heard => heard.expect("a socket that works"),
    }
}

fn wait_in_time(socket: impl AsFd, complaint: &str) {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    let ready = rustix::io::retry_on_intr(|| {
        rustix::event::poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&limit))
    });
    assert_eq!(ready, Ok(1), "{complaint} in {LIMIT:?}");
}
