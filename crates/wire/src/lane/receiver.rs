//! The taking side: `next`, and falling asleep. See `lane` for what both sides keep to.

#[cfg(not(loom))]
use std::ptr::NonNull;

#[cfg(not(loom))]
use super::lent;
use super::{ALIGN, CLAIMED, HEAD, Head, OFFERED, REVOKED, SKIP, believed, max_frame, room_to_end};
use crate::Error;
use crate::memory::{Memory, Ordering, Word, fence};

/// The side of a lane that takes.
#[derive(Debug)]
pub struct Receiver {
    memory: Memory,
    /// Position of the next frame. Published when the one before is done.
    position: u64,
    /// The sender's position when it was last looked at: asked again only when there seems to be nothing.
    pushed: u64,
    /// How many frames were passed.
    passed: u32,
}

impl Receiver {
    /// The taking side of the lane in this memory.
    ///
    /// # Panics
    /// Where the capacity is not a power of two from [`MIN_CAPACITY`](crate::MIN_CAPACITY) to 2 GiB, or the memory not aligned to 64.
    ///
    /// # Safety
    /// As for [`Sender::new`](crate::Sender::new). What the other side writes into the memory is not part of it: any bytes will do.
    #[cfg(not(loom))]
    #[allow(unsafe_code, reason = "the memory is the caller's")]
    #[must_use]
    pub unsafe fn new(memory: NonNull<u8>, capacity: usize) -> Self {
        // SAFETY: by the caller.
        Self::over(unsafe { lent(memory, capacity) })
    }

    pub(super) fn over(memory: Memory) -> Self {
        Self { memory, position: 0, pushed: 0, passed: 0 }
    }

    /// Claims the next frame that is not revoked and gives its payload to `work`; its room is free afterwards, also
    /// when `work` panics. None: nothing is there now.
    ///
    /// The payload is the other process's memory. One that breaks the rules may change it while `work` looks at it: if
    /// that matters, copy first and check the copy.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and then it stays so.
    #[inline]
    #[allow(unsafe_code, reason = "the payload is read from memory that is shared")]
    pub fn next<R>(&mut self, work: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        // Looks once: were it to look for as long as there is something to skip, the sender could keep it here.
        let mut looked = false;
        while self.position != self.pushed || (!std::mem::replace(&mut looked, true) && self.look()?) {
            let head = self.head()?;
            match head.state() {
                OFFERED if self.claim(head)? => {
                    let passing = Passing { receiver: self, size: head.size() };
                    let Self { memory, position, .. } = &*passing.receiver;
                    // SAFETY: the sender wrote these bytes before it published the position that we have acquired,
                    // and writes them again only when ours has moved, which `passing` does when `work` is over.
                    return Ok(Some(unsafe { memory.read(position + HEAD, head.length() as usize, work) }));
                }
                SKIP => self.position += head.size(),
                // It was revoked.
                _ => self.pass(head.size()),
            }
        }
        Ok(None)
    }

    /// Sees how far the sender has come. False: no farther than we.
    #[inline]
    fn look(&mut self) -> Result<bool, Error> {
        let pushed = self.memory.word(Word::Pushed).load(Ordering::Acquire);
        let ahead = pushed.wrapping_sub(self.position);
        if ahead > self.memory.capacity() || !pushed.is_multiple_of(ALIGN) {
            return Err(Error::Corrupt { position: self.position, found: pushed });
        }
        self.pushed = pushed;
        Ok(ahead > 0)
    }

    /// The head at our position, if it is one that can stand there.
    #[inline]
    fn head(&self) -> Result<Head, Error> {
        let capacity = self.memory.capacity();
        let head = Head(self.memory.load_head(self.position));
        let to_end = room_to_end(self.position, capacity);
        let fits = head.size() <= to_end.min(self.pushed - self.position);
        let right = match head.state() {
            OFFERED | REVOKED => head.length() as usize <= max_frame(capacity as usize),
            SKIP => head.size() == to_end,
            _ => false,
        };
        if fits && right { Ok(head) } else { Err(self.corrupt(head.0)) }
    }

    #[cold]
    fn corrupt(&self, found: u64) -> Error {
        Error::Corrupt { position: self.position, found }
    }

    /// Claims the frame at our position. False: it was revoked meanwhile.
    #[inline]
    fn claim(&self, head: Head) -> Result<bool, Error> {
        match self.memory.change_head(self.position, head.0, head.with(CLAIMED).0) {
            Ok(_) => Ok(true),
            Err(found) if found == head.with(REVOKED).0 => Ok(false),
            Err(found) => Err(self.corrupt(found)),
        }
    }

    /// Is done with a frame, and gives its room back.
    #[inline]
    fn pass(&mut self, size: u64) {
        self.position += size;
        self.passed = self.passed.wrapping_add(1);
        self.memory.word(Word::Passed).store(self.position, Ordering::Release);
    }

    /// Says that the receiver will sleep until it is rung for. False: there is something after all, so it does not
    /// sleep (a ring may come all the same).
    #[inline]
    #[must_use]
    pub fn about_to_sleep(&self) -> bool {
        self.memory.word(Word::Asleep).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let nothing = self.is_empty();
        if !nothing {
            self.awake();
        }
        nothing
    }

    /// Says that the receiver sleeps no longer, whether it was rung for or not.
    #[inline]
    pub fn awake(&self) {
        self.memory.word(Word::Asleep).store(0, Ordering::Relaxed);
    }

    /// Frames that were not passed yet: the revoked ones too.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        let frames = self.memory.word(Word::Frames).load(Ordering::Relaxed) as u32;
        believed(frames.wrapping_sub(self.passed), self.memory.capacity()) as usize
    }

    /// Whether there is nothing to pass. If all that is there was revoked, [`next`](Self::next) finds that out.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.word(Word::Pushed).load(Ordering::Relaxed) == self.position
    }
}

/// Passes the frame at work when it goes, also on the way of a panic.
struct Passing<'a> {
    receiver: &'a mut Receiver,
    size: u64,
}

impl Drop for Passing<'_> {
    #[inline]
    fn drop(&mut self) {
        self.receiver.pass(self.size);
    }
}
