//! Freight: how calls and results become parcels, and what they were again.
//!
//! Most calls of small tasks are made of numbers and short texts, and are written here, byte by byte; everything else is
//! pickled, with large buffers beside the pickle, which the receiver reads where they are. The first byte says which.
//!
//! Only exact types are written here: a subclass is pickled, and stays what it is.

use std::sync::Arc;

use pyo3::exceptions::{PyBufferError, PyEOFError, PyException, PyImportError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use thistledown_workers::{Mapped, Opened, Parcel, aligned};

use crate::channel::tickets;
use crate::context;
use crate::errors;
use crate::outside::outside;
use crate::workers::filters;
use crate::workers::pickle;

const ATOMS: u8 = 0;
const PICKLE: u8 = 1;
/// The pickle itself is one of the parts.
const LARGE_PICKLE: u8 = 2;

/// Longer texts and bytes are pickled.
const SHORT: usize = 4096;
/// In front of a call: how long the filters of warnings are that come with it, and they.
const FILTERS: u8 = 3;
/// What is longer in all is copied without the interpreter's lock.
const LONG: usize = 1024 * 1024;
/// A pickle up to this length stands in the head.
const HEAD: usize = 16 * 1024;

const NONE: u8 = b'N';
const FALSE: u8 = b'F';
const TRUE: u8 = b'T';
const INTEGER: u8 = b'i';
const FLOAT: u8 = b'f';
const TEXT: u8 = b's';
const BYTES: u8 = b'b';

/// Writes a value that is small and of an exact type. False: it is none, and nothing whole was written.
fn write_atom(value: &Bound<'_, PyAny>, into: &mut Vec<u8>) -> bool {
    if value.is_none() {
        into.push(NONE);
    } else if let Ok(flag) = value.cast_exact::<PyBool>() {
        into.push(if flag.is_true() { TRUE } else { FALSE });
    } else if let Ok(number) = value.cast_exact::<PyInt>() {
        let Ok(number) = number.extract::<i64>() else { return false };
        into.push(INTEGER);
        into.extend(number.to_le_bytes());
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        into.push(FLOAT);
        into.extend(number.value().to_le_bytes());
    } else if let Ok(text) = value.cast_exact::<PyString>() {
        // A lone surrogate is no UTF-8.
        let Ok(text) = text.to_str() else { return false };
        return write_short(TEXT, text.as_bytes(), into);
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return write_short(BYTES, bytes.as_bytes(), into);
    } else {
        return false;
    }
    true
}

fn write_short(tag: u8, bytes: &[u8], into: &mut Vec<u8>) -> bool {
    let Ok(length) = u16::try_from(bytes.len()) else { return false };
    if bytes.len() > SHORT {
        return false;
    }
    into.push(tag);
    into.extend(length.to_le_bytes());
    into.extend(bytes);
    true
}

/// Reads what `write_atom` wrote.
struct Atoms<'a>(&'a [u8]);

impl<'a> Atoms<'a> {
    fn take(&mut self, count: usize) -> PyResult<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> PyResult<[u8; N]> {
        self.take(N).map(|bytes| bytes.try_into().unwrap_or([0; N]))
    }

    fn short(&mut self) -> PyResult<&'a [u8]> {
        let length = u16::from_le_bytes(self.array()?);
        self.take(length.into())
    }

    fn value<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.array::<1>()?[0] {
            NONE => py.None().into_bound(py),
            TRUE => PyBool::new(py, true).to_owned().into_any(),
            FALSE => PyBool::new(py, false).to_owned().into_any(),
            INTEGER => i64::from_le_bytes(self.array()?).into_pyobject(py)?.into_any(),
            FLOAT => PyFloat::new(py, f64::from_le_bytes(self.array()?)).into_any(),
            TEXT => PyString::from_bytes(py, self.short()?)?.into_any(),
            BYTES => PyBytes::new(py, self.short()?).into_any(),
            _ => return Err(short()),
        })
    }
}

fn short() -> PyErr {
    PyEOFError::new_err("what came from another process is not whole")
}

