//! How much is laid in the lane of a worker at the same time, by what jobs took of late.

use super::terms::Nanos;

/// Never more than this in one lane.
const MAX_DEPTH: u64 = 64;

/// A job that takes so many times the mean sets it: jobs that grow long are believed at once, others by and by.
const SURPRISE: Nanos = 4;

/// The weight of a job in the mean is one in so many.
const MEMORY: Nanos = 8;

/// Behind a job that has run for longer than this nothing is laid, and what lies there is taken back.
pub(super) const LONG: Nanos = 1_000_000;

#[derive(Debug)]
pub(super) struct Pace {
    budget: Nanos,
    /// What a job takes, by the last ones. Nothing until one has replied.
    mean: Option<Nanos>,
}

impl Pace {
    pub(super) fn new(budget: Nanos) -> Self {
        Self { budget, mean: None }
    }

    /// A job took so long.
    pub(super) fn learn(&mut self, took: Nanos) {
        self.mean = Some(match self.mean {
            Some(mean) if took <= mean.saturating_mul(SURPRISE) => mean - mean / MEMORY + took / MEMORY,
            _ => took,
        });
    }

    /// How many jobs may be in a lane, the one that runs included.
    pub(super) fn depth(&self) -> usize {
        let depth = self.mean.map_or(1, |mean| (self.budget / mean.max(1)).clamp(1, MAX_DEPTH));
        usize::try_from(depth).unwrap_or(1)
    }
}
