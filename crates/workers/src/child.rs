//! A worker's side: what it is given, and what it answers.
//!
//! A worker has one thread that takes work; whoever starts tasks of its own inside of a worker has another one that
//! takes answers. Replies may come from any thread.
#![allow(unsafe_code, reason = "the ends of the lanes are taken once")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix_futex_sync::Mutex;
use thistledown_wire::{Answer, Errand, Receiver, Work};

use crate::bell::Bell;
use crate::blob::Blob;
use crate::control::{self, Heard};
use crate::frames::{self, Outgoing};
use crate::parcel::Parcel;
use crate::region::{Lane, Region};
use crate::tag::Tag;

mod replies;

/// The descriptors that a worker is born with, in this order.
#[derive(Debug)]
pub struct Inheritance {
    /// The memory shared with the parent.
    pub region: OwnedFd,
    /// The socket that blobs come through; its end says that the parent is gone.
    pub control: OwnedFd,
    /// Rung when there is work.
    pub work_bell: OwnedFd,
    /// Rung when there are answers.
    pub answers_bell: OwnedFd,
    /// To be rung when there are replies.
    pub parent_bell: OwnedFd,
    /// A pipe whose end says that the parent is gone, to a worker that does not look.
    pub lifeline: OwnedFd,
}

/// Something for the worker.
#[derive(Debug)]
pub enum Given {
    /// A function, for tasks that name it.
    Function {
        /// Its number.
        id: u32,
        /// What it is made from.
        body: Parcel,
    },
    /// No task names this function any more.
    Forget {
        /// Its number.
        id: u32,
    },
    /// A task.
    Task {
        /// Its number.
        id: u64,
        /// The number of its function.
        function: u32,
        /// Whether it waits like a weightless one, beside others.
        weightless: bool,
        /// Its arguments.
        call: Parcel,
    },
    /// Something is asked of an actor.
    Call {
        /// The number of this task.
        id: u64,
        /// The number of what makes the actor, or of the name of its method.
        function: u32,
        /// Which actor, and what.
        errand: Errand,
        /// Its arguments.
        call: Parcel,
    },
}

/// The worker's end of everything.
#[derive(Debug)]
pub struct Child {
    region: Region,
    control: OwnedFd,
    work: Mutex<Receiver>,
    answers: Mutex<Receiver>,
    replies: Mutex<Outgoing>,
    work_bell: Bell,
    answers_bell: Bell,
    parent_bell: Bell,
    /// Blobs that came before what belongs to them was looked at.
    blobs: Mutex<Vec<(u64, Option<Blob>)>>,
}

impl Child {
    /// Takes what the worker was born with.
    ///
    /// # Errors
    /// The region cannot be mapped, or is of another version.
    ///
    /// # Safety
    /// Once for each region, among all processes.
    pub unsafe fn adopt(inherited: Inheritance) -> io::Result<Self> {
        let region = Region::adopt(inherited.region.as_fd())?;
        // SAFETY: one worker adopts a region, once, by the caller's promise; `self` holds the region.
        let (work, answers, replies) = unsafe {
            (region.receiver(Lane::Work), region.receiver(Lane::Answers), region.sender(Lane::Replies))
        };
        crate::lifeline::hold(inherited.lifeline)?;
        Ok(Self {
            region,
            control: inherited.control,
            work: Mutex::new(work),
            answers: Mutex::new(answers),
            replies: Mutex::new(Outgoing::new(replies)),
            work_bell: Bell::adopt(inherited.work_bell),
            answers_bell: Bell::adopt(inherited.answers_bell),
            parent_bell: Bell::adopt(inherited.parent_bell),
            blobs: Mutex::default(),
        })
    }

    /// The words that it shares with the parent.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Rung when there is work.
    #[must_use]
    pub fn work_bell(&self) -> &Bell {
        &self.work_bell
    }

