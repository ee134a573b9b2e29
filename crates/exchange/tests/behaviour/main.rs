//! What an exchange promises, over real sockets; and with real processes that really die.
#![allow(clippy::unwrap_used, reason = "a test that finds something else has failed")]

mod asks;
mod keeping;
mod processes;
mod shelf;
