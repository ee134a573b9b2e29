//! Identity of handles: of one thing a process may have several, since one may have come back from another process.
//! Those to the same thing are equal and hash alike.

use std::hash::{DefaultHasher, Hash, Hasher};

use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;

/// A class of handles.
pub(crate) trait Identified: PyClass<Frozen = True> + Sync {
    type Identity: Eq + Hash;

    /// The same for all handles to one thing, for as long as there are any.
    fn identity(&self) -> Self::Identity;
}

/// `__eq__`: whether the other one is a handle to the same.
pub(crate) fn are_same<T: Identified>(handle: &T, other: &Bound<'_, PyAny>) -> bool {
    other.cast_exact::<T>().is_ok_and(|other| other.get().identity() == handle.identity())
}

/// `__hash__`.
pub(crate) fn hash<T: Identified>(handle: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    handle.identity().hash(&mut hasher);
    hasher.finish()
}
