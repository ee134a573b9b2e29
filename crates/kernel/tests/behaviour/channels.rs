//! Channels: rendezvous, buffers, order, closing; no value is lost or doubled.

use thistledown_kernel::{ChannelId, Event, RecvRefused, SendRefused, Wake, Want};

use crate::rig::{Rig, event};

fn with_channel(capacity: usize) -> (Rig, ChannelId) {
    let mut rig = Rig::new();
    let channel = rig.with(|kernel| kernel.open_channel(capacity));
    (rig, channel)
}

fn leaves_nothing(mut rig: Rig, channel: ChannelId) {
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn at_capacity_zero_a_value_goes_from_hand_to_hand() {
    let (mut rig, channel) = with_channel(0);
    assert_eq!(rig.send(channel, 1), Err(SendRefused::Full(1)));
    assert_eq!(rig.receive(channel), Err(RecvRefused::Empty));
    let receiver = rig.receiver(channel);
    assert_eq!(rig.send(channel, 2), Ok(()));
    rig.ends_with(receiver, event!(0, Received(2)));
    let sender = rig.sender(channel, 3);
    rig.nobody_is_ready();
    assert_eq!(rig.receive(channel), Ok(3));
    rig.ends_with(sender, event!(0, Sent));
    leaves_nothing(rig, channel);
}

#[test]
fn a_waiting_sender_and_a_waiting_receiver_never_stand_at_one_channel() {
    let (mut rig, channel) = with_channel(0);
    let sender = rig.sender(channel, 1);
    let receiver = rig.running();
    rig.wait(receiver, [Want::Receive(channel)]);
    rig.ends_with(sender, event!(0, Sent));
    rig.ends_with(receiver, event!(0, Received(1)));
    leaves_nothing(rig, channel);
}

#[test]
fn a_buffer_takes_its_capacity_and_no_more() {
    let (mut rig, channel) = with_channel(2);
    assert_eq!([rig.send(channel, 1), rig.send(channel, 2)], [Ok(()), Ok(())]);
    assert_eq!(rig.send(channel, 3), Err(SendRefused::Full(3)));
    assert_eq!(rig.with(|kernel| kernel.channel_state(channel)), (false, 2));
    assert_eq!(rig.receive(channel), Ok(1));
    assert_eq!(rig.send(channel, 4), Ok(()));
    assert_eq!([rig.receive(channel), rig.receive(channel)], [Ok(2), Ok(4)]);
    leaves_nothing(rig, channel);
}

#[test]
fn a_value_that_is_given_back_is_the_next_to_be_received() {
    for capacity in 0..3 {
        let (mut rig, channel) = with_channel(capacity);
        let back = rig.value(1);
        let values: Vec<u64> = (2..6).collect();
        let senders: Vec<_> =
            values.iter().filter(|&&value| rig.send(channel, value).is_err()).copied().collect();
        let senders: Vec<_> = senders.into_iter().map(|value| rig.sender(channel, value)).collect();
        rig.with(|kernel| kernel.give_back(channel, back));
        assert_eq!(rig.with(|kernel| kernel.channel_state(channel)), (false, capacity + 1));
        assert_eq!(rig.receive(channel), Ok(1));
        rig.nobody_is_ready();
        assert_eq!(rig.with(|kernel| kernel.channel_state(channel)), (false, capacity));
        for value in values {
            assert_eq!(rig.receive(channel), Ok(value));
        }
        for sender in senders {
            rig.ends_with(sender, event!(0, Sent));
        }
        leaves_nothing(rig, channel);
    }
}

#[test]
fn a_value_that_is_given_back_goes_to_who_waits_and_survives_closing() {
    let (mut rig, channel) = with_channel(1);
    let receiver = rig.receiver(channel);
    let back = rig.value(1);
    rig.with(|kernel| kernel.give_back(channel, back));
    rig.ends_with(receiver, event!(0, Received(1)));
    rig.with(|kernel| kernel.close_channel(channel));
    let back = rig.value(2);
    rig.with(|kernel| kernel.give_back(channel, back));
    assert_eq!([rig.receive(channel), rig.receive(channel)], [Ok(2), Err(RecvRefused::Closed)]);
    rig.with(|kernel| kernel.drop_channel(channel));
    let back = rig.value(3);
    rig.with(|kernel| kernel.give_back(channel, back));
    rig.leaves_nothing();
}

#[test]
fn a_waiting_sender_moves_up_when_there_is_room() {
    let (mut rig, channel) = with_channel(1);
    assert_eq!(rig.send(channel, 1), Ok(()));
    let [first, second] = [rig.sender(channel, 2), rig.sender(channel, 3)];
    assert_eq!(rig.receive(channel), Ok(1));
    rig.ends_with(first, event!(0, Sent));
    rig.nobody_is_ready();
    assert_eq!(rig.with(|kernel| kernel.channel_state(channel)), (false, 1));
    assert_eq!(rig.send(channel, 9), Err(SendRefused::Full(9)), "nobody overtakes the second");
    assert_eq!([rig.receive(channel), rig.receive(channel)], [Ok(2), Ok(3)]);
    rig.ends_with(second, event!(0, Sent));
    leaves_nothing(rig, channel);
}

#[test]
fn receivers_are_served_in_the_order_they_came() {
    let (mut rig, channel) = with_channel(3);
    let receivers = [rig.receiver(channel), rig.receiver(channel), rig.receiver(channel)];
    for number in 0..3 {
        assert_eq!(rig.send(channel, number), Ok(()));
    }
    assert_eq!(rig.with(|kernel| kernel.channel_state(channel)), (false, 0), "handed over, not buffered");
    assert_eq!(rig.receive(channel), Err(RecvRefused::Empty));
    for (receiver, number) in receivers.into_iter().zip(0..) {
        rig.ends_with(receiver, event!(0, Received(number)));
    }
    leaves_nothing(rig, channel);
}

#[test]
fn who_leaves_the_middle_of_the_line_takes_its_value_along() {
    let (mut rig, channel) = with_channel(0);
    let senders = [rig.sender(channel, 1), rig.sender(channel, 2), rig.sender(channel, 3)];
    rig.with(|kernel| kernel.cancel_task(senders[1]));
    assert_eq!(rig.spent(), [2]);
    rig.ends_with(senders[1], Wake::Cancelled);
    assert_eq!([rig.receive(channel), rig.receive(channel)], [Ok(1), Ok(3)]);
    assert_eq!(rig.receive(channel), Err(RecvRefused::Empty));
    rig.ends_with(senders[0], event!(0, Sent));
    rig.ends_with(senders[2], event!(0, Sent));
    leaves_nothing(rig, channel);
}

#[test]
fn a_closed_channel_gives_what_it_has_and_takes_nothing() {
    let (mut rig, channel) = with_channel(2);
    assert_eq!([rig.send(channel, 1), rig.send(channel, 2)], [Ok(()), Ok(())]);
    rig.with(|kernel| kernel.close_channel(channel));
    rig.with(|kernel| kernel.close_channel(channel));
    assert_eq!(rig.with(|kernel| kernel.channel_state(channel)), (true, 2));
    assert_eq!(rig.send(channel, 3), Err(SendRefused::Closed(3)));
    let late = rig.running();
    let want = rig.sending(channel, 4);
    rig.wait(late, [want]);
    rig.ends_with(late, event!(0, Closed));
    assert_eq!(rig.spent(), [4]);
    assert_eq!([rig.receive(channel), rig.receive(channel)], [Ok(1), Ok(2)]);
    assert_eq!(rig.receive(channel), Err(RecvRefused::Closed));
    leaves_nothing(rig, channel);
}

#[test]
fn closing_tells_everyone_who_waits_and_sends_nothing() {
    let (mut rig, channel) = with_channel(1);
    assert_eq!(rig.send(channel, 1), Ok(()));
    let senders = [rig.sender(channel, 2), rig.sender(channel, 3)];
    rig.with(|kernel| kernel.close_channel(channel));
    senders.into_iter().for_each(|sender| rig.ends_with(sender, event!(0, Closed)));
    assert_eq!(rig.spent(), [2, 3]);
    assert_eq!(rig.receive(channel), Ok(1));
    assert_eq!(rig.receive(channel), Err(RecvRefused::Closed));
    leaves_nothing(rig, channel);

    let (mut rig, channel) = with_channel(0);
    let receivers = [rig.receiver(channel), rig.receiver(channel)];
    rig.with(|kernel| kernel.close_channel(channel));
    receivers.into_iter().for_each(|receiver| rig.ends_with(receiver, event!(0, Closed)));
    leaves_nothing(rig, channel);
}

#[test]
fn a_dropped_channel_is_closed_and_what_lay_in_it_is_spent() {
    let (mut rig, channel) = with_channel(1);
    assert_eq!(rig.send(channel, 1), Ok(()));
    let sender = rig.sender(channel, 2);
    rig.with(|kernel| kernel.drop_channel(channel));
    let mut spent = rig.spent();
    spent.sort_unstable();
    assert_eq!(spent, [1, 2]);
    rig.ends_with(sender, event!(0, Closed));
    assert_eq!(rig.send(channel, 3), Err(SendRefused::Closed(3)));
    assert_eq!(rig.receive(channel), Err(RecvRefused::Closed));
    assert_eq!(rig.with(|kernel| kernel.channel_state(channel)), (true, 0));
    rig.leaves_nothing();
}

#[test]
fn the_name_of_a_dropped_channel_is_nobodys_for_ever() {
    let (mut rig, old) = with_channel(1);
    rig.with(|kernel| kernel.drop_channel(old));
    let new = rig.with(|kernel| kernel.open_channel(1));
    assert_ne!(old.number(), new.number());
    assert_eq!(rig.send(old, 1), Err(SendRefused::Closed(1)));
    assert_eq!(rig.receive(new), Err(RecvRefused::Empty));
    leaves_nothing(rig, new);
}

#[test]
fn what_lies_in_a_channel_is_shown_and_can_be_cleared() {
    let (mut rig, channel) = with_channel(3);
    for number in 1..4 {
        assert_eq!(rig.send(channel, number), Ok(()));
    }
    let mut seen = Vec::new();
    rig.with(|kernel| kernel.visit_channel(channel, |value| seen.push(value.number())));
    assert_eq!(seen, [1, 2, 3]);
    rig.with(|kernel| kernel.clear_channel(channel));
    assert_eq!(rig.spent(), [1, 2, 3]);
    assert_eq!(rig.receive(channel), Err(RecvRefused::Empty));
    leaves_nothing(rig, channel);
}

#[test]
fn a_long_stream_arrives_complete_and_in_order() {
    for capacity in [0, 1, 7] {
        let (mut rig, channel) = with_channel(capacity);
        let (mut sent, mut received) = (0, Vec::new());
        let (sender, receiver) = (rig.spawn(), rig.spawn());
        while let Some((task, wake)) = rig.turn() {
            if let Wake::Event { event: Event::Received(number), .. } = wake {
                received.push(number);
            }
            if task == receiver && received.len() == 1_000 || task == sender && sent == 1_000 {
                rig.finish(task);
            } else if task == receiver {
                rig.wait(task, [Want::Receive(channel)]);
            } else {
                let want = rig.sending(channel, sent);
                sent += 1;
                rig.wait(task, [want]);
            }
            assert!(rig.live_values() <= capacity + 2, "more values live than can be under way");
        }
        assert_eq!(received, (0..1_000).collect::<Vec<_>>());
        leaves_nothing(rig, channel);
    }
}
