//! The thread of an exchange: hears everybody, and sends what could not be sent at once.
//!
//! It never takes a lock that is held while somebody waits for another process, nor any interpreter's: what it calls are
//! objects, waiters and listeners, which must not block.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SocketFlags;
use thistledown_parcel::{Heard, Parcel, control};

use crate::Broken;
use crate::address::{Party, TicketId};
use crate::connection::{Connection, Sent};
use crate::core::{BELL, Core, LISTENER};
use crate::former;
use crate::frame::{MAX_PACKET, Request, Response, VERSION};
use crate::link::{Link, NO_OBJECT, is_same_user};
use crate::object::{Client, Post};
use crate::tables::Way;

/// When it tries again what the system was short of something for.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// How long somebody who does not read is waited for at the end.
const LAST_PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Packets of one connection before it is the others' turn.
const PACKETS: usize = 32;

const EVENTS: usize = 64;

/// Times that everybody is heard before a ticket is revoked, though there is always somebody who says something.
const ROUNDS: usize = 64;

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

pub(crate) fn run(core: &Arc<Core>) {
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    let mut buffer = vec![0; MAX_PACKET];
    let mut revocations = Revocations::default();
    while !core.is_over.load(Ordering::Acquire) {
        let is_short = core.is_short.swap(false, Ordering::AcqRel);
        let timeout = if revocations.take(core) { Some(&AT_ONCE) } else { is_short.then_some(&PATIENCE) };
        if epoll::wait(&*core.epoll, spare_capacity(&mut events), timeout).is_err() {
            events.clear();
            continue;
        }
        if is_short {
            send_all(core);
        }
        let is_quiet = events.iter().all(|event| event.data.u64() == BELL);
        let mut post = Post::new(core);
        for event in events.drain(..) {
            match event.data.u64() {
                BELL => core.bell.hush(),
                LISTENER => accept(core),
                number => serve(core, number, event.flags, &mut buffer, &mut post),
            }
        }
        drop(post);
        revocations.carry_out(core, is_quiet);
    }
    close(core);
}

/// Tickets to be revoked, when nobody has said anything more that was not heard: with a ticket that is dropped because its
/// handle has come, what that handle's process has said of it is on its way, or its connection is.
#[derive(Default)]
struct Revocations {
    tickets: Vec<(u64, TicketId)>,
    rounds: usize,
}

impl Revocations {
    /// Takes those that are new. Whether there are any.
    fn take(&mut self, core: &Core) -> bool {
        self.tickets.append(&mut core.revoked.lock());
        !self.tickets.is_empty()
    }

    fn carry_out(&mut self, core: &Core, is_quiet: bool) {
        self.rounds = if self.tickets.is_empty() { 0 } else { self.rounds + 1 };
        if is_quiet || self.rounds >= ROUNDS {
            for (object, ticket) in self.tickets.drain(..) {
                core.revoke(object, ticket);
            }
        }
    }
}

/// Whoever waits for something is told that it will not come.
fn close(core: &Core) {
    let ways = std::mem::take(&mut core.tables.lock().ways);
    for way in ways.into_values() {
        match way {
            Way::Client(client) => {
                if let Some(connection) = &client.connection {
                    core.send(connection);
                    connection.close();
                }
            }
            Way::Last(connection) => {
                send_last(core, &connection);
                connection.close();
            }
            Way::Link(link, _) => {
                if let Some(link) = link.upgrade() {
                    link.broken(Broken::Gone { pid: link.owner.pid });
                }
            }
            Way::Former(_) => {}
        }
    }
}

/// Sends what is queued, as long as the other side goes on reading.
fn send_last(core: &Core, connection: &Connection) {
    while core.send(connection) != Sent::All {
        let mut watched = [PollFd::new(connection, PollFlags::OUT)];
        if !matches!(rustix::event::poll(&mut watched, Some(&LAST_PATIENCE)), Ok(1)) {
            return;
        }
    }
}

