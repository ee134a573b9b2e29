//! The words for operations, for reports and for whoever looks: what is waited for, and whom by name.
//!
//! What it is not: nothing is decided by them.

use pyo3::prelude::*;

use super::{Kind, Operation};

/// Something that is waited for: its name, and itself.
pub(crate) type Target = (String, Py<PyAny>);

impl Operation {
    /// What it waits for, in words.
    pub(crate) fn describe(&self, py: Python<'_>) -> String {
        match &self.kind {
            Kind::Sleep(sleep) => sleep.describe(),
            Kind::After(_) => "after(...)".into(),
            Kind::Send(channel, _) => format!("send to {}", channel.get().describe()),
            Kind::Receive(channel) => format!("recv from {}", channel.get().describe()),
            Kind::Join(task) => format!("the end of task {}", task.get().name(py)),
            Kind::Drain(_) => "the end of a group's tasks".into(),
            Kind::Socket(operation) => operation.describe(),
            Kind::Poll(poll) => poll.describe(),
            Kind::Select(select) => select.describe(py),
            Kind::Thread(call) => call.describe(py),
            Kind::Switch(_) => "switch".into(),
            Kind::Space(operation) => operation.describe(py),
            Kind::Heard(heard) => heard.pledge.get().name(py),
        }
    }

    /// Whom or what it waits for, as far as that has a name: tasks and channels.
    pub(crate) fn targets(&self, py: Python<'_>, into: &mut Vec<Target>) {
        match &self.kind {
            Kind::Send(channel, _) | Kind::Receive(channel) => {
                into.push((channel.get().name(), channel.clone_ref(py).into_any()));
            }
            Kind::Join(task) => into.push((task.get().name(py), task.clone_ref(py).into_any())),
            Kind::Select(select) => select.targets(py, into),
            Kind::Space(operation) => operation.targets(py, into),
            Kind::Heard(heard) => {
                into.extend(heard.of.iter().map(|of| (of.get().name(py), of.clone_ref(py).into_any())))
            }
            _ => {}
        }
    }
}
