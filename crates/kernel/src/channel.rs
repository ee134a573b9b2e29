//! Channels: a bounded buffer and two wait lists, served in order. Capacity zero is a rendezvous.
//!
//! A value is handed straight to the first receiver that waits, so nobody can overtake it; a sender that waits keeps
//! its value in its own node until there is room. Go's channels are the model; closing lets what is buffered be read.

use std::collections::VecDeque;

use crate::ids::{ChannelId, TaskId};
use crate::kernel::{Kernel, Payload};
use crate::list::List;
use crate::wait::Event;

#[derive(Debug)]
pub(crate) struct Channel<V> {
    pub(crate) capacity: usize,
    pub(crate) buffer: VecDeque<V>,
    pub(crate) senders: List,
    pub(crate) receivers: List,
    pub(crate) closed: bool,
}

/// Why a value was not sent; it comes back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendRefused<V> {
    /// No room, and nobody waits for a value.
    #[error("the channel is full")]
    Full(V),
    /// The channel is closed.
    #[error("the channel is closed")]
    Closed(V),
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvRefused {
    /// Nothing there now.
    #[error("the channel is empty")]
    Empty,
    /// Nothing there, and nothing will ever be.
    #[error("the channel is closed")]
    Closed,
}

impl<P: Payload> Kernel<P> {
    /// A new channel with room for `capacity` values.
    pub fn open_channel(&mut self, capacity: usize) -> ChannelId {
        self.channels.insert(Channel {
            capacity,
            buffer: VecDeque::new(),
            senders: List::default(),
            receivers: List::default(),
            closed: false,
        })
    }

    /// Forgets a channel that nobody can name any more. What lay in it is spent.
    pub fn drop_channel(&mut self, id: ChannelId) {
        self.close_channel(id);
        if let Some(channel) = self.channels.remove(id) {
            self.spent_values.extend(channel.buffer);
        }
    }

    /// Sends without waiting.
    #[inline(always)]
    pub fn try_send(&mut self, id: ChannelId, value: P::Value) -> Result<(), SendRefused<P::Value>> {
        let Some(channel) = self.channels.get_mut(id) else {
            return Err(SendRefused::Closed(value));
        };
        if channel.closed {
            return Err(SendRefused::Closed(value));
        }
        if let Some(node) = channel.receivers.first() {
            self.wake_node(node, Event::Received(value));
            return Ok(());
        }
        if channel.buffer.len() < channel.capacity {
            channel.buffer.push_back(value);
            return Ok(());
        }
        Err(SendRefused::Full(value))
    }

    /// Receives without waiting.
    #[inline(always)]
    pub fn try_recv(&mut self, id: ChannelId) -> Result<P::Value, RecvRefused> {
        let Some(channel) = self.channels.get_mut(id) else {
            return Err(RecvRefused::Closed);
        };
        let sender = channel.senders.first();
        if let Some(value) = channel.buffer.pop_front() {
            if channel.buffer.len() < channel.capacity
                && let Some(node) = sender
                && let Some(next) = self.nodes[node as usize].value.take()
            {
                channel.buffer.push_back(next);
                self.wake_node(node, Event::Sent);
            }
            return Ok(value);
        }
        let closed = channel.closed;
        if let Some(node) = sender
            && let Some(value) = self.nodes[node as usize].value.take()
        {
            self.wake_node(node, Event::Sent);
            return Ok(value);
        }
        Err(if closed { RecvRefused::Closed } else { RecvRefused::Empty })
    }

    /// Puts a value back that was handed to somebody who is not there any more: it is the next to be received, before
    /// what has come since, also where there is no room for it or the channel is closed.
    pub fn give_back(&mut self, id: ChannelId, value: P::Value) {
        let Some(channel) = self.channels.get_mut(id) else {
            self.spent_values.push(value);
            return;
        };
        match channel.receivers.first() {
            Some(node) => self.wake_node(node, Event::Received(value)),
            None => channel.buffer.push_front(value),
        }
    }

    /// Closes the channel: whoever waits at it learns so, senders keep what they had; what is buffered can still be
    /// received. Closing twice is the same as once.
    pub fn close_channel(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.closed = true;
        let (senders, receivers) = (channel.senders, channel.receivers);
        let waiting: Vec<TaskId> =
            senders.parties(&self.nodes).chain(receivers.parties(&self.nodes)).collect();
        for party in waiting {
            self.wake_from(party, |list| list.is_of_channel(id), Event::Closed);
        }
    }

    /// Whether the channel was closed, and how many values lie in its buffer.
    #[must_use]
    pub fn channel_state(&self, id: ChannelId) -> (bool, usize) {
        self.channels.get(id).map_or((true, 0), |channel| (channel.closed, channel.buffer.len()))
    }

    /// Shows each value in the channel's buffer. What a waiting sender brings is its own.
    pub fn visit_channel(&self, id: ChannelId, mut visit: impl FnMut(&P::Value)) {
        if let Some(channel) = self.channels.get(id) {
            channel.buffer.iter().for_each(&mut visit);
        }
    }

    /// Closes the channel because it goes on elsewhere: what lies in its buffer. Whoever waits learns that it is closed.
    pub fn move_channel(&mut self, id: ChannelId) -> VecDeque<P::Value> {
        let moved = self.channels.get_mut(id).map(|channel| std::mem::take(&mut channel.buffer));
        self.close_channel(id);
        moved.unwrap_or_default()
    }

    /// Empties the channel's buffer; the values are spent.
    pub fn clear_channel(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.get_mut(id) {
            self.spent_values.extend(channel.buffer.drain(..));
        }
    }
}
