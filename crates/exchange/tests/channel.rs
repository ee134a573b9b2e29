//! A channel between processes, played with messages that are late and processes that die at any point, against what a
//! channel is: each value is received once, in order, or died with who had received it.
#![allow(clippy::unwrap_used, reason = "a test that finds something else has failed")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use proptest::prelude::*;
use thistledown_exchange::Party;
use thistledown_exchange::channel::{Act, Given, Machine, Now, Port, Say};
use thistledown_parcel::Word;

/// A value: who sent it, and his how many-th.
type Value = (usize, u32);
const PORTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Receive(usize),
    /// Whoever waits longest at a port waits no more.
    GiveUp(usize),
    /// Whoever was called at a port comes for it.
    Come(usize),
    /// A message of a port arrives, or one for it.
    Hear(usize),
    Tell(usize),
    Die(usize),
    Close(usize),
}

fn steps(deaths: bool) -> impl Strategy<Value = Vec<Step>> {
    let common = prop_oneof![
        6 => (0..PORTS).prop_map(Step::Send),
        2 => (0..PORTS).prop_map(Step::Receive),
        // One that goes on and on is lent values ahead.
        6 => Just(Step::Receive(2)),
        8 => (0..PORTS).prop_map(Step::Come),
        12 => (0..PORTS).prop_map(Step::Hear),
        12 => (0..PORTS).prop_map(Step::Tell),
    ];
    let rare = prop_oneof![2 => (0..PORTS).prop_map(Step::GiveUp), 1 => (1..PORTS).prop_map(Step::Die)];
    // What has no weight would be found all the same when a failure is made smaller.
    let step = match deaths {
        true => prop_oneof![15 => common, 1 => rare].boxed(),
        false => common.boxed(),
    };
    (prop::collection::vec(step, 1..300), prop::option::weighted(0.2, 0..PORTS), 0..300_usize).prop_map(
        |(mut steps, closer, at)| {
            if let Some(port) = closer {
                steps.insert(at.min(steps.len()), Step::Close(port));
            }
            steps
        },
    )
}

/// A process.
#[derive(Default)]
struct Process {
    port: Port<Value, u64, ()>,
    /// Who waits: his ticket, and whether he is a sender.
    waits: BTreeMap<u64, bool>,
    called: BTreeSet<u64>,
    sent: u32,
    said: VecDeque<Say<Value>>,
    given: VecDeque<Given<Value>>,
    is_dead: bool,
}

struct World {
    capacity: usize,
    machine: Machine<Value>,
    processes: Vec<Process>,
    tickets: u64,
    /// Values that were sent, and arrived; and those that were received, by whom.
    arrived: Vec<Value>,
    received: Vec<(usize, Value)>,
    refused: usize,
    dead: BTreeSet<usize>,
}

impl World {
    fn new(capacity: usize) -> Self {
        let mut world = Self {
            capacity,
            machine: Machine::new(capacity, || Word::new().ok()),
            processes: (0..PORTS).map(|_| Process::default()).collect(),
            tickets: 0,
            arrived: Vec::new(),
            received: Vec::new(),
            refused: 0,
            dead: BTreeSet::new(),
        };
        for party in 0..PORTS {
            let mut acts = Vec::new();
            world.machine.attach(Party(party as u64), &mut acts);
            world.pass(acts);
        }
        world
    }

    fn pass(&mut self, acts: Vec<Act<Value>>) {
        for (party, given) in acts {
            self.processes[party.0 as usize].given.push_back(given);
        }
    }

