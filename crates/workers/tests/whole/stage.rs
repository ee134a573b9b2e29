//! The stage: an engine, a customer that keeps what it is told, and a count of what is left when all is over.

use std::io;
use std::panic::resume_unwind;
use std::process::abort;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};
use thistledown_workers::{
    Cancel, Closed, Config, Customer, Engine, Gone, JobId, Launch, Opened, Order, Outcome, Parcel, Refusal,
};

use crate::packets::LIMIT;
use crate::puppet::{Entrance, Puppet};
use crate::zygote::{self, Manner};

/// How long a whole scene may take.
const SCENE: Duration = Duration::from_secs(90);

/// One scene at a time: what is left of it is counted.
static ALONE: Mutex<()> = Mutex::new(());

/// What workers have said, until somebody asks. Who holds it holds up the pool's thread.
static SAID: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// The processes that had started jobs which failed for nobody, until somebody asks.
static ORPHANED: Mutex<Vec<(Option<i32>, Outcome)>> = Mutex::new(Vec::new());

static OPENED: AtomicUsize = AtomicUsize::new(0);
static CLOSED: AtomicUsize = AtomicUsize::new(0);

/// Somebody who is told how a job ended.
#[derive(Debug)]
pub(crate) struct Told(Sender<Outcome>);

impl Customer for Told {
    type Settling = ();

    fn settling() {}

    fn settle(ended: Vec<(Self, Outcome)>) {
        for (customer, outcome) in ended {
            // Whoever has gone does not want to know.
            let _ = customer.0.send(outcome);
        }
    }

    fn orphaned(failed: Vec<(Option<i32>, Outcome)>) {
        lock(&ORPHANED).extend(failed);
    }

    fn unread(_values: Vec<Parcel>) {}

    fn hear(said: Vec<Vec<u8>>) {
        lock(&SAID).extend(said);
    }

    fn opened() {
        OPENED.fetch_add(1, Ordering::Relaxed);
    }

    fn closed() {
        CLOSED.fetch_add(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays a scene with a pool of so many workers, and sees to it that nothing is left of it.
pub(crate) fn play(size: usize, scene: impl FnOnce(&Stage) + Send + 'static) {
    play_with(config(size), Manner::Right, scene);
}

/// As most scenes have it.
pub(crate) fn config(size: usize) -> Config {
    Config { size, grace: Duration::from_millis(100), concurrency: 10, max_tasks_per_child: None }
}

pub(crate) fn play_with(config: Config, manner: Manner, scene: impl FnOnce(&Stage) + Send + 'static) {
    let _alone = lock(&ALONE);
    // Orphans become children of this process, and so they can be counted.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("the system knows how");
    lock(&SAID).clear();
    lock(&ORPHANED).clear();
    let before = descriptors();
    let (tell, told) = channel::<()>();
    let played = std::thread::spawn(move || {
        let stage = Stage { engine: Engine::new(&config), launch: zygote::launch(manner) };
        scene(&stage);
        stage.close();
        drop(tell);
    });
    if told.recv_timeout(SCENE) == Err(RecvTimeoutError::Timeout) {
        // Nothing that this process has can be counted on any more.
        eprintln!("a scene does not come to its end in {SCENE:?}");
        abort();
    }
    if let Err(panic) = played.join() {
        resume_unwind(panic);
    }
    in_time("pools that began are over", || OPENED.load(Ordering::Relaxed) == CLOSED.load(Ordering::Relaxed));
    in_time("the pool's thread has ended", || threads() == 0);
    in_time("no process is left", children_are_gone);
    assert_eq!(descriptors(), before, "descriptors are left");
}

/// The system is a little behind: who was joined, or told that something has ended, may still see its entry.
pub(crate) fn in_time(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "not so in {LIMIT:?}: {what}");
        std::thread::yield_now();
    }
}

fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("this process");
    let names = entries.map(|entry| entry.expect("an entry").path());
    let mut targets: Vec<String> = names
        // The folder that is being read is gone by now.
        .filter_map(|path| Some(format!("{} {}", path.display(), std::fs::read_link(&path).ok()?.display())))
        .filter(|target| !target.contains("/proc/"))
        .collect();
    targets.sort();
    targets
}

/// How many threads of pools there are.
fn threads() -> usize {
    let entries = std::fs::read_dir("/proc/self/task").expect("this process");
    let names = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("thistledown-")).count()
}

/// Whether there is no child, nor any whom somebody has left behind.
fn children_are_gone() -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// Kills a process.
pub(crate) fn kill(process: i32) {
    signal(process, Signal::KILL);
}

pub(crate) fn signal(process: i32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(process).expect("a process"), signal).expect("it lives");
}

/// Where a scene is played.
pub(crate) struct Stage {
    engine: Engine<Told>,
    launch: Launch,
}

impl Stage {
    /// Another one beside this, with a pool of its own.
    pub(crate) fn another(&self, size: usize) -> Self {
        Self { engine: Engine::new(&config(size)), launch: self.launch.clone() }
    }

    pub(crate) fn engine(&self) -> &Engine<Told> {
        &self.engine
    }

    /// A call of a worker's function.
    pub(crate) fn order(&self, name: &str, call: &[u8]) -> Order {
        self.order_of(name, call, false)
    }

    pub(crate) fn weightless(&self, name: &str) -> Order {
        self.order_of(name, b"", true)
    }

    fn order_of(&self, name: &str, call: &[u8], weightless: bool) -> Order {
        let function = self.engine().function(name.as_bytes(), weightless).expect("room for a function");
        let call = Parcel::new(call, &[]).expect("room for a call");
        Order::new(thistledown_workers::Name::given(name), function, call)
    }

    pub(crate) fn try_submit(&self, order: Order) -> Result<Job, Closed> {
        self.try_submit_to(self.launch.clone(), order)
    }

