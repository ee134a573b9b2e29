//! The thread of a pool: it sleeps until somebody says something, and hears everybody.
//!
//! It knows nothing of Python and takes no lock but the pool's. While tiny tasks stream it looks every millisecond, so
//! that workers need not ring for each.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::bell::Bell;
use crate::clock;
use crate::engine::{Customer, Shared};
use crate::hall::{HANG_UP, Hall};
use crate::outcome::Cause;
use crate::policy::WorkerId;

/// How long workers that were told to leave have for their own ends.
const LEAVING: Duration = Duration::from_secs(2);

/// What a descriptor is for.
#[derive(Clone, Copy)]
enum Watched {
    Bell,
    Zygote,
    Control(WorkerId),
    Stderr(WorkerId),
}

/// Runs until the pool is over.
pub(crate) fn run<C: Customer>(shared: &Shared<C>, bell: &Bell) {
    let mut watched: Vec<(RawFd, Watched)> = Vec::new();
    let mut ready: Vec<Watched> = Vec::new();
    loop {
        let mut hall = shared.hall.lock();
        hall.sleeps_until = 0;
        look(&mut hall, bell, &ready);
        if hall.is_over() && has_left(&mut hall) {
            return close(shared, hall);
        }
        let due = if listen(&mut hall) { hall.next_due() } else { Some(0) };
        let timeout = due.map(|due| Duration::from_nanos(due.saturating_sub(clock::now())));
        // From here on whoever makes something due before this wakes the thread.
        hall.sleeps_until = due.unwrap_or(u64::MAX);
        gather(&hall, bell, &mut watched);
        shared.leave(hall);
        sleep(&watched, timeout, &mut ready);
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
                if let Some(worker) = hall.desk.workers.get_mut(worker) {
                    worker.read_stderr();
                }
            }
            Watched::Control(id) => hung_up(hall, id, now),
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

/// The worker's socket has been closed: it ends, or should.
fn hung_up<C: Customer>(hall: &mut MutexGuard<'_, Hall<C>>, id: WorkerId, now: u64) {
    let Some(worker) = hall.desk.workers.get_mut(id) else { return };
    match worker.is_orphan {
        true => hall.bury(id, None, now),
        false => {
            worker.hung_up.get_or_insert_with(Instant::now);
        }
    }
}

/// From now on whoever says something rings. False: somebody has said something just now.
fn listen<C: Customer>(hall: &mut MutexGuard<'_, Hall<C>>) -> bool {
    let mut quiet = true;
    for worker in hall.desk.workers.values_mut() {
        quiet &= worker.listens();
    }
    quiet
}

fn gather<C: Customer>(hall: &Hall<C>, bell: &Bell, watched: &mut Vec<(RawFd, Watched)>) {
    use std::os::fd::AsFd;
    watched.clear();
    watched.push((bell.as_fd().as_raw_fd(), Watched::Bell));
    watched.extend(hall.zygote.iter().map(|zygote| (zygote.socket().as_raw_fd(), Watched::Zygote)));
    for (id, worker) in &hall.desk.workers {
        if worker.hung_up.is_none() {
            watched.push((worker.control().as_raw_fd(), Watched::Control(id)));
        }
        watched.extend(worker.stderr().map(|stderr| (stderr.as_raw_fd(), Watched::Stderr(id))));
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
            let flags = if let Watched::Control(_) = what { PollFlags::empty() } else { PollFlags::IN };
            PollFd::from_borrowed_fd(*fd, flags)
        })
        .collect();
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    ready.clear();
    if rustix::event::poll(&mut polled, timeout.as_ref()).is_ok() {
        ready.extend(
            polled.iter().zip(watched).filter(|(fd, _)| !fd.revents().is_empty()).map(|(_, (_, what))| *what),
        );
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
    for worker in hall.desk.workers.values().filter(|worker| worker.is_orphan) {
        worker.kill();
    }
    drop(hall);
    if let Some(zygote) = zygote {
        zygote.close();
    }
    let mut hall = shared.hall.lock();
    hall.desk.workers.clear();
    hall.over();
    shared.leave(hall);
    C::closed();
    shared.changed.notify_all();
}
