//! Spaces, as Python sees them.

pub(crate) mod claim;
pub(crate) mod far;
pub(crate) mod fields;
pub(crate) mod file;
pub(crate) mod heir;
pub(crate) mod home;
pub(crate) mod hub;
pub(crate) mod transaction;
pub(crate) mod wait;
pub(crate) mod watch;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use thistledown_exchange::{Broken, ObjectId};
use thistledown_runtime::{Name, Pending, SharedSpace};
use thistledown_space::{
    CodecError, How, Outside, Refused, Template, Tuple, Wanted, decode_given, decode_tuples,
};

use crate::channel::tickets;
use crate::current::{Run, seconds, seconds_or_none};
use crate::errors;
use crate::operation::{Kind, Operation};
use crate::outside::outside;
use crate::payload::WORLD;
use crate::space::far::{FarSpace, Seat, garbled};
use crate::space::file::Opened;
use crate::space::home::Home;
use crate::space::transaction::Transaction;
use crate::space::wait::{Act, SpaceOperation};
use crate::space::watch::Watch;

static SPACES: AtomicU64 = AtomicU64::new(0);

/// A shared space of tuples, in memory: whoever writes one need not know who takes it, nor when.
///
/// ``take`` and ``read`` look for a tuple by a template: a tuple of as many fields, each a value, a type, ``...`` for
/// anything, ``td.between(low, high)`` or ``td.one_of(...)``. They wait until there is one; whoever waits is served in
/// order, and of several tuples that match, the one that was written first is given. Works between weightless tasks,
/// plain threads and, when it is handed to them, worker processes, in any mixture.
///
/// Values compare by type and value: ``1``, ``1.0`` and ``True`` are three, and not-a-number matches nothing. What is not
/// None, bool, int, float, str, bytes or a tuple of these is pickled when it is written, found by its exact type, and
/// comes out as a copy.
///
/// Source: Gelernter's Linda (out, in, rd); leases and transactions of JavaSpaces.
#[pyclass(frozen, weakref, module = "thistledown")]
pub(crate) struct Space {
    number: u64,
    at: At,
}

/// Which space a handle is to.
#[derive(PartialEq, Eq, Hash)]
enum Identity {
    Here(usize),
    Far(ObjectId),
    File(PathBuf),
}

/// Where it is.
enum At {
    Seat(Seat),
    /// On a file, whose owner may be another one at any time.
    File(Opened),
}

impl Space {
    /// What people call it.
    pub(crate) fn name(&self) -> String {
        match self.seat() {
            Seat::Here(_) => format!("space {}", self.number),
            Seat::Far(far) => format!("space {} of process {}", far.id().number, far.id().owner.pid),
        }
    }

    /// Where it is.
    pub(crate) fn seat(&self) -> Seat {
        match &self.at {
            At::Seat(seat) => seat.clone(),
            At::File(file) => file.seat(),
        }
    }

    /// The same for all handles to one space.
    fn identity(&self) -> Identity {
        match &self.at {
            At::Seat(Seat::Here(home)) => match home.shared.ledger() {
                Some(ledger) => Identity::File(ledger.path().into()),
                None => Identity::Here(Arc::as_ptr(&home.shared).addr()),
            },
            At::Seat(Seat::Far(far)) => Identity::Far(far.id()),
            At::File(file) => Identity::File(file.path().into()),
        }
    }

    fn file(&self) -> Option<&Opened> {
        match &self.at {
            At::Seat(_) => None,
            At::File(file) => Some(file),
        }
    }

    fn at(at: At) -> Self {
        Self { number: SPACES.fetch_add(1, Ordering::Relaxed) + 1, at }
    }

    /// Whether it can be used; not when it was closed, or opened or shared by the process from which this one was forked.
    pub(crate) fn check(&self) -> PyResult<()> {
        match &self.at {
            At::File(file) => file.check(),
            At::Seat(Seat::Here(home)) if home.is_of_parent() => Err(far::broken(Broken::Forked)),
            At::Seat(_) => Ok(()),
        }
    }

    /// Whether it is in memory, and no other process has it.
    pub(crate) fn is_own(&self) -> bool {
        matches!(&self.at, At::Seat(Seat::Here(home)) if !home.is_shared())
    }

    /// Whether another process has it, of which this one was forked: on a file, or in memory and shared.
    pub(crate) fn is_of_parent(&self) -> bool {
        match &self.at {
            At::File(file) => file.is_of_parent(),
            At::Seat(Seat::Here(home)) => home.is_of_parent(),
            At::Seat(Seat::Far(_)) => false,
        }
    }

