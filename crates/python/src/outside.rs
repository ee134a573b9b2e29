//! Outside of the interpreter: work that lets other threads go on meanwhile, and the way back in.
//!
//! Up to Python 3.13 a thread that comes back while the interpreter ends is ended by the C library on the spot, by an
//! unwinding that Rust's frames cannot let through: the process aborts. So when the end is near nobody comes back but the
//! thread that ends it: who is on the way is waited for, and the others stay outside until the process is gone. From 3.14
//! on Python itself does so.
//!
//! What is not covered: a thread that loses the interpreter while it runs Python code that was called from here.
#![allow(unsafe_code, reason = "asks the interpreter whether it ends, which every thread may")]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use thistledown_runtime::Clock;

/// The end is near.
static ENDING: AtomicBool = AtomicBool::new(false);

/// How many threads are on their way back in.
static RETURNING: AtomicUsize = AtomicUsize::new(0);

/// How long whoever comes back waits for an end that does not come: other exit functions may need him.
const DOUBT: Duration = Duration::from_secs(1);

/// Between two looks.
const MOMENT: Duration = Duration::from_millis(1);

thread_local! {
    /// This thread ends the interpreter.
    static ENDS: Cell<bool> = const { Cell::new(false) };
}

/// Does something that may take long, while other threads run Python code.
#[allow(clippy::disallowed_methods, reason = "this is the one way out")]
pub(crate) fn outside<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let result = py.detach(|| {
        let result = work();
        come_back();
        result
    });
    RETURNING.fetch_sub(1, Ordering::SeqCst);
    result
}

/// How long a wait for another process goes on before it is looked whether a signal has come.
const WHILE: Duration = Duration::from_millis(50);

/// Waits, a while at a time, until there is something; signals are heard in between.
///
/// # Errors
/// What the handler of a signal raises, as Ctrl-C does.
pub(crate) fn outside_until<T: Send>(
    py: Python<'_>,
    mut wait: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<T> {
    loop {
        if let Some(found) = outside(py, || wait(WHILE)) {
            return Ok(found);
        }
        py.check_signals()?;
    }
}

fn come_back() {
    RETURNING.fetch_add(1, Ordering::SeqCst);
    if !ENDING.load(Ordering::SeqCst) || ENDS.get() {
        return;
    }
    RETURNING.fetch_sub(1, Ordering::SeqCst);
    let patience = Clock::System.now().after(DOUBT);
    while is_finalizing() || !patience.since(Clock::System.now()).is_zero() {
        pause();
    }
    RETURNING.fetch_add(1, Ordering::SeqCst);
}

#[allow(clippy::disallowed_methods, reason = "a moment's sleep needs nobody to wake from it")]
fn pause() {
    std::thread::sleep(MOMENT);
}

/// The interpreter is about to end, by this thread. Waits, for a while, for those who are on their way back in.
pub(crate) fn end_is_near(py: Python<'_>) {
    ENDING.store(true, Ordering::SeqCst);
    ENDS.set(true);
    outside(py, || {
        let patience = Clock::System.now().after(DOUBT);
        while RETURNING.load(Ordering::SeqCst) > 0 && !patience.since(Clock::System.now()).is_zero() {
            pause();
        }
    });
}

/// In a forked child, whose only thread is here.
pub(crate) fn begin_anew() {
    ENDING.store(false, Ordering::SeqCst);
    RETURNING.store(0, Ordering::SeqCst);
    ENDS.set(false);
}

fn is_finalizing() -> bool {
    // SAFETY: reads one word of the runtime, from any thread.
    unsafe { finalizing() != 0 }
}

#[cfg(Py_3_13)]
use pyo3::ffi::Py_IsFinalizing as finalizing;

#[cfg(not(Py_3_13))]
unsafe extern "C" {
    /// What it was called before it was public.
    #[link_name = "_Py_IsFinalizing"]
    fn finalizing() -> std::ffi::c_int;
}
