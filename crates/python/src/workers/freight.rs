//! Freight: how calls and results become parcels, and what they were again.
//!
//! Most calls of small tasks are made of numbers and short texts, and are written here, byte by byte; everything else is
//! pickled, with large buffers beside the pickle, which the receiver reads where they are. The first byte says which.
//!
//! Only exact types are written here: a subclass is pickled, and stays what it is.

use std::ops::Range;
use std::sync::Arc;

use pyo3::exceptions::{PyBufferError, PyEOFError, PyException, PyImportError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use thistledown_exchange::{ObjectId, Ticket, TicketId};
use thistledown_parcel::freight::{self, NotWhole, Pickle, Plain, Reader};
use thistledown_workers::{Mapped, Opened, Parcel};

use crate::channel::tickets;
use crate::context;
use crate::errors;
use crate::outside::outside;
use crate::workers::filters;
use crate::workers::pickle;

/// What is longer in all is copied without the interpreter's lock.
const LONG: usize = 1024 * 1024;
/// A pickle up to this length stands in the head.
const HEAD: usize = 16 * 1024;

/// Writes a value that is small and of an exact type. False: it is none, and nothing whole was written.
fn write_plain(value: &Bound<'_, PyAny>, into: &mut Vec<u8>) -> bool {
    let plain = if value.is_none() {
        Plain::None
    } else if let Ok(flag) = value.cast_exact::<PyBool>() {
        Plain::Flag(flag.is_true())
    } else if let Ok(number) = value.cast_exact::<PyInt>() {
        let Ok(number) = number.extract::<i64>() else { return false };
        Plain::Integer(number)
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        Plain::Float(number.value())
    } else if let Ok(text) = value.cast_exact::<PyString>() {
        // A lone surrogate is no UTF-8.
        let Ok(text) = text.to_str() else { return false };
        Plain::Text(text.as_bytes())
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        Plain::Bytes(bytes.as_bytes())
    } else {
        return false;
    };
    plain.write(into)
}

/// Reads what `write_plain` wrote.
fn read_plain<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match reader.plain().map_err(not_whole)? {
        Plain::None => py.None().into_bound(py),
        Plain::Flag(flag) => PyBool::new(py, flag).to_owned().into_any(),
        Plain::Integer(number) => number.into_pyobject(py)?.into_any(),
        Plain::Float(number) => PyFloat::new(py, number).into_any(),
        Plain::Text(text) => PyString::from_bytes(py, text)?.into_any(),
        Plain::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
    })
}

fn not_whole(_: NotWhole) -> PyErr {
    PyEOFError::new_err("what came from another process is not whole")
}

/// A call that is written as plain values: how many arguments, each, and the same for those with names.
fn write_call(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>, into: &mut Vec<u8>) -> bool {
    let (Ok(count), Ok(named)) =
        (u8::try_from(args.len()), u8::try_from(kwargs.map_or(0, |named| named.len())))
    else {
        return false;
    };
    into.extend([freight::PLAIN, count]);
    if !args.iter_borrowed().all(|value| write_plain(&value, into)) {
        return false;
    }
    into.push(named);
    kwargs.is_none_or(|kwargs| {
        kwargs.iter().all(|(name, value)| write_plain(&name, into) && write_plain(&value, into))
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
    pack_behind(Vec::new(), args, kwargs, retry_on)
}

/// Packs a call of an actor of another process. What it is called, and what is asked, stands before all, to be read
/// without the arguments.
pub(crate) fn pack_letter(
    number: u64,
    what: &str,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Parcel> {
    let mut address = Vec::new();
    let is_written = Plain::Integer(number.cast_signed()).write(&mut address)
        && Plain::Text(what.as_bytes()).write(&mut address);
    match is_written {
        true => pack_behind(address, args, kwargs, None),
        false => Err(errors::wrong_value("the name of a message is longer than 4096 bytes")),
    }
}

/// Packs a call behind what stands before it.
fn pack_behind(
    before: Vec<u8>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
    retry_on: Option<&Py<PyTuple>>,
) -> PyResult<Parcel> {
    let py = args.py();
    let front = [before, front(py)?].concat();
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
    written_front(freight::FILTERS, &news)
}

fn written_front(kind: u8, words: &[u8]) -> PyResult<Vec<u8>> {
    let mut front = Vec::new();
    freight::write_front(kind, words, &mut front).map_err(not_whole)?;
    Ok(front)
}

/// What stands in front of a value: what keeps the handles in it, for who lets it go without unpacking it; mostly nothing.
fn kept() -> PyResult<Vec<u8>> {
    let names = tickets::names();
    if names.is_empty() { Ok(names) } else { written_front(freight::TICKETS, &names) }
}

/// What keeps the handles in a value, by its head.
pub(crate) fn kept_by(head: &[u8]) -> Vec<(ObjectId, TicketId)> {
    let names = Reader::new(head).tickets().ok().flatten().unwrap_or_default();
    names.chunks(tickets::NAME_BYTES).filter_map(tickets::read).collect()
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
    let (parcel, tickets) = tickets::once(|| pack_value(value, "pack_result"))?;
    // Whatever becomes of it, it is sent.
    tickets::sent(tickets);
    Ok(parcel)
}

/// What a task returned that returned nothing.
pub(crate) fn nothing() -> Parcel {
    let mut head = vec![freight::PLAIN];
    Plain::None.write(&mut head);
    Parcel::Inline(head.into())
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

/// A message, and what keeps the channels in it until it is sent.
pub(crate) type Message = (Parcel, Vec<Ticket>);

/// Packs what is sent through a channel, with what keeps the channels in it until it is.
pub(crate) fn pack_message(value: &Bound<'_, PyAny>) -> PyResult<Message> {
    tickets::once(|| pack_value(value, "pack_message"))
}

/// Unpacks what was sent through a channel.
pub(crate) fn unpack_message<'py>(py: Python<'py>, parcel: &Parcel) -> PyResult<Bound<'py, PyAny>> {
    let opened = parcel.open().map_err(|error| errors::system(&error))?;
    read_value(py, &opened, "a message that came through a channel was rebuilt here")
        .inspect_err(|_| tickets::let_go(kept_by(opened.head())))
}

/// Packs a value; `by_value` is for what the common way cannot.
fn pack_value(value: &Bound<'_, PyAny>, by_value: &str) -> PyResult<Parcel> {
    let mut head = vec![freight::PLAIN];
    if write_plain(value, &mut head) {
        return parcel(&head, &[]);
    }
    if !pickle::is_large(value)?
        && let Some(data) = pickle::dumps(value)?
    {
        return pickled(&kept()?, data.as_bytes(), &[]);
    }
    let py = value.py();
    let packed = pickling(py)?.call_method1(by_value, (value,))?;
    pack_pickle(&kept()?, &packed)
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
    let mut head = front.to_vec();
    freight::write_pickle((!is_large).then_some(data), &parts, &mut head).map_err(not_whole)?;
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
    read_call(py, opened, Reader::new(opened.head()))
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

/// What a letter is called by who sent it, and what is asked: the name of a method or of an attribute.
pub(crate) fn read_address(opened: &Opened) -> PyResult<(u64, String)> {
    let (number, what) = address(&mut Reader::new(opened.head())).map_err(not_whole)?;
    Ok((number, String::from_utf8_lossy(what).into_owned()))
}

fn address<'a>(reader: &mut Reader<'a>) -> Result<(u64, &'a [u8]), NotWhole> {
    match (reader.plain()?, reader.plain()?) {
        (Plain::Integer(number), Plain::Text(what)) => Ok((number.cast_unsigned(), what)),
        _ => Err(NotWhole),
    }
}

/// Unpacks the call of a letter.
pub(crate) fn unpack_letter<'py>(py: Python<'py>, opened: &Opened) -> PyResult<Call<'py>> {
    let mut reader = Reader::new(opened.head());
    address(&mut reader).map_err(not_whole)?;
    read_call(py, opened, reader)
        .map_err(|error| noted(py, error, "the arguments of the call were rebuilt where the actor lives"))
}

