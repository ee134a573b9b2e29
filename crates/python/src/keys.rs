//! Keys of weightless tasks: what people call them, and where the last task of each stands.
//!
//! A key is any value of Python's that can be hashed, and one for the whole process, whichever run its tasks are in. What
//! is compared is compared by foreign code, so nothing is held meanwhile; a key is looked for again when another thread was
//! quicker. Who is about to start a task holds the key's line, so that a sweep leaves it where it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{KeyId, RunnerId, Start, TaskId};

use crate::payload::{Held, WORLD};

/// Where the tasks of one key stand, for who starts the next one.
#[derive(Default)]
pub(crate) struct Line(AtomicU64);

impl Line {
    /// The kernel's name for it. Nobody may stand there any more.
    pub(crate) fn id(&self) -> KeyId {
        KeyId::from_number(self.0.load(Ordering::Relaxed))
    }

    /// Starts a task at its end.
    pub(crate) fn spawn(&self, runner: RunnerId, start: Start, body: Held) -> Result<TaskId, Held> {
        WORLD.with(|kernel| {
            let (task, line) = kernel.spawn_keyed(runner, start, self.id(), body)?;
            self.0.store(line.number(), Ordering::Relaxed);
            Ok(task)
        })
    }

    fn is_busy(&self) -> bool {
        WORLD.with(|kernel| kernel.has_line(self.id()))
    }
}

struct Entry {
    value: Py<PyAny>,
    line: Arc<Line>,
}

/// The lines of keys by their values' hashes.
#[derive(Default)]
struct Table {
    entries: HashMap<isize, Vec<Entry>>,
    count: usize,
    /// When there are more, those where nobody stands are forgotten.
    sweep_at: usize,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

const SWEEP_AT: usize = 1_000;

/// The line of a key.
pub(crate) fn line(key: &Bound<'_, PyAny>) -> PyResult<Arc<Line>> {
    let py = key.py();
    let hash = key.hash()?;
    loop {
        let known = snapshot(py, hash);
        for (value, line) in &known {
            if value.is(key) || value.bind(py).eq(key)? {
                return Ok(Arc::clone(line));
            }
        }
        let mut table = TABLE.lock();
        let table = table.get_or_insert_default();
        let entries = table.entries.entry(hash).or_default();
        let same = entries.len() == known.len()
            && entries.iter().zip(&known).all(|(entry, (_, line))| Arc::ptr_eq(&entry.line, line));
        if !same {
            continue;
        }
        let line = Arc::<Line>::default();
        entries.push(Entry { value: key.clone().unbind(), line: Arc::clone(&line) });
        table.count += 1;
        return Ok(line);
    }
}

fn snapshot(py: Python<'_>, hash: isize) -> Vec<(Py<PyAny>, Arc<Line>)> {
    let spare = {
        let mut table = TABLE.lock();
        let table = table.get_or_insert_default();
        table.sweep()
    };
    drop(spare);
    let table = TABLE.lock();
    let entries = table.as_ref().and_then(|table| table.entries.get(&hash));
    let pairs = entries.into_iter().flatten();
    pairs.map(|entry| (entry.value.clone_ref(py), Arc::clone(&entry.line))).collect()
}

impl Table {
    /// Forgets the keys of which no task lives and none is about to be started; they are to be dropped without the lock.
    fn sweep(&mut self) -> Vec<Entry> {
        if self.count <= self.sweep_at.max(SWEEP_AT) {
            return Vec::new();
        }
        let mut spare = Vec::new();
        self.entries.retain(|_, entries| {
            let is_idle = |entry: &mut Entry| Arc::strong_count(&entry.line) == 1 && !entry.line.is_busy();
            spare.extend(entries.extract_if(.., is_idle));
            !entries.is_empty()
        });
        self.count -= spare.len();
        self.sweep_at = 2 * self.count;
        spare
    }
}

/// In a forked child: those who stand there are the parent's.
pub(crate) fn forget() {
    let old = TABLE.lock().take();
    drop(old);
}