    /// Submits to a pool that starts so, if it has not started.
    pub(crate) fn submit_to(&self, launch: Launch, order: Order) -> Job {
        self.try_submit_to(launch, order).expect("an open pool")
    }

    fn try_submit_to(&self, launch: Launch, order: Order) -> Result<Job, Closed> {
        let (customer, outcome) = channel();
        if !self.engine().is_started() {
            self.engine().start(launch);
        }
        match self.engine().submit(order, Told(customer)) {
            Ok(id) => Ok(Job { id, outcome }),
            Err((closed, _)) => Err(closed),
        }
    }

    pub(crate) fn submit(&self, order: Order) -> Job {
        self.try_submit(order).expect("an open pool")
    }

    /// Submits a call.
    pub(crate) fn go(&self, name: &str, call: &[u8]) -> Job {
        self.submit(self.order(name, call))
    }

    pub(crate) fn echoes(&self, count: usize) -> Vec<Job> {
        (0..count).map(|number| self.go("echo", number.to_string().as_bytes())).collect()
    }

    /// A puppet that runs.
    pub(crate) fn puppet(&self) -> (Job, Puppet) {
        self.puppet_with(|_| {})
    }

    pub(crate) fn puppet_with(&self, change: impl FnOnce(&mut Order)) -> (Job, Puppet) {
        let (mut order, entrance) = self.puppet_to_be();
        change(&mut order);
        let job = self.submit(order);
        (job, entrance.enter())
    }

    /// A puppet that was not submitted.
    pub(crate) fn puppet_to_be(&self) -> (Order, Entrance) {
        let entrance = Entrance::new();
        (self.order("puppet", &entrance.name), entrance)
    }

    /// A worker that its parent believes to have nothing, and that takes nothing: whatever it is offered lies in its lane.
    pub(crate) fn lingering(&self) -> Puppet {
        let (job, puppet) = self.puppet();
        puppet.tell("value", b"");
        assert_eq!(job.value(), b"");
        puppet
    }

    /// Somebody who watches a worker.
    pub(crate) fn watch(&self, worker: u64) -> Job {
        let (customer, outcome) = channel();
        assert!(self.engine().watch_worker(worker, Told(customer)).is_ok(), "this is the pool's own process");
        Job { id: None, outcome }
    }

    /// The number of the worker with this process.
    pub(crate) fn number(&self, process: i32) -> u64 {
        let crew = self.engine().crew();
        crew.iter().find(|(_, pid)| *pid == process).expect("a worker that lives").0
    }

    pub(crate) fn cancel(&self, job: &Job) -> Cancel {
        self.engine().cancel(job.id.expect("a job that was accepted"))
    }

    pub(crate) fn is_running(&self, job: &Job) -> bool {
        self.engine().is_running(job.id.expect("a job that was accepted"))
    }

    /// Shuts the pool down and waits until it is over.
    pub(crate) fn close(&self) {
        self.engine().shut_down(false);
        assert!(self.engine().wait_closed(Some(LIMIT)), "the pool does not come to its end");
    }
}

impl Drop for Stage {
    /// Where the scene has failed nobody waits for what it has begun.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.engine().kill();
            let _ = self.engine().wait_closed(Some(LIMIT));
        }
    }
}

/// What has failed for nobody since this was asked last.
pub(crate) fn orphaned() -> Vec<(Option<i32>, Outcome)> {
    std::mem::take(&mut *lock(&ORPHANED))
}

/// What workers have said since somebody asked last.
pub(crate) fn said() -> Vec<Vec<u8>> {
    std::mem::take(&mut *lock(&SAID))
}

/// While this is held nobody hears what workers say, and so the pool's thread waits.
pub(crate) fn deafen() -> impl Drop {
    lock(&SAID)
}

/// A job that was submitted.
pub(crate) struct Job {
    pub(crate) id: Option<JobId>,
    outcome: Receiver<Outcome>,
}

impl Job {
    /// How it ended. It is asked once.
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome.recv_timeout(LIMIT).expect("an outcome in time")
    }

    /// Whether it has not ended, or nobody was told.
    pub(crate) fn is_open(&self) -> bool {
        self.outcome.try_recv().is_err()
    }

    /// What it returned.
    pub(crate) fn value(&self) -> Vec<u8> {
        match self.outcome() {
            Outcome::Value(parcel) => content(&parcel).expect("a value"),
            other => panic!("it has not returned: {other:?}"),
        }
    }

    /// How the worker has ended that it watches.
    pub(crate) fn obituary(&self) -> Gone {
        match self.outcome() {
            Outcome::Gone(gone) => gone,
            other => panic!("nothing is said of its worker: {other:?}"),
        }
    }

    /// How its worker died.
    pub(crate) fn death(&self) -> thistledown_workers::Death {
        match self.outcome() {
            Outcome::Died(death) => death,
            other => panic!("its worker has not died: {other:?}"),
        }
    }

    /// Why it was refused.
    pub(crate) fn refusal(&self) -> Refusal {
        match self.outcome() {
            Outcome::Refused(refusal) => refusal,
            other => panic!("it was not refused: {other:?}"),
        }
    }

    pub(crate) fn assert_cancelled(&self) {
        match self.outcome() {
            Outcome::Cancelled => {}
            other => panic!("it was not cancelled: {other:?}"),
        }
    }
}

/// Each has returned its number.
pub(crate) fn assert_echoed(echoes: &[Job]) {
    for (number, echo) in echoes.iter().enumerate() {
        assert_eq!(echo.value(), number.to_string().as_bytes());
    }
}

pub(crate) fn content(parcel: &Parcel) -> io::Result<Vec<u8>> {
    Ok(Opened::head(&parcel.open()?).to_vec())
}