fn send_all(core: &Core) {
    let ways: Vec<Way> = core.tables.lock().ways.values().cloned().collect();
    for way in ways {
        let connection = match &way {
            Way::Client(client) => client.connection.as_ref(),
            Way::Last(connection) | Way::Link(_, connection) => Some(connection),
            Way::Former(_) => None,
        };
        if let Some(connection) = connection {
            core.send(connection);
        }
    }
}

fn accept(core: &Arc<Core>) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        match rustix::net::accept_with(&core.listener, flags) {
            Ok(socket) if is_same_user(&socket) => welcome(core, socket),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            Err(rustix::io::Errno::AGAIN) => return,
            // No descriptor is free: it waits in the queue.
            Err(_) => return core.is_short.store(true, Ordering::Release),
        }
    }
}

fn welcome(core: &Arc<Core>, socket: OwnedFd) {
    let number = core.next_number();
    let mut tables = core.tables.lock();
    if let Ok(connection) = Connection::new(number, socket, &core.epoll) {
        let client = Arc::new(Client::new(Party(number), Some(Arc::new(connection))));
        tables.ways.insert(number, Way::Client(client));
    }
}

/// Something has happened at a connection.
fn serve(core: &Arc<Core>, number: u64, flags: EventFlags, buffer: &mut [u8], post: &mut Post<'_>) {
    let way = core.tables.lock().ways.get(&number).cloned();
    let Some(way) = way else { return };
    let link = match &way {
        Way::Link(link, _) => link.upgrade(),
        _ => None,
    };
    let connection = match &way {
        Way::Client(client) => client.connection.as_ref(),
        Way::Last(connection) | Way::Link(_, connection) => Some(connection),
        Way::Former(former) => return former::end(core, number, former, post),
    };
    let Some(connection) = connection else { return };
    if flags.contains(EventFlags::OUT) {
        let sent = core.send(connection);
        if matches!(way, Way::Last(_)) && sent == Sent::All {
            return lose(core, number, &way, post);
        }
    }
    if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
        return;
    }
    let mut is_gone = false;
    for _ in 0..PACKETS {
        match control::receive(&**connection, buffer, false) {
            Ok(Heard::Nothing) => return,
            // The system may say so before it gives what was sent last: if the other side had not read all.
            Ok(Heard::Gone) if !std::mem::replace(&mut is_gone, true) => {}
            Ok(Heard::Message(length, descriptors)) => {
                let packet = buffer.get(..length).unwrap_or_default();
                let heard = match (&way, &link) {
                    (Way::Client(client), _) => hear_client(core, client, packet, descriptors, post),
                    (_, Some(link)) => hear_owner(link, packet, descriptors),
                    _ => true,
                };
                if !heard {
                    return lose(core, number, &way, post);
                }
            }
            Ok(Heard::Gone) | Err(_) => return lose(core, number, &way, post),
        }
    }
}

/// A body as it came.
fn body(bytes: &[u8], blob: Option<u64>, descriptors: &mut std::vec::IntoIter<OwnedFd>) -> Parcel {
    match blob {
        Some(head) => Parcel::received(descriptors.next(), head),
        None => Parcel::Inline(bytes.into()),
    }
}

