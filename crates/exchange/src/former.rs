//! Processes that have used objects of this one, and have lost their connection: whether they have ended, or live on and
//! come back over the next one.
//!
//! The system says so by a descriptor of the process, which is asked for when the connection is lost. By then the process may
//! have ended, and its number may be another one's: then it is heard of later, or not at all, and never too early. Where the
//! system has no such descriptor, or the process is of another space of numbers, nothing is heard; nor where this process
//! has no descriptor or no memory left when the connection is lost. Then what is kept for it stays as long as its keepers
//! keep what nobody asks for: outcomes of a space's acts, for a day.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix_futex_sync::Mutex;

use crate::address::Address;
use crate::connection::Connection;
use crate::core::Core;
use crate::object::{Client, Object, Post, add_keeper};
use crate::tables::Way;

/// A process without a connection, for which something is kept until it has ended.
pub(crate) struct Former {
    pub(crate) process: OwnedFd,
    address: Address,
    keepers: Mutex<Vec<Weak<dyn Object>>>,
}

/// A client has lost its connection. What is kept for it is so until its process has ended, perhaps by now.
pub(crate) fn watch(core: &Core, client: &Client, post: &mut Post<'_>) {
    let keepers = client.take_keepers();
    let (Some(&address), Some(connection)) = (client.address.get(), &client.connection) else { return };
    if keepers.is_empty() || is_watched(core, address, &keepers) {
        return;
    }
    match descriptor_of(connection, address) {
        Err(Errno::SRCH) => tell(&keepers, address, post),
        Err(_) => {}
        Ok(process) => {
            let former = Arc::new(Former { process, address, keepers: Mutex::new(keepers) });
            let number = core.next_number();
            core.tables.lock().ways.insert(number, Way::Former(Arc::clone(&former)));
            if epoll::add(&core.epoll, &former.process, EventData::new_u64(number), EventFlags::IN).is_err() {
                core.tables.lock().ways.remove(&number);
            }
        }
    }
}

/// Its process has ended.
pub(crate) fn end(core: &Core, number: u64, former: &Former, post: &mut Post<'_>) {
    core.tables.lock().ways.remove(&number);
    let _ = epoll::delete(&core.epoll, &former.process);
    let keepers = std::mem::take(&mut *former.keepers.lock());
    tell(&keepers, former.address, post);
}

fn tell(keepers: &[Weak<dyn Object>], address: Address, post: &mut Post<'_>) {
    keepers.iter().filter_map(Weak::upgrade).for_each(|object| object.ended(address, post));
}

/// Whether the process is watched already: it has lost one connection before. These are told as well.
fn is_watched(core: &Core, address: Address, more: &[Weak<dyn Object>]) -> bool {
    let known = {
        let tables = core.tables.lock();
        tables.ways.values().find_map(|way| match way {
            Way::Former(former) if former.address == address => Some(Arc::clone(former)),
            _ => None,
        })
    };
    let Some(known) = known else { return false };
    let mut keepers = known.keepers.lock();
    more.iter().for_each(|keeper| add_keeper(&mut keepers, Weak::clone(keeper)));
    true
}

/// A descriptor of the process at the other end of a connection, if that is who it says.
fn descriptor_of(connection: &Connection, address: Address) -> Result<OwnedFd, Errno> {
    let peer = rustix::net::sockopt::socket_peercred(connection)?.pid;
    let said = i32::try_from(address.pid).ok().and_then(Pid::from_raw).ok_or(Errno::INVAL)?;
    if peer != said {
        return Err(Errno::INVAL);
    }
    pidfd_open(said, PidfdFlags::empty())
}