    /// Looks for a tuple that is not held: to read it, or within a transaction.
    pub(crate) fn look_now(&self, py: Python<'_>, wanted: Wanted) -> PyResult<Option<Py<PyTuple>>> {
        self.check()?;
        match &self.seat() {
            Seat::Here(home) => {
                let given = act(&home.shared, |space, outside| space.attempt(&wanted, None, outside));
                let given = given.map_err(refused)?;
                given.map(|given| Ok(fields::to_python(py, &given.tuple)?.unbind())).transpose()
            }
            Seat::Far(far) => {
                let given = far.ask(py, far::Act::Look(Arc::new(wanted), None))?;
                if given.is_empty() {
                    return Ok(None);
                }
                let (tuple, _) = decode_given(&given).map_err(garbled)?;
                Ok(Some(fields::to_python(py, &tuple)?.unbind()))
            }
        }
    }

    fn take_far(slf: &Bound<'_, Self>, far: &Arc<FarSpace>, wanted: Wanted) -> PyResult<Option<Py<PyAny>>> {
        let (py, wanted) = (slf.py(), Arc::new(wanted));
        let told = far.look_now(py, &wanted)?;
        told.map(|(tuple, offered)| {
            claim::given_far(py, slf.as_unbound(), far, &wanted, &tuple, || offered.accept())
        })
        .transpose()
    }
}

/// Waits until what is pending is in the file; then it has happened, or not.
pub(crate) fn settle(py: Python<'_>, shared: &SharedSpace, pending: Pending) -> PyResult<()> {
    let state = pending.state().unwrap_or_else(|| outside(py, || pending.wait()));
    shared.finish(&WORLD, Run::now(), pending, state.is_ok());
    state.map_err(|error| errors::of_ledger(&error))
}

