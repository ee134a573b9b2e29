//! Names for what the kernel holds: small, copyable, and never reused for something else (slot and version).

use slotmap::{Key, KeyData, new_key_type};

new_key_type! {
    /// A task, or a thread that waits like one.
    pub struct TaskId;
    /// A loop that gives tasks their turns.
    pub struct RunnerId;
    /// A channel.
    pub struct ChannelId;
    /// A region in which tasks live and can be cancelled together.
    pub struct ScopeId;
    /// Something of the operating system that becomes readable or writable.
    pub struct SourceId;
    /// Where somebody waits to be called.
    pub struct SpotId;
    /// The line of the tasks of one key.
    pub struct KeyId;
}

macro_rules! number {
    ($($id:ident),*) => {$(
        impl $id {
            /// The name as a number, unique among its kind for the life of the kernel.
            #[must_use]
            pub fn number(self) -> u64 {
                self.data().as_ffi()
            }

            /// The name that [`Self::number`] gave.
            #[must_use]
            pub fn from_number(number: u64) -> Self {
                KeyData::from_ffi(number).into()
            }
        }
    )*};
}

number!(TaskId, RunnerId, ChannelId, ScopeId, SourceId, SpotId, KeyId);
