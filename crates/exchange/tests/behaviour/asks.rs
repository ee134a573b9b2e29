//! Asking, offering, taking, declining, and the ends of either side.

use std::sync::{Arc, Mutex};

use thistledown_exchange::{Broken, Exchange, Listener, Parcel, Told};

use crate::shelf::{
    ATTACHED, ECHO, PUT, REFUSE, TAKE, ask_and_wait, bytes, ear, far, hear, offered, parcel, shelf, until,
};

#[test]
fn a_question_is_answered_or_refused() {
    let owner = Exchange::start().unwrap();
    let (_shelf, here) = shelf(&owner, &[]);
    let (_other, there) = far(here.id());
    for handle in [&here, &there] {
        match ask_and_wait(handle, ECHO, &parcel(b"words")) {
            Ok(Told::Answer(body)) => assert_eq!(bytes(&body), b"words"),
            other => panic!("{other:?}"),
        }
        match ask_and_wait(handle, REFUSE, &parcel(b"no")) {
            Ok(Told::Refusal { code: 7, body }) => assert_eq!(bytes(&body), b"no"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_offered_is_taken_once() {
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[b"one", b"two"]);
    let (_other, there) = far(here.id());
    for (handle, value) in [(&here, &b"one"[..]), (&there, b"two")] {
        let (waiter, told) = ear();
        let asked = handle.ask(TAKE, &Parcel::empty(), waiter).unwrap();
        assert_eq!(offered(hear(&told)), value);
        assert!(asked.accept());
        assert!(!asked.accept());
        drop(asked);
    }
    until(|| shelf.log().iter().filter(|line| *line == "accepted").count() == 2);
    assert!(shelf.values().is_empty());
    assert!(!shelf.log().contains(&"declined".to_owned()));
}

#[test]
fn what_is_declined_goes_to_the_front() {
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[b"one", b"two"]);
    let (_other, there) = far(here.id());
    for handle in [&here, &there] {
        let (waiter, told) = ear();
        let asked = handle.ask(TAKE, &Parcel::empty(), waiter).unwrap();
        assert_eq!(offered(hear(&told)), b"one");
        drop(asked);
        until(|| shelf.values() == [b"one".to_vec(), b"two".to_vec()]);
    }
}

#[test]
fn who_does_not_wait_any_more_is_not_served() {
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[]);
    let (_other, there) = far(here.id());
    for handle in [&here, &there] {
        let (waiter, told) = ear();
        drop(handle.ask(TAKE, &Parcel::empty(), waiter).unwrap());
        shelf.until_logged("withdrawn");
        assert!(told.try_recv().is_err());
    }
    there.tell(PUT, &parcel(b"late")).unwrap();
    until(|| shelf.values() == [b"late".to_vec()]);
}

#[test]
fn what_somebody_gone_had_not_taken_goes_to_the_next() {
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[b"one", b"two"]);
    let (other, there) = far(here.id());
    let (waiter, told) = ear();
    let asked: Vec<_> =
        (0..2).map(|_| there.ask(TAKE, &Parcel::empty(), Arc::clone(&waiter) as _).unwrap()).collect();
    assert_eq!(offered(hear(&told)), b"one");
    assert_eq!(offered(hear(&told)), b"two");
    // As a process ends: nothing of it is said.
    std::mem::forget(asked);
    for descriptor in other.connections() {
        rustix::net::shutdown(borrow(descriptor), rustix::net::Shutdown::Both).unwrap();
    }
    shelf.until_logged("detached");
    assert_eq!(shelf.values(), [b"one".to_vec(), b"two".to_vec()]);
}

#[allow(unsafe_code, reason = "the descriptor is the exchange's")]
fn borrow<'a>(descriptor: i32) -> std::os::fd::BorrowedFd<'a> {
    // SAFETY: the exchange has it open for as long as the test looks.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) }
}

