//! The world: nothing is woken and nothing is dropped while its lock is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thistledown_kernel::{Payload, Want};
use thistledown_runtime::{Wakes, World};

struct Reentrant;

impl Payload for Reentrant {
    type Body = Witness;
    type Value = Witness;
    type Waker = Bell;
}

type Worlds = Arc<World<Reentrant>>;

/// Counts those drops that found the lock free.
struct Witness(Worlds, Arc<AtomicUsize>);

impl Drop for Witness {
    fn drop(&mut self) {
        if self.0.try_with(|_| ()).is_some() {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Counts those calls that found the lock free.
#[derive(Clone)]
struct Bell(Worlds, Arc<AtomicUsize>);

impl Wakes for Bell {
    fn wake(&self) {
        if self.0.try_with(|_| ()).is_some() {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn what_is_left_over_is_dropped_after_the_lock_is_released() {
    let world = Worlds::default();
    let dropped = Arc::new(AtomicUsize::new(0));
    let make = || Witness(Arc::clone(&world), Arc::clone(&dropped));
    let (channel, runner) = world.with(|kernel| {
        let bell = Bell(Arc::clone(&world), Arc::default());
        (kernel.open_channel(1), kernel.add_runner(bell).0)
    });
    let spawned = world.with(|kernel| kernel.spawn(runner, thistledown_kernel::Start::InRun, make()));
    assert!(spawned.is_ok());
    assert!(world.with(|kernel| kernel.try_send(channel, make())).is_ok());
    world.with(|kernel| kernel.drop_channel(channel));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    world.with(|kernel| kernel.remove_runner(runner));
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}

#[test]
fn who_sleeps_is_woken_after_the_lock_is_released() {
    let world = Worlds::default();
    let rung = Arc::new(AtomicUsize::new(0));
    let bell = Bell(Arc::clone(&world), Arc::clone(&rung));
    let (channel, party) = world.with(|kernel| {
        let (channel, party) = (kernel.open_channel(0), kernel.add_thread(bell));
        kernel.wait(party, [Want::Receive(channel)]).expect("no cycle");
        (channel, party)
    });
    assert_eq!(rung.load(Ordering::SeqCst), 0);
    world.with(|kernel| kernel.close_channel(channel));
    assert_eq!(rung.load(Ordering::SeqCst), 1);
    world.with(|kernel| {
        kernel.withdraw(party);
        kernel.finish(party);
        kernel.drop_channel(channel);
    });
}

#[test]
fn who_must_not_wait_is_told_that_the_lock_is_held() {
    let world = World::<Reentrant>::default();
    assert!(world.try_with(|_| ()).is_some());
    world.with(|_| assert!(world.try_with(|_| ()).is_none()));
}
