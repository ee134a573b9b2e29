//! What the fuzz targets of a space's file share: a file and its log to begin with, and how they are spoilt.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use thistledown_ledger::{Change, Claim, Lease, Ledger};

/// Beyond this a spoilt file does not grow.
const LARGEST: usize = 1 << 20;

/// A file and its log, as a process leaves them that is killed: half of it in each.
pub struct Base {
    /// Where both were, and others can be put.
    pub path: PathBuf,
    /// The file's bytes.
    pub file: Vec<u8>,
    /// Those of the log.
    pub log: Vec<u8>,
}

/// The name of a file beside a file.
pub fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(end);
    name.into()
}

fn changes(numbers: std::ops::Range<u64>) -> Vec<Change> {
    let lease = Some(Lease { ends: u64::MAX / 2, length: 1 << 40 });
    let mut changes = Vec::new();
    for number in numbers {
        // Each fifth has pages of its own.
        let length = if number % 5 == 0 { 11_000 } else { number as usize };
        changes.push(Change::Insert {
            number,
            lease: lease.filter(|_| number % 2 == 0),
            data: vec![b'x'; length],
        });
        if number % 3 == 0 {
            changes.push(Change::Claim { number, claim: Claim { token: 100 + number, lease } });
        }
    }
    changes.push(Change::Outcome { number: 200, at: 1, data: vec![b'o'; 40] });
    changes
}

/// Made once.
pub fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = folder.join(format!("thistledown-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder of its own");
        let path = folder.join("space.db");
        clear(&path);
        let (ledger, _, _) = Ledger::open(&path, false, false).expect("a new file");
        ledger.lay(changes(1..20), 20, None).wait().expect("written");
        ledger.close();
        let (ledger, _, _) = Ledger::open(&path, false, false).expect("it is whole");
        ledger.lay(changes(20..30), 300, None).wait().expect("written");
        let read = |path: &Path| std::fs::read(path).expect("it is there");
        let (file, log) = (read(&path), read(&beside(&path, "-wal")));
        ledger.close();
        Base { path, file, log }
    })
}

/// Removes all that is in the folder of a file.
pub fn clear(path: &Path) {
    let folder = path.parent().expect("a folder of its own");
    for entry in std::fs::read_dir(folder).expect("it can be read").flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// Each eight bytes are a step: what is done, where, and with what.
pub fn spoil(steps: &[u8], file: &mut Vec<u8>, log: &mut Vec<u8>) {
    for step in steps.as_chunks::<8>().0 {
        let [kind, low, middle, high, word @ ..] = *step;
        let bytes = if kind & 1 == 0 { &mut *file } else { &mut *log };
        if bytes.is_empty() {
            continue;
        }
        let at = u32::from_le_bytes([low, middle, high, 0]) as usize % bytes.len();
        let there = at..(at + 4).min(bytes.len());
        match kind >> 1 & 7 {
            0..=3 => bytes[there.clone()].copy_from_slice(&word[..there.len()]),
            4 => bytes[at] ^= word[0],
            5 => bytes.truncate(at),
            6 if bytes.len() < LARGEST => bytes.extend_from_within(at..),
            6 => {}
            _ => bytes.clear(),
        }
    }
}
