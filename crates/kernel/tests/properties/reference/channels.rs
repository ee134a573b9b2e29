//! Channels, and what they hold; and spots.

use thistledown_kernel::{ChannelId, Event, Moment, RecvRefused, RunnerId, SpotId, Wake, Want};

use super::{Channel, Reference};

impl Reference {
    fn channel(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.channels.iter_mut().find(|channel| channel.id == id)
    }

    pub(crate) fn open_channel(&mut self, id: ChannelId, capacity: usize) {
        self.channels.push(Channel { id, capacity, buffer: Vec::new(), closed: false });
    }

    /// Whether it was closed is what comes back when the value was not taken.
    pub(crate) fn try_send(&mut self, id: ChannelId, value: u64) -> Result<(), bool> {
        let receivers = self.waiters(|want| matches!(want, Want::Receive(at) if *at == id));
        let Some(channel) = self.channel(id).filter(|channel| !channel.closed) else { return Err(true) };
        if let Some(&(task, branch)) = receivers.first() {
            self.wake_for(task, branch, Event::Received(value));
            return Ok(());
        }
        if channel.buffer.len() == channel.capacity {
            return Err(false);
        }
        channel.buffer.push(value);
        Ok(())
    }

    pub(crate) fn try_recv(&mut self, id: ChannelId) -> Result<u64, RecvRefused> {
        let Some(channel) = self.channel(id) else { return Err(RecvRefused::Closed) };
        let closed = channel.closed;
        let mut line = std::mem::take(&mut channel.buffer);
        if let Some(&(task, branch)) =
            self.waiters(|want| matches!(want, Want::Send(at, _) if *at == id)).first()
        {
            let want = std::mem::replace(&mut self.party(task).wants[branch], Want::Until(Moment::NEVER));
            let Want::Send(_, value) = want else { unreachable!("a sender") };
            line.push(value);
            self.wake_for(task, branch, Event::Sent);
        }
        if line.is_empty() {
            return Err(if closed { RecvRefused::Closed } else { RecvRefused::Empty });
        }
        let value = line.remove(0);
        self.channel(id).expect("still there").buffer = line;
        Ok(value)
    }

    pub(crate) fn close_channel(&mut self, id: ChannelId) {
        let Some(channel) = self.channel(id) else { return };
        channel.closed = true;
        let of_channel =
            |want: &Want<u64>| matches!(want, Want::Send(at, _) | Want::Receive(at) if *at == id);
        let senders = self.waiters(|want| matches!(want, Want::Send(..)) && of_channel(want));
        let receivers = self.waiters(|want| matches!(want, Want::Receive(_)) && of_channel(want));
        for (task, _) in senders.into_iter().chain(receivers) {
            if let Some(branch) = self.party(task).wants.iter().position(of_channel) {
                self.wake_for(task, branch, Event::Closed);
            }
        }
    }

    pub(crate) fn drop_channel(&mut self, id: ChannelId) {
        self.close_channel(id);
        if let Some(channel) = self.channel(id) {
            let buffer = std::mem::take(&mut channel.buffer);
            self.spent.extend(buffer);
        }
        self.channels.retain(|channel| channel.id != id);
    }

    pub(crate) fn attempt_spot(&mut self, id: SpotId) -> Option<Event<u64>> {
        match self.spots.iter_mut().find(|(spot, _)| *spot == id) {
            None => Some(Event::Gone),
            Some((_, called)) => std::mem::take(called).then_some(Event::Ready),
        }
    }

    pub(crate) fn call_spot(&mut self, id: SpotId) -> bool {
        let waits = self.waiters(|want| matches!(want, Want::Called(at) if *at == id));
        if let Some(&(task, branch)) = waits.first() {
            self.wake_for(task, branch, Event::Ready);
            return true;
        }
        if let Some((_, called)) = self.spots.iter_mut().find(|(spot, _)| *spot == id) {
            *called = true;
        }
        false
    }

    pub(crate) fn drop_spot(&mut self, id: SpotId) {
        self.wake_all(|want| matches!(want, Want::Called(at) if *at == id), || Event::Gone);
        self.spots.retain(|(spot, _)| *spot != id);
    }

    /// How much of each kind there is, in the kernel's words.
    pub(crate) fn census(&self) -> String {
        let runners = self.runners();
        let timers: usize = runners.iter().map(|&runner| self.timers(runner).len()).sum();
        format!(
            "Kernel {{ runners: {}, parties: {}, scopes: {}, channels: {}, sources: {}, spots: {}, keys: {}, \
             nodes: {}, timers: {timers}, spent: 0, .. }}",
            runners.len(),
            self.parties.len(),
            self.scopes.len(),
            self.channels.len(),
            self.sources.len(),
            self.spots.len(),
            self.keys(),
            self.waiters(|want| !matches!(want, Want::Until(_))).len() + self.queued(),
        )
    }

    fn runners(&self) -> Vec<RunnerId> {
        self.scopes
            .iter()
            .filter(|scope| scope.parent.is_none() && scope.runner != RunnerId::default())
            .map(|scope| scope.runner)
            .collect()
    }

    /// How many values are inside: in buffers, in the hands of senders, and on their way to receivers.
    pub(crate) fn values(&self) -> usize {
        let buffered: usize = self.channels.iter().map(|channel| channel.buffer.len()).sum();
        let wants = self.parties.iter().flat_map(|party| &party.wants);
        let brought = wants.filter(|want| matches!(want, Want::Send(..))).count();
        let received = |wake: &&Wake<u64>| matches!(wake, Wake::Event { event: Event::Received(_), .. });
        buffered + brought + self.parties.iter().filter_map(|p| p.wake.as_ref()).filter(received).count()
    }
}
