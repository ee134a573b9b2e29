//! A window into this process: whoever asks from outside, as the same user, is shown the tree.
//!
//! Asked through an abstract Unix socket that is named after the process, or by `SIGQUIT`, it answers from inside, in a
//! thread of its own that needs no run: Python makes the words, in a second thread. When that does not get the
//! interpreter's lock in time, because a call in C holds it, the answer is the stacks of all threads as `faulthandler`
//! writes them, which needs no lock.
//!
//! It is there while a run or a pool is, but for the first moments, so that a short run pays nothing for it: the thread
//! comes with the first of them, lingers a while for the next, and opens the socket when one has lasted. What it
//! has opened is closed before the last of them is over.
//!
//! Invariants: whoever asks is checked by the system's word for who he is; a forked child does not answer for its parent;
//! nothing is answered once the interpreter is about to end.
#![allow(
    unsafe_code,
    reason = "a signal's handler, a signal to a thread, and descriptors that a fork has copied"
)]

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags};
use rustix_futex_sync::{Condvar, Mutex};
use thistledown_workers::{Bell, LINES_SIGNAL};

use crate::outside::outside;
use crate::upstream;

/// How long a run or pool has to last, at least, before the window is opened; at most twice as long.
const PATIENCE: Duration = Duration::from_millis(30);

/// Looks, [`PATIENCE`] apart, for which the thread lingers when there is no run and no pool.
const LINGER: u32 = 7;

/// How long Python has for its answer; then there is one without it.
const ANSWER: Duration = Duration::from_secs(2);

/// How long whoever asked has to read the answer.
const READ: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    /// Runs and pools.
    users: usize,
    /// Counts the times that there was a first of them.
    generation: u64,
    has_thread: bool,
    /// From when it is decided to open it until all is closed.
    is_open: bool,
    /// Rung when the last one is over; there while the window is open.
    bell: Option<std::sync::Arc<Bell>>,
    /// The interpreter is about to end.
    is_silent: bool,
}

struct Window {
    state: Mutex<State>,
    /// The window was closed.
    closed: Condvar,
    /// Somebody is in Python.
    is_telling: Mutex<bool>,
    /// He has come out.
    told: Condvar,
}

/// Made when it is needed first, and kept for ever. A forked child has one of its own: the parent's may be locked there.
static WINDOW: AtomicPtr<Window> = AtomicPtr::new(std::ptr::null_mut());

/// What the window has open, for a forked child to close: the socket, the bell, and the memory for stacks.
static OPEN: [AtomicI32; 3] = [const { AtomicI32::new(-1) }; 3];
const SOCKET: usize = 0;
const BELL: usize = 1;
const LINES: usize = 2;

/// `SIGQUIT` has come, and was not answered yet.
static QUIT: AtomicBool = AtomicBool::new(false);

fn window() -> &'static Window {
    // SAFETY: null, or what `replace` has leaked.
    match unsafe { WINDOW.load(Ordering::Acquire).as_ref() } {
        Some(window) => window,
        None => replace(std::ptr::null_mut()),
    }
}

fn replace(old: *mut Window) -> &'static Window {
    let fresh = Window {
        state: Mutex::default(),
        closed: Condvar::new(),
        is_telling: Mutex::default(),
        told: Condvar::new(),
    };
    let fresh = Box::into_raw(Box::new(fresh));
    let there = match WINDOW.compare_exchange(old, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => fresh,
        Err(there) => {
            // SAFETY: made above, and nobody has seen it.
            drop(unsafe { Box::from_raw(fresh) });
            there
        }
    };
    // SAFETY: leaked, here or by whoever was faster.
    unsafe { &*there }
}

/// In a forked child: the window is the parent's.
pub(crate) fn forget() {
    let old = WINDOW.load(Ordering::Acquire);
    if old.is_null() {
        return;
    }
    for open in &OPEN {
        let descriptor = open.swap(-1, Ordering::Relaxed);
        if descriptor >= 0 {
            // SAFETY: a copy of the parent's, which nobody here uses: its thread does not exist.
            unsafe { libc::close(descriptor) };
        }
    }
    replace(old);
    quit_signal(false);
}

