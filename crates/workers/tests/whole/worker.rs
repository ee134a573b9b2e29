//! A worker without Python. Its functions have names, which is all that is sent of them:
//!
//! | function | what it does |
//! |---|---|
//! | `echo` | returns what it was given; words behind its name make it another function |
//! | `fail`, `again` | raises what it was given; asks to be tried again |
//! | `crash` | kills its process |
//! | `deaf` | never ends, and is not told anything |
//! | `puppet` | does what the test says; see `worker::puppet` |
//! | `gather` | has so many echoes run and waits for them |
//! | `descend` | has itself run one deeper, waits for it, and returns the depth; at 0 the last one is |
//! | `cross` | has echoes of large arguments run by several threads at once |
//! | `hold` | weightless: ends when it is cancelled, or by a `release` |
//! | `release` | weightless: ends itself and all that hold |
#![allow(unsafe_code, reason = "a signal handler is installed, and shared memory is written over")]

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use thistledown_workers::{
    Answer, Child, End, Function, Given, Inheritance, Parcel, Reply, SpawnOptions, now,
};

use crate::zygote::Manner;

mod puppet;

/// What each task says that it took: so little that a lane is filled.
const NANOS: u64 = 1;

/// Runs tasks until there are no more.
pub(crate) fn serve(inherited: Inheritance, manner: Manner) {
    if manner == Manner::Stillbirths {
        eprintln!("it does not live");
        // SAFETY: nothing is left to be seen to.
        unsafe { libc::_exit(3) };
    }
    hear_interrupts();
    let secrets = Secrets {
        region: inherited.region.try_clone().expect("a descriptor"),
        parent_bell: inherited.parent_bell.try_clone().expect("a descriptor"),
        control: inherited.control.try_clone().expect("a descriptor"),
    };
    // SAFETY: this process was forked for this region, a moment ago.
    let child = Arc::new(unsafe { Child::adopt(inherited) }.expect("a region"));
    if manner == Manner::Uninitialized {
        child.reply(&Reply::Failed, 0, b"it cannot work", None).expect("a parent");
    } else {
        child.reply(&Reply::Ready, 0, b"", None).expect("a parent");
    }
    let (functions, ended, held) = (HashMap::new(), HashMap::new(), Arc::default());
    Worker { child, secrets, functions, ended, held, listens: false, stubborn: false }.serve();
}

/// An interrupt ends whatever this process waits for, and does nothing else.
fn hear_interrupts() {
    extern "C" fn nothing(_signal: i32) {}
    // SAFETY: the handler does nothing; without SA_RESTART calls of the system end when it has run.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        let result =
            libc::sigaction(thistledown_workers::INTERRUPT_SIGNAL, &raw const action, std::ptr::null_mut());
        assert_eq!(result, 0, "a signal that can be handled");
    }
}

/// What no right worker touches.
struct Secrets {
    region: OwnedFd,
    parent_bell: OwnedFd,
    control: OwnedFd,
}

/// The weightless tasks that hold.
type Held = Arc<Mutex<BTreeSet<u64>>>;

struct Worker {
    child: Arc<Child>,
    secrets: Secrets,
    functions: HashMap<u32, String>,
    /// The ends of tasks that were started here, by reference.
    ended: HashMap<u64, (End, Vec<u8>)>,
    held: Held,
    /// A thread takes the answers.
    listens: bool,
    stubborn: bool,
}

/// How a task ends that is not at its end.
type Ended = (End, Vec<u8>);

impl Worker {
    fn serve(&mut self) {
        loop {
            match self.child.next_work().expect("work that makes sense") {
                Some(Given::Function { id, body }) => {
                    let name = body.open().expect("a function").head().to_vec();
                    self.functions.insert(id, String::from_utf8(name).expect("a name"));
                }
                Some(Given::Forget { id }) => {
                    drop(self.functions.remove(&id).expect("a function that is known"))
                }
                Some(Given::Task { id, function, weightless: false, call }) => self.run(id, function, &call),
                Some(Given::Task { id, function, .. }) => self.take_weightless(id, function),
                Some(Given::Call { id, function, call, .. }) => self.run(id, function, &call),
                None if self.child.region().is_to_leave() => return,
                None => {
                    if !self.child.sleep_for_work().expect("descriptors") {
                        return;
                    }
                }
            }
        }
    }

    fn run(&mut self, id: u64, function: u32, call: &Parcel) {
        let child = Arc::clone(&self.child);
        let name = self.functions[&function].clone();
        child.region().begin(id, now());
        if child.region().is_interrupted() {
            return self.finish(id, End::Cancelled, b"");
        }
        let given = call.open().expect("a call").head().to_vec();
        let (end, value) = match name.split(' ').next() {
            Some("echo") => (End::Value, given),
            Some("fail") => (End::Error, given),
            Some("again") => return self.done(id, End::Error, true, &given),
            Some("crash") => die(),
            Some("deaf") => sleep_for_ever(),
            Some("puppet") => return self.obey(id, &given),
            Some("gather") => self.gather(&given),
            Some("descend") => self.descend(given[0]),
            Some("cross") => self.cross(),
            _ => panic!("no such function: {name}"),
        };
        self.finish(id, end, &value);
    }

    fn finish(&self, id: u64, end: End, value: &[u8]) {
        self.done(id, end, false, value);
    }

