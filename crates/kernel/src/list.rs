//! Wait lists: doubly linked through one slab of nodes, so that enlisting and undoing cost the same however many wait.

use slab::Slab;

use crate::ids::{ChannelId, KeyId, ScopeId, SourceId, SpotId, TaskId};

/// No node.
pub(crate) const NIL: u32 = u32::MAX;

/// Which list a node stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListName {
    Senders(ChannelId),
    Receivers(ChannelId),
    End(TaskId),
    Drain(ScopeId),
    Readable(SourceId),
    Writable(SourceId),
    Called(SpotId),
    Key(KeyId),
}

impl ListName {
    pub(crate) fn is_of_channel(self, id: ChannelId) -> bool {
        self == Self::Senders(id) || self == Self::Receivers(id)
    }
}

/// One want of one wait, standing in one list.
#[derive(Debug)]
pub(crate) struct Node<V> {
    pub(crate) list: ListName,
    pub(crate) party: TaskId,
    /// Which of the party's wants this is.
    pub(crate) branch: u16,
    /// What a sender brings.
    pub(crate) value: Option<V>,
    /// The same wait's next node.
    pub(crate) sibling: u32,
    previous: u32,
    next: u32,
}

impl<V> Node<V> {
    pub(crate) fn new(list: ListName, party: TaskId, branch: u16, value: Option<V>, sibling: u32) -> Self {
        Self { list, party, branch, value, sibling, previous: NIL, next: NIL }
    }
}

/// The two ends of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { head: NIL, tail: NIL }
    }
}

impl List {
    pub(crate) fn first(self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.head == NIL
    }

    pub(crate) fn push<V>(&mut self, nodes: &mut Slab<Node<V>>, index: u32) {
        nodes[index as usize].previous = self.tail;
        match self.tail {
            NIL => self.head = index,
            tail => nodes[tail as usize].next = index,
        }
        self.tail = index;
    }

    pub(crate) fn unlink<V>(&mut self, nodes: &mut Slab<Node<V>>, index: u32) {
        let (previous, next) = {
            let node = &nodes[index as usize];
            (node.previous, node.next)
        };
        match previous {
            NIL => self.head = next,
            previous => nodes[previous as usize].next = next,
        }
        match next {
            NIL => self.tail = previous,
            next => nodes[next as usize].previous = previous,
        }
    }

    /// The parties in the list, in order.
    pub(crate) fn parties<V>(self, nodes: &Slab<Node<V>>) -> impl Iterator<Item = TaskId> + '_ {
        let mut at = self.head;
        std::iter::from_fn(move || {
            let node = nodes.get(at as usize)?;
            at = node.next;
            Some(node.party)
        })
    }
}
