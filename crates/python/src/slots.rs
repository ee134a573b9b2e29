//! The awaiters' hot path: `send` without an exception, and memory without a round trip to the allocator.
//!
//! CPython 3.11 resumes an awaiter through `am_send`, which gives a result as such; later ones through `tp_iternext`,
//! which gives it inside `StopIteration`. An operation lives for one wait; while a thread runs tasks it keeps a few of
//! the freed ones to use again, without a lock. PyO3 has no notation for the slots, so they are set here by hand, once,
//! when the module is made.
#![allow(
    unsafe_code,
    reason = "two slots of two types are set by hand, with functions of CPython's calling convention"
)]

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::{PyTuple, PyType};
use thistledown_kernel::Moment;

use crate::channel::ChannelIterator;
use crate::current::Current;
use crate::operation::{Kind, Operation, Step};

/// An awaiter: what makes a step, and what it yields when it has to wait.
trait Awaiter: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
    fn step(&self, py: Python<'_>) -> PyResult<Step>;
    /// The operation to enlist: a new reference.
    fn parked(&self, py: Python<'_>, own: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

impl Awaiter for Operation {
    #[inline]
    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        Self::step(self, py)
    }

    #[inline]
    fn parked(&self, _py: Python<'_>, own: *mut ffi::PyObject) -> *mut ffi::PyObject {
        // SAFETY: `own` is this object, alive for the call.
        unsafe { ffi::Py_NewRef(own) }
    }
}

impl Awaiter for ChannelIterator {
    #[inline]
    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        Self::step(self, py)
    }

    #[inline]
    fn parked(&self, py: Python<'_>, _own: *mut ffi::PyObject) -> *mut ffi::PyObject {
        self.receive.clone_ref(py).into_ptr()
    }
}

#[inline]
unsafe fn step<T: Awaiter>(own: *mut ffi::PyObject, result: &mut *mut ffi::PyObject) -> ffi::PySendResult {
    // SAFETY: the interpreter calls a slot while it is attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the slot is set on `T` alone, which cannot be subclassed; the caller holds a reference.
    let awaiter = unsafe { Bound::from_borrowed_ptr(py, own).cast_into_unchecked::<T>() };
    let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| awaiter.get().step(py)));
    match stepped {
        Ok(Ok(Step::Return(value))) => {
            *result = value.into_ptr();
            ffi::PySendResult::PYGEN_RETURN
        }
        Ok(Ok(Step::Park)) => {
            *result = awaiter.get().parked(py, own);
            ffi::PySendResult::PYGEN_NEXT
        }
        Ok(Ok(Step::GiveWay)) => {
            *result = py.None().into_ptr();
            ffi::PySendResult::PYGEN_NEXT
        }
        Ok(Err(error)) => {
            not_an_end(py, error).restore(py);
            ffi::PySendResult::PYGEN_ERROR
        }
        Err(_panic) => {
            pyo3::panic::PanicException::new_err("the engine panicked").restore(py);
            ffi::PySendResult::PYGEN_ERROR
        }
    }
}

/// An error that is raised at a wait; `StopIteration` would be taken for the awaiter's own end.
fn not_an_end(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let wrapped = PyRuntimeError::new_err("what was waited for raised StopIteration");
    wrapped.set_cause(py, Some(error));
    wrapped
}

unsafe extern "C" fn send<T: Awaiter>(
    own: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: the interpreter passes a place for the result, and the object.
    unsafe {
        *result = std::ptr::null_mut();
        step::<T>(own, &mut *result)
    }
}

unsafe extern "C" fn next<T: Awaiter>(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let mut result = std::ptr::null_mut();
    // SAFETY: the interpreter passes the object.
    match unsafe { step::<T>(own, &mut result) } {
        ffi::PySendResult::PYGEN_NEXT => result,
        ffi::PySendResult::PYGEN_RETURN => {
            // SAFETY: `result` is a new reference, given up here; the interpreter is attached.
            unsafe { stop_iteration(result) };
            std::ptr::null_mut()
        }
        _ => std::ptr::null_mut(),
    }
}

/// Sets `StopIteration` with a value; None needs no exception at all.
unsafe fn stop_iteration(value: *mut ffi::PyObject) {
    // SAFETY: the caller gives a reference and is attached.
    unsafe {
        if value != ffi::Py_None() {
            let plain = ffi::PyTuple_Check(value) == 0 && ffi::PyExceptionInstance_Check(value) == 0;
            if plain {
                ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value);
            } else {
                let py = Python::assume_attached();
                let held = Bound::from_borrowed_ptr(py, value);
                match PyTuple::new(py, [held]) {
                    Ok(args) => ffi::PyErr_SetObject(ffi::PyExc_StopIteration, args.as_ptr()),
                    Err(error) => error.restore(py),
                }
            }
        }
        ffi::Py_DECREF(value);
    }
}

