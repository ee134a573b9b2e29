//! Tags: which blob belongs to which frame. Blobs and frames take different ways.

/// What a blob belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// The arguments of a task, or its result.
    Task(u64),
    /// A function.
    Function(u32),
    /// The outcome of a task that a worker has started.
    Answer(u64),
}

impl Tag {
    /// Numbers of tasks leave the two highest bits alone for longer than any process lives.
    ///
    /// A function that a worker sends has no number yet: it goes by the low half of the reference of its task. That it may
    /// come again after four billion tasks does no harm, as a blob is taken with the frame behind it.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Task(id) => id,
            Self::Function(id) => 1 << 63 | u64::from(id),
            Self::Answer(reference) => 1 << 62 | reference,
        }
    }
}
