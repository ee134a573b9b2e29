//! What an exchange knows: its objects and who keeps them, and its connections.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::address::{Address, TicketId};
use crate::connection::Connection;
use crate::core::Shared;
use crate::former::Former;
use crate::link::Link;
use crate::object::{Client, Object};

/// An object of this process.
pub(crate) struct Entry {
    pub(crate) object: Arc<dyn Object>,
    /// Handles of this process, and of others.
    pub(crate) handles: usize,
    /// Handles that are on their way, and whether the first who shows the ticket uses it up.
    pub(crate) tickets: HashMap<TicketId, bool>,
    /// Tickets that were shown, by who was quicker than the word of who made them.
    pub(crate) early: Vec<TicketId>,
    /// The exchange is there as long as it has an object.
    pub(crate) _keeps: Arc<Shared>,
}

impl Entry {
    pub(crate) fn is_kept(&self) -> bool {
        self.handles > 0 || !self.tickets.is_empty()
    }
}

/// What a connection is.
#[derive(Clone)]
pub(crate) enum Way {
    /// Another process uses objects of this one.
    Client(Arc<Client>),
    /// This process uses objects of another one.
    Link(Weak<Link>, Arc<Connection>),
    /// Nobody uses it any more; what is queued is still sent.
    Last(Arc<Connection>),
    /// No connection: a process that has lost its own, and for which something is kept until it has ended.
    Former(Arc<Former>),
}

#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) objects: HashMap<u64, Entry>,
    pub(crate) ways: HashMap<u64, Way>,
    pub(crate) links: HashMap<Address, Weak<Link>>,
}