    fn done(&self, id: u64, end: End, retry: bool, value: &[u8]) {
        self.child.region().end();
        let parcel = Parcel::new(value, &[]).and_then(|parcel| parcel.passable()).expect("room for a value");
        let reply = Reply::Done { id, end, retry, nanos: NANOS, blob: parcel.head_in_blob() };
        self.child.reply(&reply, id, b"", Some(&parcel)).expect("a parent");
    }

    fn spawn(&self, reference: u64, name: &[u8], call: &[u8]) {
        spawn(&self.child, reference, name, call);
    }

    /// Waits for the end of what was started. Nothing: it is to stop.
    fn wait(&mut self, reference: u64) -> Option<Ended> {
        let child = Arc::clone(&self.child);
        child.reply(&Reply::Waiting, 0, b"", None).expect("a parent");
        let ended = loop {
            while let Some((answer, parcel)) = child.next_answer().expect("answers that make sense") {
                let Answer::Ended { reference, end, .. } = answer else { panic!("{answer:?}") };
                let value = parcel.open().expect("an outcome").head().to_vec();
                assert!(self.ended.insert(reference, (end, value)).is_none(), "{reference} has ended twice");
            }
            let ended = self.ended.remove(&reference);
            if ended.is_some() || self.is_to_stop() {
                break ended;
            }
            assert!(child.sleep_for_answers().expect("descriptors"), "the parent is gone");
        };
        child.reply(&Reply::Resumed, 0, b"", None).expect("a parent");
        ended
    }

    fn gather(&mut self, given: &[u8]) -> Ended {
        let count = number(given);
        for reference in 0..count {
            self.spawn(reference, b"echo", &given.repeat(1000));
        }
        for reference in 0..count {
            match self.wait(reference) {
                Some((End::Value, value)) if value == given.repeat(1000) => {}
                other => return (End::Error, format!("{reference}: {other:?}").into_bytes()),
            }
        }
        (End::Value, given.to_vec())
    }

    fn descend(&mut self, depth: u8) -> Ended {
        if depth == 0 {
            return (End::Value, vec![0]);
        }
        self.spawn(0, b"descend", &[depth - 1]);
        match self.wait(0) {
            Some((End::Value, value)) => (End::Value, vec![value[0] + 1]),
            other => (End::Error, format!("at {depth}: {other:?}").into_bytes()),
        }
    }

    fn cross(&mut self) -> Ended {
        const THREADS: u64 = 4;
        const EACH: u64 = 12;
        let call = |reference: u64| vec![reference as u8; 100_000];
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let child = &self.child;
                scope.spawn(move || {
                    for reference in thread * EACH..(thread + 1) * EACH {
                        spawn(child, reference, b"echo", &call(reference));
                    }
                });
            }
        });
        for reference in 0..THREADS * EACH {
            match self.wait(reference) {
                Some((End::Value, value)) if value == call(reference) => {}
                Some((end, value)) => {
                    return (
                        End::Error,
                        format!("{reference}: {end:?} of {} bytes", value.len()).into_bytes(),
                    );
                }
                None => return (End::Cancelled, Vec::new()),
            }
        }
        (End::Value, b"all have crossed".to_vec())
    }

    fn take_weightless(&mut self, id: u64, function: u32) {
        if !std::mem::replace(&mut self.listens, true) {
            let (child, held) = (Arc::clone(&self.child), Arc::clone(&self.held));
            std::thread::spawn(move || hear_cancels(&child, &held));
        }
        match self.functions[&function].as_str() {
            "hold" => assert!(lock(&self.held).insert(id), "{id} was given twice"),
            "release" => {
                let held = std::mem::take(&mut *lock(&self.held));
                held.into_iter().chain([id]).for_each(|id| self.finish(id, End::Value, b"released"));
            }
            name => panic!("no such weightless function: {name}"),
        }
    }
}

/// Stops weightless tasks that are to be stopped.
fn hear_cancels(child: &Child, held: &Mutex<BTreeSet<u64>>) {
    loop {
        while let Some((answer, _)) = child.next_answer().expect("answers that make sense") {
            let Answer::Cancel { id } = answer else { panic!("{answer:?}") };
            if lock(held).remove(&id) {
                let reply = Reply::Done { id, end: End::Cancelled, retry: false, nanos: NANOS, blob: None };
                child.reply(&reply, id, b"", None).expect("a parent");
            }
        }
        if !child.sleep_for_answers().expect("descriptors") {
            return;
        }
    }
}

fn spawn(child: &Child, reference: u64, name: &[u8], call: &[u8]) {
    let body = Parcel::new(name, &[]).expect("a function");
    let function = Function { id: 0, body, weightless: false };
    let call = Parcel::new(call, &[]).expect("room for a call");
    child
        .spawn(
            reference,
            &thistledown_workers::Name::given("nested"),
            &function,
            &call,
            SpawnOptions::default(),
        )
        .expect("a parent");
}

fn lock(held: &Mutex<BTreeSet<u64>>) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number")
}

fn die() -> ! {
    let this = rustix::process::getpid();
    rustix::process::kill_process(this, rustix::process::Signal::KILL).expect("it may");
    sleep_for_ever()
}

fn sleep_for_ever() -> ! {
    loop {
        let _ = rustix::event::poll(&mut [], None);
    }
}
