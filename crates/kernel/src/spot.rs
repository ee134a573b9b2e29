//! Spots: where somebody waits to be called, by who decides outside of the kernel whose turn it is.
//!
//! A space matches tuples with templates, which the kernel knows nothing of. So each of its waits stands at a spot of its
//! own, and the space calls the one it has chosen. The answer says whether the call was heard: then that wait has committed
//! to it, in the same step, and nobody else can end it. A call that nobody hears is kept, and the next wait there ends at
//! once: so nothing is lost between who has looked, found nothing and is about to wait, and who has just called.

use crate::ids::SpotId;
use crate::kernel::{Kernel, Payload};
use crate::list::List;
use crate::wait::Event;

#[derive(Debug, Default)]
pub(crate) struct Spot {
    pub(crate) waiting: List,
    /// Called while nobody waited.
    pub(crate) called: bool,
    /// Who calls may be in another process.
    pub(crate) outside: bool,
}

impl<P: Payload> Kernel<P> {
    /// A new spot.
    pub fn open_spot(&mut self) -> SpotId {
        self.spots.insert(Spot::default())
    }

    /// A new spot that may be called from another process: who waits there waits for the outside, as at a source.
    pub fn open_outside_spot(&mut self) -> SpotId {
        self.spots.insert(Spot { outside: true, ..Spot::default() })
    }

    /// Forgets a spot; whoever waits there is told that it is gone.
    pub fn drop_spot(&mut self, id: SpotId) {
        while let Some(node) = self.spots.get(id).and_then(|spot| spot.waiting.first()) {
            self.wake_node(node, Event::Gone);
        }
        self.spots.remove(id);
    }

    /// Calls who waits at the spot first. True: it has committed to that. False: nobody waits there now; whoever does next
    /// is called at once.
    pub fn call(&mut self, id: SpotId) -> bool {
        let Some(spot) = self.spots.get_mut(id) else { return false };
        match spot.waiting.first() {
            Some(node) => {
                self.wake_node(node, Event::Ready);
                true
            }
            None => {
                spot.called = true;
                false
            }
        }
    }

    /// Takes a call that nobody has heard.
    pub(crate) fn take_call(&mut self, id: SpotId) -> Option<Event<P::Value>> {
        match self.spots.get_mut(id) {
            None => Some(Event::Gone),
            Some(spot) => std::mem::take(&mut spot.called).then_some(Event::Ready),
        }
    }
}
