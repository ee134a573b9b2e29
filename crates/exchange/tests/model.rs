//! Models of the word by which a receiver says which of the values that lie with it it has taken, and the channel takes
//! back what it has not: loom tries every order in which they can go on.
//!
//! `make model` runs them. A value that both have, or nobody has, is a sum that is wrong.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use thistledown_exchange::modelled::{Claimed, Claims};

const VALUES: u64 = 2;

type Shared = Arc<AtomicU64>;

fn word() -> Shared {
    Arc::new(AtomicU64::new(0))
}

/// Takes the values from this one on, until there is no more, or they are its own no more. How many; and how often it was
/// to say so.
fn receive(word: &Shared, first: u64) -> (u64, u64) {
    let claims = Claims(Arc::clone(word));
    let (mut taken, mut told) = (0, 0);
    for number in first..VALUES {
        match claims.claim(number) {
            Claimed::Taken(is_awaited) => {
                taken += 1;
                told += u64::from(is_awaited);
            }
            Claimed::Revoked => break,
        }
    }
    (taken, told)
}

#[test]
fn what_is_recalled_is_taken_by_one_of_both() {
    loom::model(|| {
        let word = word();
        let receiver = thread::spawn({
            let word = Arc::clone(&word);
            move || receive(&word, 0).0
        });
        let kept = Claims(word).revoke();
        let others = VALUES - kept;
        assert_eq!(receiver.join().expect("a count") + others, VALUES);
    });
}

#[test]
fn what_is_recalled_from_one_and_lent_to_another_is_taken_once() {
    loom::model(|| {
        let (first, second) = (word(), word());
        let receiver = thread::spawn({
            let word = Arc::clone(&first);
            move || receive(&word, 0).0
        });
        let kept = Claims(first).revoke();
        // Lent there under numbers of its own, and recalled from there as well.
        let (lent, word) = (VALUES - kept, Arc::clone(&second));
        let other = thread::spawn(move || receive(&word, VALUES - lent).0);
        // What it is past, less what was never lent to it: nothing, while it has claimed none.
        let kept_there = Claims(second).revoke().saturating_sub(kept);
        let others = lent - kept_there;
        let taken = receiver.join().expect("a count") + other.join().expect("a count");
        assert_eq!(taken + others, VALUES);
    });
}

/// The receiver's process is gone at some moment, and has said nothing: the word is all that is left.
#[test]
fn what_the_dead_had_taken_is_in_the_word() {
    for dies_after in 0..=VALUES {
        loom::model(move || {
            let word = word();
            let receiver = thread::spawn({
                let word = Arc::clone(&word);
                move || {
                    let claims = Claims(word);
                    (0..dies_after).take_while(|number| claims.claim(*number) != Claimed::Revoked).count()
                }
            });
            let claims = Claims(word);
            // While it lives nobody is ahead of it, and nothing goes back.
            let seen = claims.past();
            let kept = claims.revoke();
            assert!(seen <= kept && kept <= dies_after);
            assert_eq!(receiver.join().expect("a count") as u64, kept);
            assert_eq!(claims.past(), kept);
        });
    }
}

#[test]
fn who_asks_to_hear_of_the_next_claim_has_seen_it_or_hears_of_it() {
    loom::model(|| {
        let word = word();
        let receiver = thread::spawn({
            let word = Arc::clone(&word);
            move || receive(&word, 0)
        });
        let seen = Claims(word).watch();
        let (taken, told) = receiver.join().expect("counts");
        assert_eq!(taken, VALUES);
        // Of the claims that came later, the first.
        assert_eq!(told, u64::from(seen < taken));
    });
}

#[test]
fn after_a_recall_is_heard_of_there_is_something_to_take_again() {
    loom::model(|| {
        let word = word();
        let claims = Claims(Arc::clone(&word));
        let kept = thread::spawn(move || claims.revoke());
        let (before, _) = receive(&word, 0);
        let kept = kept.join().expect("a number");
        assert_eq!(before, kept);
        Claims(Arc::clone(&word)).restore();
        assert_eq!(receive(&word, kept).0, VALUES - kept);
        assert_eq!(Claims(word).past(), VALUES);
    });
}
