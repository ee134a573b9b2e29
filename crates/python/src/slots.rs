//! The hot path between the interpreter and the engine: slots and methods in CPython's own calling convention.
//!
//! CPython 3.11 resumes an awaiter through `am_send`, which gives a result as such; later ones through `tp_iternext`,
//! which gives it inside `StopIteration`. PyO3 has no notation for the first, and around each method it counts how often
//! the thread is attached and sorts arguments that are in order already. So the few that a switch or a message goes
//! through are set here by hand, once, when the module is made; what they do is written where it belongs.
//!
//! Here they are set: `awaiter` has the slots, `calls` the functions and methods, `convention` what both are passed.
#![allow(unsafe_code, reason = "slots and methods are set by hand in classes and modules that PyO3 has made")]

mod awaiter;
mod calls;
mod convention;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::asyncio::awaiting::Wait;
use crate::channel::{Channel, ChannelIterator};
use crate::group::Group;
use crate::objects;
use crate::operation::Operation;
use crate::timers;
use awaiter::{Awaiter, itself, next, operation_awaiter, send, task_awaiter};
use calls::{SLEEP, channel_next, channel_recv, channel_send, go, group_go, sleep};
use convention::ON_THE_STACK;

/// Puts a function of CPython's convention in place of one that PyO3 made; its documentation stays. The replaced one
/// comes back when it is called in the same way.
fn set_function(
    module: &Bound<'_, PyModule>,
    name: &str,
    function: ffi::PyCFunctionFastWithKeywords,
) -> PyResult<Option<ffi::PyCFunctionFastWithKeywords>> {
    let made = module.getattr(name)?;
    // SAFETY: what PyO3 makes of a function is a built-in one, whose flags say how it is called. The definition has to
    // live as long as the module, which is for ever.
    let (function, usual) = unsafe {
        let made = &*made.as_ptr().cast::<ffi::PyCFunctionObject>();
        let known = &*made.m_ml;
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: known.ml_name,
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
            ml_flags: ON_THE_STACK,
            ml_doc: known.ml_doc,
        }));
        let function = ffi::PyCFunction_NewEx(definition, made.m_self, made.m_module);
        let usual = (known.ml_flags == ON_THE_STACK).then_some(known.ml_meth.PyCFunctionFastWithKeywords);
        (Bound::from_owned_ptr_or_err(module.py(), function)?, usual)
    };
    module.setattr(name, function)?;
    Ok(usual)
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

/// Puts a function of CPython's convention in place of a method that PyO3 made; its documentation stays.
fn set_method(
    class: &Bound<'_, PyType>,
    name: &str,
    flags: i32,
    function: ffi::PyMethodDefPointer,
) -> PyResult<()> {
    let made = class.getattr(name)?;
    // SAFETY: what PyO3 makes of a method of a class is a method descriptor. The definition has to live as long as the
    // class, which is for ever.
    let method = unsafe {
        let known = &*(*made.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method;
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: known.ml_name,
            ml_meth: function,
            ml_flags: flags,
            ml_doc: known.ml_doc,
        }));
        Bound::from_owned_ptr_or_err(class.py(), ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))?
    };
    class.setattr(name, method)
}

/// Sets the slots and methods of the hot path.
pub(crate) fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    objects::install(py)?;
    timers::install(py)?;
    set_function(module, "go", go)?;
    if let Some(usual) = set_function(module, "sleep", sleep)? {
        let _ = SLEEP.set(usual);
    }
    let (channel, iterator) = (py.get_type::<Channel>(), py.get_type::<ChannelIterator>());
    set::<Operation>(&py.get_type::<Operation>(), operation_awaiter);
    set::<ChannelIterator>(&iterator, itself);
    set::<Wait>(&py.get_type::<Wait>(), itself);
    // SAFETY: as in `set`.
    unsafe {
        let methods = (*iterator.as_type_ptr()).tp_as_async;
        if !methods.is_null() {
            (*methods).am_anext = Some(channel_next);
        }
    }
    let plain = |function| ffi::PyMethodDefPointer { PyCFunction: function };
    set_method(&channel, "send", ffi::METH_O, plain(channel_send))?;
    set_method(&channel, "recv", ffi::METH_NOARGS, plain(channel_recv))?;
    let group_go = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: group_go };
    set_method(&py.get_type::<Group>(), "go", ON_THE_STACK, group_go)
}

/// The same for the class of tasks, which Python makes.
pub(crate) fn install_task(class: &Bound<'_, PyType>) {
    let class = class.as_type_ptr();
    // SAFETY: a heap type with the engine's tasks as its base; the functions have the slots' signatures.
    unsafe {
        (*class).tp_iter = Some(task_awaiter);
        let methods = (*class).tp_as_async;
        if !methods.is_null() {
            (*methods).am_await = Some(task_awaiter);
        }
        ffi::PyType_Modified(class);
    }
}
