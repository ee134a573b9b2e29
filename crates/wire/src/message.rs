//! Messages between a program and its worker processes: what a frame begins with.
//!
//! A frame is one message, in postcard's encoding, and behind it the message's body: bytes that mean nothing here, such
//! as a pickled call. A body that is too big for a frame travels as a blob, a memory file of its own; the message then
//! says how long the blob's head is, behind which its buffers stand.
//!
//! Both sides are of one version: [`VERSION`] changes with every change of what the bytes mean, also with the order of
//! variants and fields.
//!
//! Whatever comes in is a message or an [`Error`]. What a message means, and whether its numbers name anything, is the
//! affair of who gets it.

use serde::{Deserialize, Serialize};

use crate::Error;

/// The version of everything in this crate that two processes must agree on.
pub const VERSION: u32 = 5;
/// The most bytes that a message takes in front of its body.
pub const MAX_HEAD: usize = 112;
/// The most bytes that the head of a blob has.
pub const MAX_BLOB_HEAD: u64 = 1 << 40;

/// From the program to a worker: what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// A function that tasks will name. The body is its pickle.
    Function {
        /// Its name from now on.
        id: u32,
        /// The length of the blob's head, if it travels as a blob.
        blob: Option<u64>,
    },
    /// No task will name this function any more.
    Forget {
        /// Which.
        id: u32,
    },
    /// The blob of this task was sent, and the task was taken back.
    Discard {
        /// Which.
        task: u64,
    },
    /// A task. The body is its arguments.
    Task {
        /// Its name.
        id: u64,
        /// What it calls.
        function: u32,
        /// Whether others run beside it.
        weightless: bool,
        /// The length of the blob's head, if the body travels as a blob.
        blob: Option<u64>,
    },
    /// A task of an actor that lives in this worker. The body is its arguments.
    Call {
        /// Its name.
        id: u64,
        /// What makes the actor, or the name of its method.
        function: u32,
        /// Which actor, and what is asked of it.
        errand: Errand,
        /// The length of the blob's head, if the body travels as a blob.
        blob: Option<u64>,
    },
}

/// What is asked of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// Which.
    pub actor: u64,
    /// What.
    pub verb: Verb,
}

/// What can be asked of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// To begin.
    Make {
        /// It has a worker for itself.
        own: bool,
        /// How many calls it may have.
        mailbox: u32,
    },
    /// To run a method.
    Call,
    /// To give itself, as it is.
    Give,
    /// To end, after what was asked before.
    Stop,
    /// To say when it has ended.
    Watch,
}

/// From the program to a worker: what comes back to what a worker asked for, or overtakes [`Work`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A task that this worker spawned has ended. The body is its value or its error.
    Ended {
        /// The worker's name for it.
        reference: u64,
        /// How.
        end: End,
        /// The length of the blob's head, if the body travels as a blob.
        blob: Option<u64>,
    },
    /// Stop this weightless task.
    Cancel {
        /// Which.
        id: u64,
    },
    /// The wait for a task that this worker spawned can never end. The body says why, in words.
    Deadlock {
        /// The worker's name for it.
        reference: u64,
    },
    /// This actor was killed: it is to be let go of.
    Discard {
        /// Which.
        actor: u64,
    },
    /// Somebody waits for this task, which this worker has: what does it wait for in turn? The body goes along the waits.
    Trail {
        /// Which.
        id: u64,
    },
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It returned.
    Value,
    /// It raised.
    Error,
    /// It was cancelled.
    Cancelled,
    /// Its worker died.
    Died,
    /// Its time was up.
    TimedOut,
    /// It was never taken.
    Refused,
    /// Its actor was stopped before.
    Stopped,
    /// Its actor was killed.
    Killed,
    /// Its actor had ended with its pool.
    Closed,
    /// Its actor could not be made. The body is the error.
    Unmade,
    /// Its actor has as many calls as it may have.
    Full,
    /// No such actor is known.
    Unknown,
}

/// From a worker to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The worker takes tasks now.
    Ready,
    /// The worker cannot work: its initializer raised. The body is the error.
    Failed,
    /// A task has ended. The body is its value or its error.
    Done {
        /// Which.
        id: u64,
        /// How.
        end: End,
        /// Whether it should be tried again, if it may.
        retry: bool,
        /// How long it took.
        nanos: u64,
        /// The length of the blob's head, if the body travels as a blob.
        blob: Option<u64>,
    },
    /// A task of this worker starts another. The body is what the task is called, the function, and the arguments.
    Spawn {
        /// The worker's name for it.
        reference: u64,
        /// So many bytes of the body are what people call it.
        name_length: u16,
        /// So many bytes behind those are what it calls.
        function_length: u32,
        /// The length of the blob's head, if what it calls travels as a blob.
        function_blob: Option<u64>,
        /// Whether others may run beside it.
        weightless: bool,
        /// Not the place's own.
        options: Option<SpawnOptions>,
        /// The length of the blob's head, if the arguments travel as a blob.
        blob: Option<u64>,
    },
    /// Cancel what this worker spawned.
    CancelSpawned {
        /// The worker's name for it.
        reference: u64,
    },
    /// The running task waits for others: the worker gives up its slot.
    Waiting,
    /// It goes on.
    Resumed,
    /// Something for the program to hear, such as a log record. The body is what.
    Say,
    /// A task of this worker cannot go on before one that it has started has ended.
    Blocked {
        /// Which.
        id: u64,
        /// The worker's name for the other; one that means nothing: it goes on after all.
        reference: u64,
        /// Whether nothing else in this worker goes on meanwhile.
        holds: bool,
    },
    /// An actor is to end at once.
    Kill {
        /// Which, by the name that its maker gave it.
        actor: u64,
    },
    /// An actor is to end when this worker does.
    Tie {
        /// Which, by the name that its maker gave it.
        actor: u64,
    },
    /// Somebody waits for a task that this worker has started: what does it wait for in turn? The body goes along the waits.
    Trail {
        /// The worker's name for it.
        reference: u64,
    },
}

