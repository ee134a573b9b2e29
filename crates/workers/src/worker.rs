//! The parent's side of one worker: its lanes, its descriptors, and how it ended.
#![allow(unsafe_code, reason = "the ends of the lanes are taken once, and a real-time signal has no name")]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use thistledown_wire::{Answer, Errand, Position, Receiver, Reply, Work};

use crate::bell::Bell;
use crate::blob::Blob;
use crate::control::{self, Heard};
use crate::frames::{self, Outgoing};
use crate::function::Function;
use crate::lifeline;
use crate::outcome::{Cause, Death};
use crate::parcel::Parcel;
use crate::policy::JobId;
use crate::process::Process;
use crate::region::{Lane, Region};
use crate::stderr::Stderr;
use crate::tag::Tag;

/// Functions that a worker keeps, and how long they are together; then it is told to forget them.
const FUNCTIONS: usize = 1024;
const FUNCTIONS_BYTES: u64 = 64 * 1024 * 1024;

/// A worker, as its parent knows it.
pub(crate) struct Worker {
    pub(crate) region: Region,
    work: Outgoing,
    answers: Outgoing,
    replies: Receiver,
    control: OwnedFd,
    /// Closed when this process ends, upon which the worker is killed.
    _lifeline: OwnedFd,
    work_bell: Arc<Bell>,
    answers_bell: Bell,
    pub(crate) stderr: Stderr,
    pub(crate) process: Process,
    /// The functions that it has, and how long each is.
    functions: HashMap<u32, u64>,
    /// Where in its lane the tasks stand that it has been offered.
    offered: HashMap<JobId, Position>,
    /// Answers for which there was no room.
    outbox: VecDeque<(Answer, Parcel)>,
    streams: bool,
    /// Why it is being killed.
    pub(crate) cause: Option<Cause>,
    /// Since when its socket is closed, while it is not known to have ended.
    pub(crate) hung_up: Option<Instant>,
    /// It is the child of a zygote that is gone: nobody can say how it ends.
    pub(crate) is_orphan: bool,
    /// What `wait` said of it.
    pub(crate) status: Option<i32>,
    /// It has said that it takes tasks.
    pub(crate) is_ready: bool,
    is_leaving: bool,
}

/// What goes to the zygote, for a worker that is to be forked.
pub(crate) struct Estate {
    region: OwnedFd,
    control: OwnedFd,
    lifeline: OwnedFd,
    stderr: OwnedFd,
}

