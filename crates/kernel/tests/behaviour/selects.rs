//! Waits with several wants: one is committed to, the others are as if they had never been.

use thistledown_kernel::{Direction, Moment, RecvRefused, Wake, Want};

use crate::rig::{Rig, at, event};

#[test]
fn of_several_that_can_be_met_the_first_is() {
    let mut rig = Rig::new();
    let [a, b] = [rig.with(|kernel| kernel.open_channel(1)), rig.with(|kernel| kernel.open_channel(1))];
    assert_eq!([rig.send(a, 1), rig.send(b, 2)], [Ok(()), Ok(())]);
    let task = rig.waiting([Want::Until(at(9)), Want::Receive(b), Want::Receive(a)]);
    rig.ends_with(task, event!(1, Received(2)));
    assert_eq!([rig.receive(a), rig.receive(b)], [Ok(1), Err(RecvRefused::Empty)]);
    [a, b].into_iter().for_each(|channel| rig.with(|kernel| kernel.drop_channel(channel)));
    rig.leaves_nothing();
}

#[test]
fn what_was_not_met_at_once_sends_nothing() {
    let mut rig = Rig::new();
    let [full, other, ready] = [0, 0, 1].map(|capacity| rig.with(|kernel| kernel.open_channel(capacity)));
    assert_eq!(rig.send(ready, 1), Ok(()));
    let wants = [rig.sending(full, 2), Want::Receive(ready), rig.sending(other, 3)];
    let task = rig.waiting(wants);
    rig.ends_with(task, event!(1, Received(1)));
    assert_eq!(rig.spent(), [2, 3]);
    assert_eq!([rig.receive(full), rig.receive(other)], [Err(RecvRefused::Empty); 2]);
    [full, other, ready].into_iter().for_each(|channel| rig.with(|kernel| kernel.drop_channel(channel)));
    rig.leaves_nothing();
}

#[test]
fn the_first_to_come_wins_and_the_rest_is_undone() {
    let mut rig = Rig::new();
    let [a, b, c] = [0; 3].map(|capacity| rig.with(|kernel| kernel.open_channel(capacity)));
    let source = {
        let runner = rig.runner;
        rig.with(|kernel| kernel.add_source(runner))
    };
    rig.with(|kernel| kernel.source_is_dry(source, Direction::Read));
    let target = rig.waiting([Want::Receive(c)]);
    let before = rig.census();
    let wants =
        [Want::Receive(a), rig.sending(b, 1), Want::End(target), Want::Readable(source), Want::Until(at(9))];
    let task = rig.waiting(wants);
    assert_ne!(rig.census(), before);
    assert_eq!(rig.receive(b), Ok(1));
    rig.ends_with(task, event!(1, Sent));
    assert_eq!(rig.census(), before, "the rest is undone");
    assert!(!rig.with(|kernel| kernel.is_awaited(target)));
    assert_eq!(rig.send(a, 2), Err(thistledown_kernel::SendRefused::Full(2)), "nobody receives any more");
    rig.with(|kernel| kernel.source_became_ready(source, true, false));
    let runner = rig.runner;
    rig.with(|kernel| kernel.expire(runner, Moment::NEVER));
    rig.nobody_is_ready();
    assert_eq!(rig.send(c, 3), Ok(()));
    rig.ends_with(target, event!(0, Received(3)));
    [a, b, c].into_iter().for_each(|channel| rig.with(|kernel| kernel.drop_channel(channel)));
    rig.leaves_nothing();
}

#[test]
fn two_choices_meet_in_exactly_one_place() {
    let mut rig = Rig::new();
    let [a, b] = [0; 2].map(|capacity| rig.with(|kernel| kernel.open_channel(capacity)));
    let wants = [rig.sending(a, 1), rig.sending(b, 2)];
    let sender = rig.waiting(wants);
    let receiver = rig.running();
    rig.wait(receiver, [Want::Receive(b), Want::Receive(a)]);
    rig.ends_with(sender, event!(1, Sent));
    rig.ends_with(receiver, event!(0, Received(2)));
    assert_eq!(rig.spent(), [1]);
    assert_eq!(rig.receive(a), Err(RecvRefused::Empty));
    [a, b].into_iter().for_each(|channel| rig.with(|kernel| kernel.drop_channel(channel)));
    rig.leaves_nothing();
}

#[test]
fn nobody_meets_itself() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let wants = [rig.sending(channel, 1), Want::Receive(channel)];
    let task = rig.waiting(wants);
    rig.nobody_is_ready();
    assert_eq!(rig.send(channel, 2), Ok(()));
    rig.ends_with(task, event!(1, Received(2)));
    assert_eq!(rig.spent(), [1]);
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn one_that_names_a_channel_twice_takes_one_value() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(2));
    let task = rig.waiting([Want::Receive(channel), Want::Receive(channel)]);
    assert_eq!([rig.send(channel, 1), rig.send(channel, 2)], [Ok(()), Ok(())]);
    rig.ends_with(task, event!(0, Received(1)));
    assert_eq!(rig.receive(channel), Ok(2));
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_channel_that_closes_meets_the_first_want_that_names_it() {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(0));
    let wants = [Want::Until(at(9)), Want::Receive(channel), rig.sending(channel, 1)];
    let task = rig.waiting(wants);
    rig.with(|kernel| kernel.close_channel(channel));
    rig.ends_with(task, event!(1, Closed));
    rig.nobody_is_ready();
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn a_wait_for_nothing_is_ended_by_cancelling_alone() {
    let mut rig = Rig::new();
    let task = rig.waiting([]);
    let runner = rig.runner;
    rig.with(|kernel| kernel.expire(runner, Moment::NEVER));
    rig.nobody_is_ready();
    rig.with(|kernel| kernel.cancel_task(task));
    rig.ends_with(task, Wake::Cancelled);
    rig.leaves_nothing();
}

#[test]
fn a_new_wait_begins_afresh() {
    let mut rig = Rig::new();
    let [a, b] = [0; 2].map(|capacity| rig.with(|kernel| kernel.open_channel(capacity)));
    let task = rig.waiting([Want::Receive(a), Want::Until(at(1))]);
    assert_eq!(rig.send(a, 1), Ok(()));
    rig.has_turn(task, event!(0, Received(1)));
    rig.wait(task, [Want::Until(at(2)), Want::Receive(b)]);
    let runner = rig.runner;
    rig.with(|kernel| kernel.expire(runner, at(1)));
    rig.nobody_is_ready();
    rig.with(|kernel| kernel.expire(runner, at(2)));
    rig.ends_with(task, event!(0, Elapsed));
    [a, b].into_iter().for_each(|channel| rig.with(|kernel| kernel.drop_channel(channel)));
    rig.leaves_nothing();
}
