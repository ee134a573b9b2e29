//! Who owns a file: found when it is opened, and again each time its owner is gone.
//!
//! The lock of the file is the election. Who gets it reads the file, opens a door for the others, and writes down beside the
//! file where that is; who does not get it reads where, and goes there. Between an owner's lock and its address, and between
//! its end and the next one's lock, there is nothing to be had but to look again.
//!
//! Nothing here takes the interpreter's lock. The lock of the open files is held while the file is opened, so that no
//! other thread opens it, and a fork finds nobody in the middle of it; it is not held between two looks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pyo3::PyErr;
use thistledown_exchange::ObjectId;
use thistledown_kernel::Moment;
use thistledown_ledger::{Error, Repaired, address_of};
use thistledown_runtime::{Clock, SharedSpace};

use crate::channel::door;
use crate::current::Run;
use crate::errors;
use crate::space::far::line::Gone;
use crate::space::far::{self, FarSpace, Seat};
use crate::space::file::{Place, with_files};
use crate::space::home::Home;
use crate::window::signal::keep_signals_out;

/// Between the first two looks, and at most.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How long an owner that cannot be reached is waited for: it may be reading a large file.
const LIMIT: Duration = Duration::from_secs(30);

/// Why a file could not be opened.
pub(crate) enum Failure {
    File(Error),
    /// There is no exchange.
    Other(PyErr),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}

impl Failure {
    pub(crate) fn error(self) -> PyErr {
        match self {
            Self::File(error) => errors::of_ledger(&error),
            Self::Other(error) => error,
        }
    }

    /// Whether it may be over in a moment: the system is short of something.
    fn may_pass(&self) -> bool {
        !matches!(self, Self::File(Error::Damaged { .. } | Error::Foreign { .. } | Error::Version { .. }))
    }

    fn gone(self) -> Gone {
        match self {
            Self::File(error) => Gone::File(error),
            Self::Other(error) => Gone::Words(error.to_string()),
        }
    }
}

/// Looks again, a little later each time, and not for ever.
pub(crate) struct Patience {
    path: PathBuf,
    ends: Moment,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.into(), ends: Clock::System.now().after(LIMIT), pause: FIRST_PAUSE }
    }

    #[allow(clippy::disallowed_methods, reason = "nobody wakes who waits for another process's lock")]
    pub(crate) fn wait(&mut self) -> Result<(), Error> {
        if self.ends.since(Clock::System.now()).is_zero() {
            return Err(Error::Owned { path: self.path.clone() });
        }
        std::thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Becomes the owner of a file, or goes to its owner, and sits there. None: neither can be had at this moment. What was
/// repaired, if anything had to be.
///
/// For who has the lock of the open files.
pub(crate) fn settle(place: &Arc<Place>, repair: bool) -> Result<Option<Option<Repaired>>, Failure> {
    match SharedSpace::open(&place.path, place.fsync, repair, Run::now()) {
        Ok((shared, repaired)) => {
            let home = Home::new(Arc::new(shared));
            let admitted = home.admit();
            let published = admitted.map_err(Failure::Other).and_then(|id| {
                let ledger = home.shared.ledger();
                ledger.map_or(Ok(()), |ledger| ledger.publish(&written(id))).map_err(Failure::File)
            });
            if let Err(failure) = published {
                home.shared.ledger().into_iter().for_each(thistledown_ledger::Ledger::close);
                home.close();
                return Err(failure);
            }
            place.sit(Seat::Here(home));
            Ok(Some(repaired))
        }
        Err(Error::Owned { .. }) => {
            let Some(id) = address_of(&place.path).as_deref().and_then(read) else { return Ok(None) };
            let exchange = door::open().map_err(Failure::Other)?;
            let far = place.far.get_or_init(|| FarSpace::new(&exchange, id, Arc::downgrade(place)));
            // One that is gone is no owner.
            if far.move_to(&exchange, id, None).is_err() {
                return Ok(None);
            }
            place.sit(Seat::Far(Arc::clone(far)));
            Ok(Some(None))
        }
        Err(error) => Err(error.into()),
    }
}

/// The owner is gone: a thread becomes the owner, or goes to the next one. It ends when either is so.
pub(crate) fn find_next(place: Arc<Place>) {
    let mask = keep_signals_out();
    let other = Arc::clone(&place);
    let thread = std::thread::Builder::new().name("thistledown-heir".into()).spawn(move || inherit(&other));
    mask.restore();
    if let (Err(error), Some(far)) = (thread, place.far.get()) {
        far.miss(Gone::Words(format!("no thread can be started to look for the space: {error}")));
    }
}

fn inherit(place: &Arc<Place>) {
    let Some(far) = place.far.get() else { return };
    let mut patience = Patience::new(&place.path);
    loop {
        let settled = with_files(|| match (place.is_closed(), place.seat()) {
            (true, _) => Ok(None),
            // It has the file already, and nobody could be told so.
            (false, Seat::Here(_)) => Ok(Some(None)),
            (false, Seat::Far(_)) => settle(place, false),
        });
        let failure = match settled {
            Ok(Some(_)) => match resume(place, far) {
                Ok(()) => return,
                Err(failure) => Some(failure),
            },
            Ok(None) if place.is_closed() => return,
            Ok(None) => None,
            Err(failure) if failure.may_pass() => Some(failure),
            Err(failure) => return far.fail(failure.gone()),
        };
        if let Err(error) = patience.wait() {
            return far.miss(failure.unwrap_or(Failure::File(error)).gone());
        }
    }
}

/// There is an owner again, perhaps this process: what was asked of the one before is asked of that.
fn resume(place: &Place, far: &FarSpace) -> Result<(), Failure> {
    if let Seat::Here(home) = place.seat() {
        let moved = door::open().and_then(|exchange| {
            let id = home.admit()?;
            far.move_to(&exchange, id, None).map_err(far::broken)
        });
        moved.map_err(Failure::Other)?;
    }
    far.introduce();
    Ok(())
}

/// An address, as it stands beside the file.
fn written(id: ObjectId) -> String {
    let digits: String = id.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}\n")
}

/// What [`written`] wrote.
fn read(address: &str) -> Option<ObjectId> {
    let digits = address.as_bytes();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    ObjectId::from_bytes(&pairs.collect::<Option<Vec<u8>>>()?)
}
