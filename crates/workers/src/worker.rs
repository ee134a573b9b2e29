//! The parent's side of one worker: its lanes, its descriptors, and how it ended.
#![allow(unsafe_code, reason = "the ends of the lanes are taken once")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use thistledown_wire::{Answer, Reply, Work};
use thistledown_wire::{Error as LaneError, Place, Receiver, Sender};

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

/// Functions that a worker keeps; then it is told to forget them.
const FUNCTIONS: usize = 1024;

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
    functions: HashSet<u32>,
    /// Where on the lane the tasks stand that it has been offered.
    places: HashMap<JobId, Place>,
    /// Answers for which there was no room.
    outbox: VecDeque<Unsent>,
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

/// An answer on its way.
struct Unsent {
    answer: Answer,
    parcel: Parcel,
    /// Its blob has been sent before it.
    is_passed: bool,
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
            functions: HashSet::new(),
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
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|(pid, _)| *pid)
    }

    pub(crate) fn has_function(&self, function: &Function) -> bool {
        self.functions.contains(&function.id)
    }

    /// Offers a task. False: there is no room now.
    pub(crate) fn offer(&mut self, job: JobId, weightless: bool, function: &Function, call: &Parcel) -> bool {
        if !self.has_function(function) && !self.teach(function) {
            return false;
        }
        let id = job.number();
        if let Some((blob, _)) = call.blob()
            && self.pass(Tag::Task(id), blob).is_err()
        {
            return false;
        }
        let task =
            Work::Task { id, function: function.id, weightless, blob: call.blob().map(|(_, head)| head) };
        match push(&mut self.work, |into| task.encode(into), call.inline()) {
            Ok(place) => {
                self.places.insert(job, place);
                true
            }
            Err(_) => {
                if call.blob().is_some() {
                    self.drop_blob(id);
                }
                false
            }
        }
    }

    /// A blob went to it that nothing asks for any more.
    fn drop_blob(&mut self, task: u64) {
        // Without room for this the blob stays where it is until the worker ends.
        let _ = push(&mut self.work, |into| Work::Discard { task }.encode(into), &[]);
    }

    /// Sends a function.
    fn teach(&mut self, function: &Function) -> bool {
        if self.functions.len() >= FUNCTIONS {
            let known: Vec<u32> = self.functions.iter().copied().collect();
            for id in known {
                if push(&mut self.work, |into| Work::Forget { id }.encode(into), &[]).is_err() {
                    return false;
                }
                self.functions.remove(&id);
            }
        }
        if let Some((blob, _)) = function.body.blob()
            && self.pass(Tag::Function(function.id), blob).is_err()
        {
            return false;
        }
        let lesson = Work::Function { id: function.id, blob: function.body.blob().map(|(_, head)| head) };
        let taught = push(&mut self.work, |into| lesson.encode(into), function.body.inline()).is_ok();
        if taught {
            self.functions.insert(function.id);
        }
        taught
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
        self.outbox.push_back(Unsent { answer, parcel, is_passed: false });
        self.flush_answers();
    }

    /// Sends the answers for which there is room.
    pub(crate) fn flush_answers(&mut self) {
        let mut sent = false;
        while let Some(mut unsent) = self.outbox.pop_front() {
            if !unsent.is_passed
                && let (Some((blob, _)), Answer::Ended { reference, .. }) =
                    (unsent.parcel.blob(), &unsent.answer)
            {
                unsent.is_passed = self.pass(Tag::Answer(*reference), blob).is_ok();
                if !unsent.is_passed {
                    self.outbox.push_front(unsent);
                    break;
                }
            }
            match push(&mut self.answers, |into| unsent.answer.encode(into), unsent.parcel.inline()) {
                Ok(_) => sent = true,
                Err(_) => {
                    self.outbox.push_front(unsent);
                    break;
                }
            }
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

    /// The blob that was sent before a reply.
    pub(crate) fn receive_blob(&self, tag: u64) -> io::Result<Blob> {
        let mut bytes = [0; 8];
        loop {
            match control::receive(&self.control, &mut bytes, false)? {
                Heard::Message(8, descriptors) if u64::from_le_bytes(bytes) == tag => {
                    let fd = descriptors.into_iter().next();
                    return fd.map(Blob::adopt).ok_or_else(|| garbled("a blob without a descriptor"));
                }
                // One that belongs to a reply which never came.
                Heard::Message(..) => {}
                _ => return Err(garbled("a reply names a blob that was not sent")),
            }
        }
    }

    /// Stops the task that it runs, between two bytecodes.
    pub(crate) fn interrupt(&self, job: JobId) {
        self.region.interrupt(job.number());
        self.signal(crate::interrupt_signal());
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some((_, process)) = &self.process {
            let _ = rustix::process::pidfd_send_signal(process, signal);
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

    pub(crate) fn stderr(&self) -> Option<BorrowedFd<'_>> {
        self.stderr.as_ref().map(AsFd::as_fd)
    }

    /// Passes on what it wrote to its standard error, and keeps the end of it.
    pub(crate) fn read_stderr(&mut self) {
        let mut bytes = [0; 16 * 1024];
        while let Some(stderr) = &self.stderr {
            match rustix::io::read(stderr, &mut bytes) {
                Ok(0) => self.stderr = None,
                Ok(length) => {
                    let mut rest = &bytes[..length];
                    while let Ok(written @ 1..) = rustix::io::write(rustix::stdio::stderr(), rest) {
                        rest = &rest[written..];
                    }
                    self.stderr_tail.extend(&bytes[..length]);
                    let excess = self.stderr_tail.len().saturating_sub(STDERR_BYTES);
                    self.stderr_tail.drain(..excess);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
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
        self.read_stderr();
        let stderr = String::from_utf8_lossy(self.stderr_tail.make_contiguous()).into_owned();
        Death { pid: self.pid(), status: self.status, cause: self.cause.unwrap_or(Cause::Unknown), stderr }
    }

    /// How long its socket has been closed.
    pub(crate) fn hung_up_for(&self) -> Option<Duration> {
        self.hung_up.map(|since| since.elapsed())
    }
}

fn push(lane: &mut Sender, encode: impl FnOnce(&mut Vec<u8>), body: &[u8]) -> Result<Place, LaneError> {
    let mut header = Vec::with_capacity(48);
    encode(&mut header);
    lane.push(&[&header, body])
}

fn garbled(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