/// Does something with a space of this process, now. The interpreter is not let go meanwhile, so that nobody waits for the
/// lock while somebody who has it waits for the interpreter.
pub(crate) fn act<R>(
    shared: &SharedSpace,
    work: impl FnOnce(&mut thistledown_space::Space<Name>, &mut Outside<'_, Name>) -> R,
) -> R {
    shared.with(&WORLD, Run::now(), work)
}

/// Why the space did not do it.
pub(crate) fn refused(why: Refused) -> PyErr {
    match why {
        Refused::ClaimOver => Python::attach(|py| {
            errors::lease_expired(py, "the claim is over, and somebody else may have taken the tuple")
        }),
        _ => errors::misuse("the transaction has ended: begin another one"),
    }
}

/// What to look for, for how long.
pub(crate) fn wanted(template: &Bound<'_, PyAny>, how: How) -> PyResult<Wanted> {
    Ok(Wanted { template: fields::template(template)?, how, within: None, held: false })
}

/// A lease: seconds, more than none; nothing is without end.
pub(crate) fn lease(seconds_given: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds_given {
        Some(0.0) => Err(errors::wrong_value("a lease must be longer than 0 seconds")),
        Some(given) => seconds(given, "lease"),
        None => Ok(None),
    }
}

fn how(lease_given: Option<f64>) -> PyResult<How> {
    Ok(match lease_given {
        None => How::Take,
        Some(_) => How::Claim(lease(lease_given)?.unwrap_or(Duration::MAX)),
    })
}

fn fsync_or_not(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    flag(given, "fsync")
}

fn repair_or_not(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    flag(given, "repair")
}

fn flag(given: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    given.extract().map_err(|_| {
        errors::wrong_type(format!("{name} is True or False, got {}", errors::shown(given, "something else")))
    })
}

fn any_or(template: Option<&Bound<'_, PyAny>>) -> PyResult<Template> {
    template.map_or(Ok(Template::Anything), fields::template)
}

#[pymethods]
impl Space {
    /// Args:
    ///     path: a file to keep it in; it is made if it is not there, readable for its user alone. ``None``: in memory. One
    ///         process owns the file, and others of the same user that open it use it from there; when the owner is gone
    ///         one of them takes over.
    ///     fsync: whether a write has reached the disk itself when it returns, so that it survives a loss of power. Without,
    ///         it survives the death of the process alone, and takes less time. As the file's owner has said it.
    ///     repair: a file that is damaged is replaced by what is whole in it, and kept beside.
    ///
    /// Raises:
    ///     SpaceDamaged: the file is not what was written. Says what is damaged.
    ///     SpaceBroken: another process has the file open and cannot be reached, for half a minute: it is of another user, or
    ///         in another network namespace.
    ///     ValueError: it is a file of something else.
    ///     OSError: it cannot be opened.
    ///     TypeError: ``fsync`` or ``repair`` is no bool, or there is no file to repair.
    #[new]
    #[pyo3(signature = (path=None, /, *, fsync=true, repair=false))]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        #[pyo3(from_py_with = fsync_or_not)] fsync: bool,
        #[pyo3(from_py_with = repair_or_not)] repair: bool,
    ) -> PyResult<Self> {
        if repair && path.is_none() {
            return Err(errors::wrong_type(
                "a space in memory has nothing to repair: write `td.Space(path, repair=True)`",
            ));
        }
        Ok(Self::at(match path {
            None => At::Seat(Seat::Here(Home::new(Arc::default()))),
            // A word of SQLite's, which somebody may know.
            Some(path) if path.as_os_str() == ":memory:" => {
                return Err(errors::wrong_value(
                    "a space in memory has no name: write `td.Space()`, or `\"./:memory:\"` for a file of that name",
                ));
            }
            Some(path) => At::File(Opened::open(py, &path, fsync, repair)?),
        }))
    }

    /// Closes the file of a space that has one; what was waited for is in it. Nothing else can be done with the space then:
    /// who waits at it, in this process or in a worker, gets ``SpaceBroken``.
    ///
    /// The file stays open while this process has it open elsewhere. A space in memory has nothing to close.
    fn close(&self, py: Python<'_>) {
        if let Some(file) = self.file() {
            file.close(py);
        }
    }

    /// The file that it is on; ``None`` for a space in memory.
    #[getter]
    fn path(&self) -> Option<PathBuf> {
        self.file().map(|file| file.path().into())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Refused: the block does not wait. Raises ``TypeError``.
    fn __aenter__(&self) -> PyResult<()> {
        Err(errors::wrong_type(
            "the block of a space is a plain one, also in an `async def`: write `with`, not `async with`",
        ))
    }

    /// Refused, too: Python looks for it before it enters.
    fn __aexit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.__aenter__()
    }

    /// Refused: a space has no order in which its tuples would be gone through. Raises ``TypeError``.
    fn __iter__(&self) -> PyResult<()> {
        Err(errors::wrong_type(
            "a space is not iterated: `space.read_all(template)` is a list of what is there, and \
             `space.watch(template)` gives what is written from now on",
        ))
    }

    #[pyo3(signature = (_kind, _error, _trace, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) {
        self.close(py);
    }

    /// An operation that writes a tuple.
    ///
    /// What the tuple holds is copied now; it is written when the operation is waited for.
    ///
    /// Args:
    ///     tuple: a plain tuple of values. Put what it is looked for by first: that is found without a search.
    ///     lease: seconds after which it is gone by itself; ``None`` keeps it.
    ///
    /// Raises:
    ///     TypeError: it is no tuple, or holds a type or ``...``, which belong in a template.
    ///     NotPicklable: it holds an object that cannot be pickled.
    ///     ValueError: the lease is not a number of seconds > 0.
    #[pyo3(signature = (tuple, /, lease=None))]
    fn write(
        slf: Bound<'_, Self>,
        tuple: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = seconds_or_none)] lease: Option<f64>,
    ) -> PyResult<Operation> {
        let act = Act::Write(fields::tuple(tuple)?, self::lease(lease)?, None);
        Ok(SpaceOperation::make(slf.unbind(), act))
    }

    /// Writes a tuple at once, from any thread. See ``write``. In a space on a file it returns when that is written, and other
    /// threads run meanwhile; as do all verbs here that end with ``_nowait``.
    #[pyo3(signature = (tuple, /, lease=None))]
    fn write_nowait(
        &self,
        tuple: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = seconds_or_none)] lease: Option<f64>,
    ) -> PyResult<()> {
        let (py, tuple, lease) = (tuple.py(), fields::tuple(tuple)?, self::lease(lease)?);
        self.check()?;
        let shared = &match &self.seat() {
            Seat::Here(home) => Arc::clone(&home.shared),
            Seat::Far(far) => return far.ask(py, far::Act::Write(tuple, lease, None)).map(drop),
        };
        let pending = shared.begin_write(&WORLD, Run::now(), (tuple, lease), None);
        match pending.map_err(cannot_be_written)? {
            Some(pending) => settle(py, shared, pending),
            None => Ok(()),
        }
    }

    /// An operation that takes a tuple out of the space, and waits until there is one.
    ///
    /// Args:
    ///     template: what it must be like.
    ///     lease: seconds. With it the tuple is only claimed: the operation gives a ``Claim``, and unless that is
    ///         confirmed within this time the tuple comes back to its old place, for somebody else.
    ///
    /// Returns:
    ///     An operation that gives the tuple, or with ``lease`` a ``Claim`` on it.
    ///
    /// Raises:
    ///     TypeError: the template is no tuple, or one of its fields cannot be looked for.
    ///     ValueError: the lease is not a number of seconds > 0.
    ///     SpaceBroken: the process that has the space is gone.
    ///     Exception: when it is waited for: whatever unpickling an object in the tuple raises. The tuple is behind all
    ///         others then, so that it is in nobody's way.
    #[pyo3(signature = (template, /, lease=None))]
    fn take(
        slf: Bound<'_, Self>,
        template: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = seconds_or_none)] lease: Option<f64>,
    ) -> PyResult<Operation> {
        let wanted = wanted(template, how(lease)?)?;
        Ok(SpaceOperation::make(slf.unbind(), Act::Look(Arc::new(wanted))))
    }

    /// An operation that gives a copy of a tuple, and waits until there is one.
    ///
    /// Whoever waits to read sees each matching tuple that is written, also one that goes to somebody who waits to take it.
    ///
    /// Args:
    ///     template: what it must be like.
    #[pyo3(signature = (template, /))]
    fn read(slf: Bound<'_, Self>, template: &Bound<'_, PyAny>) -> PyResult<Operation> {
        Ok(SpaceOperation::make(slf.unbind(), Act::Look(Arc::new(wanted(template, How::Read)?))))
    }

    /// Takes a tuple that is there now, or gives ``None``; from any thread.
    ///
    /// Args:
    ///     template: what it must be like.
    ///     lease: as of ``take``.
    #[pyo3(signature = (template, /, lease=None))]
    fn take_nowait(
        slf: Bound<'_, Self>,
        template: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = seconds_or_none)] lease: Option<f64>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let wanted = wanted(template, how(lease)?)?;
        let (py, space) = (slf.py(), slf.get());
        space.check()?;
        let shared = &match &space.seat() {
            Seat::Here(home) => Arc::clone(&home.shared),
            Seat::Far(far) => return Self::take_far(&slf, far, wanted),
        };
        let look = shared.look(&WORLD, Run::now(), (&wanted, None), None, || None).map_err(refused)?;
        let Some(look) = look else { return Ok(None) };
        if let Some(pending) = &look.pending
            && let Err(error) = pending.state().unwrap_or_else(|| outside(py, || pending.wait()))
        {
            if let Some(pending) = look.pending {
                shared.finish(&WORLD, Run::now(), pending, false);
            }
            return Err(errors::of_ledger(&error));
        }
        claim::given(py, slf.as_unbound(), shared, look).map(Some)
    }

    /// Gives a copy of a tuple that is there now, or ``None``; from any thread.
    ///
    /// Args:
    ///     template: what it must be like.
    #[pyo3(signature = (template, /))]
    fn read_nowait(&self, template: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyTuple>>> {
        self.look_now(template.py(), wanted(template, How::Read)?)
    }

    /// Copies of all tuples that are there now and match, in the order in which they were written.
    ///
    /// Args:
    ///     template: what they must be like; by default anything.
    ///
    /// Returns:
    ///     A list of tuples. Those that are claimed are not in it.
    #[pyo3(signature = (template=None, /))]
    fn read_all<'py>(
        &self,
        py: Python<'py>,
        template: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        self.check()?;
        let template = any_or(template)?;
        let mut found: Vec<Tuple> = Vec::new();
        match &self.seat() {
            Seat::Here(home) => act(&home.shared, |space, outside| {
                space.visit(&template, outside, &mut |tuple| found.push(Arc::clone(tuple)));
            }),
            Seat::Far(far) => {
                found = decode_tuples(&far.ask(py, far::Act::All(template))?).map_err(garbled)?
            }
        }
        let list = PyList::empty(py);
        for tuple in found {
            list.append(fields::to_python(py, &tuple)?)?;
        }
        Ok(list)
    }

    /// How many tuples are there now and match. Those that are claimed do not count.
    ///
    /// Args:
    ///     template: what they must be like; by default anything.
    #[pyo3(signature = (template=None, /))]
    fn count(&self, py: Python<'_>, template: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        self.check()?;
        let template = any_or(template)?;
        match &self.seat() {
            Seat::Here(home) => Ok(act(&home.shared, |space, outside| space.count(&template, outside))),
            Seat::Far(far) => far::number(&far.ask(py, far::Act::Count(template))?),
        }
    }

    /// Watches for tuples: each one that is written from now on, also one that somebody takes at once.
    ///
    /// A tuple that comes back (a claim that ran out, a transaction that was rolled back) was not written, and is not seen
    /// again; nor is it seen that one is taken or that its lease ends.
    ///
    /// Args:
    ///     template: what they must be like; by default anything.
    ///     capacity: how many are kept that have not been looked at. Beyond that the oldest are dropped, and the next look
    ///         raises ``WatchLagged``.
    ///
    /// Returns:
    ///     A ``Watch``: receive from it, or ``async for``; ``with`` ends it.
    #[pyo3(signature = (template=None, /, capacity=1000))]
    fn watch(slf: Bound<'_, Self>, template: Option<&Bound<'_, PyAny>>, capacity: usize) -> PyResult<Watch> {
        if capacity == 0 {
            return Err(errors::wrong_value("capacity must be a whole number > 0"));
        }
        Watch::begin(slf.py(), slf.unbind(), any_or(template)?, capacity)
    }

    /// Begins a transaction: several takes and writes that are one act.
    ///
    /// At the end of its ``with`` block all of it has happened, at once; when the block is left by an exception, nothing:
    /// what was taken is back in its place, and what was written was never there.
    fn transaction(slf: Bound<'_, Self>) -> PyResult<Transaction> {
        Transaction::begin(slf.py(), slf.unbind())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.count(py, None)
    }

    /// For another process: the space stays where it is, and a handle to it goes there. One on a file that this process does
    /// not own is opened there, too, so that it goes on when its owner is gone.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let (py, space) = (slf.py(), slf.get());
        space.check()?;
        let core = py.import("thistledown._core")?;
        let (id, ticket) = match (&space.at, space.seat()) {
            (At::File(file), Seat::Far(_)) => {
                let given = (file.path(), file.is_synced()).into_pyobject(py)?;
                return Ok((core.getattr("_space_on_file")?, given));
            }
            (_, Seat::Here(home)) => home.ticket()?,
            (_, Seat::Far(far)) => far.ticket(py)?,
        };
        let name = PyBytes::new(py, &tickets::written(id, ticket));
        Ok((core.getattr("_space")?, (name,).into_pyobject(py)?))
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// Handles to one space are equal, also one that has come back from another process.
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast_exact::<Self>().is_ok_and(|other| other.get().identity() == self.identity())
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.identity().hash(&mut hasher);
        hasher.finish()
    }

    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let file = self.file().map(|file| format!(" in {}", file.path().display()));
        let tuples = match self.count(py, None) {
            Ok(count) => format!("{count} tuples"),
            Err(_) if matches!(self.seat(), Seat::Far(_)) => "gone".into(),
            Err(_) => "closed".into(),
        };
        let name = self.name();
        let number = name.trim_start_matches("space ");
        format!("<thistledown.Space {number}{}: {tuples}>", file.unwrap_or_default())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some(file) = self.file() {
            Python::attach(|py| {
                let _pending = errors::Pending::set_aside(py);
                file.close(py);
            });
        }
    }
}

/// A handle that was pickled.
#[pyfunction]
#[pyo3(name = "_space")]
pub(crate) fn space_from(name: &[u8]) -> PyResult<Space> {
    let (id, ticket) = tickets::read(name).ok_or_else(|| errors::wrong_value("this is no pickled space"))?;
    Ok(Space::at(At::Seat(far::find(id, Some(ticket))?)))
}

/// A space on a file, opened where it was sent to.
#[pyfunction]
#[pyo3(name = "_space_on_file")]
pub(crate) fn space_on_file(py: Python<'_>, path: PathBuf, fsync: bool) -> PyResult<Space> {
    Ok(Space::at(At::File(Opened::open(py, &path, fsync, false)?)))
}

/// Why a tuple cannot be written down.
pub(crate) fn cannot_be_written(error: CodecError) -> PyErr {
    errors::wrong_value(format!("the tuple cannot be written: {error}"))
}

impl SpaceOperation {
    pub(crate) fn make(space: Py<Space>, act: Act) -> Operation {
        Operation::new(Kind::Space(Box::new(Self::new(space, act))))
    }
}