/// How a task that a worker starts is to be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnOptions {
    /// How long it may take.
    pub timeout_nanos: Option<u64>,
    /// How many bytes it may have.
    pub memory: Option<u64>,
    /// How often it is tried again.
    pub retries: u32,
    /// Higher goes first.
    pub priority: i32,
    /// Tasks of one key never overlap.
    pub key: Option<u64>,
    /// It is asked of an actor, which has this name among all of the pool.
    pub errand: Option<Errand>,
}

/// What postcard cannot know of a message.
trait Message: Serialize + for<'a> Deserialize<'a> {
    /// Whether bytes may follow.
    fn has_body(&self) -> bool;

    /// The length of the longest blob's head that it gives.
    fn blob(&self) -> Option<u64>;

    /// The least length that its body can have.
    fn least_body(&self) -> usize {
        0
    }
}

impl Message for Work {
    #[inline]
    fn has_body(&self) -> bool {
        !matches!(self, Self::Forget { .. } | Self::Discard { .. })
    }

    #[inline]
    fn blob(&self) -> Option<u64> {
        match *self {
            Self::Function { blob, .. } | Self::Task { blob, .. } | Self::Call { blob, .. } => blob,
            Self::Forget { .. } | Self::Discard { .. } => None,
        }
    }
}

impl Message for Answer {
    #[inline]
    fn has_body(&self) -> bool {
        !matches!(self, Self::Cancel { .. } | Self::Discard { .. })
    }

    #[inline]
    fn blob(&self) -> Option<u64> {
        match *self {
            Self::Ended { blob, .. } => blob,
            Self::Cancel { .. } | Self::Deadlock { .. } | Self::Discard { .. } | Self::Trail { .. } => None,
        }
    }
}

impl Message for Reply {
    #[inline]
    fn has_body(&self) -> bool {
        matches!(self, Self::Failed | Self::Done { .. } | Self::Spawn { .. } | Self::Say | Self::Trail { .. })
    }

    #[inline]
    fn blob(&self) -> Option<u64> {
        match *self {
            Self::Done { blob, .. } => blob,
            Self::Spawn { blob, function_blob, .. } => blob.max(function_blob),
            _ => None,
        }
    }

    #[inline]
    fn least_body(&self) -> usize {
        match *self {
            Self::Spawn { function_length, name_length, .. } => {
                function_length as usize + usize::from(name_length)
            }
            _ => 0,
        }
    }
}

#[inline]
fn encode(message: &impl Message, into: &mut Vec<u8>) {
    let mut head = [0; MAX_HEAD];
    let used = postcard::to_slice(message, &mut head).expect("MAX_HEAD is enough for every message");
    into.extend_from_slice(used);
}

#[inline]
fn decode<M: Message>(bytes: &[u8]) -> Result<(M, &[u8]), Error> {
    let (message, body) = postcard::take_from_bytes::<M>(bytes).map_err(refused)?;
    if !message.has_body() && !body.is_empty() {
        return Err(Error::Trailing { length: body.len() });
    }
    if let Some(length) = message.blob().filter(|length| *length > MAX_BLOB_HEAD) {
        return Err(Error::TooMuch { length, limit: MAX_BLOB_HEAD });
    }
    if message.least_body() > body.len() {
        return Err(Error::CutOff);
    }
    Ok((message, body))
}

#[cold]
fn refused(error: postcard::Error) -> Error {
    match error {
        postcard::Error::DeserializeUnexpectedEnd => Error::CutOff,
        _ => Error::NoMessage,
    }
}

/// The face of each kind of message.
macro_rules! messages {
    ($($kind:ty),*) => {$(
        impl $kind {
            /// Appends the message. Its body, if it has one, goes behind it in the same frame.
            #[inline]
            pub fn encode(&self, into: &mut Vec<u8>) {
                encode(self, into);
            }

            /// The message at the beginning of a frame, and its body.
            ///
            /// # Errors
            /// [`Error::CutOff`], [`Error::NoMessage`], [`Error::Trailing`] or [`Error::TooMuch`].
            #[inline]
            pub fn decode(frame: &[u8]) -> Result<(Self, &[u8]), Error> {
                decode(frame)
            }
        }
    )*};
}

messages!(Work, Answer, Reply);
