//! Repair: what is whole in a damaged file, in a new file in its place.
//!
//! Whoever dies in the middle of it loses nothing, and nobody finds half of it. The new file is written under one name,
//! [`WRITING`], and is named [`WRITTEN`] when all of it is on the disk. From then on it is the one that is meant, and
//! whoever opens the file next goes on where the last one stopped: the damaged file gets a second name, under which it is
//! kept, its log goes, and the new file takes its name. There is a file under that name at every moment.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::file::{Change, Contents, File};
use crate::log;
use crate::salvage::salvage;

/// What is wrong with a file that cannot be repaired.
pub const NOTHING_WHOLE: &str = "nothing in it is whole, so there is nothing to repair; move it away to begin anew, or choose another path";

const WRITING: &str = "-repairing";
const WRITTEN: &str = "-repaired";

/// What was saved from a damaged file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// How many tuples are there.
    pub tuples: usize,
    /// Where the damaged file is now.
    pub kept_as: PathBuf,
}

/// Puts a new file in the place of a damaged one, with all that is whole.
pub(crate) fn renew(path: &Path, fsync: bool) -> Result<Repaired, Error> {
    let wrong = |doing| move |source| Error::System { path: path.into(), doing, source: Arc::new(source) };
    let contents = salvage(path).map_err(wrong("reading what is whole"))?;
    let Some(contents) = contents else {
        return Err(Error::Damaged { path: path.into(), damage: NOTHING_WHOLE.into() });
    };
    let writing = named(path, WRITING);
    for file in [&writing, &log::beside(&writing)] {
        remove(file).map_err(wrong("making room for the repaired file"))?;
    }
    let (mut file, _) = File::open(&writing, fsync)?;
    file.write(changes(&contents).iter(), contents.last)?;
    file.close()?;
    std::fs::rename(&writing, named(path, WRITTEN)).map_err(wrong("naming the repaired file"))?;
    let kept_as = put_in_place(path).map_err(wrong("putting the repaired file in its place"))?;
    Ok(Repaired { tuples: contents.tuples.len(), kept_as })
}

/// Whether somebody has begun what [`finish`] ends.
pub(crate) fn is_to_be_finished(path: &Path) -> bool {
    named(path, WRITTEN).exists()
}

/// Ends what somebody has begun who died over it. Mostly there is nothing to do.
pub(crate) fn finish(path: &Path) -> Result<(), Error> {
    match is_to_be_finished(path) {
        true => put_in_place(path).map(drop).map_err(|source| Error::System {
            path: path.into(),
            doing: "putting the repaired file in its place",
            source: Arc::new(source),
        }),
        false => Ok(()),
    }
}

/// The repaired file takes the name of the damaged one. Gives the name under which that is kept.
fn put_in_place(path: &Path) -> io::Result<PathBuf> {
    let kept_as = keep(path)?;
    let log = log::beside(path);
    if log.exists() {
        keep_also(&log, &log::beside(&kept_as))?;
        // Before the new file has its name: the database would take it for that one's log.
        remove(&log)?;
    }
    std::fs::rename(named(path, WRITTEN), path)?;
    // So that the names outlive the machine's power, where the file system can promise that.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()?;
    Ok(kept_as)
}

/// A second name for the damaged file; the one that it has, if it was given one.
fn keep(path: &Path) -> io::Result<PathBuf> {
    for turn in 1.. {
        let name = named(path, &format!("-damaged-{turn}"));
        match (std::fs::metadata(&name), std::fs::metadata(path)) {
            (Ok(kept), Ok(damaged)) if kept.ino() == damaged.ino() => return Ok(name),
            (Ok(_), _) => {}
            (Err(_), Ok(_)) => return keep_also(path, &name).map(|()| name),
            // There was none.
            (Err(_), Err(_)) => return Ok(name),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn keep_also(file: &Path, name: &Path) -> io::Result<()> {
    match std::fs::hard_link(file, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Not all file systems can.
        Err(_) => std::fs::copy(file, name).map(drop),
        Ok(()) => Ok(()),
    }
}

fn changes(contents: &Contents) -> Vec<Change> {
    let tuples = contents.tuples.iter().flat_map(|found| {
        let (number, lease) = (found.number, found.lease);
        let insert = Change::Insert { number, lease, data: found.data.clone() };
        let claim = found.claim.map(|claim| Change::Claim { number, claim });
        std::iter::once(insert).chain(claim)
    });
    let outcomes = contents.outcomes.iter();
    let outcomes =
        outcomes.map(|(number, at, data)| Change::Outcome { number: *number, at: *at, data: data.clone() });
    tuples.chain(outcomes).collect()
}

fn named(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(ending);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
