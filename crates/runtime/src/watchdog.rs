//! The watchdog: a thread that sees a turn which does not end. It needs neither the loop nor the kernel's lock.
//!
//! A runner counts its turns in one atomic number, whose last bits say whether a turn is being had, has ended, or the
//! runner sleeps. The thread looks a few times per limit; a number that stays the same in a turn is a stall, told once.
//! When every runner sleeps the thread does too, until a runner wakes it, so that an idle program stays idle.
//!
//! The handshake of that sleep: the watchdog sets `asleep`, then looks at the numbers; a runner that wakes changes its
//! number, then looks at `asleep`. Both are sequentially consistent, so at least one sees the other.

#![cfg_attr(loom, allow(dead_code, reason = "a model has the handshake without the thread's looks"))]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, fence, wait};

/// Looks per limit.
const LOOKS: u32 = 4;

// What the last two bits of a runner's number say. A runner that leaves its rest wakes the watchdog.
const BETWEEN_TURNS: u64 = 2;
const IN_TURN: u64 = 1;
const AT_REST: u64 = 0;
const STATE: u64 = 3;

/// The number a runner counts its turns in.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Progress {
    /// The number of the present turn; nothing while the runner has none.
    #[must_use]
    pub fn turn(&self) -> Option<u64> {
        let number = self.0.load(Ordering::SeqCst);
        (number & STATE == IN_TURN).then_some(number)
    }

    fn is_at_rest(&self) -> bool {
        self.0.load(Ordering::SeqCst) & STATE == AT_REST
    }

    /// The runner alone moves its number: to one that was not before.
    #[inline]
    fn move_to(&self, state: u64, order: Ordering) {
        let number = self.0.load(Ordering::Relaxed);
        self.0.store((number | STATE) + 1 + state, order);
    }
}

/// A turn that does not end.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// The turn's number, to see whether it has ended meanwhile.
    pub turn: u64,
    /// How long it had lasted when it was seen; at least the limit.
    pub lasted: Duration,
}

type Tell = Box<dyn Fn(Stall) + Send + Sync>;

struct Entry {
    progress: Arc<Progress>,
    limit: Duration,
    tell: Arc<Tell>,
    seen: u64,
    since: Instant,
    told: bool,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    running: bool,
}

impl State {
    fn add(&mut self, limit: Duration, tell: Tell) -> Arc<Progress> {
        let progress = Arc::new(Progress(AtomicU64::new(BETWEEN_TURNS)));
        self.entries.push(Entry {
            progress: Arc::clone(&progress),
            limit,
            tell: Arc::new(tell),
            seen: 0,
            since: Instant::now(),
            told: false,
        });
        progress
    }

    /// Whether every runner sleeps, so that one which goes on will say so.
    fn all_rest(&self) -> bool {
        self.entries.iter().all(|entry| entry.progress.is_at_rest())
    }
}

/// The watchdog of a process.
#[derive(Default)]
pub struct Watchdog {
    state: Mutex<State>,
    changed: Condvar,
    asleep: AtomicBool,
    /// Held while somebody is told.
    telling: Mutex<()>,
    silent: AtomicBool,
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchdog").finish_non_exhaustive()
    }
}

/// A runner under the eyes of a watchdog, until it is dropped.
#[derive(Debug)]
pub struct Watched {
    progress: Arc<Progress>,
    watchdog: Option<&'static Watchdog>,
}

impl Watched {
    /// A runner that nobody watches.
    #[must_use]
    pub fn by_nobody() -> Self {
        Self { progress: Arc::default(), watchdog: None }
    }

