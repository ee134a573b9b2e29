//! What a worker says to its parent, from any of its threads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use thistledown_wire::{Reply, SpawnOptions};

use super::Child;
use crate::blob::Blob;
use crate::control;
use crate::function::Function;
use crate::parcel::Parcel;
use crate::tag::Tag;

impl Child {
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
        let blob = parcel.and_then(Parcel::blob).map(|blob| (Tag::Task(tag), blob));
        let inline = parcel.map_or(&[][..], Parcel::inline);
        self.say(reply, [body, inline], blob.as_slice())
    }

    /// False: there is no room. Under one lock, so that nothing of another thread comes between a blob and its frame.
    fn say(&self, reply: &Reply, body: [&[u8]; 2], blobs: &[(Tag, &Blob)]) -> io::Result<bool> {
        let mut replies = self.replies.lock();
        let sent = replies.send(|into| reply.encode(into), body, blobs, |tag, blob| self.pass(tag, blob));
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            sent => sent?,
        };
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
    fn pass(&self, tag: Tag, blob: &Blob) -> io::Result<()> {
        loop {
            match control::send(&self.control, &tag.number().to_le_bytes(), &[blob.as_fd()]) {
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
        function: &Function,
        call: &Parcel,
        options: SpawnOptions,
    ) -> io::Result<()> {
        let (function_body, call) = (function.body.passable()?, call.passable()?);
        let body = function_body.inline();
        let reply = Reply::Spawn {
            reference,
            function_length: u32::try_from(body.len()).unwrap_or(u32::MAX),
            function_blob: function_body.head_in_blob(),
            weightless: function.weightless,
            options: (options != SpawnOptions::default()).then_some(options),
            blob: call.head_in_blob(),
        };
        let of_function = function_body.blob().map(|blob| (Tag::Function(reference as u32), blob));
        let of_call = call.blob().map(|blob| (Tag::Answer(reference), blob));
        let blobs: Vec<_> = [of_function, of_call].into_iter().flatten().collect();
        while !self.say(&reply, [body, call.inline()], &blobs)? {
            self.wait_for_room();
        }
        Ok(())
    }

    /// Waits a moment for the parent to make room among the replies.
    fn wait_for_room(&self) {
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
