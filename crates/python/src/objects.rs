//! Objects made by hand: what PyO3 does, without asking the class how, and with the memory of freed ones.
//!
//! An operation lives for one wait. While tasks run, a few of the freed ones are kept and used again, so that a wait
//! goes neither to the allocator nor through the general way in which objects are made and let go.
#![allow(unsafe_code, reason = "objects of this module's own classes are laid out and freed by hand")]

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::PyType;
use thistledown_kernel::Moment;

use crate::errors::{self, Quick};
use crate::operation::{Kind, Operation};
use crate::task::Task;

/// Where the contents of a class's objects begin: learnt once, from an object that PyO3 made.
pub(crate) struct Layout(AtomicUsize);

impl Layout {
    const fn unknown() -> Self {
        Self(AtomicUsize::new(0))
    }

    fn learn<T: PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync>(
        &self,
        sample: &Bound<'_, T>,
    ) -> PyResult<()> {
        let contents = std::ptr::from_ref(sample.get()) as usize - sample.as_ptr() as usize;
        // SAFETY: a live type; its size is a plain field.
        let size = unsafe { (*T::type_object_raw(sample.py())).tp_basicsize };
        if usize::try_from(size).is_ok_and(|size| size == contents + size_of::<T>()) {
            self.0.store(contents, Ordering::Relaxed);
            return Ok(());
        }
        Err(errors::misuse("PyO3 lays its objects out in another way than this module was written for"))
    }

    #[inline]
    fn contents<T>(&self, object: *mut ffi::PyObject) -> *mut T {
        object.cast::<u8>().wrapping_add(self.0.load(Ordering::Relaxed)).cast()
    }
}

static OPERATION: Layout = Layout::unknown();
static TASK: Layout = Layout::unknown();

/// Makes a task of this class, which Python has made of the engine's: as its constructor would, which is not for calling.
/// The collector does not look at it.
#[inline]
pub(crate) fn task<'py>(
    py: Python<'py>,
    class: &Bound<'py, PyType>,
    contents: impl FnOnce() -> Task,
) -> PyResult<Bound<'py, Task>> {
    let class = class.as_type_ptr();
    // SAFETY: a type whose objects the collector knows, and whose layout begins with that of the engine's class. What
    // Python has put behind it, the list of weak references, is zero when there is nothing.
    unsafe {
        let object = ffi::PyObject_GC_New::<ffi::PyObject>(class);
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        let behind = TASK.contents::<Task>(object).add(1).cast::<u8>();
        let end = object.cast::<u8>().offset((*class).tp_basicsize);
        behind.write_bytes(0, usize::try_from(end.offset_from(behind)).unwrap_or_default());
        TASK.contents::<Task>(object).write(contents());
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}

/// Makes an operation. Its kind is made where it stays: copied as a whole right after it was written in parts, it would
/// wait for the processor's store buffer.
#[inline(always)]
pub(crate) fn operation(py: Python<'_>, kind: impl FnOnce() -> Kind) -> Quick<Bound<'_, Operation>> {
    // SAFETY: a fresh object of this very type; `OPERATION` knows where its contents are, and that they are all of it.
    unsafe {
        let object = untracked(Operation::type_object_raw(py));
        if object.is_null() {
            return Err(PyErr::fetch(py).into());
        }
        OPERATION.contents::<Operation>(object).write(Operation::new(kind()));
        ffi::PyObject_GC_Track(object.cast());
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}

/// Memory for an operation, which the collector does not look at yet.
#[inline]
unsafe fn untracked(class: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    match SPARE.take() {
        // SAFETY: an object of this very type, which has no subclasses, that nobody refers to; it still counts for the type.
        Some(object) => unsafe {
            ffi::Py_INCREF(object.as_ptr());
            object.as_ptr()
        },
        // SAFETY: a type whose objects the collector knows.
        None => unsafe { ffi::PyObject_GC_New::<ffi::PyObject>(class) },
    }
}

/// The same for PyO3, which makes the rarer kinds.
unsafe extern "C" fn allocate(class: *mut ffi::PyTypeObject, _items: ffi::Py_ssize_t) -> *mut ffi::PyObject {
    // SAFETY: the slot is set on operations alone; PyO3 writes the contents before anything else happens.
    unsafe {
        let object = untracked(class);
        if !object.is_null() {
            ffi::PyObject_GC_Track(object.cast());
        }
        object
    }
}

/// Nobody refers to an operation any more.
unsafe extern "C" fn let_go(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls the slot while it is attached, with an operation of which nobody knows.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let operation = OPERATION.contents::<Operation>(object).read();
        operation.kind.drop_refs(Python::assume_attached());
        if !SPARE.keep(object) {
            let class = ffi::Py_TYPE(object);
            ffi::PyObject_GC_Del(object.cast());
            ffi::Py_DECREF(class.cast());
        }
    }
}

/// Operations that were freed while tasks run, and still count for their type.
struct Spare {
    /// Threads that run tasks.
    runs: Cell<usize>,
    count: Cell<usize>,
    objects: [Cell<Option<NonNull<ffi::PyObject>>>; Self::LIMIT],
}

// SAFETY: it is only touched by who is attached to the interpreter, which is one thread at a time: the module asks for
// the interpreter's lock.
unsafe impl Sync for Spare {}

static SPARE: Spare =
    Spare { runs: Cell::new(0), count: Cell::new(0), objects: [const { Cell::new(None) }; Spare::LIMIT] };

impl Spare {
    const LIMIT: usize = 64;

    #[inline]
    fn take(&self) -> Option<NonNull<ffi::PyObject>> {
        let last = self.count.get().checked_sub(1)?;
        self.count.set(last);
        self.objects.get(last)?.take()
    }

    #[inline]
    fn keep(&self, object: *mut ffi::PyObject) -> bool {
        let count = self.count.get();
        if self.runs.get() == 0 {
            return false;
        }
        let Some(place) = self.objects.get(count) else { return false };
        place.set(NonNull::new(object));
        self.count.set(count + 1);
        true
    }
}

/// A thread begins to run tasks.
pub(crate) fn begin(_py: Python<'_>) {
    SPARE.runs.set(SPARE.runs.get() + 1);
}

/// A thread has run its tasks; the last one gives back what was kept.
pub(crate) fn end(_py: Python<'_>) {
    SPARE.runs.set(SPARE.runs.get().saturating_sub(1));
    if SPARE.runs.get() > 0 {
        return;
    }
    while let Some(object) = SPARE.take() {
        // SAFETY: memory that `let_go` would have given back.
        unsafe {
            let class = ffi::Py_TYPE(object.as_ptr());
            ffi::PyObject_GC_Del(object.as_ptr().cast());
            ffi::Py_DECREF(class.cast());
        }
    }
}

/// Learns the layouts and takes the memory of operations over.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    TASK.learn(&Bound::new(py, Task::fresh(None))?)?;
    OPERATION.learn(&Bound::new(py, Operation::new(Kind::After(Moment::NEVER)))?)?;
    let class = py.get_type::<Operation>().as_type_ptr();
    // SAFETY: a heap type that this module has just made; what it has made so far came from the same allocator. Both
    // slots have the right signatures.
    unsafe {
        (*class).tp_alloc = Some(allocate);
        (*class).tp_dealloc = Some(let_go);
        ffi::PyType_Modified(class);
    }
    Ok(())
}