    /// The number it counts its turns in.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    #[inline]
    pub(crate) fn turn_begins(&self) {
        self.progress.move_to(IN_TURN, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn turn_ends(&self) {
        self.progress.move_to(BETWEEN_TURNS, Ordering::Release);
    }

    pub(crate) fn rests(&self) {
        self.progress.move_to(AT_REST, Ordering::Release);
    }

    pub(crate) fn wakes(&self) {
        let Some(watchdog) = self.watchdog else { return };
        self.progress.move_to(IN_TURN, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if watchdog.asleep.load(Ordering::Relaxed) {
            drop(watchdog.state.lock());
            watchdog.changed.notify_all();
        }
    }
}

/// For models: what the loop does.
#[cfg(loom)]
impl Watched {
    /// A turn that does not end.
    pub fn begins_turn(&self) {
        self.turn_begins();
    }

    /// A turn that begins and ends.
    pub fn has_turn(&self) {
        self.turn_begins();
        self.turn_ends();
    }

    /// Before a sleep, and after it.
    pub fn falls_asleep_and_wakes(&self) {
        self.rests();
        self.wakes();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(watchdog) = self.watchdog {
            let mut state = watchdog.state.lock();
            state.entries.retain(|entry| !Arc::ptr_eq(&entry.progress, &self.progress));
            watchdog.changed.notify_all();
        }
    }
}

impl Watchdog {
    /// Watches a runner: `tell` is called from the watchdog's thread, once for each turn that lasts `limit`.
    #[cfg(not(loom))]
    pub fn watch(
        &'static self,
        limit: Duration,
        tell: impl Fn(Stall) + Send + Sync + 'static,
    ) -> std::io::Result<Watched> {
        let mut state = self.state.lock();
        let progress = state.add(limit, Box::new(tell));
        if !std::mem::replace(&mut state.running, true) {
            let started =
                std::thread::Builder::new().name("thistledown-watchdog".into()).spawn(|| self.watch_all());
            if let Err(error) = started {
                state.running = false;
                state.entries.pop();
                return Err(error);
            }
        }
        drop(state);
        self.changed.notify_all();
        Ok(Watched { progress, watchdog: Some(self) })
    }

    /// Tells nobody any more, and returns when nobody is being told: what is told may be about to go away.
    pub fn fall_silent(&self) {
        self.silent.store(true, Ordering::Release);
        drop(self.telling.lock());
    }

    /// Sleeps until a runner wakes, unless one is awake: whether it has slept.
    fn sleep<'a>(&self, state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, bool) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let all_rest = state.all_rest();
        let state = if all_rest { wait(&self.changed, state) } else { state };
        self.asleep.store(false, Ordering::Relaxed);
        (state, all_rest)
    }

    /// For models: a runner that this watchdog watches without a thread of its own.
    #[cfg(loom)]
    pub fn watch(&'static self) -> Watched {
        let progress = self.state.lock().add(Duration::ZERO, Box::new(|_| {}));
        Watched { progress, watchdog: Some(self) }
    }

    /// For models: what the watchdog's thread does when nobody has moved.
    #[cfg(loom)]
    pub fn sleep_once(&self) {
        drop(self.sleep(self.state.lock()));
    }

    /// Takes the lock and keeps it, so that a fork finds the watchdog whole.
    #[cfg(not(loom))]
    pub fn lock_for_fork(&self) {
        std::mem::forget(self.state.lock());
    }

    /// Releases the lock that [`Self::lock_for_fork`] took, in the parent and in the child. Who is to be watched in the
    /// child needs another watchdog: this one's thread does not exist there.
    ///
    /// # Safety
    /// Only after [`Self::lock_for_fork`] in this thread, and once in each process.
    #[cfg(not(loom))]
    #[allow(unsafe_code, reason = "the guard cannot live across a fork, so the lock is released by hand")]
    pub unsafe fn unlock_after_fork(&self) {
        // SAFETY: the caller holds the lock, by the contract above.
        unsafe { self.state.force_unlock() };
    }

    /// Ends when there is nobody to watch.
    #[cfg(not(loom))]
    fn watch_all(&self) {
        let mut state = self.state.lock();
        while !state.entries.is_empty() {
            let (stalls, moved) = look(&mut state.entries, Instant::now());
            if !stalls.is_empty() {
                drop(state);
                let telling = self.telling.lock();
                if !self.silent.load(Ordering::Acquire) {
                    stalls.iter().for_each(|(tell, stall)| tell(*stall));
                }
                drop(telling);
                state = self.state.lock();
                continue;
            }
            let shortest = state.entries.iter().map(|entry| entry.limit).min().unwrap_or_default();
            if !moved {
                let slept;
                (state, slept) = self.sleep(state);
                if slept {
                    continue;
                }
            }
            let pause = (shortest / LOOKS).max(Duration::from_millis(1));
            (state, _) = self.changed.wait_timeout(state, pause);
        }
        state.running = false;
    }
}

/// Looks at everyone: who stalls, and whether anybody has had a turn since the last look.
fn look(entries: &mut [Entry], now: Instant) -> (Vec<(Arc<Tell>, Stall)>, bool) {
    let mut stalls = Vec::new();
    let mut moved = false;
    for entry in entries {
        let number = entry.progress.0.load(Ordering::SeqCst);
        if number != entry.seen {
            (entry.seen, entry.since, entry.told) = (number, now, false);
            moved = true;
            continue;
        }
        let lasted = now.duration_since(entry.since);
        if number & STATE == IN_TURN && !entry.told && lasted >= entry.limit {
            entry.told = true;
            stalls.push((Arc::clone(&entry.tell), Stall { turn: number, lasted }));
        }
    }
    (stalls, moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A runner that is looked at by hand, at moments of the test's own.
    struct ByHand {
        state: State,
        watched: Watched,
        start: Instant,
    }

    impl ByHand {
        const LIMIT: Duration = Duration::from_secs(10);

        fn new() -> Self {
            let mut state = State::default();
            let progress = state.add(Self::LIMIT, Box::new(|_| {}));
            let start = state.entries[0].since;
            Self { state, watched: Watched { progress, watchdog: None }, start }
        }

        /// How long the stalls had lasted that are told after so many seconds.
        fn look_at(&mut self, seconds: u64) -> Vec<u64> {
            let (stalls, _) = look(&mut self.state.entries, self.start + Duration::from_secs(seconds));
            stalls.into_iter().map(|(_, stall)| stall.lasted.as_secs()).collect()
        }
    }

    #[test]
    fn a_turn_that_does_not_end_is_told_once() {
        let mut by_hand = ByHand::new();
        by_hand.watched.turn_begins();
        assert_eq!(by_hand.look_at(100), [0; 0], "it is seen for the first time");
        assert_eq!(by_hand.look_at(109), [0; 0]);
        assert_eq!(by_hand.look_at(110), [10]);
        assert_eq!(by_hand.look_at(150), [0; 0]);
        by_hand.watched.turn_begins();
        assert_eq!(by_hand.look_at(160), [0; 0]);
        assert_eq!(by_hand.look_at(175), [15], "each stall is told");
    }

    #[test]
    fn a_runner_that_moves_or_has_no_turn_does_not_stall() {
        let mut by_hand = ByHand::new();
        for seconds in 0..100 {
            by_hand.watched.turn_begins();
            assert_eq!(by_hand.look_at(seconds * 9), [0; 0]);
        }
        by_hand.watched.turn_ends();
        assert_eq!([by_hand.look_at(1_000), by_hand.look_at(2_000)].concat(), [0; 0], "between turns");
        by_hand.watched.rests();
        assert_eq!([by_hand.look_at(3_000), by_hand.look_at(4_000)].concat(), [0; 0], "at rest");
    }

    #[test]
    fn the_thread_tells_of_a_stall_also_after_a_rest() {
        let watchdog: &'static Watchdog = Box::leak(Box::default());
        let (tell, told) = mpsc::channel();
        let tell = move |stall| tell.send(stall).expect("a listener");
        let watched = watchdog.watch(Duration::from_millis(1), tell).expect("a thread");
        watched.turn_begins();
        let stall: Stall = told.recv().expect("a stall");
        assert_eq!(Some(stall.turn), watched.progress().turn());
        watched.rests();
        watched.wakes();
        let next: Stall = told.recv().expect("awake again, and stuck");
        assert_eq!(Some(next.turn), watched.progress().turn());
        assert_ne!(next.turn, stall.turn);
    }

    #[test]
    fn between_two_turns_a_runner_does_not_rest() {
        let watchdog: &'static Watchdog = Box::leak(Box::default());
        let progress = watchdog.state.lock().add(Duration::MAX, Box::new(|_| {}));
        let watched = Watched { progress, watchdog: Some(watchdog) };
        let state = || {
            let all_rest = watchdog.state.lock().all_rest();
            (watched.progress().turn().is_some(), all_rest)
        };
        assert_eq!(state(), (false, false), "its first turn wakes nobody");
        watched.turn_begins();
        assert_eq!(state(), (true, false));
        watched.turn_ends();
        assert_eq!(state(), (false, false), "its next turn wakes nobody");
        watched.turn_begins();
        watched.rests();
        assert_eq!(state(), (false, true));
        watched.wakes();
        assert_eq!(state(), (true, false));
    }
}
