//! What keeps a shared channel, or an actor, while handles to it are on their way, by what they are on their way in.
//!
//! A message or a result is unpacked once: its ticket is used up then. One that nobody will unpack is let go: what keeps the
//! handles in it stands in front of it, to be read without Python, and is revoked. The arguments of a task may be unpacked again and
//! again, until the task has ended, which drops the tickets. What else is pickled (functions, which are sent to each
//! worker, and what a program pickles itself) is good as long as the channel is alive in the process that pickled it.

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_exchange::{Address, Broken, Handle, ObjectId, Ticket, TicketId};

use crate::channel::door;

/// What is being packed in this thread.
#[derive(Default)]
pub(crate) enum Packing {
    #[default]
    Anything,
    /// What is unpacked once.
    Once(Vec<Ticket>),
    /// What may be unpacked again and again.
    Collected(Vec<Ticket>),
}

thread_local! {
    static PACKING: RefCell<Packing> = const { RefCell::new(Packing::Anything) };
    /// The pool whose processes alone get what is packed; 0: anybody may.
    static BOUND_FOR: Cell<u64> = const { Cell::new(0) };
}

/// Puts back where what was being packed before is bound for.
struct Bound(u64);

impl Drop for Bound {
    fn drop(&mut self) {
        BOUND_FOR.set(self.0);
    }
}

/// Packs what goes to the processes of this pool, or to the program that has made it, and nowhere else. So what it names
/// of that pool needs no other way there.
pub(crate) fn bound_for<T>(pool: u64, pack: impl FnOnce() -> T) -> T {
    let _before = Bound(BOUND_FOR.replace(pool));
    pack()
}

/// Whether what is packed now goes to this pool and nowhere else.
pub(crate) fn is_bound_for(pool: u64) -> bool {
    BOUND_FOR.get() == pool
}

/// Puts back what was being packed before, also on the way of a panic.
struct Before(Packing);

impl Drop for Before {
    fn drop(&mut self) {
        PACKING.replace(std::mem::take(&mut self.0));
    }
}

/// Packs what is unpacked once, and gives what keeps the channels in it: to [leave](sent) when it is sent, and to be
/// dropped when it is not.
pub(crate) fn once<T>(pack: impl FnOnce() -> PyResult<T>) -> PyResult<(T, Vec<Ticket>)> {
    with_tickets(Packing::Once(Vec::new()), pack)
}

/// What keeps the handles in what is unpacked once, so far: their names, one behind the other.
pub(crate) fn names() -> Vec<u8> {
    PACKING.with_borrow(|packing| match packing {
        Packing::Once(tickets) => {
            tickets.iter().flat_map(|ticket| written(ticket.object(), ticket.id())).collect()
        }
        Packing::Anything | Packing::Collected(_) => Vec::new(),
    })
}

/// What is unpacked once is packed in another way, from the beginning: what keeps the handles in what was packed of it by
/// then is let go.
#[pyfunction]
#[pyo3(name = "_packs_anew")]
pub(crate) fn packs_anew() {
    let old = PACKING.with_borrow_mut(|packing| match packing {
        Packing::Once(tickets) => std::mem::take(tickets),
        Packing::Anything | Packing::Collected(_) => Vec::new(),
    });
    drop(old);
}

/// What these were in will not be unpacked: nothing is kept by them any more.
///
/// Who has shared nothing has no exchange, and makes one to say so: not while tasks are settled.
pub(crate) fn let_go(tickets: Vec<(ObjectId, TicketId)>) {
    if !tickets.is_empty()
        && let Ok(exchange) = door::open()
    {
        exchange.revoke(tickets);
    }
}

/// What was packed to be unpacked once is on its way.
pub(crate) fn sent(tickets: Vec<Ticket>) {
    tickets.into_iter().for_each(Ticket::leave);
}

/// Packs, and gives what keeps the channels in it.
pub(crate) fn collect<T>(pack: impl FnOnce() -> PyResult<T>) -> PyResult<(T, Vec<Ticket>)> {
    with_tickets(Packing::Collected(Vec::new()), pack)
}

fn with_tickets<T>(packing: Packing, pack: impl FnOnce() -> PyResult<T>) -> PyResult<(T, Vec<Ticket>)> {
    let before = Before(PACKING.replace(packing));
    let packed = pack();
    let collected = PACKING.take();
    drop(before);
    match collected {
        Packing::Once(tickets) | Packing::Collected(tickets) => Ok((packed?, tickets)),
        Packing::Anything => Ok((packed?, Vec::new())),
    }
}

/// A ticket for a handle that is pickled now; `kept` is where one for anything is kept.
pub(crate) fn ticket(handle: &Handle, kept: &Mutex<Option<Ticket>>) -> Result<TicketId, Broken> {
    PACKING.with_borrow_mut(|packing| match packing {
        Packing::Once(tickets) => {
            let ticket = handle.ticket()?;
            let id = ticket.id();
            tickets.push(ticket);
            Ok(id)
        }
        Packing::Collected(tickets) => {
            let ticket = handle.lasting_ticket()?;
            let id = ticket.id();
            tickets.push(ticket);
            Ok(id)
        }
        Packing::Anything => {
            let mut kept = kept.lock();
            match &*kept {
                Some(ticket) => Ok(ticket.id()),
                None => Ok(kept.insert(handle.lasting_ticket()?).id()),
            }
        }
    })
}

/// How many bytes [`written`] writes.
pub(crate) const NAME_BYTES: usize = 2 * ObjectId::BYTES;

/// An object and a ticket as bytes, for a pickle.
pub(crate) fn written(id: ObjectId, ticket: TicketId) -> Vec<u8> {
    // A ticket is written as an object is.
    let ticket = ObjectId { owner: ticket.maker, number: ticket.number };
    [id.to_bytes(), ticket.to_bytes()].concat()
}

/// What [`written`] wrote.
pub(crate) fn read(name: &[u8]) -> Option<(ObjectId, TicketId)> {
    let (id, ticket) = name.split_at_checked(ObjectId::BYTES)?;
    let ticket = ObjectId::from_bytes(ticket)?;
    let maker = Address { pid: ticket.owner.pid, nonce: ticket.owner.nonce };
    Some((ObjectId::from_bytes(id)?, TicketId { maker, number: ticket.number }))
}
