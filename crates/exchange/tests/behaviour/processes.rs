//! With real processes, which are killed. The other process is this same binary, told by its environment what to do.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use thistledown_exchange::{Broken, Exchange, ObjectId, Parcel, Told};

use crate::shelf::{ECHO, PUT, TAKE, ask_and_wait, ear, far, hear, offered, parcel, shelf};

const ROLE: &str = "EXCHANGE_TEST_ROLE";
const OBJECT: &str = "EXCHANGE_TEST_OBJECT";

fn other_process(role: &str, object: Option<ObjectId>) -> Child {
    let object = object.map(|id| id.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    Command::new(std::env::current_exe().unwrap())
        .args(["processes::this_is_the_other_process", "--exact", "--nocapture", "--ignored"])
        .env(ROLE, role)
        .env(OBJECT, object.unwrap_or_default())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn line(child: &mut Child, prefix: &str) -> String {
    let output = BufReader::new(child.stdout.as_mut().unwrap());
    let mut lines = output.lines().map(Result::unwrap);
    let found = lines.find_map(|line| line.split_once(prefix).map(|(_, rest)| rest.to_owned()));
    found.expect("the other process says it")
}

fn object(hex: &str) -> ObjectId {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    ObjectId::from_bytes(&bytes).unwrap()
}

#[test]
#[ignore = "is run by the other tests, in a process of its own"]
#[allow(clippy::disallowed_methods, reason = "it is told by its environment what to do")]
fn this_is_the_other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let exchange = Exchange::start().unwrap();
    if role == "owner" {
        let (_shelf, here) = shelf(&exchange, &[b"one"]);
        let hex: String = here.id().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        println!("object {hex}");
        park();
    }
    let there = exchange.hold(object(&std::env::var(OBJECT).unwrap()), None, None).unwrap();
    let (waiter, told) = ear();
    let asked = there.ask(TAKE, &Parcel::empty(), waiter).unwrap();
    assert_eq!(offered(hear(&told)), b"one");
    if role == "takes" {
        assert!(asked.accept());
    }
    println!("ready ");
    park();
}

fn park() -> ! {
    loop {
        std::thread::park();
    }
}

#[test]
fn what_a_killed_process_was_offered_goes_back() {
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[b"one", b"two"]);
    let mut child = other_process("waits", Some(here.id()));
    line(&mut child, "ready ");
    child.kill().unwrap();
    child.wait().unwrap();
    shelf.until_logged("detached");
    assert_eq!(shelf.values(), [b"one".to_vec(), b"two".to_vec()]);
}

#[test]
fn what_a_killed_process_has_taken_is_gone_with_it() {
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[b"one", b"two"]);
    let mut child = other_process("takes", Some(here.id()));
    line(&mut child, "ready ");
    child.kill().unwrap();
    child.wait().unwrap();
    shelf.until_logged("detached");
    assert_eq!(shelf.values(), [b"two".to_vec()]);
}

#[test]
fn the_end_of_a_process_is_told_to_what_keeps_something_for_it() {
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[b"one", b"two"]);
    shelf.keep();
    let mut child = other_process("waits", Some(here.id()));
    line(&mut child, "ready ");
    child.kill().unwrap();
    // Before the system has its number for others, and after that.
    shelf.until_logged(&format!("{} has ended", child.id()));
    child.wait().unwrap();
    let mut child = other_process("waits", Some(here.id()));
    line(&mut child, "ready ");
    child.kill().unwrap();
    child.wait().unwrap();
    shelf.until_logged(&format!("{} has ended", child.id()));
}

#[test]
fn who_has_lost_a_connection_and_lives_has_not_ended() {
    let owner = Exchange::start().unwrap();
    let (shelf, here) = shelf(&owner, &[b"one", b"two"]);
    shelf.keep();
    // Both ends are of this process, which goes on.
    for _ in 0..3 {
        let (other, there) = far(here.id());
        ask_and_wait(&there, ECHO, &Parcel::empty()).unwrap();
        drop((other, there));
    }
    let mut child = other_process("waits", Some(here.id()));
    line(&mut child, "ready ");
    child.kill().unwrap();
    child.wait().unwrap();
    let (killed, lives) = (format!("{} has ended", child.id()), format!("{} has ended", std::process::id()));
    shelf.until_logged(&killed);
    assert!(!shelf.log().contains(&lives));
}

#[test]
fn who_waits_for_a_killed_process_is_told_which_it_was() {
    let mut child = other_process("owner", None);
    let id = object(&line(&mut child, "object "));
    assert_eq!(id.owner.pid, child.id());
    let (other, there) = far(id);
    there.tell(PUT, &parcel(b"two")).unwrap();
    let (waiter, told) = ear();
    let asked: Vec<_> = (0..3).map(|_| there.ask(TAKE, &Parcel::empty(), waiter.clone()).unwrap()).collect();
    assert_eq!(offered(hear(&told)), b"one");
    assert_eq!(offered(hear(&told)), b"two");
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in &asked {
        assert!(matches!(hear(&told), Told::Broken(Broken::Gone { pid }) if pid == id.owner.pid));
    }
    assert!(ask_and_wait(&there, ECHO, &Parcel::empty()).is_err());
    assert!(other.hold(id, None, None).is_err());
}