/// A call that is written as atoms: how many arguments, each, and the same for those with names.
fn write_call(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>, into: &mut Vec<u8>) -> bool {
    let (Ok(count), Ok(named)) =
        (u8::try_from(args.len()), u8::try_from(kwargs.map_or(0, |named| named.len())))
    else {
        return false;
    };
    into.extend([ATOMS, count]);
    if !args.iter_borrowed().all(|value| write_atom(&value, into)) {
        return false;
    }
    into.push(named);
    kwargs.is_none_or(|kwargs| {
        kwargs.iter().all(|(name, value)| write_atom(&name, into) && write_atom(&value, into))
    })
}

/// Packs a call.
///
/// The context of the caller goes with it, and the exceptions upon which it is tried again; and the program's filters of
/// warnings, when they have changed.
pub(crate) fn pack_call(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
    retry_on: Option<&Py<PyTuple>>,
) -> PyResult<Parcel> {
    let py = args.py();
    let front = front(py)?;
    let is_plain = retry_on.is_none() && !context::has_variables(py)?;
    if is_plain {
        let mut head = Vec::with_capacity(front.len() + 64);
        head.extend_from_slice(&front);
        if write_call(args, kwargs, &mut head) {
            return parcel(&head, &[]);
        }
    }
    let kwargs = kwargs.map_or_else(|| PyDict::new(py), Clone::clone);
    if is_plain && !has_large(args, &kwargs)? {
        let call = (args, &kwargs, py.None()).into_pyobject(py)?;
        if let Some(data) = pickle::dumps(&call)? {
            return pickled(&front, data.as_bytes(), &[]);
        }
    }
    let retry_on = retry_on.map_or_else(|| PyTuple::empty(py), |classes| classes.bind(py).clone());
    pack_pickle(&front, &pickling(py)?.call_method1(intern!(py, "pack_call"), (args, kwargs, retry_on))?)
}

/// What stands in front of a call; mostly nothing.
fn front(py: Python<'_>) -> PyResult<Vec<u8>> {
    let Some(news) = filters::news(py)? else { return Ok(Vec::new()) };
    let length = u32::try_from(news.len()).map_err(|_| short())?;
    Ok([&[FILTERS], &length.to_le_bytes()[..], &news].concat())
}

/// Whether an argument is of bytes that travel beside a pickle.
fn has_large(args: &Bound<'_, PyTuple>, kwargs: &Bound<'_, PyDict>) -> PyResult<bool> {
    for value in args.iter_borrowed() {
        if pickle::is_large(&value)? {
            return Ok(true);
        }
    }
    for (_, value) in kwargs.iter() {
        if pickle::is_large(&value)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Packs what a task returned.
pub(crate) fn pack_result(value: &Bound<'_, PyAny>) -> PyResult<Parcel> {
    tickets::once(|| pack_value(value, "pack_result"))
}

/// What a task returned that returned nothing.
pub(crate) fn nothing() -> Parcel {
    Parcel::Inline(Arc::from([ATOMS, NONE]))
}

/// Packs what a task raised, with its traceback.
pub(crate) fn pack_error(value: &Bound<'_, PyAny>) -> Parcel {
    let py = value.py();
    let packed = pickling(py).and_then(|pickling| {
        pickling.call_method1(intern!(py, "pack_error"), (value,))?.extract::<Vec<u8>>()
    });
    // What says how it failed is better than nothing.
    let packed = packed.unwrap_or_else(|failure| {
        let words = format!("{value}; and it could not be sent as it is: {failure}");
        [errors::ONLY_WORDS, words.as_bytes()].concat()
    });
    Parcel::new(&packed, &[]).unwrap_or_else(|_| Parcel::empty())
}

/// Packs what is sent through a channel.
pub(crate) fn pack_message(value: &Bound<'_, PyAny>) -> PyResult<Parcel> {
    tickets::once(|| pack_value(value, "pack_message"))
}

/// Unpacks what was sent through a channel.
pub(crate) fn unpack_message<'py>(py: Python<'py>, parcel: &Parcel) -> PyResult<Bound<'py, PyAny>> {
    let opened = parcel.open().map_err(|error| errors::system(&error))?;
    match opened.head().split_first() {
        Some((&ATOMS, rest)) => Atoms(rest).value(py),
        _ => unpickle(py, &opened, opened.head())
            .map_err(|error| noted(py, error, "a message that came through a channel was rebuilt here")),
    }
}