/// A run or a pool begins.
pub(crate) fn user_comes() {
    // A worker is in the tree of its program, and a program can ask not to be looked at.
    if upstream::get().is_some() || is_switched_off() {
        return;
    }
    let window = window();
    let mut state = window.state.lock();
    state.users += 1;
    if state.users > 1 || state.is_silent {
        return;
    }
    state.generation += 1;
    quit_signal(true);
    if !state.has_thread {
        let thread = std::thread::Builder::new().name("thistledown-tree".into());
        // Without a thread there is no window; the program runs all the same.
        state.has_thread = thread.spawn(watch).is_ok();
    }
}

/// It is over. Does not wait; see [`settle`].
pub(crate) fn user_goes() {
    let window = WINDOW.load(Ordering::Acquire);
    // SAFETY: as in `window`.
    let Some(window) = (unsafe { window.as_ref() }) else { return };
    let mut state = window.state.lock();
    if state.users == 0 {
        return;
    }
    state.users -= 1;
    if state.users == 0 {
        quit_signal(false);
        if let Some(bell) = &state.bell {
            bell.ring();
        }
    }
}

/// Waits until the window is closed, if nobody needs it any more.
pub(crate) fn settle(py: Python<'_>) {
    // SAFETY: as in `window`.
    let Some(window) = (unsafe { WINDOW.load(Ordering::Acquire).as_ref() }) else { return };
    let is_closing = |state: &mut State| state.users == 0 && state.is_open && !state.is_silent;
    if is_closing(&mut window.state.lock()) {
        outside(py, || {
            drop(window.closed.wait_timeout_while(window.state.lock(), ANSWER, is_closing));
        });
    }
}

/// Nothing is answered any more, and nobody is in Python because of it: the interpreter is about to end.
pub(crate) fn fall_silent() {
    // SAFETY: as in `window`.
    let Some(window) = (unsafe { WINDOW.load(Ordering::Acquire).as_ref() }) else { return };
    window.state.lock().is_silent = true;
    drop(window.told.wait_while(window.is_telling.lock(), |is_telling| *is_telling));
}

/// A run, as a user of the window.
pub(crate) struct User;

impl User {
    pub(crate) fn new() -> Self {
        user_comes();
        Self
    }

    pub(crate) fn goes(self, py: Python<'_>) {
        user_goes();
        settle(py);
    }
}

fn is_switched_off() -> bool {
    std::env::var_os("THISTLEDOWN_TREE").is_some_and(|value| value == "0")
}

// --- the thread -------------------------------------------------------------------------------------------------

/// What the thread does: opens the window when it is wanted for a while, and ends when nobody wants it.
fn watch() {
    block_signals();
    let window = window();
    let (mut seen, mut idle) = (0, 0);
    let mut state = window.state.lock();
    loop {
        if state.users == 0 {
            idle += 1;
            if idle > LINGER || state.is_silent {
                state.has_thread = false;
                return;
            }
        } else if state.generation == seen || QUIT.load(Ordering::Relaxed) {
            state.is_open = true;
            drop(state);
            open(window);
            state = window.state.lock();
            state.is_open = false;
            window.closed.notify_all();
            (seen, idle) = (state.generation, 0);
            continue;
        } else {
            (seen, idle) = (state.generation, 0);
        }
        (state, _) = window.closed.wait_timeout(state, PATIENCE);
    }
}