    fn at<R>(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut Port<Value, u64, ()>, &mut Vec<Say<Value>>, &mut dyn FnMut(&u64)) -> R,
    ) -> R {
        let process = &mut self.processes[index];
        let (mut says, called) = (Vec::new(), &mut process.called);
        let result = work(&mut process.port, &mut says, &mut |ticket| {
            called.insert(*ticket);
        });
        process.said.extend(says);
        result
    }

    fn wait(&mut self, index: usize, sends: bool) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.processes[index].waits.insert(ticket, sends);
        if self.attempt(index, None, sends) {
            self.processes[index].waits.remove(&ticket);
            return;
        }
        self.at(index, |port, says, call| match sends {
            true => port.await_slot(ticket, ticket, says, call),
            false => port.await_value(ticket, ticket, says, call),
        });
    }

    /// Tries it. True: it is over.
    fn attempt(&mut self, index: usize, ticket: Option<u64>, sends: bool) -> bool {
        if sends {
            let now = self.at(index, |port, _, _| port.send(ticket));
            return match now {
                Now::Done(()) => {
                    let process = &mut self.processes[index];
                    process.said.push_back(Say::Value((index, process.sent)));
                    process.sent += 1;
                    true
                }
                Now::Nothing => false,
                Now::Over(_) => true,
            };
        }
        match self.at(index, |port, says, _| port.receive(ticket, says)) {
            Now::Done(value) => {
                // As the system has it once it is said, the channel hears of what was taken also after a death.
                self.received.push((index, value));
                true
            }
            Now::Nothing => false,
            Now::Over(_) => {
                self.refused += 1;
                true
            }
        }
    }

    fn release(&mut self, index: usize, ticket: u64) {
        self.processes[index].waits.remove(&ticket);
        self.processes[index].called.remove(&ticket);
        self.at(index, |port, says, call| port.release(ticket, says, call));
    }

    fn come(&mut self, index: usize) -> bool {
        let Some(ticket) = self.processes[index].called.pop_first() else { return false };
        let Some(sends) = self.processes[index].waits.get(&ticket).copied() else { return true };
        if self.attempt(index, Some(ticket), sends) {
            self.release(index, ticket);
        } else {
            assert!(
                !sends,
                "who is called has something, or knows that it is over, or his value was revoked"
            );
            self.at(index, |port, says, call| port.await_value(ticket, ticket, says, call));
        }
        true
    }

    /// One message of a process arrives.
    fn hear(&mut self, index: usize) -> bool {
        let Some(say) = self.processes[index].said.pop_front() else { return false };
        if let Say::Value(value) = say {
            self.arrived.push(value);
        }
        let mut acts = Vec::new();
        self.machine.hear(Party(index as u64), say, &mut acts);
        self.pass(acts);
        assert!(self.machine.len() <= self.capacity + 4 * self.tickets as usize);
        true
    }

    /// One message for a process arrives.
    fn tell(&mut self, index: usize) -> bool {
        let Some(given) = self.processes[index].given.pop_front() else { return false };
        self.at(index, |port, says, call| port.hear(given, says, call));
        true
    }

    fn die(&mut self, index: usize) {
        // What it has said still arrives; then its end is seen.
        while self.hear(index) {}
        self.dead.insert(index);
        self.processes[index] = Process { is_dead: true, ..Process::default() };
        let mut acts = Vec::new();
        self.machine.detach(Party(index as u64), &mut acts);
        self.pass(acts);
    }

    fn step(&mut self, step: &Step) {
        let (Step::Send(index)
        | Step::Receive(index)
        | Step::GiveUp(index)
        | Step::Come(index)
        | Step::Hear(index)
        | Step::Tell(index)
        | Step::Die(index)
        | Step::Close(index)) = *step;
        if self.processes[index].is_dead {
            return;
        }
        match step {
            Step::Send(_) => self.wait(index, true),
            Step::Receive(_) => self.wait(index, false),
            Step::GiveUp(_) => {
                if let Some(ticket) = self.processes[index].waits.keys().next().copied() {
                    self.release(index, ticket);
                }
            }
            Step::Come(_) => drop(self.come(index)),
            Step::Hear(_) => drop(self.hear(index)),
            Step::Tell(_) => drop(self.tell(index)),
            Step::Die(_) => self.die(index),
            Step::Close(_) => self.processes[index].said.push_back(Say::Close),
        }
    }

    /// All messages arrive, and everybody who is called comes.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for index in 0..PORTS {
                moved |= self.hear(index);
                moved |= self.tell(index);
                moved |= self.come(index);
            }
            if !moved {
                return;
            }
        }
        panic!("they never come to rest");
    }

    fn waiting(&self, sends: bool) -> usize {
        self.processes
            .iter()
            .flat_map(|process| process.waits.values())
            .filter(|kind| **kind == sends)
            .count()
    }

    fn check_at_rest(&self) {
        if self.waiting(false) > 0 {
            assert_eq!(self.machine.len(), 0, "somebody waits, and there is a value");
        }
        if self.waiting(true) > 0 {
            assert!(!self.machine.is_closed(), "somebody waits to send to a closed channel");
            assert!(self.waiting(false) == 0, "a sender and a receiver wait for each other");
            assert!(self.machine.len() >= self.capacity, "somebody waits, and there is room");
        }
    }

    /// One takes all that is left.
    fn drain(&mut self) {
        for _ in 0..self.arrived.len() + self.waiting(true) + 1 {
            self.wait(0, false);
            self.settle();
            self.check_at_rest();
        }
        assert_eq!(self.machine.len(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn each_value_is_received_once(capacity in 0..70_usize, steps in steps(true)) {
        let mut world = World::new(capacity);
        steps.iter().for_each(|step| world.step(step));
        world.settle();
        world.check_at_rest();
        world.drain();
        let mut received: Vec<Value> = world.received.iter().map(|(_, value)| *value).collect();
        received.sort_unstable();
        let mut arrived = world.arrived.clone();
        arrived.sort_unstable();
        prop_assert_eq!(received, arrived, "each that arrived once, and no other");
    }

    #[test]
    fn values_of_one_sender_are_received_in_order(capacity in 0..70_usize, steps in steps(false)) {
        let mut world = World::new(capacity);
        steps.iter().for_each(|step| world.step(step));
        world.settle();
        world.check_at_rest();
        world.drain();
        for receiver in 0..PORTS {
            for sender in 0..PORTS {
                let numbers: Vec<u32> = world
                    .received
                    .iter()
                    .filter(|(by, value)| *by == receiver && value.0 == sender)
                    .map(|(_, value)| value.1)
                    .collect();
                prop_assert!(numbers.is_sorted(), "{receiver} has of {sender}: {numbers:?}");
            }
        }
    }

    /// As in a select that commits to something else: what comes back then does not come after what was behind it.
    #[test]
    fn they_are_in_order_for_one_who_gives_up_and_waits_again(capacity in 0..70_usize, steps in steps(true)) {
        let mut world = World::new(capacity);
        for step in &steps {
            match step {
                Step::Receive(_) | Step::GiveUp(_) => world.step(&Step::Receive(1)),
                Step::Send(1) | Step::Die(_) => world.step(&Step::GiveUp(1)),
                step => world.step(step),
            }
        }
        world.settle();
        world.check_at_rest();
        while !world.machine.is_empty() || world.waiting(true) > 0 {
            world.wait(1, false);
            world.settle();
        }
        for sender in [0, 2, 3] {
            let of_sender = world.received.iter().filter(|(_, value)| value.0 == sender);
            let numbers: Vec<u32> = of_sender.map(|(_, value)| value.1).collect();
            prop_assert!(numbers.is_sorted(), "of {sender}: {numbers:?}");
        }
    }
}

#[test]
fn who_sends_on_and_on_need_not_ask_for_each() {
    let mut world = World::new(64);
    let mut asked = 0;
    for _ in 0..1000 {
        world.wait(1, true);
        asked += world.processes[1].said.iter().filter(|say| matches!(say, Say::Need(_))).count();
        world.settle();
        world.wait(2, false);
        world.settle();
    }
    assert_eq!(world.received.len(), 1000);
    assert!(asked <= 4, "{asked}");
}

#[test]
fn slots_that_were_granted_ahead_are_recalled_for_another() {
    let mut world = World::new(8);
    for _ in 0..5 {
        world.wait(1, true);
        world.settle();
    }
    for _ in 0..3 {
        world.wait(2, true);
        world.settle();
    }
    assert_eq!((world.machine.len(), world.waiting(true)), (8, 0));
}

#[test]
fn who_gave_up_stands_in_nobodys_way() {
    let mut world = World::new(1);
    world.wait(1, false);
    while world.hear(1) {}
    world.wait(0, true);
    // The value is on its way to who gives up, and waits again, before he hears of it.
    while world.hear(0) || world.tell(0) || world.come(0) {}
    world.step(&Step::GiveUp(1));
    world.wait(1, false);
    world.settle();
    assert_eq!(world.received, [(1, (0, 0))]);
    world.wait(2, false);
    world.wait(0, true);
    world.settle();
    assert_eq!(world.received.last(), Some(&(2, (0, 1))));
    world.check_at_rest();
}

#[test]
fn what_nobody_has_taken_is_left_when_a_channel_is_no_more() {
    let mut machine = Machine::new(4, || Word::new().ok());
    machine.preload(0..4);
    let (mut acts, port) = (Vec::new(), Party(7));
    machine.attach(port, &mut acts);
    machine.hear(port, Say::Want(2), &mut acts);
    assert_eq!(acts.iter().filter(|(_, given)| matches!(given, Given::Value(_))).count(), 2);
    machine.hear(port, Say::Taken(0), &mut acts);
    let mut left = machine.take_left();
    left.sort_unstable();
    assert_eq!(left, [1, 2, 3]);
    assert!(machine.is_empty());
}

#[test]
fn closing_lets_what_is_there_be_received() {
    let mut world = World::new(4);
    (0..3).for_each(|_| world.wait(1, true));
    world.settle();
    world.step(&Step::Close(2));
    world.settle();
    (0..5).for_each(|_| world.wait(3, false));
    world.settle();
    assert_eq!(world.received.len(), 3);
    assert_eq!(world.refused, 2);
    world.wait(1, true);
    assert_eq!(world.waiting(true), 0);
}

/// A world in which process 2 is lent values ahead.
fn streaming(capacity: usize) -> World {
    let mut world = World::new(capacity);
    for _ in 0..5 {
        world.wait(2, false);
        world.settle();
        world.wait(1, true);
        world.settle();
    }
    world
}

fn numbers(world: &World, index: usize) -> Vec<u32> {
    world.received.iter().filter(|(by, _)| *by == index).map(|(_, value)| value.1).collect()
}

#[test]
fn who_receives_on_and_on_need_not_ask_for_each() {
    let mut world = streaming(64);
    let mut said = 0;
    for _ in 0..1000 {
        world.wait(1, true);
        world.settle();
        world.wait(2, false);
        said += world.processes[2].said.len();
        world.settle();
    }
    assert_eq!(numbers(&world, 2), (0..1005).collect::<Vec<_>>());
    assert!(said <= 1000 / 16 + 1, "{said}");
}

#[test]
fn what_lies_ahead_with_one_is_anothers_when_he_waits() {
    let mut world = streaming(8);
    (0..6).for_each(|_| world.wait(1, true));
    world.settle();
    world.wait(2, false);
    // From here on nothing that is for process 2 arrives, and yet the others receive what lay with it.
    for _ in 0..5 {
        world.wait(3, false);
        while world.hear(3) || world.tell(3) || world.come(3) {}
    }
    assert_eq!(numbers(&world, 3), [6, 7, 8, 9, 10]);
    world.wait(2, false);
    assert_eq!(numbers(&world, 2), [0, 1, 2, 3, 4, 5], "nothing of what is another's now");
    world.wait(1, true);
    world.settle();
    assert_eq!(numbers(&world, 2).last(), Some(&11));
    assert_eq!((world.waiting(false), world.machine.len()), (0, 0));
}

#[test]
fn what_was_taken_is_gone_with_who_dies_and_nothing_else() {
    let mut world = streaming(64);
    (0..20).for_each(|_| world.wait(1, true));
    world.settle();
    (0..7).for_each(|_| world.wait(2, false));
    assert_eq!(world.machine.len(), 13);
    world.die(2);
    world.settle();
    (0..13).for_each(|_| world.wait(3, false));
    world.settle();
    assert_eq!(numbers(&world, 3), (12..25).collect::<Vec<_>>());
}

#[test]
fn a_sender_that_waits_for_room_has_it_as_soon_as_a_value_is_taken() {
    let mut world = streaming(4);
    (0..5).for_each(|_| world.wait(1, true));
    world.settle();
    assert_eq!((world.machine.len(), world.waiting(true)), (4, 1));
    world.wait(2, false);
    world.settle();
    assert_eq!((world.machine.len(), world.waiting(true)), (4, 0));
}

#[test]
fn the_end_comes_when_what_lay_ahead_is_taken() {
    let mut world = streaming(8);
    (0..3).for_each(|_| world.wait(1, true));
    world.step(&Step::Close(1));
    world.settle();
    (0..5).for_each(|_| world.wait(2, false));
    world.settle();
    assert_eq!((world.received.len(), world.refused, world.waiting(false)), (8, 2, 0));
}

#[test]
fn without_words_values_are_lent_to_those_who_wait_alone() {
    let mut world = World::new(8);
    world.machine = Machine::new(8, || None);
    (0..PORTS).for_each(|party| world.machine.attach(Party(party as u64), &mut Vec::new()));
    for _ in 0..20 {
        world.wait(2, false);
        world.settle();
        world.wait(1, true);
        world.settle();
        assert!(world.processes[2].given.is_empty() && world.machine.is_empty());
    }
    assert_eq!(numbers(&world, 2), (0..20).collect::<Vec<_>>());
}

#[test]
fn the_channel_keeps_nothing_of_what_was_taken_once_it_has_looked() {
    let mut machine = Machine::new(64, || Word::new().ok());
    let mut port: Port<Rc<u64>, u64, ()> = Port::default();
    (0..=2).for_each(|party| machine.attach(Party(party), &mut Vec::new()));
    let (mut kept, mut says, mut acts) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..20 {
        let value = Rc::new(number);
        kept.push(Rc::downgrade(&value));
        port.await_value(number, 0, &mut says, &mut |_| ());
        machine.hear(Party(0), Say::Need(1), &mut acts);
        machine.hear(Party(0), Say::Value(value), &mut acts);
        while !says.is_empty() || !acts.is_empty() {
            for (party, given) in std::mem::take(&mut acts) {
                if party == Party(2) {
                    port.hear(given, &mut says, &mut |_| ());
                }
            }
            says.drain(..).for_each(|say| machine.hear(Party(2), say, &mut acts));
        }
        assert!(matches!(port.receive(Some(number), &mut says), Now::Done(_)));
        port.release(number, &mut says, &mut |_| ());
    }
    assert_eq!(says, [], "it says nothing of what it takes");
    assert_eq!(kept.iter().filter(|value| value.strong_count() > 0).count(), 1);
    machine.hear(Party(2), Say::Look, &mut acts);
    assert!(kept.iter().all(|value| value.strong_count() == 0));
}