/// Reads a call, which begins where the reader stands.
fn read_call<'py>(py: Python<'py>, opened: &Opened, mut reader: Reader<'_>) -> PyResult<Call<'py>> {
    if let Some(filters) = reader.filters().map_err(not_whole)? {
        filters::heard(py, filters)?;
    }
    if reader.skip(freight::PLAIN) {
        let count = reader.byte().map_err(not_whole)?;
        let args = (0..count).map(|_| read_plain(py, &mut reader)).collect::<PyResult<Vec<_>>>()?;
        let kwargs = PyDict::new(py);
        for _ in 0..reader.byte().map_err(not_whole)? {
            let name = read_plain(py, &mut reader)?;
            kwargs.set_item(name, read_plain(py, &mut reader)?)?;
        }
        return Ok(Call { args: PyTuple::new(py, args)?, kwargs, more: None });
    }
    let (args, kwargs, more) = unpickle(py, opened, reader)?.extract::<(_, _, Bound<'py, PyAny>)>()?;
    Ok(Call { args, kwargs, more: (!more.is_none()).then_some(more) })
}

/// Unpacks a value.
pub(crate) fn unpack_value<'py>(py: Python<'py>, opened: &Opened) -> PyResult<Bound<'py, PyAny>> {
    read_value(py, opened, "the result of the task was rebuilt here")
}

fn read_value<'py>(py: Python<'py>, opened: &Opened, during: &str) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader::new(opened.head());
    reader.tickets().map_err(not_whole)?;
    match reader.skip(freight::PLAIN) {
        true => read_plain(py, &mut reader),
        false => unpickle(py, opened, reader).map_err(|error| noted(py, error, during)),
    }
}

/// What `pickled` wrote: it begins where the reader stands, the parts stand behind the whole head.
fn unpickle<'py>(py: Python<'py>, opened: &Opened, reader: Reader<'_>) -> PyResult<Bound<'py, PyAny>> {
    let memory = opened.mapped();
    let length = memory.map_or(0, |memory| memory.len());
    let Pickle { inside, parts } = reader.pickle(opened.head().len(), length).map_err(not_whole)?;
    if let Some(data) = inside
        && parts.is_empty()
    {
        return pickle::loads(&PyBytes::new(py, data));
    }
    let slices = parts.into_iter().map(|place| {
        let memory = Arc::clone(memory.ok_or_else(|| not_whole(NotWhole))?);
        Ok(Bound::new(py, Slice { memory, place })?.into_any())
    });
    let mut slices = slices.collect::<PyResult<Vec<_>>>()?;
    let data = inside.map_or_else(|| slices.remove(0), |data| PyBytes::new(py, data).into_any());
    pickling(py)?.call_method1(intern!(py, "unpack"), (data, PyList::new(py, slices)?))
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
    place: Range<usize>,
}

#[pymethods]
#[allow(unsafe_code, reason = "a buffer is given to Python")]
impl Slice {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: i32) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view"));
        }
        let this = slf.get();
        let bytes = &this.memory[this.place.clone()];
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
