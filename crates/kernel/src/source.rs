//! Sources: what the operating system makes readable or writable. Readiness is a hint that is kept until it proves
//! false, so that a source which is known to be dry is not asked again before the system reports it.

use crate::ids::{RunnerId, SourceId, TaskId};
use crate::kernel::{Kernel, Payload};
use crate::list::{List, ListName};
use crate::wait::Event;

/// Reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Bytes, a connection, an end of file: something to take.
    Read,
    /// Room to put something.
    Write,
}

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) runner: RunnerId,
    readable: bool,
    writable: bool,
    /// The other end is gone, which no later report will say again: it cannot prove dry any more.
    read_closed: bool,
    write_closed: bool,
    urgent: bool,
    pub(crate) readers: List,
    pub(crate) writers: List,
}

impl Source {
    pub(crate) fn is_ready(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.readable,
            Direction::Write => self.writable,
        }
    }
}

impl<P: Payload> Kernel<P> {
    /// A new source of this runner, thought ready until it proves dry.
    pub fn add_source(&mut self, runner: RunnerId) -> SourceId {
        if let Some(runner) = self.runners.get_mut(runner) {
            runner.sources += 1;
        }
        self.sources.insert(Source {
            runner,
            readable: true,
            writable: true,
            read_closed: false,
            write_closed: false,
            urgent: false,
            readers: List::default(),
            writers: List::default(),
        })
    }

    /// A source of no runner, never ready: who waits for it watches by itself, and is told when it is gone.
    pub fn add_watched_source(&mut self) -> SourceId {
        let id = self.add_source(RunnerId::default());
        self.source_is_dry(id, Direction::Read);
        self.source_is_dry(id, Direction::Write);
        id
    }

    /// The source is gone: whoever waits for it is told.
    pub fn remove_source(&mut self, id: SourceId) {
        self.wake_source(id, true, true, || Event::Gone);
        let Some(source) = self.sources.remove(id) else { return };
        if let Some(runner) = self.runners.get_mut(source.runner) {
            runner.sources -= 1;
        }
    }

    /// An attempt found nothing there.
    pub fn source_is_dry(&mut self, id: SourceId, direction: Direction) {
        if let Some(source) = self.sources.get_mut(id) {
            match direction {
                Direction::Read => source.readable = source.read_closed,
                Direction::Write => source.writable = source.write_closed,
            }
        }
    }

    /// A read gave less than there was room for: nothing is left, unless it stopped at something urgent.
    pub fn source_ran_short(&mut self, id: SourceId) {
        if self.sources.get(id).is_some_and(|source| !source.urgent) {
            self.source_is_dry(id, Direction::Read);
        }
    }

    /// The system reports something urgent: from now on a short read proves nothing.
    pub fn source_is_urgent(&mut self, id: SourceId) {
        if let Some(source) = self.sources.get_mut(id) {
            source.urgent = true;
        }
    }

    /// Whether an attempt is worth a system call.
    #[must_use]
    pub fn source_is_ready(&self, id: SourceId, direction: Direction) -> bool {
        self.sources.get(id).is_none_or(|source| source.is_ready(direction))
    }

    /// The system reports that one end of the source is closed: in that direction it stays ready.
    pub fn source_closed(&mut self, id: SourceId, read: bool, write: bool) {
        if let Some(source) = self.sources.get_mut(id) {
            source.read_closed |= read;
            source.write_closed |= write;
        }
    }

    /// The system reports the source ready.
    pub fn source_became_ready(&mut self, id: SourceId, readable: bool, writable: bool) {
        let Some(source) = self.sources.get_mut(id) else { return };
        source.readable |= readable;
        source.writable |= writable;
        self.wake_source(id, readable, writable, || Event::Ready);
    }

    fn wake_source(&mut self, id: SourceId, readable: bool, writable: bool, event: fn() -> Event<P::Value>) {
        let Some(source) = self.sources.get(id) else { return };
        if let Some(node) = source.readers.first().filter(|_| readable)
            && source.readers.parties(&self.nodes).nth(1).is_none()
            && (!writable || source.writers.is_empty())
        {
            self.wake_node(node, event());
            return;
        }
        let readers = source.readers.parties(&self.nodes).filter(|_| readable);
        let writers = source.writers.parties(&self.nodes).filter(|_| writable);
        let waiting: Vec<TaskId> = readers.chain(writers).collect();
        let concerns = |list| {
            (readable && list == ListName::Readable(id)) || (writable && list == ListName::Writable(id))
        };
        for party in waiting {
            self.wake_from(party, concerns, event());
        }
    }
}
