//! Keys: tasks that must not overlap, nor interleave at their waits.
//!
//! Tasks of one key stand in a line. The first one holds the key, from when it is ready for its first turn until it has
//! ended; the others wait for it, in the order in which they were started, and are woken as any other wait. So cancelling
//! one of them takes it out of the line, and the graph of waits knows whom it waits for. A line exists as long as somebody
//! stands in it; who starts tasks by what he calls a key himself remembers its line, or a new one begins.
//!
//! Source: Blais's scheduler that knows its data: sets of tasks that never overlap need no lock.

use crate::ids::{KeyId, RunnerId, TaskId};
use crate::kernel::{Kernel, Payload};
use crate::list::{List, ListName};
use crate::party::{Place, Start};
use crate::wait::Wake;

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) holder: TaskId,
    pub(crate) waiting: List,
}

impl<P: Payload> Kernel<P> {
    /// A new task of this key, behind all that were started with it before. Its first turn comes when they have ended.
    ///
    /// `line` is where the last one of the key stood; when nobody stands there any more a new line begins. Gives the task
    /// and its line. Nothing when the runner or the scope is gone; the body comes back.
    pub fn spawn_keyed(
        &mut self,
        runner: RunnerId,
        start: Start,
        line: KeyId,
        body: P::Body,
    ) -> Result<(TaskId, KeyId), P::Body> {
        let id = self.add_task(runner, start, body)?;
        let line = match self.keys.get(line) {
            Some(_) if self.is_cancelled(id) => {
                self.make_ready(id, Wake::Cancelled);
                line
            }
            Some(_) => {
                self.begin_wait(id);
                self.stand_in(id, 0, ListName::Key(line), None);
                line
            }
            None => {
                let line = self.keys.insert(Line { holder: id, waiting: List::default() });
                self.make_ready(id, Wake::Start);
                line
            }
        };
        self.parties[id].place = Place::Runner(runner, line);
        Ok((id, line))
    }

    /// Whether anybody stands in the line.
    #[must_use]
    pub fn has_line(&self, line: KeyId) -> bool {
        self.keys.contains_key(line)
    }

    /// The body of a task, unless it has its turn or runs elsewhere.
    #[must_use]
    pub fn body(&self, task: TaskId) -> Option<&P::Body> {
        self.parties.get(task)?.body.as_ref()
    }

    /// Those who wait in the line, in order, without who holds the key.
    #[must_use]
    pub fn waiting_in(&self, line: KeyId) -> Vec<TaskId> {
        self.keys.get(line).map_or_else(Vec::new, |line| line.waiting.parties(&self.nodes).collect())
    }

    /// Who holds the key.
    #[must_use]
    pub fn holder(&self, line: KeyId) -> Option<TaskId> {
        self.keys.get(line).map(|line| line.holder)
    }

    /// Who holds the key for which this task waits.
    #[must_use]
    pub fn waits_behind(&self, task: TaskId) -> Option<TaskId> {
        let node = self.nodes.get(self.parties.get(task)?.nodes as usize)?;
        let ListName::Key(line) = node.list else { return None };
        self.keys.get(line).map(|line| line.holder)
    }

    /// A task has ended: if it held the key, the next in line does.
    #[cold]
    pub(crate) fn pass_key(&mut self, task: TaskId, line: KeyId) {
        let Some(Line { holder, waiting }) = self.keys.get_mut(line) else { return };
        if *holder != task {
            return;
        }
        match waiting.first() {
            Some(node) => {
                let next = self.nodes[node as usize].party;
                self.keys[line].holder = next;
                self.wake(next, Wake::Start);
            }
            None => {
                self.keys.remove(line);
            }
        }
    }
}
