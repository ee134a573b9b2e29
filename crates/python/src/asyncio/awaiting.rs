//! `await` in an asyncio task: the same protocol as in a weightless task, with a future of the loop between.
//!
//! An operation is tried first. When that fails, a visitor of the loop's guest is enlisted for what the operation wants,
//! and the asyncio task waits for a future whose result is set when one of the wants is met. A cancellation by asyncio
//! undoes the wait, also inside of a shield of ours: who has asked for it, and where, asyncio does not say, and it may be a
//! timeout of its own inside of that shield. What had been committed to when it came counts: the value is given, and the
//! cancellation is delivered at the task's next wait. Only a group that waits for its cancelled tasks goes on waiting.

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;
use rustix_futex_sync::Mutex;
use thistledown_kernel::{TaskId, Wake};
use thistledown_runtime::Clock;

use crate::actor::message;
use crate::asyncio::guest::{Busy, Guest, Held};
use crate::asyncio::loops;
use crate::channel::ChannelIterator;
use crate::current::Current;
use crate::errors::{self, Quick};
use crate::held_open;
use crate::operation::{Operation, Step, Wants};
use crate::payload::WORLD;

/// Where a wait stands.
enum State {
    Fresh,
    /// It has let others have their turn first.
    GaveWay,
    Waits(Enlisted),
    Over,
}

/// A visitor that waits.
struct Enlisted {
    guest: Py<Guest>,
    /// The operation, or a copy when it is waited for elsewhere at the same time.
    operation: Py<Operation>,
    visitor: TaskId,
    /// The visitor was made for this wait.
    is_own: bool,
    future: Py<PyAny>,
}

/// Waits for an operation in an asyncio task.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Wait {
    operation: Py<Operation>,
    /// For ``async for``: a closed channel ends it.
    iterates: bool,
    state: Mutex<State>,
}

