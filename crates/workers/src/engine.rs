//! The engine of a pool: the policy and its desk behind one lock, and the thread that listens to everybody.
//!
//! A customer's thread takes the lock, decides, and writes to the workers itself; the thread reads what they say. Bells
//! are rung, and customers told, after the lock is released. Nobody holds the lock while he sleeps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix_futex_sync::{Condvar, Mutex, MutexGuard};
use thistledown_wire::Verb;

use crate::bell::Bell;
use crate::clock;
use crate::desk::Owner;
use crate::function::Function;
use crate::hall::Hall;
use crate::policy::{Cancel, JobId, Statistics, WorkerId};
use crate::terms::{Closed, Config, Customer, Order};
use crate::zygote::Launch;

/// What all threads share.
pub(crate) struct Shared<C> {
    pub(crate) hall: Mutex<Hall<C>>,
    /// The pool is idle, or over.
    pub(crate) changed: Condvar,
    forked: AtomicBool,
}

/// The engine of a pool.
pub struct Engine<C: Customer> {
    size: usize,
    shared: Arc<Shared<C>>,
}

impl<C: Customer> std::fmt::Debug for Engine<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl<C: Customer> Engine<C> {
    /// A new one. Nothing is started, and no descriptor taken, before [`Self::start`].
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let hall = Mutex::new(Hall::new(config));
        let shared = Shared { hall, changed: Condvar::new(), forked: AtomicBool::new(false) };
        Self { size: config.size, shared: Arc::new(shared) }
    }

    /// The function with this content.
    ///
    /// # Errors
    /// It needs a blob, for which there is no memory or no descriptor.
    pub fn function(&self, content: &[u8], weightless: bool) -> io::Result<Arc<Function>> {
        let mut hall = self.hall().ok_or_else(|| {
            io::Error::other("the pool belongs to the process that this one was forked from")
        })?;
        hall.functions.intern(content, weightless)
    }

    /// Takes a job. Nobody does it before [`Self::start`].
    ///
    /// # Errors
    /// The pool takes none any more; the customer comes back.
    pub fn submit(&self, order: Order, customer: C) -> Result<Option<JobId>, (Closed, C)> {
        let Some(mut hall) = self.hall() else { return Err((Closed::Forked, customer)) };
        // What asks of an actor that ends with the pool is answered.
        let is_end = order.errand.is_some_and(|errand| matches!(errand.verb, Verb::Stop | Verb::Watch));
        if hall.is_closing() && !is_end {
            return Err((Closed::ShutDown, customer));
        }
        let submitted = hall.order(order, Owner::Customer(customer), None, clock::now());
        self.shared.leave(hall);
        submitted.map_err(|owner| match owner {
            Owner::Customer(customer) => (Closed::Full, customer),
            Owner::Worker(..) | Owner::Nobody(_) => unreachable!("the owner that was given comes back"),
        })
    }

    /// An actor that has given itself lives on as another one of this pool; none: it goes on itself.
    pub fn moved_actor(&self, from: u64, to: Option<u64>) {
        self.change(|hall| hall.moved(from, to, clock::now()));
    }

    /// An actor that has given itself lives on outside of this pool: what it was asked since is refused.
    pub fn moved_actor_out(&self, actor: u64) {
        self.change(|hall| hall.moved_out(actor, clock::now()));
    }

    /// From now on what is asked of an actor by this name waits while there is none that has it, up to a limit.
    pub fn keep_actor(&self, name: u64, limit: usize) {
        self.change(|hall| hall.keep(name, limit));
    }

    /// An actor has this name, too, and is asked what waits; none: there will be no actor of this name.
    pub fn renew_actor(&self, name: u64, actor: Option<u64>) {
        self.change(|hall| match actor {
            Some(actor) => hall.renew(name, actor, clock::now()),
            None => hall.release(name),
        });
    }

    /// An actor is to end at once, by the name that its maker gave it.
    pub fn kill_actor(&self, actor: u64) {
        self.change(|hall| hall.kill_actor(actor, clock::now()));
    }

    /// A customer who wanted to hear of the end of an actor does not any more: he is told that he was cancelled.
    pub fn unwatch_actor(&self, actor: u64, is_he: impl Fn(&C) -> bool) {
        self.change(|hall| hall.unwatch(actor, is_he));
    }

    /// Starts the thread, which launches the zygote at once: before there is a job, so that both can be made ready at the
    /// same time. Nothing is done when that has been done before, or no job would be taken.
    pub fn start(&self, launch: Launch) {
        let Some(mut hall) = self.hall() else { return };
        if !hall.is_running() && !hall.is_closing() {
            self.begin(&mut hall, launch);
        }
        self.shared.leave(hall);
    }

    fn begin(&self, hall: &mut Hall<C>, launch: Launch) {
        let started = Bell::new().and_then(|bell| {
            let bell = Arc::new(bell);
            hall.begin(launch, Arc::clone(&bell));
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("thistledown-pool".into());
            thread.spawn(move || crate::dispatch::run(&shared, &bell))
        });
        match started {
            Ok(thread) => {
                hall.thread = Some(thread);
                C::opened();
            }
            Err(error) => {
                hall.over();
                hall.refuse(&format!("the system gives no thread: {error}"), clock::now());
            }
        }
    }

    /// How many workers run at a time.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether it has been given a [`Launch`].
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.hall().is_none_or(|hall| hall.is_running())
    }

    /// Stops a job.
    pub fn cancel(&self, job: JobId) -> Cancel {
        self.change(|hall| hall.cancel(job, clock::now())).unwrap_or(Cancel::TooLate)
    }

    /// Follows a trail: what does this job wait for, in turn? See `hall/trail`.
    pub fn trail(&self, job: JobId, written: Vec<u8>) {
        self.change(|hall| hall.trail(job, written));
    }

    /// Takes back a call of an actor that has not begun: nobody can wait for it, as it waits for who does.
    pub fn take_back(&self, job: JobId) -> Cancel {
        self.change(|hall| hall.take_back(job, clock::now())).unwrap_or(Cancel::TooLate)
    }

    /// Whether a job has begun.
    #[must_use]
    pub fn is_running(&self, job: JobId) -> bool {
        self.hall().is_some_and(|hall| hall.is_running_job(job))
    }

    /// Whether a job has begun, as far as is known. A call that stands behind another one of its actor has not, wherever it
    /// lies.
    #[must_use]
    pub fn has_begun(&self, job: JobId) -> bool {
        self.hall().is_some_and(|hall| hall.has_begun(job))
    }

    /// No more jobs. With `cancel` those that have not begun end as cancelled.
    pub fn shut_down(&self, cancel: bool) {
        self.change(|hall| hall.close(cancel, clock::now()));
    }

    /// Everything ends now.
    pub fn kill(&self) {
        self.change(Hall::kill);
    }

    /// Waits until nothing is left of the pool: no thread, no process. False: not in time.
    #[must_use]
    pub fn wait_closed(&self, timeout: Option<Duration>) -> bool {
        let closed = self.wait(timeout, |hall| hall.is_closing() && !hall.is_running());
        let thread = self.hall().filter(|_| closed).and_then(|mut hall| hall.thread.take());
        // It has nothing more to do but to end.
        thread.map(std::thread::JoinHandle::join);
        closed
    }

    /// Waits until no job is left. False: not in time.
    #[must_use]
    pub fn wait_idle(&self, timeout: Option<Duration>) -> bool {
        self.wait(timeout, |hall| !hall.has_jobs())
    }

    fn wait(&self, timeout: Option<Duration>, is_done: impl Fn(&Hall<C>) -> bool) -> bool {
        let Some(mut hall) = self.hall() else { return true };
        hall.waiters += 1;
        let is_not_done = |hall: &mut Hall<C>| !is_done(hall);
        let (mut hall, done) = match timeout {
            None => (self.shared.changed.wait_while(hall, is_not_done), true),
            Some(timeout) => {
                let (hall, slept) = self.shared.changed.wait_timeout_while(hall, timeout, is_not_done);
                (hall, !slept.timed_out())
            }
        };
        hall.waiters -= 1;
        done
    }

    /// What there is and was.
    #[must_use]
    pub fn statistics(&self) -> (Statistics, Vec<i32>) {
        self.hall().map(|hall| (hall.statistics(), hall.processes())).unwrap_or_default()
    }

    /// The workers that live: each by its number, which is never used again, with its process.
    #[must_use]
    pub fn crew(&self) -> Vec<(u64, i32)> {
        let crew = self.hall().map(|hall| hall.crew()).unwrap_or_default();
        crew.into_iter().map(|(worker, process)| (worker.number(), process)).collect()
    }

    /// Tells a customer how a worker has ended, by [`Outcome::Gone`](crate::Outcome::Gone), when it has; at once when that
    /// was before.
    ///
    /// # Errors
    /// This process is a fork of the pool's; the customer comes back.
    pub fn watch_worker(&self, worker: u64, customer: C) -> Result<(), C> {
        let Some(mut hall) = self.hall() else { return Err(customer) };
        hall.watch_worker(WorkerId::from_number(worker), Owner::Customer(customer));
        self.shared.leave(hall);
        Ok(())
    }

    /// How it stands, with so many of the jobs that wait for a worker. Nothing in a forked child.
    #[must_use]
    pub fn view(&self, limit: usize) -> Option<crate::view::PoolView> {
        self.hall().map(|hall| hall.view(self.size, limit))
    }

    /// So many of its actors, those with the most calls first. Nobody is asked for it.
    #[must_use]
    pub fn actors(&self, limit: usize) -> Vec<crate::view::ActorView> {
        self.hall().map(|hall| hall.actors(limit)).unwrap_or_default()
    }

    /// The jobs that workers have ended after this moment of [`crate::now`], as far as they were kept; from now on they are
    /// kept for so long, for whoever looks.
    #[must_use]
    pub fn spans(&self, after: u64, keep: Duration) -> Vec<crate::view::Span> {
        self.hall().map(|mut hall| hall.spans.after(after, keep, clock::now())).unwrap_or_default()
    }

    /// What people call a job. Nothing: it has ended.
    #[must_use]
    pub fn name_of(&self, job: JobId) -> Option<String> {
        self.hall()?.desk.jobs.get(job).map(|job| job.name.to_string())
    }

    /// Kills the worker that runs this plain job now. False: none does.
    #[must_use]
    pub fn kill_job(&self, job: JobId) -> bool {
        self.change(|hall| hall.kill_running(job)).unwrap_or(false)
    }

    /// Whether there are jobs that have not ended.
    #[must_use]
    pub fn has_jobs(&self) -> bool {
        self.hall().is_some_and(|hall| hall.has_jobs())
    }

    /// Whether it was closed, and nothing is left of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.hall().is_none_or(|hall| hall.is_closing() && !hall.is_running())
    }

    /// Whether it takes jobs.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.hall().is_none_or(|hall| hall.is_closing())
    }

    /// Takes the lock. Nothing in a fork of the pool's process, where the lock means nothing.
    /// Whether it belongs to the process that this one was forked from.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.shared.forked.load(Ordering::Relaxed)
    }

    fn hall(&self) -> Option<MutexGuard<'_, Hall<C>>> {
        (!self.is_forked()).then(|| self.shared.hall.lock())
    }

    fn change<R>(&self, work: impl FnOnce(&mut Hall<C>) -> R) -> Option<R> {
        let mut hall = self.hall()?;
        let result = work(&mut hall);
        self.shared.leave(hall);
        Some(result)
    }

    /// Takes the lock, so that a fork finds everything whole.
    pub fn lock_for_fork(&self) {
        std::mem::forget(self.shared.hall.lock());
    }

    /// After a fork, in the parent.
    ///
    /// # Safety
    /// After [`Self::lock_for_fork`], in the same thread, once.
    #[allow(unsafe_code, reason = "the guard cannot live across a fork, so the lock is released by hand")]
    pub unsafe fn unlock_in_parent(&self) {
        // SAFETY: the caller holds the lock, by the contract above.
        unsafe { self.shared.hall.force_unlock() };
    }

    /// After a fork, in the child: the pool is the parent's, and nobody takes its lock any more but [`Self::desert`].
    ///
    /// # Safety
    /// As for [`Self::unlock_in_parent`].
    #[allow(unsafe_code, reason = "as in the parent")]
    pub unsafe fn give_up_in_child(&self) {
        self.shared.forked.store(true, Ordering::Relaxed);
        // SAFETY: the caller holds the lock, by the contract above.
        unsafe { self.shared.hall.force_unlock() };
    }

    /// In the child, afterwards: the parent's descriptors are closed, so that its end is noticed by those whom it
    /// concerns, and customers hear that they ask in the wrong process.
    pub fn desert(&self) {
        if self.shared.forked.load(Ordering::Relaxed) {
            let ended = self.shared.hall.lock().desert();
            C::settle(ended);
        }
    }
}

