//! A run in the plain code of a worker: that waits for the run's main task, and so does the job whose code it is.
//!
//! What the main task waits for is said to the pool as the job's own wait, and trails of waits go on from it. That the run
//! also waits for the other tasks that it has is not looked at: they may be stopped by the main one. The time of a scope
//! around the run is no way out: it ends no wait in there.

use std::sync::Arc;

use pyo3::prelude::*;
use thistledown_kernel::TaskId;

use crate::trail::calls::{Held, Hold};
use crate::workers::upstream::{self, Upstream};

/// While it lives such a run goes on.
pub(super) struct Inner {
    upstream: Arc<Upstream>,
    job: u64,
    main: TaskId,
    _held: Held,
}

impl Inner {
    /// Nothing: it is no such run.
    pub(super) fn begin(py: Python<'_>, main: TaskId) -> Option<Self> {
        let upstream = upstream::get()?;
        let job = upstream.job_here()?;
        upstream.set_job(main, Some(job));
        Some(Self { upstream, job, main, _held: Held::new(py, Hold::Party(main)) })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.upstream.is_forked() {
            return;
        }
        self.upstream.set_job(self.main, None);
        // The wait of a run that was given up was ended by nobody.
        self.upstream.goes_on(self.job);
    }
}
