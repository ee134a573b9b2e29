//! Ending tasks of other processes: many at once, in threads that know no Python.
//!
//! Who ends tasks holds [`settling`], so that no fork finds one half ended. A task ends once; whom that concerns is taken
//! out of its state under its lock and told after: the kernel for all of them together, then those who asked to be called
//! in Python, then the log, of errors that nobody will ask for.
//!
//! What it is not: it unpacks nothing, and calls no Python.

use std::sync::{Arc, LazyLock};

use thistledown_exchange::Broken;
use thistledown_kernel::TaskId;
use thistledown_runtime::Lock;
use thistledown_workers::{Customer, Outcome, Parcel};

use crate::channel::tickets;
use crate::payload::WORLD;
use crate::stop::{self, Settling};
use crate::tally;
use crate::task::Task;
use crate::window;
use crate::workers::ended::{Ended, read};
use crate::workers::ends;
use crate::workers::freight;
use crate::workers::herald;
use crate::workers::remote::Remote;

use pyo3::prelude::*;

/// Who is to be told of an end.
#[derive(Default)]
struct Told {
    /// The kernel; with whether it failed.
    party: Option<(TaskId, bool)>,
    watched: Option<Py<Task>>,
    /// It failed, and nobody holds its task.
    lost: Option<(String, Arc<Ended>)>,
    /// It failed, and somebody holds its task, who may ask.
    failed_held: bool,
}

/// Held while tasks are ended, so that no fork finds one half ended.
static SETTLING: LazyLock<Lock<()>> = LazyLock::new(|| Lock::new(()));

/// Held by whoever ends tasks.
pub(crate) fn settling() -> Settling {
    Settling::new(SETTLING.lock())
}

/// Waits until nobody ends tasks, and lets nobody do it.
pub(crate) fn lock_for_fork() {
    std::mem::forget(SETTLING.lock());
}

/// Ends what [`lock_for_fork`] has begun, in the parent and in the child.
///
/// # Safety
/// Only after [`lock_for_fork`] in this thread, and once in each process.
#[allow(unsafe_code, reason = "the guard cannot live across a fork, so the lock is released by hand")]
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: the caller holds the lock, by the contract above.
    unsafe { SETTLING.force_unlock() };
}

impl Remote {
    /// Ends it. Gives whom to tell. It is counted before anybody can see that it has ended.
    fn end(&self, ended: Ended) -> Told {
        let ended = Arc::new(ended);
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Told::default();
        }
        if self.is_counted() {
            tally::WORKERS.end(1, ended.is_error().into(), ended.is_cancelled().into());
        }
        state.ended = Some(Arc::clone(&ended));
        let unheld = state.unheld.take();
        let tickets = std::mem::take(&mut state.tickets);
        let told = Told {
            party: state.party.take().map(|party| (party, ended.is_error())),
            watched: state.watched.take(),
            failed_held: ended.is_loss() && unheld.is_none(),
            lost: unheld.filter(|_| ended.is_loss()).map(|name| (name, ended)),
        };
        drop(state);
        stop::drop_tickets(tickets);
        told
    }

    /// Ends many. Needs no interpreter. Who calls this holds [`settling`].
    pub(crate) fn settle_all(ended: impl IntoIterator<Item = (Arc<Self>, Outcome)>) {
        Self::end_all(ended.into_iter().map(|(remote, outcome)| {
            let ended = remote.read(outcome);
            (remote, ended)
        }));
    }

    /// Ends one of an actor whose process is gone. Who calls this holds [`settling`].
    pub(crate) fn settle_without_home(remote: Arc<Self>, why: Broken) {
        Self::end_all([(remote, Ended::HomeGone(why))]);
    }

    fn end_all(ended: impl IntoIterator<Item = (Arc<Self>, Ended)>) {
        let mut parties = Vec::new();
        let (mut watched, mut lost, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (remote, ended) in ended {
            let told = remote.end(ended);
            parties.extend(told.party);
            watched.extend(told.watched);
            lost.extend(told.lost.map(|(name, ended)| (name, ended, Some(Arc::clone(&remote)))));
            failed.extend(told.failed_held.then(|| Arc::downgrade(&remote)));
        }
        if !failed.is_empty() {
            ends::note(failed);
        }
        if !parties.is_empty() {
            WORLD.with(|kernel| {
                for (party, is_error) in parties {
                    if is_error { kernel.fail(party) } else { kernel.finish(party) }
                }
            });
        }
        if !watched.is_empty() {
            herald::tell(watched);
        }
        if !lost.is_empty() {
            herald::mourn(lost);
        }
    }
}

/// A customer of a pool of this process.
pub(crate) struct Ticket(pub(crate) Arc<Remote>);

impl Customer for Ticket {
    type Settling = Settling;

    fn settling() -> Self::Settling {
        settling()
    }

    fn settle(ended: Vec<(Self, Outcome)>) {
        Remote::settle_all(ended.into_iter().map(|(ticket, outcome)| (ticket.0, outcome)));
    }

    fn orphaned(failed: Vec<(Option<i32>, Outcome)>) {
        let of = |process: Option<i32>| match process {
            Some(process) => format!("of a worker that has died (process {process})"),
            None => "of a worker that has died".to_owned(),
        };
        herald::mourn(
            failed
                .into_iter()
                .map(|(process, outcome)| (of(process), Arc::new(read(outcome)), None))
                .collect(),
        );
    }

    fn unread(values: Vec<Parcel>) {
        let opened = values.into_iter().filter_map(|value| value.open().ok());
        tickets::let_go(opened.flat_map(|value| freight::kept_by(value.head())).collect());
    }

    fn hear(said: Vec<Vec<u8>>) {
        herald::pass_on(said);
    }

    fn opened() {
        herald::pool_opened();
        window::user_comes();
    }

    fn closed() {
        herald::pool_closed();
        window::user_goes();
    }
}
