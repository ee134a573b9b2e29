//! What keeps a shared channel while handles to it are on their way, by what they are on their way in.
//!
//! A message or a result is unpacked once: its ticket is used up then. The arguments of a task may be unpacked again and
//! again, until the task has ended, which drops the tickets. What else is pickled (functions, which are sent to each
//! worker, and what a program pickles itself) is good as long as the channel is alive in the process that pickled it.

use std::cell::RefCell;

use pyo3::PyResult;
use thistledown_exchange::Ticket;

/// What is being packed in this thread.
#[derive(Default)]
pub(crate) enum Packing {
    #[default]
    Anything,
    Once,
    Collected(Vec<Ticket>),
}

thread_local! {
    static PACKING: RefCell<Packing> = const { RefCell::new(Packing::Anything) };
}

/// Puts back what was being packed before, also on the way of a panic.
struct Before(Packing);

impl Drop for Before {
    fn drop(&mut self) {
        PACKING.replace(std::mem::take(&mut self.0));
    }
}

/// Packs what is unpacked once.
pub(crate) fn once<T>(pack: impl FnOnce() -> T) -> T {
    let _before = Before(PACKING.replace(Packing::Once));
    pack()
}

/// Packs, and gives what keeps the channels in it.
pub(crate) fn collect<T>(pack: impl FnOnce() -> PyResult<T>) -> PyResult<(T, Vec<Ticket>)> {
    let before = Before(PACKING.replace(Packing::Collected(Vec::new())));
    let packed = pack();
    let collected = PACKING.take();
    drop(before);
    match collected {
        Packing::Collected(tickets) => Ok((packed?, tickets)),
        _ => Ok((packed?, Vec::new())),
    }
}

/// Does something with what is being packed.
pub(crate) fn with<T>(work: impl FnOnce(&mut Packing) -> T) -> T {
    PACKING.with_borrow_mut(work)
}
