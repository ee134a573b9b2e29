//! The database's log (its `-wal` file), read by ourselves: to see whether what is in it is whole.
//!
//! SQLite takes the first frame that does not match its checksum for the end of the log, as a loss of power may leave it.
//! So a byte that is flipped in its middle would undo, without a word, all that came later. Here it is told apart: when
//! whole frames of a later commit stand behind a broken one, it was not the end. A byte flipped within the very last
//! commit cannot be told from a commit that was cut short.
//!
//! Source: the WAL format as in SQLite's "Database File Format", section 4.

use std::path::{Path, PathBuf};

use crate::file::PAGE;

const HEADER: usize = 32;
const FRAME: usize = 24 + PAGE;
const MAGIC: u32 = 0x377f_0682;

/// A page as a whole frame of the log has it.
pub(crate) struct Page<'a> {
    /// From one.
    pub(crate) number: u32,
    pub(crate) bytes: &'a [u8],
}

/// Where the log of a file is.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push("-wal");
    name.into()
}

/// What is wrong with the log of a file, in words.
pub(crate) fn damage(path: &Path) -> Option<String> {
    damage_of(&std::fs::read(beside(path)).ok()?)
}

/// The same, of the bytes of a log.
pub(crate) fn damage_of(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() {
        return None;
    }
    let Some(walk) = Walk::begin(bytes) else {
        // A process that was killed as it began the log.
        let is_begun = bytes.len() > HEADER;
        return is_begun.then(|| "the header of its log is not what was written".into());
    };
    let (mut broken, mut is_behind) = (None, false);
    for (place, frame) in walk.enumerate() {
        match frame {
            Frame::Broken { commits } => {
                broken = broken.or(Some(place));
                is_behind |= commits;
            }
            // The end of the commit that the broken one belongs to.
            Frame::Whole { commits: true, .. } if broken.is_some() && !is_behind => is_behind = true,
            Frame::Whole { .. } if is_behind => {
                let place = broken.unwrap_or_default();
                return Some(format!("frame {place} of its log is not what was written"));
            }
            Frame::Whole { .. } => {}
        }
    }
    None
}

/// The pages of all whole frames, in order, up to the last that ends a commit.
pub(crate) fn pages(bytes: &[u8]) -> Vec<Page<'_>> {
    let (mut pages, mut committed) = (Vec::new(), 0);
    for frame in Walk::begin(bytes).into_iter().flatten() {
        if let Frame::Whole { number, bytes, commits } = frame {
            pages.push(Page { number, bytes });
            if commits {
                committed = pages.len();
            }
        }
    }
    pages.truncate(committed);
    pages
}

/// The page of each frame, whole or not.
pub(crate) fn all_pages(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.get(HEADER..).unwrap_or_default().chunks_exact(FRAME).map(|frame| &frame[24..])
}

enum Frame<'a> {
    Whole {
        number: u32,
        bytes: &'a [u8],
        commits: bool,
    },
    /// What it says of itself may be wrong.
    Broken {
        commits: bool,
    },
}

/// The frames of this log, and not those of an earlier one that stand behind them.
struct Walk<'a> {
    bytes: &'a [u8],
    salts: &'a [u8],
    is_big: bool,
    sums: [u32; 2],
}

impl<'a> Walk<'a> {
    fn begin(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        let is_big = word(header, 0) == MAGIC + 1;
        if (!is_big && word(header, 0) != MAGIC) || word(header, 8) as usize != PAGE {
            return None;
        }
        let sums = checksum(is_big, [0, 0], &header[..24]);
        let walk = Self { bytes: &bytes[HEADER..], salts: &header[16..24], is_big, sums };
        (sums == [word(header, 24), word(header, 28)]).then_some(walk)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let frame = self.bytes.get(..FRAME)?;
        self.bytes = &self.bytes[FRAME..];
        let said = [word(frame, 16), word(frame, 20)];
        let sums = checksum(self.is_big, self.sums, &frame[..8]);
        let sums = checksum(self.is_big, sums, &frame[24..]);
        // What comes next was summed up from what this one says.
        self.sums = said;
        let is_ours = &frame[8..16] == self.salts;
        let commits = is_ours && word(frame, 4) != 0;
        if is_ours && sums == said {
            return Some(Frame::Whole { number: word(frame, 0), bytes: &frame[24..], commits });
        }
        Some(Frame::Broken { commits })
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let part = bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).unwrap_or_default();
    u32::from_be_bytes(part)
}

fn checksum(is_big: bool, [mut one, mut two]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    for pair in bytes.chunks_exact(8) {
        let native = |at| if is_big { word(pair, at) } else { word(pair, at).swap_bytes() };
        one = one.wrapping_add(native(0)).wrapping_add(two);
        two = two.wrapping_add(native(4)).wrapping_add(one);
    }
    [one, two]
}
