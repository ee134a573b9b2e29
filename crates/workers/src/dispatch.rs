//! The thread of a pool: it sleeps until somebody says something, and hears everybody.
//!
//! It knows nothing of Python, and takes no lock but the pool's and those of the customers that it tells. While tiny tasks stream it looks every millisecond, so
//! that workers need not ring for each.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix_futex_sync::MutexGuard;

use crate::bell::Bell;
use crate::clock;
use crate::engine::Shared;
use crate::hall::{HANG_UP, Hall};
use crate::outcome::Cause;
use crate::policy::WorkerId;
use crate::terms::Customer;
use crate::worker::Worker;

/// How much of what workers write to their standard error is kept until somebody reads it; then they have to wait.
const OUTPUT_BYTES: usize = 1024 * 1024;

/// A pipe that can be written to takes so much without waiting.
const AT_ONCE_BYTES: usize = 4096;

/// How long workers that were told to leave have for their own ends.
const LEAVING: Duration = Duration::from_secs(2);

/// What a descriptor is for.
#[derive(Clone, Copy)]
enum Watched {
    Bell,
    Zygote,
    Control(WorkerId),
    /// A worker that nobody reaps for us.
    Orphan(WorkerId),
    Stderr(WorkerId),
    /// This process's own standard error, while there is something for it.
    Output,
}

/// Runs until the pool is over.
pub(crate) fn run<C: Customer>(shared: &Shared<C>, bell: &Bell) {
    let mut watched: Vec<(RawFd, Watched)> = Vec::new();
    let mut ready: Vec<Watched> = Vec::new();
    let mut output: Vec<u8> = Vec::new();
    // When it cannot be launched, that is tried again for the first worker, and said to whoever needs that one.
    drop(shared.hall.lock().launched());
    loop {
        let mut hall = shared.hall.lock();
        hall.sleeps_until = 0;
        look(&mut hall, bell, &ready);
        if hall.is_over() && has_left(&mut hall) {
            output.append(&mut hall.stderr);
            close(shared, hall);
            return flush(&mut output);
        }
        let due = if listen(&mut hall) { hall.next_due() } else { Some(0) };
        let timeout = due.map(|due| Duration::from_nanos(due.saturating_sub(clock::now())));
        // From here on whoever makes something due before this wakes the thread.
        hall.sleeps_until = due.unwrap_or(u64::MAX);
        output.append(&mut hall.stderr);
        gather(&hall, bell, &output, &mut watched);
        shared.leave(hall);
        sleep(&watched, timeout, &mut ready);
        if ready.iter().any(|what| matches!(what, Watched::Output)) {
            pass_on(&mut output);
        }
    }
}

/// Hears everybody.
fn look<C: Customer>(hall: &mut MutexGuard<'_, Hall<C>>, bell: &Bell, ready: &[Watched]) {
    let now = clock::now();
    for what in ready {
        match *what {
            Watched::Bell => bell.hush(),
            Watched::Zygote => hall.hear_zygote(now),
            Watched::Stderr(worker) => {
                let Hall { desk, stderr, .. } = &mut **hall;
                if let Some(worker) = desk.workers.get_mut(worker) {
                    worker.stderr.read(stderr);
                }
            }
            Watched::Control(id) => {
                if let Some(worker) = hall.desk.workers.get_mut(id) {
                    worker.hung_up.get_or_insert_with(Instant::now);
                }
            }
            Watched::Orphan(id) => hall.bury(id, None, now),
            Watched::Output => {}
        }
    }
    let workers: Vec<WorkerId> = hall.desk.workers.keys().collect();
    for id in workers {
        let heard = hall.hear_worker(id, now);
        let Some(worker) = hall.desk.workers.get_mut(id) else { continue };
        worker.hears();
        worker.flush_answers();
        if worker.streams() && !heard {
            worker.stop_streaming();
        }
        if worker.hung_up_for().is_some_and(|since| since > HANG_UP) {
            worker.cause.get_or_insert(Cause::HungUp);
            worker.kill();
        }
    }
    hall.tick(now);
    hall.start_workers(bell, now);
}

/// From now on whoever says something rings. False: somebody has said something just now.
fn listen<C: Customer>(hall: &mut MutexGuard<'_, Hall<C>>) -> bool {
    let mut quiet = true;
    for worker in hall.desk.workers.values_mut() {
        quiet &= worker.listens();
    }
    quiet
}

