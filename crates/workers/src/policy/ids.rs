//! Names of jobs and workers: small, copyable, and never reused for something else (slot and version).

use slotmap::{Key, KeyData, new_key_type};

new_key_type! {
    /// A job: one task that was handed to the workers.
    pub struct JobId;
    /// A worker process, from the wish to start it until it is known to be dead.
    pub struct WorkerId;
    /// An actor: an object in a worker, whose calls are jobs.
    pub struct ActorId;
}

macro_rules! number {
    ($($id:ident),*) => {$(
        impl $id {
            /// The name as a number, unique among its kind for the life of the policy.
            #[must_use]
            pub fn number(self) -> u64 {
                self.data().as_ffi()
            }

            /// The name that [`Self::number`] gave. Any other number is the name of nothing.
            #[must_use]
            pub fn from_number(number: u64) -> Self {
                KeyData::from_ffi(number).into()
            }
        }
    )*};
}

number!(JobId, WorkerId, ActorId);