impl Wait {
    /// The awaiter where no weightless task has its turn.
    #[cold]
    pub(crate) fn elsewhere(operation: Bound<'_, Operation>) -> Quick<Bound<'_, PyAny>> {
        Self::make(operation, false)
    }

    /// The awaiter of the next value of a channel.
    #[cold]
    pub(crate) fn for_next(iterator: Bound<'_, ChannelIterator>) -> Quick<Bound<'_, PyAny>> {
        let py = iterator.py();
        Self::make(iterator.get().receive.bind(py).clone(), true)
    }

    fn make(operation: Bound<'_, Operation>, iterates: bool) -> Quick<Bound<'_, PyAny>> {
        let py = operation.py();
        let wait = Self { operation: operation.unbind(), iterates, state: Mutex::new(State::Fresh) };
        Ok(Bound::new(py, wait)?.into_any())
    }

    fn take(&self) -> State {
        std::mem::replace(&mut *self.state.lock(), State::Over)
    }

    /// The future to be yielded, or what a weightless task yields.
    pub(crate) fn yielded(&self, py: Python<'_>) -> Py<PyAny> {
        match &*self.state.lock() {
            State::Waits(enlisted) => enlisted.future.clone_ref(py),
            _ => self.operation.clone_ref(py).into_any(),
        }
    }

    /// One step, in whichever task it is made.
    pub(crate) fn step(&self, py: Python<'_>) -> Step {
        // Made before its task had its turn, as by an object whose `__await__` was called by `td.go`.
        if Current::task().is_some() {
            return self.operation.get().step(py);
        }
        let stepped = match self.take() {
            State::Fresh => self.begin(py, true),
            State::GaveWay if self.operation.get().gives_way() => Ok(Step::Return(py.None())),
            State::GaveWay => self.begin(py, false),
            State::Waits(enlisted) => self.resume(py, enlisted),
            State::Over => Err(errors::misuse("this wait is over: await the operation again")),
        };
        stepped.unwrap_or_else(|error| self.translated(py, error).into())
    }

    fn translated(&self, py: Python<'_>, error: PyErr) -> PyErr {
        let closes = self.iterates && error.get_type(py).is(errors::channel_closed(py, "").get_type(py));
        if closes { PyStopAsyncIteration::new_err(()) } else { error }
    }

    fn begin(&self, py: Python<'_>, may_give_way: bool) -> PyResult<Step> {
        let operation = self.operation.get();
        let Some(guest) = loops::here(py)? else { return Ok(operation.needs_task(py)) };
        let this = guest.get();
        let visitor = this.visitors.of_this_task(py, &this.event_loop)?;
        if let Some(visitor) = visitor {
            if Current::with(|current| current.held_open.get()) > 0 {
                held_open::check(py, visitor)?;
            }
            if WORLD.with(|kernel| kernel.is_cancelled(visitor)) {
                this.visitors.is_told(visitor);
                return Err(cancelled(py));
            }
        }
        if may_give_way && (operation.gives_way() || !this.spend(py)) {
            *self.state.lock() = State::GaveWay;
            return Ok(Step::GiveWay);
        }
        let _busy = Busy::new(&guest);
        if let Some(value) = operation.attempt(py)? {
            return Ok(Step::Return(value));
        }
        let operation = Operation::awaiter(self.operation.bind(py).clone())?;
        operation.get().set_waiting();
        self.enlist(&guest, operation, visitor)
    }

    fn enlist(
        &self,
        guest: &Bound<'_, Guest>,
        operation: Bound<'_, Operation>,
        visitor: Option<TaskId>,
    ) -> PyResult<Step> {
        let (py, this) = (guest.py(), guest.get());
        let enlisted = Self::wait(guest, &operation, visitor);
        let (visitor, is_own, future) = enlisted.inspect_err(|_| operation.get().abandon())?;
        let (guest, operation) = (guest.clone().unbind(), operation.unbind());
        this.hold(visitor, Held { future: future.clone_ref(py), operation: operation.clone_ref(py) });
        *self.state.lock() = State::Waits(Enlisted { guest, operation, visitor, is_own, future });
        Ok(Step::Park)
    }

    fn wait(
        guest: &Bound<'_, Guest>,
        operation: &Bound<'_, Operation>,
        visitor: Option<TaskId>,
    ) -> PyResult<(TaskId, bool, Py<PyAny>)> {
        let (py, this) = (guest.py(), guest.get());
        let future = this.event_loop.call_method0(py, intern!(py, "create_future"))?;
        future.setattr(py, intern!(py, "_asyncio_future_blocking"), true)?;
        let mut wants = Wants::new(Some(this.run(py)));
        operation.get().want(py, &mut wants)?;
        let list = wants.list;
        let (lobby, runner, now) = (this.lobby(py), this.run(py).runner, Clock::System.now());
        let waits = WORLD.with(|kernel| {
            kernel.tell_time(runner, now);
            let Some(party) = visitor.or_else(|| kernel.add_visitor(lobby)) else { return Ok(None) };
            let waits = kernel.wait(party, list).inspect_err(|_| {
                if visitor.is_none() {
                    kernel.finish(party);
                }
            });
            waits.map(|()| Some(party))
        });
        match waits {
            Ok(Some(party)) => Ok((party, visitor.is_none(), future)),
            Ok(None) => Err(errors::misuse("the event loop of this wait is closed")),
            Err(cycle) => {
                message::take_back_joined(py, operation.get());
                Err(errors::deadlock(py, cycle.to_string()))
            }
        }
    }

    /// Its future has a result.
    fn resume(&self, py: Python<'_>, enlisted: Enlisted) -> PyResult<Step> {
        let guest = enlisted.guest.bind(py).clone();
        let _busy = Busy::new(&guest);
        match enlisted.withdraw() {
            Some(Wake::Event { branch, event }) => {
                match enlisted.operation.get().conclude(py, branch, event) {
                    Ok(None) => self.go_on(&guest, enlisted),
                    concluded => {
                        enlisted.leave();
                        Ok(Step::Return(concluded?.unwrap_or_else(|| py.None())))
                    }
                }
            }
            Some(Wake::Cancelled) => {
                enlisted.leave();
                Err(cancelled(py))
            }
            // Somebody else has set the future.
            _ => self.go_on(&guest, enlisted),
        }
    }

    /// Waits again for the same.
    fn go_on(&self, guest: &Bound<'_, Guest>, enlisted: Enlisted) -> PyResult<Step> {
        let visitor = (!enlisted.is_own).then_some(enlisted.visitor);
        let operation = enlisted.operation.bind(guest.py()).clone();
        enlisted.leave_visitor();
        self.enlist(guest, operation, visitor)
    }

    /// An error is thrown in: asyncio's cancellation, most likely.
    fn thrown(&self, py: Python<'_>, error: PyErr) -> PyResult<Step> {
        let is_cancellation = error.is_instance(py, &cancelled(py).get_type(py));
        let enlisted = match self.take() {
            State::Waits(enlisted) => enlisted,
            _ => return Err(error),
        };
        let guest = enlisted.guest.bind(py).clone();
        let this = guest.get();
        let _busy = Busy::new(&guest);
        let committed = enlisted.withdraw();
        if !is_cancellation {
            enlisted.give_back(committed);
            return Err(error);
        }
        if let Some(Wake::Event { branch, event }) = committed {
            match enlisted.operation.get().conclude(py, branch, event) {
                Ok(None) => {}
                concluded => {
                    enlisted.leave();
                    this.visitors.deliver_later(&guest, &error)?;
                    let value = concluded.map_err(|error| self.translated(py, error))?;
                    return Ok(Step::Return(value.unwrap_or_else(|| py.None())));
                }
            }
        }
        let visitor = enlisted.visitor;
        if enlisted.operation.get().is_for_cancelled_group()
            && WORLD.with(|kernel| kernel.is_shielded(visitor) && !kernel.is_cancelled(visitor))
        {
            this.visitors.owe(visitor);
            return self.go_on(&guest, enlisted);
        }
        enlisted.leave();
        Err(error)
    }
}

impl Enlisted {
    fn withdraw(&self) -> Option<Wake<Py<PyAny>>> {
        self.guest.get().let_go(self.visitor);
        WORLD.with(|kernel| kernel.withdraw(self.visitor))
    }

    fn leave_visitor(&self) {
        if self.is_own {
            WORLD.with(|kernel| kernel.finish(self.visitor));
        }
    }

    /// The wait is over, and nobody is there for what it has committed to.
    fn give_back(self, committed: Option<Wake<Py<PyAny>>>) {
        if let Some(Wake::Event { branch, event }) = committed {
            self.operation.get().give_back(branch, event);
        }
        self.leave();
    }

    /// The wait is over.
    fn leave(self) {
        self.leave_visitor();
        self.operation.get().abandon();
    }
}

/// What asyncio raises in a task that is cancelled.
pub(crate) fn cancelled(py: Python<'_>) -> PyErr {
    static CLASS: pyo3::sync::PyOnceLock<Py<PyType>> = pyo3::sync::PyOnceLock::new();
    match CLASS.import(py, "asyncio.exceptions", "CancelledError") {
        Ok(class) => PyErr::from_type(class.clone(), ()),
        Err(error) => error,
    }
}

#[pymethods]
impl Wait {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.step(py) {
            Step::Return(value) => Err(PyStopIteration::new_err((value,))),
            Step::Park => Ok(Some(self.yielded(py))),
            Step::GiveWay => Ok(Some(py.None())),
            Step::Raise(thrown) => Err(thrown.into()),
        }
    }

    fn send(&self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Option<Py<PyAny>>> {
        self.__next__(py)
    }

    #[pyo3(signature = (error, value=None, _trace=None))]
    fn throw(
        &self,
        py: Python<'_>,
        error: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        _trace: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = match value {
            Some(value) if value.is_instance_of::<PyBaseException>() => value,
            _ => error,
        };
        let error = match error.cast_into::<PyType>() {
            Ok(class) => PyErr::from_type(class, ()),
            Err(error) => PyErr::from_value(error.into_inner()),
        };
        if Current::task().is_some() {
            self.operation.get().abandon();
            return Err(error);
        }
        match self.thrown(py, error)? {
            Step::Return(value) => Err(PyStopIteration::new_err((value,))),
            Step::Park => Ok(self.yielded(py)),
            Step::GiveWay => Err(PyRuntimeError::new_err("a wait gives way only when it begins")),
            Step::Raise(thrown) => Err(thrown.into()),
        }
    }

    fn close(&self) {
        if let State::Waits(enlisted) = self.take() {
            let committed = enlisted.withdraw();
            enlisted.give_back(committed);
        }
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<wait for {}>", self.operation.get().describe(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.operation)?;
        if let Some(state) = self.state.try_lock()
            && let State::Waits(enlisted) = &*state
        {
            visit.call(&enlisted.guest)?;
            visit.call(&enlisted.operation)?;
            visit.call(&enlisted.future)?;
        }
        Ok(())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if matches!(self.state.get_mut(), State::Waits(_)) {
            Python::try_attach(|_| self.close());
        }
    }
}
