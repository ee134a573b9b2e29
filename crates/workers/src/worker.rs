//! The parent's side of one worker: its lanes, its descriptors, and how it ended.
#![allow(unsafe_code, reason = "the ends of the lanes are taken once, and a real-time signal has no name")]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use thistledown_wire::{Answer, Place, Receiver, Reply, Sender, Work};

use crate::bell::Bell;
use crate::blob::Blob;
use crate::control::{self, Heard};
use crate::function::Function;
use crate::outcome::{Cause, Death};
use crate::parcel::Parcel;
use crate::policy::JobId;
use crate::region::{Lane, Region};
use crate::tag::Tag;

/// Bytes of a worker's standard error that are kept for its obituary.
const STDERR_BYTES: usize = 8 * 1024;

/// How much of it is read at a time: what a pipe holds, mostly.
const STDERR_READ_BYTES: usize = 64 * 1024;

/// Functions that a worker keeps, and how long they are together; then it is told to forget them.
const FUNCTIONS: usize = 1024;
const FUNCTIONS_BYTES: u64 = 64 * 1024 * 1024;

/// A worker, as its parent knows it.
pub(crate) struct Worker {
    pub(crate) region: Region,
    work: Sender,
    answers: Sender,
    replies: Receiver,
    control: OwnedFd,
    work_bell: Arc<Bell>,
    answers_bell: Bell,
    stderr: Option<OwnedFd>,
    stderr_tail: VecDeque<u8>,
    process: Option<(i32, OwnedFd)>,
    /// What is to be sent to it when it is known to be born.
    pending: Option<Signal>,
    /// The functions that it has, and how long each is.
    functions: HashMap<u32, u64>,
    /// Where on the lane the tasks stand that it has been offered.
    places: HashMap<JobId, Place>,
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
    stderr: OwnedFd,
}

