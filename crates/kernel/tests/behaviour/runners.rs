//! Taking a runner away leaves nothing of it behind, and tells everyone elsewhere who waited for it.

use thistledown_kernel::{Direction, Moment, RecvRefused, SendRefused, Start, Wake, Want};

use crate::rig::{Rig, at, event};

#[test]
fn a_runner_that_is_taken_away_leaves_nothing_behind() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let before = rig.census();
    let [full, empty] = [0; 2].map(|capacity| rig.with(|kernel| kernel.open_channel(capacity)));
    let source = rig.with(|kernel| kernel.add_source(runner));
    rig.with(|kernel| kernel.source_is_dry(source, Direction::Read));
    let _sender = rig.sender(full, 1);
    let receiver = rig.receiver(empty);
    let _reader = rig.waiting([Want::Readable(source), Want::Until(at(5))]);
    let owner = rig.running();
    let scope = rig.with(|kernel| kernel.open_scope(owner, Some(at(9)), true)).expect("a scope");
    let _member = rig.spawn_in(scope);
    let _joiner = rig.with(|kernel| kernel.add_elsewhere(Some(runner)));
    rig.wait(owner, [Want::Drain(scope), Want::End(receiver)]);
    rig.with(|kernel| kernel.remove_runner(runner));
    assert_eq!(rig.spent(), [1]);
    assert!(!rig.with(|kernel| kernel.has_runner(runner)));
    assert!(rig.with(|kernel| kernel.is_over(runner)));
    assert_eq!(rig.receive(full), Err(RecvRefused::Empty));
    assert_eq!(rig.send(empty, 2), Err(SendRefused::Full(2)));
    rig.with(|kernel| kernel.expire(runner, Moment::NEVER));
    rig.nobody_is_ready();
    [full, empty].into_iter().for_each(|channel| rig.with(|kernel| kernel.drop_channel(channel)));
    assert_ne!(rig.census(), before, "the runner itself is gone as well");
    rig.leaves_nothing();
}

#[test]
fn what_a_task_was_woken_with_and_never_took_is_spent() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let channel = rig.with(|kernel| kernel.open_channel(0));
    rig.receiver(channel);
    assert_eq!(rig.send(channel, 7), Ok(()));
    rig.with(|kernel| kernel.remove_runner(runner));
    assert_eq!(rig.spent(), [7]);
    rig.with(|kernel| kernel.drop_channel(channel));
    rig.leaves_nothing();
}

#[test]
fn the_body_of_a_task_that_has_its_turn_is_spent_when_it_comes_back() {
    for gives_way in [false, true] {
        let mut rig = Rig::new();
        let runner = rig.runner;
        let task = rig.running();
        rig.with(|kernel| kernel.remove_runner(runner));
        assert!(!rig.with(|kernel| kernel.is_live(task)));
        if gives_way {
            rig.give_way(task);
        } else {
            rig.keep_body(task);
        }
        let (_, bodies) = rig.with(thistledown_kernel::Kernel::take_spent);
        assert_eq!(bodies.len(), 1);
        drop(bodies);
        rig.leaves_nothing();
    }
}

#[test]
fn those_elsewhere_who_waited_for_it_are_told() {
    let mut rig = Rig::new();
    let (other, other_root) = rig.with(|kernel| kernel.add_runner("other"));
    let target = rig.spawn_as(other, Start::InRun);
    assert_eq!(rig.turn_of(other), Some((target, Wake::Start)));
    rig.wait(target, []);
    let joiner = rig.waiting([Want::End(target)]);
    let drainer = rig.waiting([Want::Drain(other_root)]);
    let thread = rig.with(|kernel| kernel.add_thread("thread"));
    rig.wait(thread, [Want::End(target)]);
    rig.with(|kernel| kernel.remove_runner(other));
    assert_eq!(rig.woken(), ["thread"]);
    rig.ends_with(joiner, event!(0, Ended));
    rig.ends_with(drainer, event!(0, Drained));
    rig.with(|kernel| kernel.withdraw(thread));
    rig.finish(thread);
    rig.leaves_nothing();
}
