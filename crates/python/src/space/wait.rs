//! Operations of a space: writing, taking, reading, and receiving from a watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use rustix_futex_sync::Mutex;
use thistledown_exchange as exchange;
use thistledown_kernel::{Moment, TaskId, Want};
use thistledown_ledger::Told;
use thistledown_runtime::{Look, Name, Pending, SharedSpace};
use thistledown_space::{How, Ticket, TransactionId, Tuple, Wanted, decode_given};

use crate::current::{Current, Run};
use crate::errors;
use crate::operation::{Target, Wants};
use crate::outside::{outside, outside_until};
use crate::payload::WORLD;
use crate::space::claim;
use crate::space::far::wait::FarWait;
use crate::space::far::{self, FarSpace, Seat};
use crate::space::hub::bytes_of;
use crate::space::watch::Watch;
use crate::space::{Space, act, cannot_be_written, refused};

/// What is done.
pub(crate) enum Act {
    /// A tuple, its lease, and the transaction to which it belongs.
    Write(Tuple, Option<Duration>, Option<TransactionId>),
    Look(Arc<Wanted>),
    Receive(Py<Watch>),
}

/// Something that goes on elsewhere: this run knows that it may yet hear of it. Also for who has the space's lock.
fn begin_elsewhere() -> TaskId {
    let runner = Current::run().map(|run| run.runner);
    WORLD.with_left(|kernel| kernel.add_elsewhere(runner))
}

fn end_elsewhere(id: TaskId) {
    WORLD.with(|kernel| kernel.finish(id));
}

/// Something that ends when an act is in the file, and who ends it.
fn tell(disk: &mut Option<TaskId>) -> Told {
    let id = begin_elsewhere();
    *disk = Some(id);
    Box::new(move || end_elsewhere(id))
}

pub(crate) struct SpaceOperation {
    space: Py<Space>,
    act: Act,
    /// The place of the present wait among those who wait; zero while nobody does.
    ticket: AtomicU64,
    /// What is on its way to the disk.
    written: Mutex<Option<Written>>,
    /// What was asked of a space that is elsewhere.
    far: Mutex<Option<Arc<FarWait>>>,
    /// Somebody of another program may yet write what it waits for.
    hope: Mutex<Option<TaskId>>,
    /// One attempt is all the time there is.
    hurries: AtomicBool,
}

struct Written {
    /// Ends when it is there.
    disk: TaskId,
    /// A tuple that was found, and what is pending; or what is pending alone.
    look: Result<Look, Pending>,
}

impl SpaceOperation {
    pub(crate) fn new(space: Py<Space>, act: Act) -> Self {
        Self {
            space,
            act,
            ticket: AtomicU64::new(0),
            written: Mutex::new(None),
            far: Mutex::new(None),
            hope: Mutex::new(None),
            hurries: AtomicBool::new(false),
        }
    }

    /// One attempt is to give what there is, which sleeps for the disk and for answers of other processes.
    pub(crate) fn hurry(&self) {
        self.hurries.store(true, Ordering::Relaxed);
    }

    fn ticket(&self) -> Option<Ticket> {
        Ticket::from_number(self.ticket.load(Ordering::Relaxed))
    }

    /// How many wants it has.
    pub(crate) fn wants(&self) -> usize {
        if matches!(self.act, Act::Look(_)) { 2 } else { 1 }
    }

    pub(crate) fn attempt(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let space = self.space.get();
        space.check()?;
        let known = self.far.lock().clone();
        if let Some(wait) = known {
            // Wherever the space is by now.
            return self.hear_far(py, &wait);
        }
        let shared = match (space.seat(), &self.act) {
            (_, Act::Receive(watch)) => return watch.get().next(py),
            (Seat::Far(far), _) => return self.attempt_far(py, &far),
            (Seat::Here(home), _) => Arc::clone(&home.shared),
        };
        let written = self.written.lock().take();
        if let Some(written) = written {
            return self.written(py, &shared, written);
        }
        match &self.act {
            Act::Write(tuple, lease, Some(id)) => {
                let (tuple, lease) = (Arc::clone(tuple), *lease);
                let written = act(&shared, |space, outside| space.write_within(*id, tuple, lease, outside));
                written.map_err(refused)?;
                Ok(Some(py.None()))
            }
            Act::Write(tuple, lease, None) => {
                let tuple = (Arc::clone(tuple), *lease);
                let mut disk = None;
                let told = shared.ledger().map(|_| tell(&mut disk));
                let pending = shared.begin_write(&WORLD, Run::now(), tuple, told);
                match (pending.map_err(cannot_be_written)?, disk) {
                    (Some(pending), Some(disk)) => {
                        self.written(py, &shared, Written { disk, look: Err(pending) })
                    }
                    _ => Ok(Some(py.None())),
                }
            }
            Act::Look(wanted) => {
                let mut disk = None;
                let told = || Some(tell(&mut disk));
                let look = shared.look(&WORLD, Run::now(), (wanted, self.ticket()), None, told);
                let Some(look) = look.map_err(refused)? else { return Ok(None) };
                let Some(disk) = disk else { return claim::given(py, &self.space, &shared, look).map(Some) };
                // It waits for the disk now, and not for tuples.
                self.leave();
                self.written(py, &shared, Written { disk, look: Ok(look) })
            }
            Act::Receive(watch) => watch.get().next(py),
        }
    }

