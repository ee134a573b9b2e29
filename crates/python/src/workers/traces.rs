//! Trace and profile functions of a worker: what a task has set for itself, as a debugger does, the next one has not.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// What sets each of [`Traces::now`].
const SETTERS: [(&str, &str); 4] =
    [("sys", "settrace"), ("sys", "setprofile"), ("threading", "settrace"), ("threading", "setprofile")];

/// The trace and profile functions of a thread, and those that `threading` gives to new ones.
pub(crate) struct Traces {
    get_trace: Py<PyAny>,
    get_profile: Py<PyAny>,
    /// What stands in the module `threading`: a look there costs less than a call.
    threading: Py<PyDict>,
    /// In the order of [`Self::now`].
    kept: [Py<PyAny>; 4],
}

impl Traces {
    /// What is set now: by the initializer of the worker, or by a tool that watches processes from their start.
    pub(crate) fn keep(py: Python<'_>) -> PyResult<Self> {
        let sys = py.import("sys")?;
        let mut traces = Self {
            get_trace: sys.getattr("gettrace")?.unbind(),
            get_profile: sys.getattr("getprofile")?.unbind(),
            threading: py.import("threading")?.dict().unbind(),
            kept: [(); 4].map(|()| py.None()),
        };
        traces.kept = traces.now(py)?.map(Bound::unbind);
        Ok(traces)
    }

    fn now<'py>(&self, py: Python<'py>) -> PyResult<[Bound<'py, PyAny>; 4]> {
        let threading = self.threading.bind(py);
        Ok([
            self.get_trace.bind(py).call0()?,
            self.get_profile.bind(py).call0()?,
            hook(threading, intern!(py, "_trace_hook"))?,
            hook(threading, intern!(py, "_profile_hook"))?,
        ])
    }

    /// Takes away what a task has left behind. Runs no Python code that could be traced, unless there is something.
    pub(crate) fn restore(&self, py: Python<'_>) -> PyResult<()> {
        let now = self.now(py)?;
        for ((now, kept), (module, setter)) in now.iter().zip(&self.kept).zip(SETTERS) {
            if !now.is(kept) {
                py.import(module)?.call_method1(setter, (kept,))?;
            }
        }
        Ok(())
    }
}

fn hook<'py>(threading: &Bound<'py, PyDict>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    let py = threading.py();
    Ok(threading.get_item(name)?.unwrap_or_else(|| py.None().into_bound(py)))
}
