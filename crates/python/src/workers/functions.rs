//! The functions that a pool knows: packing one takes Python code, and most tasks call one that was there before.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rustix_futex_sync::Mutex;
use thistledown_workers::Function;

use crate::errors;
use crate::workers::freight::pickling;

/// Functions whose numbers are remembered.
const FUNCTIONS: usize = 1024;

/// A longer body is not held, to know its function by.
const BODY_BYTES: usize = 32 * 1024;

/// A function as the workers know it, and what its tasks are called after.
pub(crate) struct Named {
    pub(crate) number: Arc<Function>,
    pub(crate) origin: Py<PyString>,
    pub(crate) words: Arc<str>,
}

impl Named {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            number: Arc::clone(&self.number),
            origin: self.origin.clone_ref(py),
            words: Arc::clone(&self.words),
        }
    }
}

/// What is remembered of a function, by its address.
struct Known {
    sign: Sign,
    named: Named,
}

/// What says that the function at an address is still the one that was there.
enum Sign {
    /// It goes by reference. It is held, so that nothing else gets its address.
    Itself(Py<PyAny>),
    /// It goes by value, and as long as nothing that it reaches has changed, packing it gives this very object. Itself it
    /// is not held: it may die when its program lets go of it.
    Body(Py<PyBytes>),
}

/// What a pool remembers of functions.
#[derive(Default)]
pub(crate) struct Functions(Mutex<HashMap<usize, Known>>);

impl Functions {
    /// The function for the workers. One that is new is packed; `number` gives its bytes a number there.
    pub(crate) fn named(
        &self,
        function: &Bound<'_, PyAny>,
        number: impl FnOnce(&[u8], bool) -> io::Result<Arc<Function>>,
    ) -> PyResult<Named> {
        let py = function.py();
        let address = function.as_ptr() as usize;
        if let Some(known) = self.known(py, address, |sign| matches!(sign, Sign::Itself(_))) {
            return Ok(known);
        }
        let packed = pickling(py)?.call_method1(intern!(py, "pack_function"), (function,))?;
        let (body, weightless, stable, origin) =
            packed.extract::<(Bound<'_, PyBytes>, bool, bool, Py<PyString>)>()?;
        let is_same = |sign: &Sign| matches!(sign, Sign::Body(known) if known.is(&body));
        if let Some(known) = self.known(py, address, is_same) {
            return Ok(known);
        }
        let content = body.as_bytes();
        let number = number(content, weightless).map_err(|error| errors::system(&error))?;
        let words: Arc<str> = origin.bind(py).to_string_lossy().into();
        let named = Named { number, origin, words };
        let sign = match stable {
            true => Some(Sign::Itself(function.clone().unbind())),
            false => (content.len() <= BODY_BYTES).then(|| Sign::Body(body.unbind())),
        };
        if let Some(sign) = sign {
            self.remember(address, Known { sign, named: named.clone_ref(py) });
        }
        Ok(named)
    }

    /// What is remembered of the function at an address, if its sign is as it should be.
    fn known(&self, py: Python<'_>, address: usize, is_good: impl FnOnce(&Sign) -> bool) -> Option<Named> {
        let functions = self.0.lock();
        let known = functions.get(&address).filter(|known| is_good(&known.sign))?;
        Some(known.named.clone_ref(py))
    }

    fn remember(&self, address: usize, known: Known) {
        let mut functions = self.0.lock();
        let all = (functions.len() >= FUNCTIONS).then(|| std::mem::take(&mut *functions));
        let one = functions.insert(address, known);
        drop(functions);
        // Dropping a function may run foreign code, so no lock is held.
        drop((all, one));
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(functions) = self.0.try_lock() else { return Ok(()) };
        functions.values().try_for_each(|known| match &known.sign {
            Sign::Itself(function) => visit.call(function),
            Sign::Body(body) => visit.call(body),
        })
    }

    pub(crate) fn clear(&self) {
        let functions = std::mem::take(&mut *self.0.lock());
        drop(functions);
    }
}