/// `__await__` and `__iter__` of an operation: itself, unless it is being waited for.
unsafe extern "C" fn operation_awaiter(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls a slot while it is attached, with an object of this very type.
    let operation = unsafe {
        let py = Python::assume_attached();
        Bound::from_borrowed_ptr(py, own).cast_into_unchecked::<Operation>()
    };
    if operation.get().is_idle() {
        return operation.into_ptr();
    }
    let py = operation.py();
    match Operation::awaiter(operation) {
        Ok(awaiter) => awaiter.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

/// `__await__` of what is its own awaiter.
unsafe extern "C" fn itself(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a live object, passed by the interpreter.
    unsafe { ffi::Py_NewRef(own) }
}

fn set<T: Awaiter>(class: &Bound<'_, PyType>, awaiter: ffi::unaryfunc) {
    let class = class.as_type_ptr();
    // SAFETY: a heap type that this module has just made and nobody has used; CPython gives every heap type its own
    // `tp_as_async`. The functions have the slots' signatures.
    unsafe {
        (*class).tp_iternext = Some(next::<T>);
        (*class).tp_iter = Some(awaiter);
        let methods = (*class).tp_as_async;
        if !methods.is_null() {
            (*methods).am_send = Some(send::<T>);
            (*methods).am_await = Some(awaiter);
        }
        ffi::PyType_Modified(class);
    }
}

unsafe extern "C" fn allocate(class: *mut ffi::PyTypeObject, items: ffi::Py_ssize_t) -> *mut ffi::PyObject {
    match Current::with(|current| current.spare.take()) {
        // SAFETY: memory of an object of this very type, which has no subclasses, untracked and without contents.
        Some(object) => unsafe {
            ffi::PyObject_Init(object.as_ptr(), class);
            ffi::PyObject_GC_Track(object.as_ptr().cast());
            object.as_ptr()
        },
        // SAFETY: what the slot was before.
        None => unsafe { ffi::PyType_GenericAlloc(class, items) },
    }
}

unsafe extern "C" fn free(object: *mut c_void) {
    let kept =
        NonNull::new(object.cast()).is_some_and(|object| Current::with(|current| current.spare.keep(object)));
    if !kept {
        // SAFETY: what the slot was before, for a type that the collector knows.
        unsafe { ffi::PyObject_GC_Del(object) };
    }
}

/// Memory of operations that were freed in this thread, while it runs tasks.
pub(crate) struct Spare {
    open: Cell<bool>,
    count: Cell<usize>,
    objects: [Cell<Option<NonNull<ffi::PyObject>>>; Self::LIMIT],
}

impl Spare {
    const LIMIT: usize = 64;

    pub(crate) const fn new() -> Self {
        Self {
            open: Cell::new(false),
            count: Cell::new(0),
            objects: [const { Cell::new(None) }; Self::LIMIT],
        }
    }

    #[inline]
    fn take(&self) -> Option<NonNull<ffi::PyObject>> {
        let last = self.count.get().checked_sub(1)?;
        self.count.set(last);
        self.objects[last].take()
    }

    #[inline]
    fn keep(&self, object: NonNull<ffi::PyObject>) -> bool {
        let count = self.count.get();
        if !self.open.get() || count == Self::LIMIT {
            return false;
        }
        self.objects[count].set(Some(object));
        self.count.set(count + 1);
        true
    }

    /// A run begins in this thread, or ends: then what was kept is given back.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.set(open);
        while let Some(object) = self.take().filter(|_| !open) {
            // SAFETY: memory that `free` would have given back.
            unsafe { ffi::PyObject_GC_Del(object.as_ptr().cast()) };
        }
    }
}

/// Where an operation's contents begin in its object; zero when that is not known to be all there is to write.
static CONTENTS: AtomicUsize = AtomicUsize::new(0);

/// Makes an operation's object: what `Bound::new` does, without asking the type how.
#[inline]
pub(crate) fn make(py: Python<'_>, operation: Operation) -> PyResult<Bound<'_, Operation>> {
    let contents = CONTENTS.load(Ordering::Relaxed);
    if contents == 0 {
        return Bound::new(py, operation);
    }
    let class = Operation::type_object_raw(py);
    // SAFETY: the memory is that of a fresh object of this type; `learn_contents` has found that its contents begin
    // there and that nothing follows them.
    unsafe {
        let object = Bound::from_owned_ptr_or_err(py, allocate(class, 0))?;
        object.as_ptr().cast::<u8>().add(contents).cast::<Operation>().write(operation);
        Ok(object.cast_into_unchecked())
    }
}

/// Learns from an object made by PyO3 where the contents of all of them are.
fn learn_contents(py: Python<'_>) -> PyResult<()> {
    let sample = Bound::new(py, Operation::new(Kind::After(Moment::NEVER)))?;
    let contents = std::ptr::from_ref(sample.get()) as usize - sample.as_ptr() as usize;
    // SAFETY: a live type; its size is a plain field.
    let size = unsafe { (*sample.get_type().as_type_ptr()).tp_basicsize };
    if usize::try_from(size).is_ok_and(|size| size == contents + size_of::<Operation>()) {
        CONTENTS.store(contents, Ordering::Relaxed);
    }
    Ok(())
}

/// Sets the slots of the awaiters.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Operation>().as_type_ptr();
    // SAFETY: as in `set`; nothing has been allocated yet, and both slots change together.
    unsafe {
        (*class).tp_alloc = Some(allocate);
        (*class).tp_free = Some(free);
    }
    set::<Operation>(&py.get_type::<Operation>(), operation_awaiter);
    set::<ChannelIterator>(&py.get_type::<ChannelIterator>(), itself);
    learn_contents(py)
}
