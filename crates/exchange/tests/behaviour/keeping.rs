//! Who keeps an object, and an exchange; forks; those who say what they must not.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use thistledown_exchange::{Broken, Exchange, Parcel, Told};

use crate::shelf::{ECHO, TAKE, ask_and_wait, ear, far, hear, offered, shelf, until};

#[test]
fn a_handle_elsewhere_keeps_an_object() {
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[b"one"]);
    let id = here.id();
    let (other, there) = far(id);
    ask_and_wait(&there, ECHO, &Parcel::empty()).unwrap();
    drop(here);
    assert!(ask_and_wait(&there, ECHO, &Parcel::empty()).is_ok());
    assert!(owner.object(id.number).is_some());
    drop(there);
    shelf.until_logged("detached");
    until(|| owner.object(id.number).is_none());
    let late = other.hold(id, None, None).unwrap();
    match ask_and_wait(&late, ECHO, &Parcel::empty()) {
        Err(why) => assert_eq!(why, Broken::NoObject { pid: id.owner.pid }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ticket_keeps_it_until_it_is_used() {
    let owner = Exchange::start().unwrap();
    let (_shelf, here) = shelf(&owner, &[]);
    let id = here.id();
    let ticket = here.ticket().unwrap();
    let shown = ticket.id();
    ticket.leave();
    drop(here);
    assert!(owner.object(id.number).is_some());
    let other = Exchange::start().unwrap();
    let there = other.hold(id, Some(shown), None).unwrap();
    assert!(ask_and_wait(&there, ECHO, &Parcel::empty()).is_ok());
    drop(there);
    until(|| owner.object(id.number).is_none());
}

#[test]
fn a_ticket_that_does_not_leave_keeps_nothing() {
    let owner = Exchange::start().unwrap();
    let (_shelf, here) = shelf(&owner, &[]);
    let id = here.id();
    let (_other, there) = far(id);
    let tickets = (here.ticket().unwrap(), there.ticket().unwrap());
    drop((here, there));
    drop(tickets);
    until(|| owner.object(id.number).is_none());
}

#[test]
fn a_ticket_that_has_left_is_revoked_by_whoever_knows_of_it() {
    let owner = Exchange::start().unwrap();
    let (_shelf, here) = shelf(&owner, &[]);
    let (id, ticket) = (here.id(), here.ticket().unwrap());
    let (other, there) = far(id);
    let second = there.ticket().unwrap();
    assert_eq!((ticket.object(), second.object()), (id, id));
    let names = [ticket.id(), second.id()];
    ticket.leave();
    second.leave();
    drop((here, there, other));
    owner.revoke([(id, names[0])]);
    // By one that has no connection yet, of which nothing is left.
    let third = Exchange::start().unwrap();
    assert!(owner.object(id.number).is_some());
    third.revoke([(id, names[1])]);
    until(|| owner.object(id.number).is_none());
    third.revoke([(id, names[1])]);
    assert!(third.connections().is_empty());
}

#[test]
fn a_ticket_that_was_shown_is_revoked_in_vain() {
    for _ in 0..100 {
        let owner = Exchange::start().unwrap();
        let (_shelf, here) = shelf(&owner, &[]);
        let (id, ticket) = (here.id(), here.ticket().unwrap());
        let name = ticket.id();
        ticket.leave();
        let other = Exchange::start().unwrap();
        let there = other.hold(id, Some(name), None).unwrap();
        owner.revoke([(id, name)]);
        drop(here);
        assert!(ask_and_wait(&there, ECHO, &Parcel::empty()).is_ok());
    }
}

#[test]
fn a_lasting_ticket_is_good_until_it_is_dropped() {
    let owner = Exchange::start().unwrap();
    let (_shelf, here) = shelf(&owner, &[]);
    let id = here.id();
    let ticket = here.lasting_ticket().unwrap();
    drop(here);
    for _ in 0..2 {
        let other = Exchange::start().unwrap();
        let there = other.hold(id, Some(ticket.id()), None).unwrap();
        assert!(ask_and_wait(&there, ECHO, &Parcel::empty()).is_ok());
    }
    assert!(owner.object(id.number).is_some());
    drop(ticket);
    until(|| owner.object(id.number).is_none());
}

#[test]
fn a_ticket_that_is_dropped_when_its_handle_has_come_does_not_overtake_it() {
    for _ in 0..200 {
        let owner = Exchange::start().unwrap();
        let (_shelf, here) = shelf(&owner, &[]);
        let ticket = here.lasting_ticket().unwrap();
        let other = Exchange::start().unwrap();
        // Said, and not heard yet: the connection is new.
        let there = other.hold(here.id(), Some(ticket.id()), None).unwrap();
        drop((here, ticket));
        assert!(ask_and_wait(&there, ECHO, &Parcel::empty()).is_ok());
    }
}

#[test]
fn a_handle_passed_on_is_kept_on_its_way() {
    let owner = Exchange::start().unwrap();
    let (_shelf, here) = shelf(&owner, &[]);
    let id = here.id();
    let (_other, there) = far(id);
    ask_and_wait(&there, ECHO, &Parcel::empty()).unwrap();
    drop(here);
    let ticket = there.ticket().unwrap();
    let third = Exchange::start().unwrap();
    let last = third.hold(id, Some(ticket.id()), None).unwrap();
    ticket.leave();
    assert!(ask_and_wait(&last, ECHO, &Parcel::empty()).is_ok());
    // Whichever came first, the ticket or its word, neither is left.
    assert!(ask_and_wait(&there, ECHO, &Parcel::empty()).is_ok());
    drop((there, last));
    until(|| owner.object(id.number).is_none());
}

#[test]
fn an_exchange_is_there_as_long_as_it_is_used() {
    let owner = Exchange::start().unwrap();
    let weak = owner.downgrade();
    let (_shelf, here) = shelf(&owner, &[]);
    let id = here.id();
    let (other, there) = far(id);
    ask_and_wait(&there, ECHO, &Parcel::empty()).unwrap();
    drop((owner, here));
    assert!(weak.upgrade().is_some());
    drop(there);
    until(|| weak.upgrade().is_none());
    until(|| matches!(other.hold(id, None, None), Err(Broken::Gone { .. })));
}

#[test]
fn what_is_queued_last_is_sent_all_the_same() {
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[]);
    {
        let (_other, there) = far(here.id());
        let large = vec![7_u8; 20_000];
        for _ in 0..500 {
            there.tell(crate::shelf::PUT, &Parcel::new(&large, &[]).unwrap()).unwrap();
        }
    }
    until(|| shelf.values().len() == 500);
}

#[test]
fn nothing_works_in_a_forked_child_but_what_says_so() {
    let owner = Exchange::start().unwrap();
    let (_shelf, here) = shelf(&owner, &[b"one"]);
    let (other, there) = far(here.id());
    let (waiter, told) = ear();
    let asked = there.ask(TAKE, &Parcel::empty(), waiter).unwrap();
    assert_eq!(offered(hear(&told)), b"one");
    // The exchange cannot tell a child from one who says that it is.
    let _ = other.desert();
    assert!(other.is_forked());
    match ask_and_wait(&there, ECHO, &Parcel::empty()) {
        Err(why) => assert_eq!(why, Broken::Forked),
        other => panic!("{other:?}"),
    }
    assert!(!asked.accept());
}

#[test]
fn who_talks_nonsense_is_disconnected() {
    let owner = Exchange::start().unwrap();
    let (_shelf, here) = shelf(&owner, &[]);
    let address = here.id().owner;
    let name = format!("thistledown-exchange-{}-{:016x}", address.pid, address.nonce);
    let name = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
    let kind = SocketType::SEQPACKET;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::connect(&socket, &name).unwrap();
    rustix::io::write(&socket, b"nonsense").unwrap();
    let mut answer = [0; 16];
    assert!(matches!(rustix::io::read(&socket, &mut answer), Ok(0) | Err(rustix::io::Errno::CONNRESET)));
    assert!(matches!(ask_and_wait(&here, ECHO, &Parcel::empty()), Ok(Told::Answer(_))));
    let (_other, there) = far(here.id());
    assert!(ask_and_wait(&there, ECHO, &Parcel::empty()).is_ok());
}