impl<C: Customer> Shared<C> {
    /// Releases the lock, and does what is to be done outside of it.
    pub(crate) fn leave(&self, mut hall: MutexGuard<'_, Hall<C>>) {
        let rings = hall.desk.take_rings();
        let ended = std::mem::take(&mut hall.desk.ended);
        let orphaned = std::mem::take(&mut hall.desk.orphaned);
        let unread = std::mem::take(&mut hall.desk.unread);
        let said = std::mem::take(&mut hall.said);
        let spent = std::mem::take(&mut hall.desk.spent);
        let bell = hall.take_wish();
        let notifies = hall.waiters > 0;
        let settling = (!ended.is_empty()).then(C::settling);
        drop(hall);
        // Before the ends, so that whoever sees one can wait for what was said before it.
        if !said.is_empty() {
            C::hear(said);
        }
        if settling.is_some() {
            C::settle(ended);
        }
        drop(settling);
        rings.iter().for_each(|bell| bell.ring());
        if let Some(bell) = bell {
            bell.ring();
        }
        if !orphaned.is_empty() {
            C::orphaned(orphaned);
        }
        if !unread.is_empty() {
            C::unread(unread);
        }
        if notifies {
            self.changed.notify_all();
        }
        // Everybody has been told: by now the worker may have let go of the same memory, and then this takes no time.
        drop(spent);
    }
}

impl<C: Customer> Drop for Engine<C> {
    /// Nobody can give it jobs any more; those that it has are done.
    fn drop(&mut self) {
        if !self.shared.forked.load(Ordering::Relaxed) {
            self.shut_down(false);
        }
    }
}
