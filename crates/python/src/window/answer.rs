//! What the window answers: what `thistledown._window` has to say to a request, or else the stacks of all threads.
#![allow(unsafe_code, reason = "a signal to a thread")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use pyo3::prelude::*;
use thistledown_workers::LINES_SIGNAL;

use super::signal::block_signals;
use super::{ANSWER, LINES, OPEN, Window};

/// What was asked for, or else the stacks of all threads.
pub(super) fn answer(window: &'static Window, lines: Option<&Lines>, request: String) -> String {
    let asked =
        move |py: Python<'_>| ask(py, "answer", (request,)).and_then(|text| text.extract::<String>().ok());
    match in_python(window, asked) {
        Some(Some(text)) => text,
        _ => {
            let pid = std::process::id();
            let stacks = lines.and_then(|lines| lines.dump().ok());
            let stacks = stacks.unwrap_or_else(|| "their stacks are not known\n".into());
            format!(
                "process {pid}: a call in C holds the interpreter's lock, so nothing of Python can run in it; all of its \
                 threads:\n{stacks}"
            )
        }
    }
}

/// Does something in Python, in a thread of its own that is given up when it takes too long.
fn in_python<T: Send + 'static>(
    window: &'static Window,
    work: impl FnOnce(Python<'_>) -> T + Send + 'static,
) -> Option<T> {
    let (tell, told) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("thistledown-tell".into());
    let thread = thread.spawn(move || {
        block_signals();
        if let Some(done) = attached(window, work) {
            let _ = tell.send(done);
        }
    });
    let thread = thread.ok()?;
    let done = told.recv_timeout(ANSWER).ok()?;
    // It has nothing more to do but to end.
    let _ = thread.join();
    Some(done)
}

/// The same in this thread. Nothing when the interpreter is about to end.
fn attached<T>(window: &'static Window, work: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    let _telling = Telling::new(window)?;
    let is_silent = window.state.lock().is_silent;
    if is_silent { None } else { Python::try_attach(work) }
}

/// The one who is in Python because of the window.
struct Telling(&'static Window);

impl Telling {
    /// Nothing: somebody else is in there, who does not come out.
    pub(super) fn new(window: &'static Window) -> Option<Self> {
        let (mut is_telling, waited) =
            window.told.wait_timeout_while(window.is_telling.lock(), ANSWER, |is_telling| *is_telling);
        if waited.timed_out() {
            return None;
        }
        *is_telling = true;
        Some(Self(window))
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        *self.0.is_telling.lock() = false;
        self.0.told.notify_all();
    }
}

/// Calls a function of the window's module; what goes wrong there costs the answer, and nothing else.
fn ask<'py>(
    py: Python<'py>,
    function: &str,
    args: impl pyo3::call::PyCallArgs<'py>,
) -> Option<Bound<'py, PyAny>> {
    py.import("thistledown._window").and_then(|module| module.call_method1(function, args)).ok()
}

/// Where the stacks of all threads are written, also when none of them comes out of C: `faulthandler` does it in a
/// signal's handler, to a file in memory.
pub(super) struct Lines(OwnedFd);

impl Lines {
    pub(super) fn new(window: &'static Window) -> Option<Self> {
        let memory = rustix::fs::memfd_create("thistledown-lines", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
        let descriptor: RawFd = memory.as_raw_fd();
        OPEN[LINES].store(descriptor, Ordering::Release);
        // When Python does not come to it in time it is not done: somebody may have closed the window by then.
        let lines = Self(memory);
        let prepared = in_python(window, move |py| {
            ask(py, "prepare", (descriptor,)).is_some_and(|done| done.is_truthy().unwrap_or(false))
        });
        match prepared {
            Some(true) => Some(lines),
            Some(false) => {
                lines.close();
                None
            }
            None => {
                // It may be done later, and then has to find the file there.
                std::mem::forget(lines);
                None
            }
        }
    }

    fn close(self) {
        OPEN[LINES].store(-1, Ordering::Release);
    }

    pub(super) fn end(self, window: &'static Window) {
        match attached(window, |py| ask(py, "end", ()).is_some()) {
            Some(true) => self.close(),
            _ => std::mem::forget(self),
        }
    }

    /// The stacks of all threads as they stand.
    fn dump(&self) -> io::Result<String> {
        rustix::fs::ftruncate(&self.0, 0)?;
        rustix::fs::seek(&self.0, rustix::fs::SeekFrom::Start(0))?;
        // SAFETY: sent to this very thread, in which the handler has run when the call returns.
        unsafe { libc::pthread_kill(libc::pthread_self(), LINES_SIGNAL) };
        let length = usize::try_from(rustix::fs::fstat(&self.0)?.st_size).unwrap_or(0);
        let mut bytes = vec![0; length];
        let read = rustix::io::pread(&self.0, bytes.as_mut_slice(), 0)?;
        bytes.truncate(read);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
