//! What an exchange promises, over real sockets; and with real processes that really die.
#![allow(clippy::unwrap_used, reason = "a test that finds something else has failed")]
#![allow(clippy::disallowed_types, reason = "real processes are started, to be killed")]

mod asks;
mod keeping;
mod processes;
mod shelf;
