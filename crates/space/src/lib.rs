//! A shared space: tuples that anybody writes, and whoever looks for one like this takes.
//!
//! A pure state machine. It has no clock, no thread and no lock and knows nothing of Python: time comes in as a `Duration`
//! since an epoch that the caller chose, and who waits is called through [`Outside`], which answers whether that was heard.
//! So a waiter can stand in any wait of any kernel, with alternatives, deadlines and cancellation, and the space knows of
//! none of that.
//!
//! Invariants:
//! - A tuple is in one place: in the store, held by a claim or a transaction, or handed to somebody. What was handed over
//!   and is not fetched comes back, with its number, and so to its old place in the order.
//! - Who waits is served in order, and by a write: what lies in the store, nobody who waits is looking for.
//! - Of several tuples that match, the one written first is given.
//! - No foreign code runs in here: what is compared is plain.
//!
//! A tuple lies in a [`Store`], which finds by template. The one here is [`Memory`]. A space whose acts are written down
//! keeps its tuples there too; it [holds](Space::that_holds) what is taken until whoever writes it down has done so.
//!
//! Sources: Gelernter's Linda (out, in, rd, inp, rdp); leases and transactions of `JavaSpaces`; Ruby's Rinda.

mod ask;
mod claims;
mod codec;
mod index;
mod memory;
mod serve;
mod space;
mod store;
mod template;
mod transactions;
mod tree;
mod value;
mod waiters;
mod watches;
mod words;

pub use ask::{Act, Ask, News, OperationId, decode_given, decode_tuples, encode_given, encode_tuples};
pub use claims::{ClaimId, Held};
pub use codec::{CodecError, decode_template, decode_tuple, encode_template, encode_tuple};
pub use memory::Memory;
pub use space::{Enlisted, Given, How, Outside, Refused, Space, Wanted};
pub use store::{Entry, Store};
pub use template::{Field, Template};
pub use transactions::{Prepared, TransactionId};
pub use value::{Kind, Large, Other, Tuple, Value};
pub use waiters::Ticket;
pub use watches::{Missed, WatchId};
