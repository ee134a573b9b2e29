//! Handles to objects, wherever these are, and the tickets that keep an object while a handle is on its way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use thistledown_parcel::Parcel;

use crate::Broken;
use crate::address::{ObjectId, Party, TicketId};
use crate::asked::{Asked, Hearing, Waiting};
use crate::connection::Sent;
use crate::desk::Waiter;
use crate::exchange::Exchange;
use crate::frame::Request;
use crate::link::Link;
use crate::object::Post;

/// A handle to an object: keeps it, wherever it is.
pub struct Handle {
    pub(crate) exchange: Exchange,
    pub(crate) id: ObjectId,
    /// The owner's own process has none.
    pub(crate) link: Option<Arc<Link>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Handle {
    /// To which object.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Whether the object is in this process.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.link.is_none()
    }

    /// The exchange of this process.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Asks the object for something. The waiter may be told before this returns.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked. The waiter is told nothing then.
    pub fn ask(&self, verb: u8, body: &Parcel, waiter: Arc<dyn Waiter>) -> Result<Asked, Broken> {
        self.exchange.check()?;
        let core = self.exchange.core();
        let request = core.next_number();
        let asked = Asked::new(self.exchange.clone(), self.link.clone(), request);
        match &self.link {
            None => {
                let object = core.object(self.id.number);
                let object = object.ok_or(Broken::NoObject { pid: self.id.owner.pid })?;
                core.desk.add(request, waiter);
                core.here.ask(object, request, verb, body.clone(), &mut Post::new(core));
            }
            Some(link) => {
                link.desk.add(request, waiter);
                if link.is_broken.load(Ordering::Acquire) {
                    link.desk.remove(request);
                    return Err(Broken::Gone { pid: self.id.owner.pid });
                }
                let blob = body.head_in_blob();
                let message = Request::Ask { request, object: self.id.number, verb, blob };
                link.connection.put(message, body);
                core.send(&link.connection);
            }
        }
        Ok(asked)
    }

    /// Asks. Who sleeps until it is told can look at something else now and then.
    ///
    /// # Errors
    /// It could not be asked: the owner's process is gone, or this one was forked.
    pub fn ask_to_hear(&self, verb: u8, body: &Parcel) -> Result<Hearing, Broken> {
        let waiting = Arc::new(Waiting::default());
        let asked = self.ask(verb, body, Arc::clone(&waiting) as Arc<dyn Waiter>)?;
        Ok(Hearing { asked, waiting })
    }

    /// Tells the object something that has no answer. True: the system has it, so that it arrives also if this process dies.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked.
    pub fn tell(&self, verb: u8, body: &Parcel) -> Result<bool, Broken> {
        self.tell_all([(verb, body.clone())])
    }

    /// The same for several, in this order, which travel together.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked.
    pub fn tell_all(&self, told: impl IntoIterator<Item = (u8, Parcel)>) -> Result<bool, Broken> {
        self.exchange.check()?;
        let mut told = told.into_iter().peekable();
        if told.peek().is_none() {
            return Ok(true);
        }
        let core = self.exchange.core();
        let Some(link) = &self.link else {
            let object = core.object(self.id.number);
            let object = object.ok_or(Broken::NoObject { pid: self.id.owner.pid })?;
            let mut post = Post::new(core);
            told.for_each(|(verb, body)| object.told(Party::HERE, verb, body, &mut post));
            return Ok(true);
        };
        if link.is_broken.load(Ordering::Acquire) {
            return Err(Broken::Gone { pid: self.id.owner.pid });
        }
        for (verb, body) in told {
            let blob = body.head_in_blob();
            link.connection.put(Request::Tell { object: self.id.number, verb, blob }, &body);
        }
        Ok(core.send(&link.connection) == Sent::All)
    }

    /// A ticket for a handle that goes on its way, used up by the first who shows it; or revoked, if it is dropped before it
    /// [leaves](Ticket::leave). What has left and is never shown keeps the object, until somebody
    /// [revokes](Exchange::revoke) it.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked.
    pub fn ticket(&self) -> Result<Ticket, Broken> {
        self.keeping(true)
    }

    /// A ticket for handles that are on their way, any number of times, until it is dropped.
    ///
    /// # Errors
    /// The owner's process is gone, or this one was forked.
    pub fn lasting_ticket(&self) -> Result<Ticket, Broken> {
        self.keeping(false)
    }

    fn keeping(&self, once: bool) -> Result<Ticket, Broken> {
        let id = self.grant(once)?;
        let (exchange, link) = (self.exchange.clone(), self.link.clone());
        Ok(Ticket { exchange, link, object: self.id.number, id, has_left: false })
    }

    fn grant(&self, once: bool) -> Result<TicketId, Broken> {
        self.exchange.check()?;
        let core = self.exchange.core();
        let ticket = TicketId { maker: core.address, number: core.next_number() };
        match &self.link {
            None => core.grant(self.id.number, ticket, once),
            Some(link) => {
                let message = Request::Grant { object: self.id.number, ticket, once };
                link.connection.put(message, &Parcel::empty());
                core.send(&link.connection);
            }
        }
        Ok(ticket)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.exchange.is_forked() {
            return;
        }
        let core = self.exchange.core();
        match &self.link {
            None => drop(core.count_handle(self.id.number, false, None)),
            Some(link) => {
                link.forget_listeners(self.id.number);
                link.connection.put(Request::Release { object: self.id.number }, &Parcel::empty());
                core.send(&link.connection);
            }
        }
    }
}

/// Keeps an object while handles to it are on their way.
pub struct Ticket {
    exchange: Exchange,
    link: Option<Arc<Link>>,
    object: u64,
    id: TicketId,
    has_left: bool,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Ticket {
    /// What is shown by who gets the handle.
    #[must_use]
    pub fn id(&self) -> TicketId {
        self.id
    }

    /// Which object it keeps.
    #[must_use]
    pub fn object(&self) -> ObjectId {
        let owner = self.link.as_ref().map_or_else(|| self.exchange.address(), |link| link.owner);
        ObjectId { owner, number: self.object }
    }

    /// It is on its way now: whoever gets it uses it up.
    pub fn leave(mut self) {
        self.has_left = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.has_left || self.exchange.is_forked() {
            return;
        }
        let core = self.exchange.core();
        match &self.link {
            None => core.revoke_later(self.object, self.id),
            Some(link) => {
                let message = Request::Revoke { object: self.object, ticket: self.id };
                link.connection.put(message, &Parcel::empty());
                core.send(&link.connection);
            }
        }
    }
}
