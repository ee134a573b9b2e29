//! Worker processes, on both sides.
//!
//! In the program: a `pool` takes `functions` with `options`, makes parcels of calls (`freight`, `pickle`), and a `remote`
//! stands for each task until it has `ended`, which `settle` sees to; `herald` calls Python back, `engines` are known for forks, `ends` tells at the
//! end what nobody has asked for. In a worker: `child` runs tasks (`imports`, `traces` and `filters` keep one from being
//! another's burden), and `upstream` is its way to the pool it belongs to.

pub(crate) mod child;
pub(crate) mod ended;
pub(crate) mod ends;
pub(crate) mod engines;
pub(crate) mod filters;
pub(crate) mod freight;
pub(crate) mod functions;
pub(crate) mod herald;
pub(crate) mod imports;
pub(crate) mod mailbox;
pub(crate) mod options;
pub(crate) mod pickle;
pub(crate) mod place;
pub(crate) mod pool;
pub(crate) mod remote;
pub(crate) mod settle;
pub(crate) mod traces;
pub(crate) mod upstream;
