//! Trails: who asks from beyond the pool what a job waits for, and so on, until the way leads beyond the pool again.
//!
//! What is written is somebody else's, and grows by a line for each wait. A trail ends with a job that waits for no other;
//! if that has begun, its worker is asked, where it may wait for something that no pool knows of.

use thistledown_wire::Answer;

use super::Hall;
use crate::outcome::Outcome;
use crate::parcel::Parcel;
use crate::policy::{Cancel, JobId};

/// A trail of so many bytes gets no more lines, here and in the processes that it goes through.
pub const LONGEST_TRAIL: usize = 8 * 1024;

impl<C> Hall<C> {
    /// Follows a trail from a job to the one at its end.
    pub(crate) fn trail(&mut self, from: JobId, mut written: Vec<u8>) {
        let place = |job| self.policy.begun_in(job);
        let mut at = from;
        for _ in 0..=self.desk.jobs.len() {
            let Some(next) = self.policy.waits_for(at) else { break };
            if written.len() < LONGEST_TRAIL {
                let line = self.desk.line(at, next, place(at));
                written.extend_from_slice(b"\n");
                written.extend_from_slice(line.as_bytes());
            }
            at = next;
        }
        let Some(host) = place(at) else { return };
        if written.len() < LONGEST_TRAIL {
            // The worker goes on with the words.
            written.extend_from_slice(format!("\n  {}", self.desk.who(at, Some(host))).as_bytes());
        }
        if let Some(worker) = self.desk.workers.get_mut(host) {
            worker.answer(Answer::Trail { id: at.number() }, Parcel::words(&written));
        }
    }

    /// Whether a job has begun, as far as is known.
    pub(crate) fn has_begun(&self, job: JobId) -> bool {
        self.policy.begun_in(job).is_some()
    }

    /// Takes back a call of an actor that has not begun, for nobody can wait for it.
    pub(crate) fn take_back(&mut self, job: JobId, now: u64) -> Cancel {
        let taken_back = self.policy.take_back(&mut self.desk, job, now).unwrap_or(Cancel::TooLate);
        self.act();
        if taken_back == Cancel::Removed {
            self.desk.finish(job, Outcome::Cancelled);
        }
        taken_back
    }
}