    /// Asks a space that is elsewhere.
    fn attempt_far(&self, py: Python<'_>, far: &Arc<FarSpace>) -> PyResult<Option<Py<PyAny>>> {
        let within = match &self.act {
            Act::Look(wanted) => wanted.within,
            _ => None,
        };
        let wait = far.begin(within, |number| match &self.act {
            Act::Write(tuple, lease, within) => far::Act::Write(Arc::clone(tuple), *lease, *within),
            Act::Look(wanted) => far::Act::Look(Arc::clone(wanted), Some(number)),
            Act::Receive(_) => unreachable!("a watch has what it has seen"),
        })?;
        *self.far.lock() = Some(Arc::clone(&wait));
        if !self.hurries.load(Ordering::Relaxed) {
            return Ok(None);
        }
        outside_until(py, |at_most| wait.listen(at_most))?;
        self.hear_far(py, &wait)
    }

    /// Looks what came of what was asked.
    fn hear_far(&self, py: Python<'_>, wait: &FarWait) -> PyResult<Option<Py<PyAny>>> {
        let Some(told) = wait.take_told() else {
            wait.look_if_due();
            return Ok(None);
        };
        let result = self.told(py, &wait.space, wait, told);
        self.leave_far();
        result.map(Some)
    }

    fn told(
        &self,
        py: Python<'_>,
        far: &FarSpace,
        wait: &FarWait,
        told: exchange::Told,
    ) -> PyResult<Py<PyAny>> {
        match (told, &self.act) {
            (exchange::Told::Offer(body), Act::Look(wanted)) => {
                let given = bytes_of(&body).and_then(|bytes| decode_given(&bytes)).map_err(far::garbled)?;
                claim::given_far(py, &self.space, far, wanted, &given, || wait.accept())
            }
            (exchange::Told::Offer(_) | exchange::Told::Answer(_), _) => {
                wait.accept();
                Ok(py.None())
            }
            (exchange::Told::Refusal { code, body }, _) => Err(far::refusal(code, &body)),
            (exchange::Told::Broken(why), _) => Err(far::broken(why)),
        }
    }

    fn leave_far(&self) {
        let wait = self.far.lock().take();
        if let Some(wait) = wait {
            wait.end();
        }
    }

    /// Ends what is in the file; or it goes on waiting for that.
    fn written(&self, py: Python<'_>, shared: &SharedSpace, written: Written) -> PyResult<Option<Py<PyAny>>> {
        let pending = match &written.look {
            Ok(look) => look.pending.as_ref(),
            Err(pending) => Some(pending),
        };
        let mut state = pending.map_or(Some(Ok(())), Pending::state);
        if let (None, true, Some(pending)) = (&state, self.hurries.load(Ordering::Relaxed), pending) {
            state = Some(outside(py, || pending.wait()));
        }
        let Some(state) = state else {
            *self.written.lock() = Some(written);
            return Ok(None);
        };
        end_elsewhere(written.disk);
        match (written.look, &state) {
            (Ok(look), Ok(())) => return claim::given(py, &self.space, shared, look).map(Some),
            (Ok(Look { pending: Some(pending), .. }) | Err(pending), _) => {
                shared.finish(&WORLD, Run::now(), pending, state.is_ok());
            }
            (Ok(_), Err(_)) => {}
        }
        state.map_err(|error| errors::of_ledger(&error)).map(|()| Some(py.None()))
    }

