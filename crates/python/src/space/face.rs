//! What Python calls on a space.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use thistledown_space::{How, Tuple, decode_tuples};

use super::arguments::{self, any_or, fsync_or_not, how, of_watch, path_or_none, repair_or_not, wanted};
use super::far::{self, Seat, garbled};
use super::file::Opened;
use super::home::Home;
use super::transaction::Transaction;
use super::wait::{Act, SpaceOperation};
use super::watch::Watch;
use super::{At, Space, act, cannot_be_written, claim, fields, refused, settle};
use crate::channel::tickets;
use crate::current::{Run, seconds_or_none};
use crate::errors;
use crate::identity;
use crate::operation::Operation;
use crate::outside::outside;
use crate::payload::WORLD;

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
    ///     ValueError: it is a file of something else, which is left as it was; or it is open in this process under another
    ///         name.
    ///     OSError: it cannot be opened.
    ///     TypeError: ``fsync`` or ``repair`` is no bool, or there is no file to repair.
    #[new]
    #[pyo3(signature = (path=None, /, *, fsync=true, repair=false))]
    fn new(
        py: Python<'_>,
        #[pyo3(from_py_with = path_or_none)] path: Option<PathBuf>,
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
        Err(errors::plain_block("the block of a space is a plain one"))
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
        let act = Act::Write(fields::tuple(tuple)?, arguments::lease(lease)?, None);
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
        let (py, tuple, lease) = (tuple.py(), fields::tuple(tuple)?, arguments::lease(lease)?);
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
    fn watch(
        slf: Bound<'_, Self>,
        template: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = of_watch)] capacity: usize,
    ) -> PyResult<Watch> {
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
        identity::are_same(self, other)
    }

    fn __hash__(&self) -> u64 {
        identity::hash(self)
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
