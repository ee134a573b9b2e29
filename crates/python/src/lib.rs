//! The PyO3 binding, `thistledown._core`: one conversion layer, one error map. Only this crate names `pyo3`.
//!
//! - `payload` says what the kernel carries for Python, and holds the one world of the process.
//! - `operation` is the protocol that every wait goes through; `select`, `channel`, `socket` (with `verbs` and `stream`), `poll`, `thread_call`,
//!   `switch`, `space_wait`, `scope` and `task` are its kinds. `thread_wait` is the same for a plain thread.
//! - `scope` is the blocks: `thread_scope` whose they are in a plain thread, `held_open` finds those of a generator that
//!   stands still, `stop` and `group_call` reach members that run elsewhere.
//! - `body` says what can be a task, `go` starts one, `group` in a group, `turn` gives it its turns, `run` rules the whole,
//!   `report` says what is wrong, `survey` how everything stands, `window` tells that to whoever asks from outside.
//! - `space` with its `claim`, `transaction` and `watch` is the shared space; `fields` is what stands in its tuples.
//! - `slots` and `objects` are the hot path, `root` keeps live tasks out of the collector's way, `buffer`, `scratch`, `descriptor` and `fork` touch the operating system.
//!
//! The module asks for the interpreter lock: what a turn borrows, what a root untracks and the memory that is used again
//! (`objects`) rest on it. Nothing else does, so that a free-threaded build is a matter of these.
//!
//! Invariants: no lock is held while Python code runs; every held reference is traversed; the interpreter is let go
//! before any sleep.

mod body;
mod buffer;
mod channel;
mod child;
mod claim;
mod context;
mod current;
mod descriptor;
mod ends;
mod engines;
mod errors;
mod fields;
mod filters;
mod fork;
mod freight;
mod functions;
mod go;
mod group;
mod group_call;
mod guest;
mod held_open;
mod herald;
mod imports;
mod objects;
mod operation;
mod options;
mod outside;
mod payload;
mod pickle;
mod poll;
mod pool;
mod remote;
mod report;
mod root;
mod run;
mod scope;
mod scratch;
mod select;
mod slots;
mod socket;
mod space;
mod space_wait;
mod stop;
mod stream;
mod survey;
mod switch;
mod task;
mod thread_call;
mod thread_scope;
mod thread_wait;
mod timers;
mod traces;
mod transaction;
mod turn;
mod upstream;
mod verbs;
mod watch;
mod window;

use pyo3::prelude::*;

/// The engine of thistledown. Import `thistledown` instead.
#[pymodule(gil_used = true)]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult, body, fork, slots};

    #[pymodule_export]
    use super::body::makes_body;
    #[pymodule_export]
    use super::channel::{Channel, ChannelIterator};
    #[pymodule_export]
    use super::child::{Child, Job};
    #[pymodule_export]
    use super::claim::Claim;
    #[pymodule_export]
    use super::ends::{die_of_interrupt, take_unasked};
    #[pymodule_export]
    use super::engines::pools_have_tasks;
    #[pymodule_export]
    use super::fields::{Pattern, between, one_of};
    #[pymodule_export]
    use super::fork::after_fork_in_child;
    #[pymodule_export]
    use super::freight::Slice;
    #[pymodule_export]
    use super::go::{current_task, go, go_in};
    #[pymodule_export]
    use super::group::Group;
    #[pymodule_export]
    use super::guest::Guest;
    #[pymodule_export]
    use super::held_open::generator_begins;
    #[pymodule_export]
    use super::herald::{fall_silent, herald_rests, tell_news};
    #[pymodule_export]
    use super::imports::set_importing;
    #[pymodule_export]
    use super::operation::Operation;
    #[pymodule_export]
    use super::options::Options;
    #[pymodule_export]
    use super::poll::{readable, writable};
    #[pymodule_export]
    use super::pool::Pool;
    #[pymodule_export]
    use super::run::{attend, count_interrupts, run, stop_runs};
    #[pymodule_export]
    use super::scope::{Scope, move_on_after, shield, timeout};
    #[pymodule_export]
    use super::select::select;
    #[pymodule_export]
    use super::socket::Socket;
    #[pymodule_export]
    use super::space::Space;
    #[pymodule_export]
    use super::survey::{survey, survey_pools};
    #[pymodule_export]
    use super::switch::switch;
    #[pymodule_export]
    use super::task::{Task, set_task_class};
    #[pymodule_export]
    use super::thread_call::thread;
    #[pymodule_export]
    use super::timers::{after, is_cancelled, sleep};
    #[pymodule_export]
    use super::transaction::Transaction;
    #[pymodule_export]
    use super::watch::Watch;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        fork::watch();
        body::learn_states(module.py())?;
        body::learn_code(module.py())?;
        module.add("INTERRUPT_SIGNAL", thistledown_workers::INTERRUPT_SIGNAL)?;
        module.add("LINES_SIGNAL", thistledown_workers::LINES_SIGNAL)?;
        slots::install(module)
    }
}