impl Worker {
    /// Everything for a new worker.
    pub(crate) fn new() -> io::Result<(Self, Estate)> {
        let (region, region_fd) = Region::new()?;
        let (control, their_control) = control::pair()?;
        let (stderr, their_stderr) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&stderr, true)?;
        // SAFETY: the region is new, and the worker takes the other ends.
        let (work, answers, replies) = unsafe {
            (region.sender(Lane::Work), region.sender(Lane::Answers), region.receiver(Lane::Replies))
        };
        let worker = Self {
            region,
            work,
            answers,
            replies,
            control,
            work_bell: Arc::new(Bell::new()?),
            answers_bell: Bell::new()?,
            stderr: Some(stderr),
            stderr_tail: VecDeque::new(),
            process: None,
            pending: None,
            functions: HashMap::new(),
            places: HashMap::new(),
            outbox: VecDeque::new(),
            streams: false,
            cause: None,
            hung_up: None,
            is_orphan: false,
            status: None,
            is_ready: false,
            is_leaving: false,
        };
        Ok((worker, Estate { region: region_fd, control: their_control, stderr: their_stderr }))
    }

    /// The descriptors that the worker is born with.
    pub(crate) fn descriptors<'a>(
        &'a self,
        estate: &'a Estate,
        parent_bell: &'a Bell,
    ) -> [BorrowedFd<'a>; 6] {
        [
            estate.region.as_fd(),
            estate.control.as_fd(),
            self.work_bell.as_fd(),
            self.answers_bell.as_fd(),
            parent_bell.as_fd(),
            estate.stderr.as_fd(),
        ]
    }

    /// It lives.
    pub(crate) fn born(&mut self, pid: i32, process: OwnedFd) {
        self.process = Some((pid, process));
        if let Some(signal) = self.pending.take() {
            self.signal(signal);
        }
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|(pid, _)| *pid)
    }

    /// Offers a task.
    ///
    /// # Errors
    /// There is no room now (`WouldBlock`), or no descriptor or memory for a blob; then nothing was offered.
    pub(crate) fn offer(&mut self, job: JobId, function: &Function, call: &Parcel) -> io::Result<()> {
        if !self.functions.contains_key(&function.id) {
            self.teach(function)?;
        }
        let (id, weightless) = (job.number(), function.weightless);
        let call = call.passable()?;
        let task = Work::Task { id, function: function.id, weightless, blob: call.head_in_blob() };
        let blob = call.blob().map(|blob| (Tag::Task(id), blob));
        let place = self.give(|into| task.encode(into), call.inline(), blob)?;
        self.places.insert(job, place);
        Ok(())
    }

    /// Lays something in its lane, and sends the blob that belongs to it, if there is one, before that.
    fn give(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>),
        body: &[u8],
        blob: Option<(Tag, &Blob)>,
    ) -> io::Result<Place> {
        let mut header = Vec::with_capacity(48);
        encode(&mut header);
        self.work.check_room(header.len() + body.len()).map_err(unroomy)?;
        if let Some((tag, blob)) = blob {
            self.pass(tag, blob)?;
        }
        self.work.push(&[&header, body]).map_err(garbled)
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

    /// Sends a blob on its way, before the frame that it belongs to.
    fn pass(&self, tag: Tag, blob: &Blob) -> io::Result<()> {
        control::send(&self.control, &tag.number().to_le_bytes(), &[blob.as_fd()])
    }

    /// Takes a task back. True: it has not begun and never will.
    pub(crate) fn take_back(&mut self, job: JobId, has_blob: bool) -> bool {
        let Some(place) = self.places.get(&job) else { return false };
        let taken = self.work.revoke(*place);
        if taken {
            self.places.remove(&job);
            if has_blob {
                self.drop_blob(job.number());
            }
        }
        taken
    }

    /// A task of it has ended.
    pub(crate) fn forget(&mut self, job: JobId) {
        self.places.remove(&job);
    }

    /// How many tasks it has been offered that have not ended.
    pub(crate) fn load(&self) -> usize {
        self.places.len()
    }

    /// The bell to ring, if it sleeps and there is work.
    pub(crate) fn wants_ring(&self) -> Option<Arc<Bell>> {
        self.work.must_ring().then(|| Arc::clone(&self.work_bell))
    }

    /// It was given something: replies to all but the last half of it need not ring, because the parent looks anyway.
    pub(crate) fn stream(&mut self) {
        let load = self.load();
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
            let mut header = Vec::with_capacity(48);
            answer.encode(&mut header);
            if self.answers.check_room(header.len() + parcel.inline().len()).is_err() {
                break;
            }
            if let (Some(blob), Answer::Ended { reference, .. }) = (parcel.blob(), answer)
                && self.pass(Tag::Answer(*reference), blob).is_err()
            {
                break;
            }
            // There is room: it cannot fail.
            let _ = self.answers.push(&[&header, parcel.inline()]);
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
        let taken =
            self.replies.next(|frame| Reply::decode(frame).map(|(reply, body)| (reply, body.to_vec())));
        match taken.map_err(garbled)? {
            None => Ok(None),
            Some(decoded) => decoded.map(Some).map_err(garbled),
        }
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
                _ => return Err(garbled("a reply names a blob that was not sent")),
            }
        }
    }

    /// Stops the task that it runs, between two bytecodes.
    pub(crate) fn interrupt(&mut self, job: JobId) {
        self.region.interrupt(job.number());
        self.signal(crate::interrupt_signal());
    }

    /// Asks at which line it stands, if it can say so: the descriptor, in that process, from which the answer is to be read.
    pub(crate) fn ask_lines(&self) -> Option<u32> {
        // Who has said so has a handler for the signal, and lives on.
        let lines = self.region.lines().filter(|_| self.process.is_some())?;
        // SAFETY: a real-time signal that the C library does not keep for itself.
        self.signal_now(unsafe { Signal::from_raw_unchecked(crate::LINES_SIGNAL) });
        Some(lines)
    }

    fn signal_now(&self, signal: Signal) {
        if let Some((_, process)) = &self.process {
            let _ = rustix::process::pidfd_send_signal(process, signal);
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    fn signal(&mut self, signal: Signal) {
        match &self.process {
            Some((_, process)) => drop(rustix::process::pidfd_send_signal(process, signal)),
            // It may take tasks before it is known to be born.
            None => self.pending = Some(signal),
        }
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

    /// Readable when it has ended.
    pub(crate) fn process(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(|(_, process)| process.as_fd())
    }

    pub(crate) fn stderr(&self) -> Option<BorrowedFd<'_>> {
        self.stderr.as_ref().map(AsFd::as_fd)
    }

    /// Reads what it wrote to its standard error, and keeps the end of it. False: there may be more.
    pub(crate) fn read_stderr(&mut self, all: &mut Vec<u8>) -> bool {
        let mut bytes = [0; STDERR_READ_BYTES];
        let Some(stderr) = &self.stderr else { return true };
        match rustix::io::read(stderr, &mut bytes) {
            Ok(0) => self.stderr = None,
            Ok(length) => {
                all.extend(&bytes[..length]);
                self.stderr_tail.extend(&bytes[..length]);
                let excess = self.stderr_tail.len().saturating_sub(STDERR_BYTES);
                self.stderr_tail.drain(..excess);
                return length < bytes.len();
            }
            Err(_) => {}
        }
        true
    }

    /// Resident memory of its own, in bytes.
    pub(crate) fn memory(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid()?)).ok()?;
        let mut pages = text.split(' ').skip(1).map_while(|number| number.parse::<u64>().ok());
        let (resident, shared) = (pages.next()?, pages.next()?);
        Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
    }

    /// How it ended, for whoever waits for what it ran.
    pub(crate) fn death(&mut self) -> Death {
        let stderr = String::from_utf8_lossy(self.stderr_tail.make_contiguous()).into_owned();
        Death { pid: self.pid(), status: self.status, cause: self.cause.unwrap_or(Cause::Unknown), stderr }
    }

    /// How long its socket has been closed.
    pub(crate) fn hung_up_for(&self) -> Option<Duration> {
        self.hung_up.map(|since| since.elapsed())
    }
}

/// There is no room in the lane now, or the frame is no good.
fn unroomy(error: thistledown_wire::Error) -> io::Error {
    match error {
        thistledown_wire::Error::Full => io::ErrorKind::WouldBlock.into(),
        error => garbled(error),
    }
}

fn garbled(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