/// Packs a value; `by_value` is for what the common way cannot.
fn pack_value(value: &Bound<'_, PyAny>, by_value: &str) -> PyResult<Parcel> {
    let mut head = vec![ATOMS];
    if write_atom(value, &mut head) {
        return parcel(&head, &[]);
    }
    if !pickle::is_large(value)?
        && let Some(data) = pickle::dumps(value)?
    {
        return pickled(&[], data.as_bytes(), &[]);
    }
    let py = value.py();
    pack_pickle(&[], &pickling(py)?.call_method1(by_value, (value,))?)
}

/// What `_pickling` made: a pickle, and the buffers that are not in it.
fn pack_pickle(front: &[u8], packed: &Bound<'_, PyAny>) -> PyResult<Parcel> {
    let (data, buffers) = packed.extract::<(Bound<'_, PyBytes>, Vec<Bound<'_, PyAny>>)>()?;
    let views = buffers.iter().map(View::of).collect::<PyResult<Vec<_>>>()?;
    let (data, buffers) = (data.as_bytes(), views.iter().map(View::bytes).collect::<Vec<_>>());
    match data.len() + buffers.iter().map(|buffer| buffer.len()).sum::<usize>() > LONG {
        // They are held, and nobody can resize them; other threads go on meanwhile.
        true => outside(packed.py(), || pickled(front, data, &buffers)),
        false => pickled(front, data, &buffers),
    }
}

/// A pickle as a parcel.
fn pickled(front: &[u8], data: &[u8], buffers: &[&[u8]]) -> PyResult<Parcel> {
    let is_large = data.len() > HEAD;
    let parts: Vec<&[u8]> = is_large.then_some(data).into_iter().chain(buffers.iter().copied()).collect();
    let inside = if is_large { &[] } else { data };
    let mut head = Vec::with_capacity(front.len() + 5 + 8 * parts.len() + inside.len());
    head.extend(front);
    head.push(if is_large { LARGE_PICKLE } else { PICKLE });
    head.extend(u32::try_from(parts.len()).map_err(|_| short())?.to_le_bytes());
    parts.iter().for_each(|part| head.extend((part.len() as u64).to_le_bytes()));
    head.extend(inside);
    parcel(&head, &parts)
}

fn parcel(head: &[u8], parts: &[&[u8]]) -> PyResult<Parcel> {
    Parcel::new(head, parts).map_err(|error| errors::system(&error))
}

/// What a call was.
pub(crate) struct Call<'py> {
    pub(crate) args: Bound<'py, PyTuple>,
    pub(crate) kwargs: Bound<'py, PyDict>,
    /// What goes with it: the context.
    pub(crate) more: Option<Bound<'py, PyAny>>,
}

/// Unpacks a call.
pub(crate) fn unpack_call<'py>(py: Python<'py>, opened: &Opened) -> PyResult<Call<'py>> {
    read_call(py, opened)
        .map_err(|error| noted(py, error, "the arguments of the task were rebuilt in its worker"))
}

/// The same error, which says when it happened. Its own words say what is wrong with some class, and not with which call.
fn noted(py: Python<'_>, error: PyErr, during: &str) -> PyErr {
    if error.is_instance_of::<PyException>(py) {
        let advice = match error.is_instance_of::<PyImportError>(py) {
            true => "",
            false => ": a class whose objects pickle does not rebuild by itself needs a `__reduce__`",
        };
        let words = format!("It happened while {during}{advice}.");
        // Whoever cannot have it has the error.
        let _ = error.value(py).call_method1(intern!(py, "add_note"), (words,));
    }
    error
}

/// Unpacks a call of an actor that lives here.
pub(crate) fn unpack_message_call<'py>(py: Python<'py>, opened: &Opened) -> PyResult<Call<'py>> {
    read_call(py, opened)
        .map_err(|error| noted(py, error, "the arguments of the call were rebuilt where the actor lives"))
}

