//! A link: this process's connection to the owner of objects, as long as somebody has handles or waits for answers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix_futex_sync::Mutex;
use thistledown_parcel::Parcel;

use crate::Broken;
use crate::address::Address;
use crate::connection::Connection;
use crate::core::Core;
use crate::desk::Desk;
use crate::frame::{Request, Response, VERSION};

/// Who hears what an object notes.
pub trait Listener: Send + Sync {
    /// The object has said something. Called by the thread of the exchange, in order. It must not block.
    fn noted(&self, verb: u8, body: Parcel);

    /// Nothing more comes: the object is gone, or its process is.
    fn broken(&self, why: Broken);
}

/// Whether somebody who has as many connections to accept as he may have is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Whole,
    None,
}

pub(crate) struct Link {
    pub(crate) owner: Address,
    pub(crate) connection: Arc<Connection>,
    pub(crate) desk: Desk,
    pub(crate) listeners: Mutex<HashMap<u64, Vec<Weak<dyn Listener>>>>,
    pub(crate) is_broken: AtomicBool,
    core: Weak<Core>,
}

impl Link {
    pub(crate) fn connect(core: &Arc<Core>, owner: Address, patience: Patience) -> Result<Arc<Self>, Broken> {
        let gone = |_| Broken::Gone { pid: owner.pid };
        let socket = connect(owner, patience)?;
        let number = core.next_number();
        let connection = Arc::new(Connection::new(number, socket, &core.epoll).map_err(gone)?);
        connection.put(Request::Hello { version: VERSION, address: core.address }, &Parcel::empty());
        Ok(Arc::new(Self {
            owner,
            connection,
            desk: Desk::default(),
            listeners: Mutex::default(),
            is_broken: AtomicBool::new(false),
            core: Arc::downgrade(core),
        }))
    }

    /// A handle to this object is let go: of its listeners, those who are there no more are forgotten.
    pub(crate) fn forget_listeners(&self, object: u64) {
        let mut listeners = self.listeners.lock();
        if let Entry::Occupied(mut known) = listeners.entry(object) {
            known.get_mut().retain(|listener| listener.strong_count() > 0);
            if known.get().is_empty() {
                known.remove();
            }
        }
    }

    /// Who hears what this object notes.
    fn listeners(&self, object: u64) -> Vec<Arc<dyn Listener>> {
        let listeners = self.listeners.lock();
        listeners.get(&object).into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// A message of the owner's.
    pub(crate) fn hear(&self, message: Response, body: Parcel) {
        use crate::desk::Told;
        match message {
            Response::Offer { request, .. } => self.desk.tell(request, Told::Offer(body)),
            Response::Answer { request, .. } => self.desk.tell(request, Told::Answer(body)),
            Response::Refuse { request, code: NO_OBJECT, .. } => {
                self.desk.tell(request, Told::Broken(Broken::NoObject { pid: self.owner.pid }));
            }
            Response::Refuse { request, code, .. } => {
                self.desk.tell(request, Told::Refusal { code, body });
            }
            Response::Note { object, verb, .. } => {
                self.listeners(object).iter().for_each(|listener| listener.noted(verb, body.clone()));
            }
            Response::Unknown { object } => {
                let why = Broken::NoObject { pid: self.owner.pid };
                self.listeners(object).iter().for_each(|listener| listener.broken(why));
            }
            Response::OtherVersion { .. } => self.broken(Broken::OtherVersion { pid: self.owner.pid }),
        }
    }

    /// The owner is gone, or of no use.
    pub(crate) fn broken(&self, why: Broken) {
        if self.is_broken.swap(true, Ordering::AcqRel) {
            return;
        }
        self.connection.close();
        self.desk.break_all(why);
        let listeners = std::mem::take(&mut *self.listeners.lock());
        for listener in listeners.into_values().flatten().filter_map(|listener| listener.upgrade()) {
            listener.broken(why);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.forget_link(self.owner, &self.connection);
        }
    }
}

/// The code of a refusal because there is no such object.
pub(crate) const NO_OBJECT: u16 = u16::MAX;

/// Connects to an exchange of the same user.
fn connect(owner: Address, patience: Patience) -> Result<OwnedFd, Broken> {
    let connected = || -> rustix::io::Result<OwnedFd> {
        let name = SocketAddrUnix::new_abstract_name(owner.socket_name().as_bytes())?;
        // Whoever sends and receives here never blocks, whatever the socket does.
        let flags = match patience {
            Patience::Whole => SocketFlags::CLOEXEC,
            Patience::None => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        };
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &name))?;
        match is_same_user(&socket) {
            true => Ok(socket),
            false => Err(Errno::ACCESS),
        }
    };
    connected().map_err(|error| match error {
        Errno::CONNREFUSED | Errno::NOENT | Errno::ACCESS => Broken::Gone { pid: owner.pid },
        error => Broken::System { code: error.raw_os_error() },
    })
}

/// Whether the other side is the same user, by the system's word.
pub(crate) fn is_same_user(socket: &OwnedFd) -> bool {
    rustix::net::sockopt::socket_peercred(socket).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}
