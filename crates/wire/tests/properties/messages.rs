//! What is encoded is decoded; nothing else is taken, and nothing makes a panic.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use thistledown_wire::{
    Answer, End, Errand, Error, MAX_BLOB_HEAD, MAX_HEAD, Reply, SpawnOptions, Verb, Work,
};

use crate::cases;

/// Small and large ones, which differ in how they are encoded.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, any::<u64>(), Just(u64::MAX)]
}

fn number32() -> impl Strategy<Value = u32> {
    prop_oneof![0..300_u32, any::<u32>(), Just(u32::MAX)]
}

fn blob() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(0..=MAX_BLOB_HEAD)
}

fn end() -> impl Strategy<Value = End> {
    use End::{
        Cancelled, Closed, Died, Error, Full, Killed, Refused, Stopped, TimedOut, Unknown, Unmade, Value,
    };
    proptest::sample::select(vec![
        Value, Error, Cancelled, Died, TimedOut, Refused, Stopped, Killed, Closed, Unmade, Full, Unknown,
    ])
}

fn errand() -> impl Strategy<Value = Errand> {
    let verb = prop_oneof![
        (any::<bool>(), number32()).prop_map(|(own, mailbox)| Verb::Make { own, mailbox }),
        proptest::sample::select(vec![Verb::Call, Verb::Give, Verb::Stop, Verb::Watch]),
    ];
    (number(), verb).prop_map(|(actor, verb)| Errand { actor, verb })
}

fn options() -> impl Strategy<Value = SpawnOptions> {
    let maybe = || proptest::option::of(number());
    (maybe(), maybe(), number32(), any::<i32>(), maybe(), proptest::option::of(errand())).prop_map(
        |(timeout_nanos, memory, retries, priority, key, errand)| SpawnOptions {
            timeout_nanos,
            memory,
            retries,
            priority,
            key,
            errand,
        },
    )
}

/// A message, and what it says of its body: none, or at least so many bytes.
fn work() -> impl Strategy<Value = (Work, Option<usize>)> {
    prop_oneof![
        (number32(), blob()).prop_map(|(id, blob)| (Work::Function { id, blob }, Some(0))),
        number32().prop_map(|id| (Work::Forget { id }, None)),
        number().prop_map(|task| (Work::Discard { task }, None)),
        (number(), number32(), any::<bool>(), blob()).prop_map(|(id, function, weightless, blob)| {
            (Work::Task { id, function, weightless, blob }, Some(0))
        }),
        (number(), number32(), errand(), blob())
            .prop_map(|(id, function, errand, blob)| (Work::Call { id, function, errand, blob }, Some(0))),
    ]
}

fn answer() -> impl Strategy<Value = (Answer, Option<usize>)> {
    prop_oneof![
        (number(), end(), blob())
            .prop_map(|(reference, end, blob)| (Answer::Ended { reference, end, blob }, Some(0))),
        number().prop_map(|id| (Answer::Cancel { id }, None)),
        number().prop_map(|reference| (Answer::Deadlock { reference }, Some(0))),
        number().prop_map(|actor| (Answer::Discard { actor }, None)),
        number().prop_map(|id| (Answer::Trail { id }, Some(0))),
    ]
}

fn reply() -> impl Strategy<Value = (Reply, Option<usize>)> {
    let spawn =
        (number(), blob(), (0..20_u32, 0..20_u16), any::<bool>(), proptest::option::of(options()), blob());
    prop_oneof![
        Just((Reply::Ready, None)),
        Just((Reply::Failed, Some(0))),
        (number(), end(), any::<bool>(), number(), blob()).prop_map(|(id, end, retry, nanos, blob)| {
            (Reply::Done { id, end, retry, nanos, blob }, Some(0))
        }),
        spawn.prop_map(
            |(reference, function_blob, (function_length, name_length), weightless, options, blob)| {
                let spawn = Reply::Spawn {
                    reference,
                    function_length,
                    name_length,
                    function_blob,
                    weightless,
                    options,
                    blob,
                };
                (spawn, Some(function_length as usize + usize::from(name_length)))
            }
        ),
        number().prop_map(|reference| (Reply::CancelSpawned { reference }, None)),
        Just((Reply::Waiting, None)),
        Just((Reply::Resumed, None)),
        Just((Reply::Say, Some(0))),
        (number(), number(), any::<bool>())
            .prop_map(|(id, reference, holds)| (Reply::Blocked { id, reference, holds }, None)),
        number().prop_map(|actor| (Reply::Kill { actor }, None)),
        number().prop_map(|actor| (Reply::Tie { actor }, None)),
        number().prop_map(|reference| (Reply::Trail { reference }, Some(0))),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..40)
}

/// The same for each kind of message.
macro_rules! properties {
    ($($name:ident: $kind:ty, $message:expr;)*) => {$(
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(cases(1_000))]

                #[test]
                fn what_goes_in_comes_out((message, takes) in $message, body in body()) {
                    let mut frame = vec![9];
                    message.encode(&mut frame);
                    let head = frame.len() - 1;
                    assert!(head <= MAX_HEAD);
                    let without = <$kind>::decode(&frame[1..]);
                    match takes {
                        None | Some(0) => assert_eq!(without, Ok((message, &[][..]))),
                        Some(_) => assert_eq!(without, Err(Error::CutOff)),
                    }
                    frame.extend(&body);
                    let with = <$kind>::decode(&frame[1..]);
                    match takes {
                        None => assert_eq!(with, Err(Error::Trailing { length: body.len() })),
                        Some(least) if least > body.len() => assert_eq!(with, Err(Error::CutOff)),
                        Some(_) => assert_eq!(with, Ok((message, &body[..]))),
                    }
                }

                #[test]
                fn a_message_cut_anywhere_is_refused((message, _) in $message) {
                    let mut frame = Vec::new();
                    message.encode(&mut frame);
                    for length in 0..frame.len() {
                        assert_eq!(<$kind>::decode(&frame[..length]), Err(Error::CutOff));
                    }
                }

                #[test]
                fn what_is_taken_of_any_bytes_is_a_message(
                    bytes in (0..10_u8, proptest::collection::vec(any::<u8>(), 0..120))
                        .prop_map(|(tag, rest)| [vec![tag], rest].concat()),
                ) {
                    if let Ok((message, body)) = <$kind>::decode(&bytes) {
                        let mut again = Vec::new();
                        message.encode(&mut again);
                        again.extend(body);
                        assert!(again.len() <= bytes.len(), "what is written is as short as can be");
                        assert_eq!(<$kind>::decode(&again), Ok((message, body)));
                    }
                }
            }
        }
    )*};
}

properties! {
    works: Work, work();
    answers: Answer, answer();
    replies: Reply, reply();
}