    /// The next piece of work, if there is any.
    ///
    /// # Errors
    /// What the parent wrote makes no sense, or the parent is gone.
    pub fn next_work(&self) -> io::Result<Option<Given>> {
        loop {
            let next = frames::next(&mut self.work.lock(), Work::decode)?;
            let Some((work, body)) = next else { return Ok(None) };
            return Ok(Some(match work {
                Work::Discard { task } => {
                    drop(self.blob(Tag::Task(task))?);
                    continue;
                }
                Work::Function { id, blob } => {
                    Given::Function { id, body: self.parcel(body, blob, Tag::Function(id))? }
                }
                Work::Forget { id } => Given::Forget { id },
                Work::Task { id, function, weightless, blob } => {
                    let call = self.parcel(body, blob, Tag::Task(id))?;
                    Given::Task { id, function, weightless, call }
                }
                Work::Call { id, function, errand, blob } => {
                    let call = self.parcel(body, blob, Tag::Task(id))?;
                    Given::Call { id, function, errand, call }
                }
            }));
        }
    }

    /// The next answer, if there is any.
    ///
    /// # Errors
    /// As for [`Self::next_work`].
    pub fn next_answer(&self) -> io::Result<Option<(Answer, Parcel)>> {
        let next = frames::next(&mut self.answers.lock(), Answer::decode)?;
        let Some((answer, body)) = next else { return Ok(None) };
        let parcel = match answer {
            Answer::Ended { reference, blob, .. } => self.parcel(body, blob, Tag::Answer(reference))?,
            _ => Parcel::Inline(body),
        };
        Ok(Some((answer, parcel)))
    }

    /// Sleeps until there may be work, the parent is gone, or a signal comes. False: the parent is gone.
    ///
    /// # Errors
    /// The system's, when the descriptors have been closed.
    pub fn sleep_for_work(&self) -> io::Result<bool> {
        self.sleep(&self.work, &self.work_bell)
    }

    /// The same for answers.
    ///
    /// # Errors
    /// As for [`Self::sleep_for_work`].
    pub fn sleep_for_answers(&self) -> io::Result<bool> {
        self.sleep(&self.answers, &self.answers_bell)
    }

    /// Makes the bell ring with the next piece of work. False: there is some now.
    #[must_use]
    pub fn listens_for_work(&self) -> bool {
        self.work.lock().about_to_sleep()
    }

    fn sleep(&self, lane: &Mutex<Receiver>, bell: &Bell) -> io::Result<bool> {
        if !lane.lock().about_to_sleep() {
            return Ok(true);
        }
        let awake = self.poll(bell);
        lane.lock().awake();
        awake
    }

    fn poll(&self, bell: &Bell) -> io::Result<bool> {
        let mut watched = [PollFd::new(bell, PollFlags::IN), PollFd::new(&self.control, PollFlags::empty())];
        match rustix::event::poll(&mut watched, None) {
            Err(Errno::INTR) => return Ok(true),
            polled => polled?,
        };
        if watched.iter().any(|fd| fd.revents().contains(PollFlags::NVAL)) {
            return Err(Errno::BADF.into());
        }
        let alive = !watched[1].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        if watched[0].revents().contains(PollFlags::IN) {
            bell.hush();
        }
        Ok(alive)
    }

    /// What a frame's body, or the blob that belongs to it, makes.
    fn parcel(&self, body: Arc<[u8]>, blob: Option<u64>, tag: Tag) -> io::Result<Parcel> {
        match blob {
            None => Ok(Parcel::Inline(body)),
            Some(head) => Ok(match self.blob(tag)? {
                Some(blob) => Parcel::Blob(Arc::new(blob), head),
                None => Parcel::Lost(Errno::MFILE),
            }),
        }
    }

    /// The blob with this tag, which was sent before the frame. Nothing: no descriptor was left for it.
    fn blob(&self, tag: Tag) -> io::Result<Option<Blob>> {
        let wanted = tag.number();
        let mut blobs = self.blobs.lock();
        loop {
            if let Some(at) = blobs.iter().position(|(tag, _)| *tag == wanted) {
                return Ok(blobs.remove(at).1);
            }
            let mut bytes = [0; 8];
            match control::receive(&self.control, &mut bytes, true)? {
                Heard::Message(8, descriptors) => {
                    let blob = descriptors.into_iter().next().map(Blob::adopt);
                    blobs.push((u64::from_le_bytes(bytes), blob));
                }
                _ => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the parent is gone")),
            }
        }
    }
}