impl Worker {
    /// Everything for a new worker.
    pub(crate) fn new() -> io::Result<(Self, Estate)> {
        let (region, region_fd) = Region::new()?;
        let (control, their_control) = control::pair()?;
        let (lifeline, their_lifeline) = lifeline::new()?;
        let (stderr, their_stderr) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&stderr, true)?;
        // SAFETY: the region is new, and the worker takes the other ends.
        let (work, answers, replies) = unsafe {
            (region.sender(Lane::Work), region.sender(Lane::Answers), region.receiver(Lane::Replies))
        };
        let worker = Self {
            region,
            work: Outgoing::new(work),
            answers: Outgoing::new(answers),
            replies,
            control,
            _lifeline: lifeline,
            work_bell: Arc::new(Bell::new()?),
            answers_bell: Bell::new()?,
            stderr: Stderr::new(stderr),
            process: Process::default(),
            functions: HashMap::new(),
            offered: HashMap::new(),
            outbox: VecDeque::new(),
            streams: false,
            cause: None,
            hung_up: None,
            is_orphan: false,
            status: None,
            is_ready: false,
            is_leaving: false,
        };
        let estate = Estate {
            region: region_fd,
            control: their_control,
            lifeline: their_lifeline,
            stderr: their_stderr,
        };
        Ok((worker, estate))
    }

    /// The descriptors that the worker is born with.
    pub(crate) fn descriptors<'a>(
        &'a self,
        estate: &'a Estate,
        parent_bell: &'a Bell,
    ) -> [BorrowedFd<'a>; 7] {
        [
            estate.region.as_fd(),
            estate.control.as_fd(),
            self.work_bell.as_fd(),
            self.answers_bell.as_fd(),
            parent_bell.as_fd(),
            estate.lifeline.as_fd(),
            estate.stderr.as_fd(),
        ]
    }

    /// Offers a task.
    ///
    /// # Errors
    /// There is no room now (`WouldBlock`), or no descriptor or memory for a blob; then nothing was offered.
    pub(crate) fn offer(
        &mut self,
        job: JobId,
        function: &Function,
        call: &Parcel,
        errand: Option<Errand>,
    ) -> io::Result<()> {
        if !self.functions.contains_key(&function.id) {
            self.teach(function)?;
        }
        let (id, weightless) = (job.number(), function.weightless);
        let call = call.passable()?;
        let (function, length) = (function.id, call.head_in_blob());
        let task = match errand {
            None => Work::Task { id, function, weightless, blob: length },
            Some(errand) => Work::Call { id, function, errand, blob: length },
        };
        let blob = call.blob().map(|blob| (Tag::Task(id), blob));
        let position = self.give(|into| task.encode(into), call.inline(), blob)?;
        self.offered.insert(job, position);
        Ok(())
    }

    /// Lays something in its lane, and sends the blob that belongs to it, if there is one, before that.
    fn give(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>),
        body: &[u8],
        blob: Option<(Tag, &Blob)>,
    ) -> io::Result<Position> {
        self.work.send(encode, [body, &[]], blob.as_slice(), pass_through(&self.control))
    }

    /// A blob went to it that nothing asks for any more.
    fn drop_blob(&mut self, task: u64) {
        // Without room for this the blob stays where it is until the worker ends.
        let _ = self.give(|into| Work::Discard { task }.encode(into), &[], None);
    }

    /// Sends a function.
    fn teach(&mut self, function: &Function) -> io::Result<()> {
        if self.functions.len() >= FUNCTIONS || self.functions.values().sum::<u64>() >= FUNCTIONS_BYTES {
            let known: Vec<u32> = self.functions.keys().copied().collect();
            for id in known {
                self.give(|into| Work::Forget { id }.encode(into), &[], None)?;
                self.functions.remove(&id);
            }
        }
        let body = function.body.passable()?;
        let lesson = Work::Function { id: function.id, blob: body.head_in_blob() };
        let blob = body.blob().map(|blob| (Tag::Function(function.id), blob));
        self.give(|into| lesson.encode(into), body.inline(), blob)?;
        self.functions.insert(function.id, body.head_in_blob().unwrap_or(body.inline().len() as u64));
        Ok(())
    }

    /// Takes a task back. True: it has not begun and never will.
    pub(crate) fn take_back(&mut self, job: JobId, has_blob: bool) -> bool {
        let Some(position) = self.offered.get(&job) else { return false };
        let taken = self.work.revoke(*position);
        if taken {
            self.offered.remove(&job);
            if has_blob {
                self.drop_blob(job.number());
            }
        }
        taken
    }

    /// A task of it has ended.
    pub(crate) fn forget(&mut self, job: JobId) {
        self.offered.remove(&job);
    }

    /// The bell to ring, if it sleeps and there is work.
    pub(crate) fn wants_ring(&self) -> Option<Arc<Bell>> {
        self.work.must_ring().then(|| Arc::clone(&self.work_bell))
    }

    /// It was given something: replies to all but the last half of it need not ring, because the parent looks anyway.
    pub(crate) fn stream(&mut self) {
        let load = self.offered.len();
        self.streams = load > 1;
        let quiet = u32::try_from(load / 2).unwrap_or(u32::MAX);
        self.region.set_ring_at(if self.streams { quiet } else { u32::MAX });
    }

    /// Whether replies may come without a ring.
    pub(crate) fn streams(&self) -> bool {
        self.streams
    }

    /// From now on each reply rings.
    pub(crate) fn stop_streaming(&mut self) {
        self.streams = false;
        self.region.set_ring_at(u32::MAX);
    }

    /// Tells it something about a task that it has started, or about a weightless one that it runs.
    pub(crate) fn answer(&mut self, answer: Answer, parcel: Parcel) {
        self.outbox.push_back((answer, parcel));
        self.flush_answers();
    }

    /// Sends the answers for which there is room.
    pub(crate) fn flush_answers(&mut self) {
        let mut sent = false;
        while let Some((answer, parcel)) = self.outbox.front() {
            let Ok(parcel) = parcel.passable() else { break };
            let blob = match answer {
                Answer::Ended { reference, .. } => parcel.blob().map(|blob| (Tag::Answer(*reference), blob)),
                Answer::Cancel { .. }
                | Answer::Deadlock { .. }
                | Answer::Discard { .. }
                | Answer::Trail { .. } => None,
            };
            let pass = pass_through(&self.control);
            let encode = |into: &mut Vec<u8>| answer.encode(into);
            if self.answers.send(encode, [parcel.inline(), &[]], blob.as_slice(), pass).is_err() {
                break;
            }
            self.outbox.pop_front();
            sent = true;
        }
        if sent && self.answers.must_ring() {
            self.answers_bell.ring();
        }
    }

    /// Whether there are answers for which there was no room.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The next reply.
    pub(crate) fn next_reply(&mut self) -> io::Result<Option<(Reply, Vec<u8>)>> {
        frames::next(&mut self.replies, Reply::decode)
    }

    /// From now on a reply rings. False: there is one already.
    pub(crate) fn listens(&mut self) -> bool {
        self.replies.about_to_sleep()
    }

    pub(crate) fn hears(&mut self) {
        self.replies.awake();
    }

    /// The blob that was sent before a reply. Nothing: this process had no descriptor left for it.
    pub(crate) fn receive_blob(&self, tag: u64) -> io::Result<Option<Blob>> {
        let mut bytes = [0; 8];
        loop {
            match control::receive(&self.control, &mut bytes, false)? {
                Heard::Message(8, descriptors) if u64::from_le_bytes(bytes) == tag => {
                    return Ok(descriptors.into_iter().next().map(Blob::adopt));
                }
                // One that belongs to a reply which never came.
                Heard::Message(..) => {}
                _ => {
                    let words = "a reply names a blob that was not sent";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, words));
                }
            }
        }
    }

    /// Stops the task that it runs, between two bytecodes.
    pub(crate) fn interrupt(&mut self, job: JobId) {
        self.region.interrupt(job.number());
        self.process.signal(crate::interrupt_signal());
    }

    /// Asks at which line it stands, if it can say so: the descriptor, in that process, from which the answer is to be read.
    pub(crate) fn ask_lines(&self) -> Option<u32> {
        // Who has said so has a handler for the signal, and lives on.
        let lines = self.region.lines()?;
        // SAFETY: a real-time signal that the C library does not keep for itself.
        self.process
            .signal_now(unsafe { Signal::from_raw_unchecked(crate::ASK_LINES_SIGNAL) })
            .then_some(lines)
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::KILL);
    }

    /// Nothing more comes for it.
    pub(crate) fn tell_to_leave(&mut self) {
        self.is_leaving = true;
        self.region.tell_to_leave();
        self.work_bell.ring();
        self.answers_bell.ring();
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// How it ended, for whoever waits for what it ran.
    pub(crate) fn death(&mut self) -> Death {
        let (pid, cause) = (self.process.pid(), self.cause.unwrap_or(Cause::Unknown));
        Death { pid, status: self.status, cause, stderr: self.stderr.text() }
    }

    /// How long its socket has been closed.
    pub(crate) fn hung_up_for(&self) -> Option<Duration> {
        self.hung_up.map(|since| since.elapsed())
    }
}

/// Sends blobs on their way, as long as there is room in the socket.
fn pass_through(control: &OwnedFd) -> impl FnMut(Tag, &Blob) -> io::Result<()> {
    move |tag, blob| control::send(control, &tag.number().to_le_bytes(), &[blob.as_fd()])
}