/// No signal is taken by this thread that is meant for another, but the one that it sends to itself.
fn block_signals() {
    // SAFETY: a set of signals on the stack, and this thread's own mask.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigdelset(&raw mut all, LINES_SIGNAL);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// The window while it is open, and until nobody needs it any more.
fn open(window: &'static Window) {
    let Ok(bell) = Bell::new().map(std::sync::Arc::new) else {
        drop(window.closed.wait_timeout(window.state.lock(), PATIENCE));
        return;
    };
    OPEN[BELL].store(bell.as_fd().as_raw_fd(), Ordering::Release);
    window.state.lock().bell = Some(std::sync::Arc::clone(&bell));
    // Somebody else may have the name, or there is no descriptor left: then it is asked by the signal only.
    let listener = listen().ok();
    let lines = Lines::new(window);
    while window.state.lock().users > 0 {
        if QUIT.swap(false, Ordering::AcqRel) {
            let _ = io::stderr().write_all(answer(window, lines.as_ref()).as_bytes());
        }
        let mut watched = vec![PollFd::new(&*bell, PollFlags::IN)];
        watched.extend(listener.as_ref().map(|listener| PollFd::new(listener, PollFlags::IN)));
        if QUIT.load(Ordering::Acquire) || rustix::event::poll(&mut watched, None).is_err() {
            continue;
        }
        let is_asked = watched.get(1).is_some_and(|fd| fd.revents().contains(PollFlags::IN));
        bell.hush();
        if let Some(listener) = listener.as_ref().filter(|_| is_asked) {
            serve(window, listener, lines.as_ref());
        }
    }
    if let Some(lines) = lines {
        lines.end(window);
    }
    OPEN[SOCKET].store(-1, Ordering::Release);
    drop(listener);
    let mut state = window.state.lock();
    OPEN[BELL].store(-1, Ordering::Release);
    state.bell = None;
    drop(bell);
}

fn listen() -> io::Result<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("thistledown-{}", std::process::id()))?;
    let listener = UnixListener::bind_addr(&address)?;
    listener.set_nonblocking(true)?;
    OPEN[SOCKET].store(listener.as_raw_fd(), Ordering::Release);
    Ok(listener)
}

/// Answers whoever has come.
fn serve(window: &'static Window, listener: &UnixListener, lines: Option<&Lines>) {
    while let Ok((stream, _)) = listener.accept() {
        if is_same_user(&stream) && stream.set_write_timeout(Some(READ)).is_ok() {
            // Who goes away before he has read it does not want it.
            let _ = (&stream).write_all(answer(window, lines).as_bytes());
        }
    }
}

fn is_same_user(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == rustix::process::geteuid() && stream.set_nonblocking(false).is_ok())
}

// --- the answer -------------------------------------------------------------------------------------------------

/// The tree in words, or else the stacks of all threads.
fn answer(window: &'static Window, lines: Option<&Lines>) -> String {
    match in_python(window, |py| ask(py, "text", ()).and_then(|text| text.extract::<String>().ok())) {
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
    fn new(window: &'static Window) -> Option<Self> {
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
struct Lines(OwnedFd);

impl Lines {
    fn new(window: &'static Window) -> Option<Self> {
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

    fn end(self, window: &'static Window) {
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

// --- the signal -------------------------------------------------------------------------------------------------

/// `SIGQUIT`: the thread is to print the tree.
extern "C" fn on_quit(_number: libc::c_int) {
    QUIT.store(true, Ordering::Release);
    let bell = OPEN[BELL].load(Ordering::Acquire);
    if bell >= 0 {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the bell is an eventfd that is open, or was a moment ago; whatever else has its number by then gets no more
        // than a write that fails or eight bytes; `errno` is put back for whoever was interrupted.
        unsafe {
            let errno = libc::__errno_location();
            let known = *errno;
            libc::write(bell, one.as_ptr().cast(), one.len());
            *errno = known;
        }
    }
}

/// Takes `SIGQUIT`, if nobody has it, or gives it back.
fn quit_signal(take: bool) {
    let ours: extern "C" fn(libc::c_int) = on_quit;
    let ours = ours as libc::sighandler_t;
    let (from, to) = if take { (libc::SIG_DFL, ours) } else { (ours, libc::SIG_DFL) };
    // SAFETY: the actions are on the stack; the handler writes to a descriptor and does nothing else.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGQUIT, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == from
        {
            action.sa_sigaction = to;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGQUIT, &raw const action, std::ptr::null_mut());
        }
    }
}