/// A packet of the owner of objects. False: it is none.
fn hear_owner(link: &Link, packet: &[u8], descriptors: Vec<OwnedFd>) -> bool {
    let (mut rest, mut descriptors) = (packet, descriptors.into_iter());
    loop {
        match Response::read(&mut rest) {
            Ok(Some((message, bytes))) => {
                use crate::frame::Message;
                link.hear(message, body(bytes, message.blob(), &mut descriptors));
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// A packet of who uses objects of this process. False: it is none.
fn hear_client(
    core: &Arc<Core>,
    client: &Arc<Client>,
    packet: &[u8],
    descriptors: Vec<OwnedFd>,
    post: &mut Post<'_>,
) -> bool {
    let (mut rest, mut descriptors) = (packet, descriptors.into_iter());
    loop {
        match Request::read(&mut rest) {
            Ok(Some((message, bytes))) => {
                use crate::frame::Message;
                let body = body(bytes, message.blob(), &mut descriptors);
                if !obey(core, client, message, body, post) {
                    return false;
                }
                post.tell_here(&core.desk);
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// A message of who uses objects. False: it must not be said.
fn obey(core: &Arc<Core>, client: &Arc<Client>, message: Request, body: Parcel, post: &mut Post<'_>) -> bool {
    let is_hello = matches!(message, Request::Hello { .. });
    if is_hello == client.address.get().is_some() {
        return false;
    }
    match message {
        Request::Hello { version, address } => {
            let _ = client.address.set(address);
            if version != VERSION {
                say(client, Response::OtherVersion { version: VERSION }, post);
            }
            return version == VERSION;
        }
        Request::Ask { request, object, verb, .. } => match core.object(object) {
            Some(object) => client.ask(object, request, verb, body, post),
            None => say(client, Response::Refuse { request, code: NO_OBJECT, blob: None }, post),
        },
        Request::Withdraw { request } | Request::Decline { request } => client.settle(request, false, post),
        Request::Accept { request } => client.settle(request, true, post),
        Request::Tell { object, verb, .. } => match core.object(object) {
            Some(object) => object.told(client.party, verb, body, post),
            None => say(client, Response::Unknown { object }, post),
        },
        Request::Hold { object, ticket } => hold(core, client, object, ticket, post),
        Request::Release { object } => release(core, client, object, post),
        Request::Grant { object, ticket, once } => core.grant(object, ticket, once),
        Request::Revoke { object, ticket } => core.revoke_later(object, ticket),
    }
    true
}

fn say(client: &Client, message: Response, post: &mut Post<'_>) {
    if let Some(connection) = &client.connection {
        connection.put(message, &Parcel::empty());
        post.touch(connection);
    }
}

fn hold(core: &Core, client: &Client, number: u64, ticket: Option<crate::TicketId>, post: &mut Post<'_>) {
    let object = core.object(number);
    let Some(object) = object.filter(|_| core.count_handle(number, true, ticket)) else {
        return say(client, Response::Unknown { object: number }, post);
    };
    let is_first = {
        let mut handles = client.handles.lock();
        let count = handles.entry(number).or_default();
        *count += 1;
        *count == 1
    };
    if is_first {
        object.attached(client.party, post);
    }
}

fn release(core: &Core, client: &Client, number: u64, post: &mut Post<'_>) {
    let is_last = {
        let mut handles = client.handles.lock();
        let Some(count) = handles.get_mut(&number) else { return };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            handles.remove(&number);
        }
        is_last
    };
    if let Some(object) = core.object(number).filter(|_| is_last) {
        client.detach(&object, post);
    }
    core.count_handle(number, false, None);
}

/// The other side is gone, or says what it must not.
fn lose(core: &Arc<Core>, number: u64, way: &Way, post: &mut Post<'_>) {
    match way {
        Way::Client(client) => {
            client.settle_all(post);
            let handles = std::mem::take(&mut *client.handles.lock());
            for (object, count) in handles {
                if let Some(object) = core.object(object) {
                    client.detach(&object, post);
                }
                for _ in 0..count {
                    core.count_handle(object, false, None);
                }
            }
            if let Some(connection) = &client.connection {
                // It may be told why.
                core.send(connection);
                connection.close();
            }
            former::watch(core, client, post);
        }
        Way::Link(link, _) => {
            if let Some(link) = link.upgrade() {
                link.broken(Broken::Gone { pid: link.owner.pid });
            }
        }
        Way::Last(connection) => connection.close(),
        Way::Former(_) => {}
    }
    core.tables.lock().ways.remove(&number);
}
