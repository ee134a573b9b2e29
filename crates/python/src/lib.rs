//! The PyO3 binding, `thistledown._core`: one conversion layer, one error map. Only this crate names `pyo3`.
//!
//! - `payload` says what the kernel carries for Python, and holds the one world of the process.
//! - `operation` is the protocol that every wait goes through; `select`, `channel`, `socket` (with `verbs` and `stream`), `poll`, `thread_call`,
//!   `switch`, `space`, `scope` and `task` are its kinds. `thread_wait` is the same for a plain thread.
//! - `scope` is the blocks: `thread_scope` whose they are in a plain thread, `held_open` finds those of a generator that
//!   stands still, `stop` and `group_call` reach members that run elsewhere.
//! - `guest` is a run in another event loop (`loops` says whose, `rooms` who lives where, `lodger` gives turns), with `awaiting`, `visitor` and `foreign` for what is that loop's own.
//! - `body` says what can be a task, `go` starts one, `group` in a group, `turn` gives it its turns, `run` rules the whole,
//!   `report` says what is wrong, `survey` how everything stands, `window` tells that to whoever asks from outside.
//! - `space` is the shared space, and `fields` of it what stands in its tuples.
//! - `slots` and `objects` are the hot path, `root` keeps live tasks out of the collector's way, `buffer`, `scratch`, `descriptor` and `fork` touch the operating system.
//!
//! The module asks for the interpreter lock: what a turn borrows, what a root untracks and the memory that is used again
//! (`objects`) rest on it. Nothing else does, so that a free-threaded build is a matter of these.
//!
//! Invariants: no lock is held while Python code runs; every held reference is traversed; the interpreter is let go
//! before any sleep.

mod actor;
mod asyncio;
mod body;
mod channel;
mod context;
mod current;
mod errors;
mod face;
mod fork;
mod go;
mod group;
mod group_call;
mod held_open;
mod identity;
mod interrupts;
mod keys;
mod net;
mod objects;
mod operation;
mod outside;
mod payload;
mod pledge;
mod report;
mod root;
mod run;
mod runner;
mod scope;
mod select;
mod slots;
mod space;
mod stop;
mod survey;
mod switch;
mod tally;
mod task;
mod thread_call;
mod thread_scope;
mod thread_wait;
mod timers;
mod trail;
mod turn;
mod window;
mod workers;

use pyo3::prelude::*;

/// The engine of thistledown. Import `thistledown` instead.
#[pymodule(gil_used = true)]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult, body, fork, slots};

    #[pymodule_export]
    use super::actor::census::{count_messages, survey_actors};
    #[pymodule_export]
    use super::actor::counter::{Counter, Letter};
    #[pymodule_export]
    use super::actor::far::Far;
    #[pymodule_export]
    use super::actor::handle::{Handle, Method, Route};
    #[pymodule_export]
    use super::actor::{HereBox, home};
    #[pymodule_export]
    use super::asyncio::awaiting::Wait;
    #[pymodule_export]
    use super::asyncio::foreign::StandIn;
    #[pymodule_export]
    use super::asyncio::guest::Guest;
    #[pymodule_export]
    use super::asyncio::loops::would_stop_loop;
    #[pymodule_export]
    use super::body::makes_body;
    #[pymodule_export]
    use super::channel::door::shared_objects;
    #[pymodule_export]
    use super::channel::plain::PlainIterator;
    #[pymodule_export]
    use super::channel::shared_channels;
    #[pymodule_export]
    use super::channel::tickets::packs_anew;
    #[pymodule_export]
    use super::channel::{Channel, ChannelIterator, channel_from};
    #[pymodule_export]
    use super::face::set_module_class;
    #[pymodule_export]
    use super::fork::after_fork_in_child;
    #[pymodule_export]
    use super::go::{current_task, go, go_in};
    #[pymodule_export]
    use super::group::Group;
    #[pymodule_export]
    use super::held_open::generator_begins;
    #[pymodule_export]
    use super::interrupts::count_interrupts;
    #[pymodule_export]
    use super::net::poll::{readable, writable};
    #[pymodule_export]
    use super::net::socket::Socket;
    #[pymodule_export]
    use super::operation::Operation;
    #[pymodule_export]
    use super::pledge::{heard, pledge};
    #[pymodule_export]
    use super::run::runs::stop_runs;
    #[pymodule_export]
    use super::run::{attend, run};
    #[pymodule_export]
    use super::runner::{Runner, current_runner};
    #[pymodule_export]
    use super::scope::{Scope, move_on_after, shield, timeout};
    #[pymodule_export]
    use super::select::select;
    #[pymodule_export]
    use super::space::claim::Claim;
    #[pymodule_export]
    use super::space::fields::{Pattern, between, one_of};
    #[pymodule_export]
    use super::space::transaction::Transaction;
    #[pymodule_export]
    use super::space::watch::Watch;
    #[pymodule_export]
    use super::space::{Space, space_from, space_on_file};
    #[pymodule_export]
    use super::survey::{
        cancel_job, cancel_jobs, cancel_party, kill_job, spans, survey, survey_actors_in_workers,
        survey_pools,
    };
    #[pymodule_export]
    use super::switch::switch;
    #[pymodule_export]
    use super::tally::{set_observer, tallies};
    #[pymodule_export]
    use super::task::{Task, set_task_class};
    #[pymodule_export]
    use super::thread_call::thread;
    #[pymodule_export]
    use super::timers::{after, check_cancelled, is_cancellation, is_cancelled, sleep};
    #[pymodule_export]
    use super::workers::child::{Child, Job};
    #[pymodule_export]
    use super::workers::ends::{die_of_interrupt, take_unasked};
    #[pymodule_export]
    use super::workers::engines::pools_have_tasks;
    #[pymodule_export]
    use super::workers::freight::Slice;
    #[pymodule_export]
    use super::workers::herald::{fall_silent, herald_rests, tell_news};
    #[pymodule_export]
    use super::workers::imports::set_importing;
    #[pymodule_export]
    use super::workers::mailbox::Mailbox;
    #[pymodule_export]
    use super::workers::options::Options;
    #[pymodule_export]
    use super::workers::pool::Pool;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        fork::watch();
        body::learn_states(module.py())?;
        body::learn_code(module.py())?;
        module.add("INTERRUPT_SIGNAL", thistledown_workers::INTERRUPT_SIGNAL)?;
        module.add("LINES_SIGNAL", thistledown_workers::LINES_SIGNAL)?;
        module.add("ASK_LINES_SIGNAL", thistledown_workers::ASK_LINES_SIGNAL)?;
        slots::install(module)
    }
}
