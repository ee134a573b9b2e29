//! What is asked again, by the same name, after the answer was lost.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use thistledown_kernel::Moment;
use thistledown_runtime::{Recalled, SharedSpace};
use thistledown_space::{How, OperationId, Template, Tuple, Value, Wanted};

use crate::rig::Toys;

const OPERATION: OperationId = OperationId { asker: 7, number: 1 };

fn job() -> Tuple {
    Arc::from([Value::Int(1)])
}

fn now() -> Moment {
    Moment::after_epoch(Duration::from_secs(1))
}

fn take(world: &Toys, space: &SharedSpace) -> Option<Tuple> {
    let wanted = Wanted { template: Template::Anything, how: How::Take, within: None, held: false };
    let look = space.look(world, now(), (&wanted, None), None, || None).expect("no transaction")?;
    let tuple = look.given.tuple;
    if let Some(pending) = look.pending {
        pending.wait().expect("it is written");
        space.finish(world, now(), pending, true);
    }
    Some(tuple)
}

/// Writes by the name, and gives the number of the tuple and the row of the outcome.
fn write(world: &Toys, space: &SharedSpace) -> (u64, u64) {
    let begun = space.begin_numbered(world, now(), (job(), None), Some(OPERATION), None);
    let (number, pending) = begun.expect("it can be encoded");
    pending.wait().expect("it is written");
    let row = pending.row().expect("it has a name");
    space.finish(world, now(), pending, true);
    (number, row)
}

#[test]
fn a_write_that_was_done_is_told_who_asks_again_and_is_not_done_twice() {
    let (world, folder) = (Toys::default(), TempDir::new().expect("a folder"));
    let path = folder.path().join("jobs.db");
    let (space, _) = SharedSpace::open(&path, false, false, now()).expect("a space");
    let (number, row) = write(&world, &space);
    // Somebody has it already, when the answer is found to be lost.
    assert_eq!(take(&world, &space), Some(job()));
    space.remember(OPERATION, row, Some(number));
    match space.recall(&world, now(), OPERATION) {
        Some(Recalled::Written(written, again)) => assert_eq!((written, again), (number, row)),
        other => panic!("{other:?}"),
    }
    assert!(space.recall(&world, now(), OPERATION).is_none());
    assert_eq!(take(&world, &space), None);
    // Nobody has said that he knows: the next owner tells it, too.
    space.ledger().expect("a file").close();
    drop(space);
    let (space, _) = SharedSpace::open(&path, false, false, now()).expect("the same space");
    assert!(
        matches!(space.recall(&world, now(), OPERATION), Some(Recalled::Written(written, _)) if written == number)
    );
    assert_eq!(take(&world, &space), None);
}

#[test]
fn what_is_done_is_remembered_in_memory_until_it_is_told() {
    let (world, space) = (Toys::default(), SharedSpace::default());
    space.remember(OPERATION, 3, None);
    assert!(matches!(space.recall(&world, now(), OPERATION), Some(Recalled::Done(3))));
    assert!(space.recall(&world, now(), OPERATION).is_none());
}