#[test]
fn who_waits_is_told_when_the_owner_is_gone() {
    let owner = Exchange::start().unwrap();
    let pid = owner.address().pid;
    let (_shelf, here) = shelf(&owner, &[]);
    let id = here.id();
    let (other, there) = far(id);
    let (waiter, told) = ear();
    let _asked = there.ask(TAKE, &Parcel::empty(), waiter).unwrap();
    ask_and_wait(&there, ECHO, &Parcel::empty()).unwrap();
    for descriptor in owner.connections() {
        rustix::net::shutdown(borrow(descriptor), rustix::net::Shutdown::Both).unwrap();
    }
    match hear(&told) {
        Told::Broken(why) => assert_eq!(why, Broken::Gone { pid }),
        other => panic!("{other:?}"),
    }
    assert!(there.ask(TAKE, &Parcel::empty(), ear().0).is_err());
    // Another connection works: it was the connection that went, not the owner.
    assert!(ask_and_wait(&other.hold(id, None, None).unwrap(), ECHO, &Parcel::empty()).is_ok());
}

#[test]
fn ten_thousand_questions_at_a_time_are_answered() {
    let owner = Exchange::start().unwrap();
    let (_shelf, here) = shelf(&owner, &[]);
    let (_other, there) = far(here.id());
    let (waiter, told) = ear();
    let asked: Vec<_> = (0..10_000_u32)
        .map(|number| there.ask(ECHO, &parcel(&number.to_le_bytes()), Arc::clone(&waiter) as _).unwrap())
        .collect();
    for number in 0..10_000_u32 {
        match hear(&told) {
            Told::Answer(body) => assert_eq!(bytes(&body), number.to_le_bytes()),
            other => panic!("{other:?}"),
        }
    }
    drop(asked);
}

#[test]
fn large_ones_pass_as_descriptors() {
    let owner = Exchange::start().unwrap();
    let (_shelf, here) = shelf(&owner, &[]);
    let (_other, there) = far(here.id());
    let large = vec![7_u8; 3_000_000];
    let (waiter, told) = ear();
    let asked: Vec<_> = (0..20)
        .map(|_| {
            there.ask(ECHO, &Parcel::new(b"head", &[&large]).unwrap(), Arc::clone(&waiter) as _).unwrap()
        })
        .collect();
    for _ in &asked {
        let Told::Answer(body) = hear(&told) else { panic!("no answer") };
        let opened = body.open().unwrap();
        assert_eq!(opened.head(), b"head");
        assert_eq!(opened.mapped().unwrap()[64..], large[..]);
    }
}

#[test]
fn an_object_notes_what_it_likes_to_who_has_a_handle() {
    struct Notes(Mutex<Vec<u8>>);
    impl Listener for Notes {
        fn noted(&self, verb: u8, _body: Parcel) {
            self.0.lock().unwrap().push(verb);
        }
        fn broken(&self, _why: Broken) {
            self.0.lock().unwrap().push(GONE);
        }
    }
    const GONE: u8 = 255;
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[]);
    let notes = Arc::new(Notes(Mutex::default()));
    let listener: Arc<dyn Listener> = Arc::clone(&notes) as _;
    let other = Exchange::start().unwrap();
    let there = other.hold(here.id(), None, Some(Arc::downgrade(&listener))).unwrap();
    ask_and_wait(&there, ECHO, &Parcel::empty()).unwrap();
    // The shelf has noted to the first handle of this process that it is there.
    until(|| *notes.0.lock().unwrap() == [ATTACHED]);
    let second = other.hold(here.id(), None, None).unwrap();
    ask_and_wait(&second, ECHO, &Parcel::empty()).unwrap();
    assert_eq!(shelf.log().iter().filter(|line| *line == "attached").count(), 1);
    for descriptor in owner.connections() {
        rustix::net::shutdown(borrow(descriptor), rustix::net::Shutdown::Both).unwrap();
    }
    until(|| *notes.0.lock().unwrap() == [ATTACHED, GONE]);
}
