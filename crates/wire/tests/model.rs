//! Models of what the two sides of a lane share: loom tries every order in which they can go on.
//!
//! `make model` runs them. A wake-up that is lost shows as a deadlock, bytes that two use at once as a race.
#![cfg(loom)]

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use thistledown_wire::{Error, Receiver, Sender, modelled};

/// Room for two frames of eight bytes.
const CAPACITY: usize = 32;

fn model(threads: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(threads);
}

/// Where a receiver sleeps.
#[derive(Clone, Default)]
struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn ring(&self) {
        let (rung, changed) = &*self.0;
        *rung.lock().expect("no panic under the lock") = true;
        changed.notify_one();
    }

    fn wait(&self) {
        let (rung, changed) = &*self.0;
        let mut rung = rung.lock().expect("no panic under the lock");
        while !std::mem::take(&mut *rung) {
            rung = changed.wait(rung).expect("no panic under the lock");
        }
    }
}

fn take(receiver: &mut Receiver) -> Option<Vec<u8>> {
    receiver.next(<[u8]>::to_vec).expect("a lane in order")
}

/// Takes a frame, and sleeps until there is one.
fn wait_for_one(receiver: &mut Receiver, bell: &Bell) -> Vec<u8> {
    loop {
        if let Some(frame) = take(receiver) {
            return frame;
        }
        if receiver.about_to_sleep() {
            bell.wait();
            receiver.awake();
        }
    }
}

fn push_and_ring(sender: &mut Sender, frame: &[u8], bell: &Bell) {
    sender.push(&[frame]).expect("room");
    if sender.must_ring() {
        bell.ring();
    }
}

#[test]
fn a_push_between_the_last_look_and_the_sleep_is_not_lost() {
    model(|| {
        let (mut sender, mut receiver) = modelled(CAPACITY);
        let bell = Bell::default();
        let sending = {
            let bell = bell.clone();
            thread::spawn(move || push_and_ring(&mut sender, b"a", &bell))
        };
        assert_eq!(wait_for_one(&mut receiver, &bell), b"a");
        sending.join().expect("the sender");
    });
}

#[test]
fn who_slept_once_is_rung_for_again() {
    model(|| {
        let (mut sender, mut receiver) = modelled(CAPACITY);
        let bell = Bell::default();
        let sending = {
            let bell = bell.clone();
            thread::spawn(move || {
                push_and_ring(&mut sender, b"a", &bell);
                push_and_ring(&mut sender, b"b", &bell);
            })
        };
        assert_eq!(wait_for_one(&mut receiver, &bell), b"a");
        assert_eq!(wait_for_one(&mut receiver, &bell), b"b");
        sending.join().expect("the sender");
    });
}

#[test]
fn one_sleep_is_one_ring() {
    model(|| {
        let (mut sender, receiver) = modelled(CAPACITY);
        assert!(receiver.about_to_sleep());
        let sending = thread::spawn(move || {
            let rings = [b"a", b"b"].map(|frame| {
                sender.push(&[frame]).expect("room");
                sender.must_ring()
            });
            rings.into_iter().filter(|ring| *ring).count()
        });
        receiver.awake();
        let rings = sending.join().expect("the sender");
        assert!(rings <= 1, "{rings} rings");
    });
}

#[test]
fn a_frame_is_claimed_or_revoked_and_never_both() {
    model(|| {
        let (mut sender, mut receiver) = modelled(CAPACITY);
        let place = sender.push(&[b"a"]).expect("room");
        let revoking = thread::spawn(move || {
            let revoked = sender.revoke(place);
            assert!(!sender.revoke(place), "not twice");
            revoked
        });
        let taken = take(&mut receiver);
        let revoked = revoking.join().expect("the sender");
        assert_eq!(taken.is_some(), !revoked);
        assert!(receiver.is_empty(), "it is passed in either case");
    });
}

#[test]
fn what_is_revoked_while_the_receiver_comes_past_gives_its_room_back() {
    model(|| {
        let (mut sender, mut receiver) = modelled(CAPACITY);
        let places = [b"a", b"b"].map(|frame| sender.push(&[frame]).expect("room"));
        let sending = thread::spawn(move || {
            let revoked = sender.revoke(places[1]);
            let third = sender.push(&[b"c"]);
            assert!(third.is_ok() || third == Err(Error::Full));
            let late = sender.revoke(places[0]);
            (revoked, late, third.is_ok())
        });
        let mut taken: Vec<_> = std::iter::from_fn(|| take(&mut receiver)).collect();
        let (revoked, late, third) = sending.join().expect("the sender");
        taken.extend(std::iter::from_fn(|| take(&mut receiver)));
        let expected = [(b"a", !late), (b"b", !revoked), (b"c", third)];
        let expected: Vec<_> =
            expected.into_iter().filter(|(_, comes)| *comes).map(|(frame, _)| frame.to_vec()).collect();
        assert_eq!(taken, expected);
    });
}

#[test]
fn a_frame_is_seen_as_it_was_pushed_though_its_memory_is_used_again() {
    model(|| {
        let (mut sender, mut receiver) = modelled(CAPACITY);
        let sending = thread::spawn(move || {
            let mut pushed = 0_u8;
            for number in 0..4 {
                let frame = [number; 6];
                pushed += u8::from(sender.push(&[&frame[..2], &frame[2..]]).is_ok());
            }
            pushed
        });
        let mut came = Vec::new();
        for _ in 0..2 {
            came.extend(take(&mut receiver));
        }
        let pushed = sending.join().expect("the sender");
        came.extend(std::iter::from_fn(|| take(&mut receiver)));
        assert_eq!(came.len(), usize::from(pushed));
        assert!(pushed >= 2, "two have room at first");
        for frame in &came {
            assert_eq!(*frame, [frame[0]; 6], "from one push");
        }
        assert!(came.is_sorted());
    });
}

#[test]
fn frames_go_around_the_rings_end() {
    model(|| {
        // Eight bytes are left before the end, so the next frame begins after a skip mark.
        let (mut sender, mut receiver) = modelled(CAPACITY);
        for frame in [&b"a"[..], b""] {
            sender.push(&[frame]).expect("room");
            take(&mut receiver).expect("a frame");
        }
        let sending = thread::spawn(move || {
            let place = sender.push(&[b"round"]).expect("room");
            sender
                .push(&[b""])
                .map(drop)
                .or_else(|error| if error == Error::Full { Ok(()) } else { Err(error) })
                .expect("room or none");
            sender.revoke(place)
        });
        let first = take(&mut receiver);
        let revoked = sending.join().expect("the sender");
        let frames: Vec<_> = first.into_iter().chain(std::iter::from_fn(|| take(&mut receiver))).collect();
        let expected = if revoked { vec![b"".to_vec()] } else { vec![b"round".to_vec(), b"".to_vec()] };
        assert_eq!(frames, expected);
    });
}