    pub(crate) fn want(&self, wants: &mut Wants<'_>) {
        if let Some(written) = &*self.written.lock() {
            wants.push(Want::End(written.disk));
            // As many as it has in every state.
            if self.wants() == 2 {
                wants.push(Want::Until(Moment::NEVER));
            }
            return;
        }
        if let Some(wait) = &*self.far.lock() {
            wants.push(Want::Called(wait.spot));
            if self.wants() == 2 {
                wants.push(Want::Until(wait.looks()));
            }
            return;
        }
        match (&self.act, self.space.get().seat()) {
            (Act::Receive(watch), _) => {
                if let Some(home) = watch.get().home() {
                    self.hope_for_others(&home.shared);
                }
                wants.push(Want::Called(watch.get().spot));
            }
            (Act::Look(wanted), Seat::Here(home)) => {
                self.hope_for_others(&home.shared);
                let at = home.shared.enlist(&WORLD, Run::now(), wanted, self.ticket());
                self.ticket.store(at.ticket.number(), Ordering::Relaxed);
                if let Name::Here(spot) = at.name {
                    wants.push(Want::Called(spot));
                }
                wants.push(Want::Until(at.looks));
            }
            // It never has to wait, or has to ask first.
            (Act::Look(_), Seat::Far(_)) => {
                wants.push(Want::Until(Moment::default()));
                wants.push(Want::Until(Moment::NEVER));
            }
            (Act::Write(..), _) => wants.push(Want::Until(Moment::default())),
        }
    }

    /// It is over, however it ended: what has not happened will not.
    pub(crate) fn release(&self) {
        self.leave();
        self.leave_far();
        let Some(written) = self.written.lock().take() else { return };
        end_elsewhere(written.disk);
        let pending = match written.look {
            Ok(look) => look.pending,
            Err(pending) => Some(pending),
        };
        if let (Some(pending), Ok(()), Seat::Here(home)) =
            (pending, self.space.get().check(), self.space.get().seat())
        {
            home.shared.undo(&WORLD, Run::now(), pending);
        }
    }

    /// It waits for tuples no more.
    fn leave(&self) {
        if let Some(ticket) = Ticket::from_number(self.ticket.swap(0, Ordering::Relaxed))
            && !self.space.get().is_of_parent()
            && let Seat::Here(home) = self.space.get().seat()
        {
            home.shared.release(&WORLD, Run::now(), ticket);
        }
        let hope = self.hope.lock().take();
        hope.into_iter().for_each(end_elsewhere);
    }

    /// What is not in a file now another program may write. A clock that jumps when nothing happens has no other programs.
    fn hope_for_others(&self, shared: &SharedSpace) {
        let is_virtual = Current::run().is_some_and(|run| run.clock.is_virtual());
        if shared.is_used_by_others() && !is_virtual {
            self.hope.lock().get_or_insert_with(begin_elsewhere);
        }
    }

    pub(crate) fn describe(&self, py: Python<'_>) -> String {
        let space = self.space.get().name();
        match &self.act {
            Act::Write(..) => format!("write to {space}"),
            Act::Look(wanted) if wanted.how == How::Read => format!("read {} from {space}", wanted.template),
            Act::Look(wanted) => format!("take {} from {space}", wanted.template),
            Act::Receive(watch) => format!("recv from {}", watch.get().describe(py)),
        }
    }

    pub(crate) fn targets(&self, py: Python<'_>, into: &mut Vec<Target>) {
        into.push((self.space.get().name(), self.space.clone_ref(py).into_any()));
    }

    /// Whether no other process has the space.
    pub(crate) fn is_own(&self) -> bool {
        self.space.get().is_own()
    }

    pub(crate) fn copy(&self, py: Python<'_>) -> Self {
        let act = match &self.act {
            Act::Write(tuple, lease, within) => Act::Write(Arc::clone(tuple), *lease, *within),
            Act::Look(wanted) => Act::Look(Arc::clone(wanted)),
            Act::Receive(watch) => Act::Receive(watch.clone_ref(py)),
        };
        Self::new(self.space.clone_ref(py), act)
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.space)?;
        match &self.act {
            Act::Receive(watch) => visit.call(watch),
            _ => Ok(()),
        }
    }
}

/// A wait that nobody ended: its run was given up.
impl Drop for SpaceOperation {
    fn drop(&mut self) {
        Python::try_attach(|py| {
            let _pending = errors::Pending::set_aside(py);
            self.release();
        });
    }
}
