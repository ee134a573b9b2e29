//! The place of a worker whose task waits for what others have to do first: another worker may have it meanwhile.
//!
//! So the stages of a pipeline, which feed each other, go on with fewer places than there are stages. To say that a task
//! waits, and that it goes on, costs more than most waits in a stream take, so only a longer one is said.

use std::sync::Arc;
use std::time::Duration;

use thistledown_kernel::Moment;
use thistledown_runtime::Clock;

use super::upstream::{self, Upstream, Waiting};

/// So long a task that waits keeps its place.
const PATIENCE: Duration = Duration::from_millis(20);

/// While it lives the task that runs in this thread waits.
pub(crate) struct Place {
    worker: Arc<Upstream>,
    /// When it is given up; nothing when it has been.
    due: Option<Moment>,
    given_up: Option<Waiting>,
}

impl Place {
    /// Of a plain task of a worker, in the thread that runs it; others have none.
    pub(crate) fn of_this_thread() -> Option<Self> {
        let worker = upstream::get().filter(|worker| worker.runs_here())?;
        Some(Self { worker, due: Some(Clock::System.now().after(PATIENCE)), given_up: None })
    }

    /// Gives it up when it is time. Otherwise when it will be.
    pub(crate) fn leave(&mut self, now: Moment) -> Option<Moment> {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.worker.is_awaited_elsewhere(&mut self.given_up);
        }
        self.due
    }
}
