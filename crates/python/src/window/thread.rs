//! The window's thread: opens the window when it is wanted for a while, hears who asks, and ends when nobody wants it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use thistledown_workers::Bell;

use super::answer::{Lines, answer};
use super::signal::{block_signals, has_quit, take_quit};
use super::{BELL, OPEN, SOCKET, Window, window};

/// How long a run or pool has to last, at least, before the window is opened; at most twice as long.
const PATIENCE: Duration = Duration::from_millis(30);

/// Looks, [`PATIENCE`] apart, for which the thread lingers when there is no run and no pool.
const LINGER: u32 = 7;

/// The request for the tree in words.
const TREE: &str = "tree";

/// How long whoever has come has to say what he wants, and how long that may be, in bytes.
const SAY: Duration = Duration::from_secs(1);
const LONGEST: u64 = 16 * 1024;

/// How long whoever asked has to read the answer.
const READ: Duration = Duration::from_secs(5);

/// What the thread does: opens the window when it is wanted for a while, and ends when nobody wants it.
pub(super) fn watch() {
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
        } else if state.generation == seen || has_quit() {
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
        if take_quit() {
            let _ = io::stderr().write_all(answer(window, lines.as_ref(), TREE.into()).as_bytes());
        }
        let mut watched = vec![PollFd::new(&*bell, PollFlags::IN)];
        watched.extend(listener.as_ref().map(|listener| PollFd::new(listener, PollFlags::IN)));
        if has_quit() || rustix::event::poll(&mut watched, None).is_err() {
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
            let request = request(&stream);
            // Who goes away before he has read it does not want it.
            let _ = (&stream).write_all(answer(window, lines, request).as_bytes());
        }
    }
}

/// What is asked for: a line. Who says nothing wants the tree.
fn request(stream: &UnixStream) -> String {
    let mut line = String::new();
    let said = stream
        .set_read_timeout(Some(SAY))
        .and_then(|()| BufReader::new(stream.take(LONGEST)).read_line(&mut line));
    match said {
        Ok(_) if !line.trim().is_empty() => line,
        _ => TREE.to_owned(),
    }
}

fn is_same_user(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == rustix::process::geteuid() && stream.set_nonblocking(false).is_ok())
}
