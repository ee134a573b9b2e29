//! Buffers of Python: their bytes for one system call.
#![allow(unsafe_code, reason = "bytes are copied out of and into memory that Python owns")]

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::errors;

/// Bytes of a buffer that are copied for one call; what can change while it is read is never lent out.
const WINDOW: usize = 256 * 1024;

fn view(object: &Bound<'_, PyAny>) -> PyResult<PyBuffer<u8>> {
    let buffer = PyBuffer::<u8>::get(object).map_err(|_| {
        let advice = match object.is_instance_of::<PyString>() {
            true => "write `text.encode()`",
            false => "a memoryview can be `cast(\"B\")`",
        };
        errors::wrong_type(format!(
            "bytes or a buffer of bytes is needed, got {}: {advice}",
            object.get_type()
        ))
    })?;
    if buffer.is_c_contiguous() {
        return Ok(buffer);
    }
    Err(errors::wrong_type("the buffer is not contiguous: make it so with `bytes(...)`"))
}

/// How many bytes it has.
pub(crate) fn length(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    match object.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes().len()),
        Err(_) => Ok(view(object)?.len_bytes()),
    }
}

/// The bytes of an object from `start` on, for one call; of anything but `bytes`, a window of them.
pub(crate) fn with_bytes<T>(
    object: &Bound<'_, PyAny>,
    start: usize,
    work: impl FnOnce(&[u8]) -> PyResult<T>,
) -> PyResult<T> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        let bytes = bytes.as_bytes();
        return work(&bytes[start.min(bytes.len())..]);
    }
    let buffer = view(object)?;
    let start = start.min(buffer.len_bytes());
    let mut copied = vec![0; WINDOW.min(buffer.len_bytes() - start)];
    // SAFETY: the view is contiguous and held open, so that its memory neither moves nor shrinks; the range lies
    // within it.
    unsafe {
        let from = buffer.buf_ptr().cast::<u8>().add(start);
        std::ptr::copy_nonoverlapping(from, copied.as_mut_ptr(), copied.len());
    }
    work(&copied)
}

/// A buffer that cannot be resized while this exists; `bytes` never can.
pub(crate) struct Held {
    _view: PyBuffer<u8>,
}

impl Held {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if object.is_instance_of::<PyBytes>() {
            return Ok(None);
        }
        Ok(Some(Self { _view: view(object)? }))
    }
}

/// A writable buffer, to be filled from its beginning.
pub(crate) struct Target(PyBuffer<u8>);

impl Target {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = view(object)?;
        if buffer.readonly() {
            return Err(errors::wrong_type("recv_into needs a writable buffer, such as a bytearray"));
        }
        Ok(Self(buffer))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len_bytes()
    }

    /// Puts bytes at its beginning; those beyond its end are left out.
    pub(crate) fn fill(&self, bytes: &[u8]) {
        let count = bytes.len().min(self.len());
        // SAFETY: the view is contiguous, writable and held open; `count` bytes lie within both.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.buf_ptr().cast::<u8>(), count) };
    }
}
