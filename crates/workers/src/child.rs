//! A worker's side: what it is given, and what it answers.
//!
//! A worker has one thread that takes work; whoever starts tasks of its own inside of a worker has another one that
//! takes answers. Replies may come from any thread.
#![allow(unsafe_code, reason = "the ends of the lanes are taken once")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use thistledown_wire::{Answer, Reply, SpawnOptions, Work};
use thistledown_wire::{Error as LaneError, Receiver, Sender};

use crate::bell::Bell;
use crate::blob::Blob;
use crate::control::{self, Heard};
use crate::function::Function;
use crate::name::Name;
use crate::parcel::Parcel;
use crate::region::{Lane, Region};
use crate::tag::Tag;

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
}

/// The worker's end of everything.
#[derive(Debug)]
pub struct Child {
    region: Region,
    control: OwnedFd,
    work: Mutex<Receiver>,
    answers: Mutex<Receiver>,
    replies: Mutex<Sender>,
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
        crate::lifeline::hold(inherited.control.as_fd())?;
        Ok(Self {
            region,
            control: inherited.control,
            work: Mutex::new(work),
            answers: Mutex::new(answers),
            replies: Mutex::new(replies),
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
            let Some((work, body)) = self.next_frame()? else { return Ok(None) };
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
            }));
        }
    }

    fn next_frame(&self) -> io::Result<Option<(Work, Arc<[u8]>)>> {
        let taken =
            self.work.lock().next(|frame| Work::decode(frame).map(|(work, body)| (work, body.into())));
        match taken.map_err(garbled)? {
            None => Ok(None),
            Some(decoded) => decoded.map(Some).map_err(garbled),
        }
    }

    /// The next answer, if there is any.
    ///
    /// # Errors
    /// As for [`Self::next_work`].
    pub fn next_answer(&self) -> io::Result<Option<(Answer, Parcel)>> {
        let taken = self
            .answers
            .lock()
            .next(|frame| Answer::decode(frame).map(|(answer, body)| (answer, body.into())));
        let Some(decoded) = taken.map_err(garbled)? else { return Ok(None) };
        let (answer, body): (Answer, Arc<[u8]>) = decoded.map_err(garbled)?;
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

    /// Says something, if there is room for it now. Nothing is said, and no blob passed on, when there is none.
    ///
    /// # Errors
    /// The parent is gone, or what is said is too long.
    pub fn try_reply(
        &self,
        reply: &Reply,
        tag: u64,
        body: &[u8],
        parcel: Option<&Parcel>,
    ) -> io::Result<bool> {
        let blob = parcel.and_then(Parcel::blob).map(|blob| (tag, blob));
        let inline = parcel.map_or(&[][..], Parcel::inline);
        self.say(reply, &[body, &[], inline], blob.as_slice())
    }

    /// Blobs first, then the frame that names them, and nothing of another thread between.
    fn say(&self, reply: &Reply, body: &[&[u8]; 3], blobs: &[(u64, &Blob)]) -> io::Result<bool> {
        let mut header = Vec::with_capacity(64);
        reply.encode(&mut header);
        let mut replies = self.replies.lock();
        match replies.check_room(header.len() + body.iter().map(|part| part.len()).sum::<usize>()) {
            Ok(()) => {}
            Err(LaneError::Full) => return Ok(false),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidInput, error.to_string())),
        }
        for (tag, blob) in blobs {
            self.pass(*tag, blob)?;
        }
        replies.push(&[&header, body[0], body[1], body[2]]).map_err(garbled)?;
        // What is read next must not be older than what was pushed: the parent looks in the other order.
        fence(Ordering::SeqCst);
        let busy =
            matches!(reply, Reply::Done { .. }) && self.work.lock().len() > self.region.ring_at() as usize;
        if !busy && replies.must_ring() {
            self.parent_bell.ring();
        }
        Ok(true)
    }

    /// Sends a blob on its way. The parent takes it with the frame that follows, so that there is room in the end.
    fn pass(&self, tag: u64, blob: &Blob) -> io::Result<()> {
        loop {
            match control::send(&self.control, &tag.to_le_bytes(), &[blob.as_fd()]) {
                // Too many descriptors are on their way, in this socket or among all of this user's.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        || Errno::from_io_error(&error) == Some(Errno::TOOMANYREFS) =>
                {
                    self.parent_bell.ring();
                    wait_for_room(self.control.as_fd())?;
                }
                other => return other,
            }
        }
    }

    /// Says something, and waits for room if there is none.
    ///
    /// # Errors
    /// As for [`Self::try_reply`].
    pub fn reply(&self, reply: &Reply, tag: u64, body: &[u8], parcel: Option<&Parcel>) -> io::Result<()> {
        while !self.try_reply(reply, tag, body, parcel)? {
            self.wait_for_room();
        }
        Ok(())
    }

    /// Has the parent's pool run a task, which this worker calls by a number of its own.
    ///
    /// # Errors
    /// As for [`Self::try_reply`].
    pub fn spawn(
        &self,
        reference: u64,
        name: &Name,
        function: &Function,
        call: &Parcel,
        options: SpawnOptions,
    ) -> io::Result<()> {
        let name = name.to_bytes();
        let (function_body, call) = (function.body.passable()?, call.passable()?);
        let body = function_body.inline();
        let reply = Reply::Spawn {
            reference,
            function_length: u32::try_from(body.len()).unwrap_or(u32::MAX),
            name_length: u16::try_from(name.len()).unwrap_or(u16::MAX),
            function_blob: function_body.head_in_blob(),
            weightless: function.weightless,
            options: (options != SpawnOptions::default()).then_some(options),
            blob: call.head_in_blob(),
        };
        let of_function = function_body.blob().map(|blob| (Tag::Function(reference as u32).number(), blob));
        let of_call = call.blob().map(|blob| (Tag::Answer(reference).number(), blob));
        let blobs: Vec<_> = [of_function, of_call].into_iter().flatten().collect();
        while !self.say(&reply, &[body, &name, call.inline()], &blobs)? {
            self.wait_for_room();
        }
        Ok(())
    }

    /// Waits a moment for the parent to make room among the replies.
    pub fn wait_for_room(&self) {
        self.parent_bell.ring();
        let _ = rustix::event::poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 200_000 }));
    }
}

fn wait_for_room(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut watched = [PollFd::new(&socket, PollFlags::OUT)];
    match rustix::event::poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 })) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn garbled(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