fn gather<C: Customer>(hall: &Hall<C>, bell: &Bell, output: &[u8], watched: &mut Vec<(RawFd, Watched)>) {
    use std::os::fd::AsFd;
    watched.clear();
    watched.push((bell.as_fd().as_raw_fd(), Watched::Bell));
    watched.extend(hall.zygote.iter().map(|zygote| (zygote.socket().as_raw_fd(), Watched::Zygote)));
    for (id, worker) in &hall.desk.workers {
        // Whose zygote is gone is watched himself: something that he has forked may hold his socket open.
        match worker.process.pidfd().filter(|_| worker.is_orphan) {
            Some(process) => watched.push((process.as_raw_fd(), Watched::Orphan(id))),
            None if worker.hung_up.is_none() => {
                watched.push((worker.control().as_raw_fd(), Watched::Control(id)));
            }
            None => {}
        }
        if output.len() < OUTPUT_BYTES {
            watched.extend(worker.stderr.pipe().map(|stderr| (stderr.as_raw_fd(), Watched::Stderr(id))));
        }
    }
    if !output.is_empty() {
        watched.push((rustix::stdio::stderr().as_raw_fd(), Watched::Output));
    }
}

#[allow(unsafe_code, reason = "descriptors are watched that the lock's owner may not close")]
fn sleep(watched: &[(RawFd, Watched)], timeout: Option<Duration>, ready: &mut Vec<Watched>) {
    // SAFETY: workers and the zygote are dropped in this thread alone, which is here; the bell lives as long as it.
    let borrowed: Vec<BorrowedFd<'_>> =
        watched.iter().map(|(fd, _)| unsafe { BorrowedFd::borrow_raw(*fd) }).collect();
    let mut polled: Vec<PollFd<'_>> = borrowed
        .iter()
        .zip(watched)
        .map(|(fd, (_, what))| {
            // On a worker's socket only its end is of interest: blobs are read when a reply names them.
            let flags = match what {
                Watched::Control(_) => PollFlags::empty(),
                Watched::Output => PollFlags::OUT,
                _ => PollFlags::IN,
            };
            PollFd::from_borrowed_fd(*fd, flags)
        })
        .collect();
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    ready.clear();
    let polled_all = rustix::event::poll(&mut polled, timeout.as_ref());
    let has_news = |fd: &PollFd<'_>| match polled_all {
        Ok(_) => !fd.revents().is_empty(),
        Err(Errno::INTR) => false,
        // Nobody can say: each has to be asked.
        Err(_) => true,
    };
    ready.extend(polled.iter().zip(watched).filter(|(fd, _)| has_news(fd)).map(|(_, (_, what))| *what));
}

/// Passes on what workers wrote, as much as goes without waiting: whoever reads it may need this very program for that.
fn pass_on(output: &mut Vec<u8>) {
    let part = output.len().min(AT_ONCE_BYTES);
    match rustix::io::write(rustix::stdio::stderr(), &output[..part]) {
        Ok(written) => drop(output.drain(..written)),
        Err(Errno::INTR | Errno::AGAIN) => {}
        // There is no standard error.
        Err(_) => output.clear(),
    }
}

/// The same at the end, for what can be passed on now.
fn flush(output: &mut Vec<u8>) {
    let stderr = rustix::stdio::stderr();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    while !output.is_empty()
        && matches!(rustix::event::poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&now)), Ok(1))
    {
        pass_on(output);
    }
}

/// Whether the workers have gone, after they were told to; some need longer than they may.
fn has_left<C: Customer>(hall: &mut MutexGuard<'_, Hall<C>>) -> bool {
    let since = *hall.leaving.get_or_insert_with(Instant::now);
    for worker in hall.desk.workers.values_mut() {
        if !worker.is_leaving() {
            worker.tell_to_leave();
        }
    }
    hall.desk.workers.is_empty() || since.elapsed() > LEAVING
}

/// Nothing is left to do: the zygote ends, and with it whoever is still there.
fn close<C: Customer>(shared: &Shared<C>, mut hall: MutexGuard<'_, Hall<C>>) {
    let zygote = hall.zygote.take();
    // Those that did not leave; of some the zygote does not know.
    hall.desk.workers.values_mut().for_each(Worker::kill);
    drop(hall);
    if let Some(zygote) = zygote {
        zygote.close();
    }
    let mut hall = shared.hall.lock();
    hall.write_last_obituaries();
    hall.desk.workers.clear();
    hall.over();
    shared.leave(hall);
    C::closed();
    shared.changed.notify_all();
}
