//! Objects made by hand: what PyO3 does, without asking the class how, and with the memory of freed ones.
//!
//! An operation lives for one wait. While tasks run, a few of the freed ones are kept and used again, so that a wait
//! goes neither to the allocator nor through the general way in which objects are made and let go.
#![allow(unsafe_code, reason = "objects of this module's own classes are laid out and freed by hand")]

use std::cell::Cell;
use std::ptr;
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

/// Makes an operation of one that was kept; null when none is. Its kind is made where it stays: copied as a whole right
/// after it was written in parts, it would wait for the processor's store buffer.
#[inline(always)]
pub(crate) fn again(_py: Python<'_>, kind: impl FnOnce() -> Kind) -> *mut ffi::PyObject {
    let Some(object) = SPARE.take() else { return ptr::null_mut() };
    // SAFETY: a live operation that nobody else refers to; `OPERATION` knows where its contents are, and that they are all
    // of it. What it was needs no drop.
    unsafe { OPERATION.contents::<Operation>(object).write(Operation::new(kind())) };
    object
}

/// Makes an operation.
#[inline(always)]
pub(crate) fn operation(py: Python<'_>, kind: impl FnOnce() -> Kind) -> Quick<Bound<'_, Operation>> {
    // SAFETY: an object of this very type that nobody else refers to, as for `again`.
    unsafe {
        let kept = SPARE.take();
        let object = match kept {
            Some(object) => object,
            None => fresh(Operation::type_object_raw(py)),
        };
        if object.is_null() {
            return Err(PyErr::fetch(py).into());
        }
        OPERATION.contents::<Operation>(object).write(Operation::new(kind()));
        if kept.is_none() {
            ffi::PyObject_GC_Track(object.cast());
        }
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}

/// How many refer to an operation.
pub(crate) fn references(operation: &Bound<'_, Operation>) -> isize {
    // SAFETY: a live object, and attached.
    unsafe { ffi::Py_REFCNT(operation.as_ptr()) }
}

/// Memory for an operation, which the collector does not look at yet; null with the error set.
#[cold]
unsafe fn fresh(class: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    // SAFETY: a type whose objects the collector knows.
    unsafe { ffi::PyObject_GC_New::<ffi::PyObject>(class) }
}

/// The same for PyO3, which makes the rarer kinds.
unsafe extern "C" fn allocate(class: *mut ffi::PyTypeObject, _items: ffi::Py_ssize_t) -> *mut ffi::PyObject {
    // SAFETY: the slot is set on operations alone; PyO3 writes the contents before anything else happens.
    unsafe {
        SPARE.take().unwrap_or_else(|| {
            let object = fresh(class);
            if !object.is_null() {
                ffi::PyObject_GC_Track(object.cast());
            }
            object
        })
    }
}

/// What a kept operation is: nothing that holds anything.
#[inline(always)]
fn nothing() -> Kind {
    Kind::After(Moment::NEVER)
}

/// Nobody refers to an operation any more: it is emptied, and then kept or given back.
///
/// It counts as referred to meanwhile, because emptying it may run foreign code, and that a collection.
unsafe extern "C" fn let_go(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls the slot while it is attached, with an operation of which nobody knows. Each part is
    // read once, and overwritten without a drop before anything else happens.
    unsafe {
        let py = Python::assume_attached();
        ffi::Py_INCREF(object);
        (*OPERATION.contents::<Operation>(object)).end_wait();
        let kind = &raw mut (*OPERATION.contents::<Operation>(object)).kind;
        match &*kind {
            Kind::Receive(channel) => {
                let channel = ptr::read(channel);
                kind.write(nothing());
                channel.drop_ref(py);
            }
            Kind::Send(channel, value) => {
                let (channel, value) = (ptr::read(channel), ptr::read(value));
                kind.write(nothing());
                channel.drop_ref(py);
                value.drop_ref(py);
            }
            _ => kind.replace(nothing()).drop_refs(py),
        }
        if !SPARE.keep(object) {
            give_back(object);
        }
    }
}

/// Lets go of an operation that was emptied. One that somebody has found meanwhile, through the collector, stays with him.
#[cold]
unsafe fn give_back(object: *mut ffi::PyObject) {
    // SAFETY: the caller's reference is given up, and when it is the only one the memory is, which holds nothing.
    unsafe {
        if ffi::Py_REFCNT(object) > 1 {
            return ffi::Py_DECREF(object);
        }
        let class = ffi::Py_TYPE(object);
        ffi::PyObject_GC_UnTrack(object.cast());
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}

/// Operations that were let go while tasks run: emptied, and complete, so that the collector need not be told of them
/// each time. The reference to each is the list's.
struct Spare {
    /// Threads that run tasks.
    runs: Cell<usize>,
    count: Cell<usize>,
    objects: [Cell<*mut ffi::PyObject>; Self::LIMIT],
}

// SAFETY: it is only touched by who is attached to the interpreter, which is one thread at a time: the module asks for
// the interpreter's lock.
unsafe impl Sync for Spare {}

static SPARE: Spare = Spare {
    runs: Cell::new(0),
    count: Cell::new(0),
    objects: [const { Cell::new(ptr::null_mut()) }; Spare::LIMIT],
};

impl Spare {
    const LIMIT: usize = 64;

    /// The last one, with its reference.
    #[inline]
    fn pop(&self) -> Option<*mut ffi::PyObject> {
        let last = self.count.get().checked_sub(1)?;
        self.count.set(last);
        self.objects.get(last).map(Cell::get)
    }

    /// One that nobody else refers to.
    #[inline]
    fn take(&self) -> Option<*mut ffi::PyObject> {
        let object = self.pop()?;
        // SAFETY: a live object, by the list's reference.
        if unsafe { ffi::Py_REFCNT(object) } == 1 {
            return Some(object);
        }
        // SAFETY: as above; it is given up.
        unsafe { give_back(object) };
        None
    }

    #[inline]
    fn keep(&self, object: *mut ffi::PyObject) -> bool {
        let count = self.count.get();
        let Some(place) = self.objects.get(count).filter(|_| self.runs.get() > 0) else { return false };
        place.set(object);
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
    while let Some(object) = SPARE.pop() {
        // SAFETY: emptied by `let_go`; the list's reference is given up.
        unsafe { give_back(object) };
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