fn read_call<'py>(py: Python<'py>, opened: &Opened) -> PyResult<Call<'py>> {
    let mut head = opened.head();
    if let Some((&FILTERS, rest)) = head.split_first() {
        let mut reader = Atoms(rest);
        let length = u32::from_le_bytes(reader.array()?);
        filters::heard(py, reader.take(usize_of(length.into())?)?)?;
        head = reader.0;
    }
    if let Some((&ATOMS, rest)) = head.split_first() {
        let mut atoms = Atoms(rest);
        let count = atoms.array::<1>()?[0];
        let args = (0..count).map(|_| atoms.value(py)).collect::<PyResult<Vec<_>>>()?;
        let kwargs = PyDict::new(py);
        for _ in 0..atoms.array::<1>()?[0] {
            let name = atoms.value(py)?;
            kwargs.set_item(name, atoms.value(py)?)?;
        }
        return Ok(Call { args: PyTuple::new(py, args)?, kwargs, more: None });
    }
    let (args, kwargs, more) = unpickle(py, opened, head)?.extract::<(_, _, Bound<'py, PyAny>)>()?;
    Ok(Call { args, kwargs, more: (!more.is_none()).then_some(more) })
}

/// Unpacks a value.
pub(crate) fn unpack_value<'py>(py: Python<'py>, opened: &Opened) -> PyResult<Bound<'py, PyAny>> {
    match opened.head().split_first() {
        Some((&ATOMS, rest)) => Atoms(rest).value(py),
        _ => unpickle(py, opened, opened.head())
            .map_err(|error| noted(py, error, "the result of the task was rebuilt here")),
    }
}

/// What `pickled` wrote: `head` is where it begins, the parts stand behind the whole.
fn unpickle<'py>(py: Python<'py>, opened: &Opened, head: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Atoms(head);
    let kind = reader.array::<1>()?[0];
    let count = u32::from_le_bytes(reader.array()?);
    let mut at = opened.head().len() as u64;
    let mut parts = Vec::new();
    for _ in 0..count {
        let length = u64::from_le_bytes(reader.array()?);
        at = aligned(at);
        let end = at.checked_add(length).ok_or_else(short)?;
        let memory = opened.mapped().filter(|memory| end <= memory.len() as u64).ok_or_else(short)?;
        let memory = Arc::clone(memory);
        parts
            .push(Bound::new(py, Slice { memory, at: usize_of(at)?, length: usize_of(length)? })?.into_any());
        at = end;
    }
    let data = match kind {
        PICKLE if parts.is_empty() => return pickle::loads(&PyBytes::new(py, reader.0)),
        PICKLE => PyBytes::new(py, reader.0).into_any(),
        LARGE_PICKLE if !parts.is_empty() => parts.remove(0),
        _ => return Err(short()),
    };
    pickling(py)?.call_method1(intern!(py, "unpack"), (data, PyList::new(py, parts)?))
}

fn usize_of(number: u64) -> PyResult<usize> {
    usize::try_from(number).map_err(|_| short())
}

/// The module that pickles.
pub(crate) fn pickling(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("thistledown._pickling").map(Bound::unbind))?;
    Ok(module.bind(py))
}

/// Read-only memory that came from another process, for whoever reads buffers.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Slice {
    memory: Arc<Mapped>,
    at: usize,
    length: usize,
}

#[pymethods]
#[allow(unsafe_code, reason = "a buffer is given to Python")]
impl Slice {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: i32) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view"));
        }
        let this = slf.get();
        let bytes = &this.memory[this.at..this.at + this.length];
        // SAFETY: the view is the interpreter's; the memory lives as long as the object, which the view holds.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                bytes.as_ptr() as *mut _,
                bytes.len() as isize,
                1,
                flags,
            )
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// A buffer of Python, held while it is written.
struct View(pyo3::buffer::PyBuffer<u8>);

impl View {
    fn of(buffer: &Bound<'_, PyAny>) -> PyResult<Self> {
        let view = pyo3::buffer::PyBuffer::get(buffer)?;
        match view.is_c_contiguous() {
            true => Ok(Self(view)),
            false => Err(PyBufferError::new_err("a buffer beside a pickle must be contiguous")),
        }
    }

    #[allow(unsafe_code, reason = "a buffer's bytes are read")]
    fn bytes(&self) -> &[u8] {
        match self.0.len_bytes() {
            0 => &[],
            // SAFETY: contiguous bytes that the view holds; nobody writes to them while they are sent, or whoever does
            // sends a mixture, as with every pickle.
            length => unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), length) },
        }
    }
}
