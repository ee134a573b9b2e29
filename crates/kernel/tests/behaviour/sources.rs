//! Sources: readiness is kept until it proves false, closed ends stay ready, and who waits is told the truth.

use thistledown_kernel::{Direction, SourceId, Want};

use crate::rig::{Rig, event};

/// A source that has proved dry in both directions.
fn dry(rig: &mut Rig) -> SourceId {
    let runner = rig.runner;
    let source = rig.with(|kernel| kernel.add_source(runner));
    rig.with(|kernel| {
        kernel.source_is_dry(source, Direction::Read);
        kernel.source_is_dry(source, Direction::Write);
    });
    source
}

fn readiness(rig: &mut Rig, source: SourceId) -> (bool, bool) {
    rig.with(|kernel| {
        let of = |direction| kernel.source_is_ready(source, direction);
        (of(Direction::Read), of(Direction::Write))
    })
}

fn waits(rig: &mut Rig) -> usize {
    let runner = rig.runner;
    rig.with(|kernel| {
        let prospects = kernel.park(runner).expect("nobody is ready");
        kernel.unpark(runner);
        prospects.sources
    })
}

#[test]
fn a_new_source_is_thought_ready_until_it_proves_dry() {
    let mut rig = Rig::new();
    let runner = rig.runner;
    let source = rig.with(|kernel| kernel.add_source(runner));
    assert_eq!(readiness(&mut rig, source), (true, true));
    let task = rig.waiting([Want::Readable(source)]);
    rig.has_turn(task, event!(0, Ready));
    rig.with(|kernel| kernel.source_is_dry(source, Direction::Read));
    assert_eq!(readiness(&mut rig, source), (false, true));
    rig.wait(task, [Want::Readable(source)]);
    rig.nobody_is_ready();
    rig.with(|kernel| kernel.source_became_ready(source, true, false));
    rig.ends_with(task, event!(0, Ready));
    assert_eq!(readiness(&mut rig, source), (true, true), "one report serves many attempts");
    rig.leaves_nothing();
}

#[test]
fn each_direction_is_its_own() {
    let mut rig = Rig::new();
    let source = dry(&mut rig);
    let reader = rig.waiting([Want::Readable(source)]);
    let writer = rig.waiting([Want::Writable(source)]);
    assert_eq!(waits(&mut rig), 2);
    rig.with(|kernel| kernel.source_became_ready(source, false, true));
    rig.ends_with(writer, event!(0, Ready));
    rig.nobody_is_ready();
    assert_eq!(waits(&mut rig), 1);
    rig.with(|kernel| kernel.source_became_ready(source, true, false));
    rig.ends_with(reader, event!(0, Ready));
    assert_eq!(waits(&mut rig), 0);
    rig.leaves_nothing();
}

#[test]
fn everyone_who_waits_in_that_direction_is_told_in_order() {
    let mut rig = Rig::new();
    let source = dry(&mut rig);
    let readers = [0; 3].map(|_| rig.waiting([Want::Readable(source)]));
    let writer = rig.waiting([Want::Writable(source)]);
    rig.with(|kernel| kernel.source_became_ready(source, true, true));
    readers.into_iter().for_each(|reader| rig.ends_with(reader, event!(0, Ready)));
    rig.ends_with(writer, event!(0, Ready));
    rig.leaves_nothing();
}

#[test]
fn who_waits_for_both_directions_is_told_the_right_one() {
    let both = |source| [Want::Readable(source), Want::Writable(source)];
    let mut rig = Rig::new();
    let source = dry(&mut rig);
    let tasks = [rig.waiting(both(source)), rig.waiting(both(source))];
    rig.with(|kernel| kernel.source_became_ready(source, true, false));
    tasks.into_iter().for_each(|task| rig.has_turn(task, event!(0, Ready)));
    rig.with(|kernel| kernel.source_is_dry(source, Direction::Read));
    tasks.into_iter().for_each(|task| rig.wait(task, both(source)));
    rig.with(|kernel| kernel.source_became_ready(source, false, true));
    tasks.into_iter().for_each(|task| rig.has_turn(task, event!(1, Ready)));
    rig.with(|kernel| kernel.source_is_dry(source, Direction::Write));
    tasks.into_iter().for_each(|task| rig.wait(task, both(source)));
    rig.with(|kernel| kernel.source_became_ready(source, true, true));
    tasks.into_iter().for_each(|task| rig.ends_with(task, event!(0, Ready)));
    rig.nobody_is_ready();
    rig.leaves_nothing();
}

#[test]
fn a_closed_end_never_proves_dry() {
    let mut rig = Rig::new();
    let source = dry(&mut rig);
    rig.with(|kernel| {
        kernel.source_closed(source, true, false);
        kernel.source_became_ready(source, true, false);
        kernel.source_is_dry(source, Direction::Read);
    });
    assert_eq!(readiness(&mut rig, source), (true, false));
    rig.with(|kernel| {
        kernel.source_closed(source, false, true);
        kernel.source_became_ready(source, false, true);
        kernel.source_is_dry(source, Direction::Write);
    });
    assert_eq!(readiness(&mut rig, source), (true, true));
    rig.leaves_nothing();
}

#[test]
fn a_source_that_is_taken_away_tells_everyone() {
    let mut rig = Rig::new();
    let source = dry(&mut rig);
    let reader = rig.waiting([Want::Readable(source)]);
    let writer = rig.waiting([Want::Writable(source)]);
    let both = rig.waiting([Want::Readable(source), Want::Writable(source)]);
    rig.with(|kernel| kernel.remove_source(source));
    rig.ends_with(reader, event!(0, Gone));
    rig.ends_with(both, event!(0, Gone));
    rig.ends_with(writer, event!(0, Gone));
    assert_eq!(waits(&mut rig), 0);
    let late = rig.waiting([Want::Writable(source)]);
    rig.ends_with(late, event!(0, Gone));
    assert_eq!(readiness(&mut rig, source), (true, true), "an attempt will tell");
    rig.leaves_nothing();
}

#[test]
fn reports_of_a_source_that_is_gone_are_nobodys() {
    let mut rig = Rig::new();
    let old = dry(&mut rig);
    rig.with(|kernel| kernel.remove_source(old));
    let new = dry(&mut rig);
    let task = rig.waiting([Want::Readable(new)]);
    rig.with(|kernel| {
        kernel.source_became_ready(old, true, true);
        kernel.source_closed(old, true, true);
        kernel.remove_source(old);
    });
    rig.nobody_is_ready();
    rig.finish_by_cancelling(task);
    assert_eq!(waits(&mut rig), 0);
    rig.leaves_nothing();
}

#[test]
fn a_wait_is_counted_where_the_source_lives() {
    let mut rig = Rig::new();
    let (other, _) = rig.with(|kernel| kernel.add_runner("other"));
    let source = rig.with(|kernel| kernel.add_source(other));
    rig.with(|kernel| kernel.source_is_dry(source, Direction::Read));
    let task = rig.waiting([Want::Readable(source)]);
    assert_eq!(waits(&mut rig), 0);
    let prospects = rig.with(|kernel| kernel.park(other)).expect("nobody is ready there");
    assert_eq!(prospects.sources, 1);
    rig.with(|kernel| kernel.remove_runner(other));
    rig.ends_with(task, event!(0, Gone));
    rig.leaves_nothing();
}
