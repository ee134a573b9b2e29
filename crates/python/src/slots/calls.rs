//! The calls of the hot path: those functions and methods that a message, a task or `sleep(0)` goes through.
//!
//! Each makes what it gives of kept memory where it can (`objects`), and goes PyO3's way where it cannot.
//!
//! What it is not: what they do is written where it belongs, in `go`, `timers`, `channel` and `group`.
#![allow(unsafe_code, reason = "functions of CPython's calling convention for methods")]

use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;

use super::convention::{OnTheStack, called_on, given, used_on};
use crate::channel::{Channel, ChannelIterator};
use crate::current::Current;
use crate::errors::{self, Thrown};
use crate::group::Group;
use crate::objects;
use crate::operation::{Kind, Operation};
use crate::timers;

/// `send` of a channel.
pub(super) unsafe extern "C" fn channel_send(
    own: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the method is set on channels alone, and takes one argument.
    let (channel, value) = unsafe { (used_on::<Channel>(own), used_on::<PyAny>(value)) };
    let kind = || Kind::Send(channel.to_owned().unbind(), value.to_owned().unbind());
    match objects::again(channel.py(), kind) {
        made if made.is_null() => first(channel.py(), kind),
        made => made,
    }
}

/// `recv` of a channel.
pub(super) unsafe extern "C" fn channel_recv(
    own: *mut ffi::PyObject,
    _nothing: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the method is set on channels alone.
    let channel = unsafe { used_on::<Channel>(own) };
    let kind = || Kind::Receive(channel.to_owned().unbind());
    match objects::again(channel.py(), kind) {
        made if made.is_null() => first(channel.py(), kind),
        made => made,
    }
}

/// An operation, when none was kept to be used again.
#[cold]
fn first(py: Python<'_>, kind: impl FnOnce() -> Kind) -> *mut ffi::PyObject {
    given(py, || objects::operation(py, kind))
}

/// `__anext__` of a channel's iterator.
pub(super) unsafe extern "C" fn channel_next(own: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the slot is set on iterators of channels alone.
    let iterator = unsafe { used_on::<ChannelIterator>(own) };
    if Current::task().is_some() && iterator.get().receive.get().is_idle() {
        return iterator.to_owned().into_ptr();
    }
    other_next(iterator)
}

#[cold]
fn other_next(iterator: Borrowed<'_, '_, ChannelIterator>) -> *mut ffi::PyObject {
    given(iterator.py(), || ChannelIterator::__anext__(iterator.to_owned()))
}

/// `td.go`: the body and its arguments as they stand on the interpreter's stack.
pub(super) unsafe extern "C" fn go(
    _module: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes `count` arguments and those with names behind, and calls while it is attached.
    let (py, passed) = unsafe { (Python::assume_attached(), OnTheStack::split(args, count, names)) };
    given(py, || {
        let (body, arguments) = passed.ok_or_else(|| missing("go"))?;
        Ok(crate::go::go_with(&body, &arguments)?.into_bound(py))
    })
}

/// `go` of a group, the same way.
pub(super) unsafe extern "C" fn group_go(
    own: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the method is set on groups alone, and called with arguments as above.
    let (group, passed) = unsafe { (called_on::<Group>(own), OnTheStack::split(args, count, names)) };
    given(group.py(), || {
        let (body, arguments) = passed.ok_or_else(|| missing("TaskGroup.go"))?;
        Ok(crate::go::go_in_group(&group, &body, &arguments)?.into_bound(group.py()))
    })
}

#[cold]
fn missing(name: &str) -> Thrown {
    errors::wrong_type(format!("{name}() missing 1 required positional argument: 'body'")).into()
}

/// `td.sleep`: a zero is the same object each time, and gives the same operation; the rest goes PyO3's way.
pub(super) unsafe extern "C" fn sleep(
    module: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes `count` arguments and those with names behind, and calls while it is attached.
    unsafe {
        if count == 1
            && names.is_null()
            && let Some(operation) = timers::sleep_of_zero(&used_on(*args))
        {
            return operation.to_owned().into_ptr();
        }
        usual_sleep(module, args, count, names)
    }
}

/// # Safety
/// As the interpreter calls a function.
#[inline(never)]
unsafe fn usual_sleep(
    module: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: by the contract; what PyO3 made has the same one.
    unsafe {
        match SLEEP.get() {
            Some(usual) => usual(module, args, count, names),
            None => given::<Operation>(Python::assume_attached(), || {
                Err(errors::misuse("the module is not made yet").into())
            }),
        }
    }
}

/// `td.sleep` as PyO3 made it.
pub(super) static SLEEP: OnceLock<ffi::PyCFunctionFastWithKeywords> = OnceLock::new();
