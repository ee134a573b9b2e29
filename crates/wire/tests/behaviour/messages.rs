//! What is no message is refused, and what the bytes are is written down.

use thistledown_wire::{
    Answer, End, Errand, Error, MAX_BLOB_HEAD, MAX_HEAD, Reply, SpawnOptions, VERSION, Verb, Work,
};

fn encoded(encode: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes
}

fn spawn(number: u64, function_length: u32, blob: Option<u64>) -> Reply {
    let (timeout_nanos, memory, key) = (Some(number), Some(number), Some(number));
    let errand = Some(Errand { actor: number, verb: Verb::Make { own: true, mailbox: u32::MAX } });
    let options =
        SpawnOptions { timeout_nanos, memory, retries: number as u32, priority: i32::MIN, key, errand };
    let options = Some(options);
    let function_blob = blob;
    Reply::Spawn {
        reference: number,
        function_length,
        name_length: u16::try_from(function_length / 4).unwrap_or(u16::MAX),
        function_blob,
        weightless: true,
        options,
        blob,
    }
}

/// Every variant, with its bytes. Who has to change this has to change `VERSION`.
#[test]
fn the_bytes_of_this_version() {
    assert_eq!(VERSION, 5);
    let make = Errand { actor: 6, verb: Verb::Make { own: true, mailbox: 300 } };
    let works: [(Work, &[u8]); 7] = [
        (Work::Function { id: 300, blob: None }, &[0, 0xac, 2, 0]),
        (Work::Forget { id: 1 }, &[1, 1]),
        (Work::Discard { task: 7 }, &[2, 7]),
        (Work::Task { id: 2, function: 1, weightless: false, blob: None }, &[3, 2, 1, 0, 0]),
        (Work::Task { id: 2, function: 1, weightless: true, blob: Some(9) }, &[3, 2, 1, 1, 1, 9]),
        (Work::Call { id: 2, function: 1, errand: make, blob: None }, &[4, 2, 1, 6, 0, 1, 0xac, 2, 0]),
        (
            Work::Call { id: 2, function: 1, errand: Errand { verb: Verb::Call, ..make }, blob: Some(9) },
            &[4, 2, 1, 6, 1, 1, 9],
        ),
    ];
    for (message, bytes) in works {
        assert_eq!(encoded(|into| message.encode(into)), bytes);
    }
    let verbs = [Verb::Give, Verb::Stop, Verb::Watch];
    for (number, verb) in (2..).zip(verbs) {
        let message = Work::Call { id: 2, function: 1, errand: Errand { verb, ..make }, blob: None };
        assert_eq!(encoded(|into| message.encode(into)), [4, 2, 1, 6, number, 0]);
    }
    let ends = [
        End::Value,
        End::Error,
        End::Cancelled,
        End::Died,
        End::TimedOut,
        End::Refused,
        End::Stopped,
        End::Killed,
        End::Closed,
        End::Unmade,
        End::Full,
        End::Unknown,
    ];
    for (number, end) in (0..).zip(ends) {
        let message = Answer::Ended { reference: 5, end, blob: None };
        assert_eq!(encoded(|into| message.encode(into)), [0, 5, number, 0]);
    }
    assert_eq!(encoded(|into| Answer::Cancel { id: 3 }.encode(into)), [1, 3]);
    assert_eq!(encoded(|into| Answer::Deadlock { reference: 3 }.encode(into)), [2, 3]);
    assert_eq!(encoded(|into| Answer::Discard { actor: 3 }.encode(into)), [3, 3]);
    assert_eq!(encoded(|into| Answer::Trail { id: 3 }.encode(into)), [4, 3]);
    let options = SpawnOptions { retries: 1, priority: -1, ..SpawnOptions::default() };
    let replies: [(Reply, &[u8]); 12] = [
        (Reply::Ready, &[0]),
        (Reply::Failed, &[1]),
        (Reply::Done { id: 1, end: End::Error, retry: true, nanos: 3, blob: None }, &[2, 1, 1, 1, 3, 0]),
        (
            Reply::Spawn {
                reference: 1,
                function_length: 3,
                name_length: 5,
                function_blob: Some(2),
                weightless: false,
                options: Some(options),
                blob: None,
            },
            &[3, 1, 5, 3, 1, 2, 0, 1, 0, 0, 1, 1, 0, 0, 0],
        ),
        (Reply::CancelSpawned { reference: 4 }, &[4, 4]),
        (Reply::Waiting, &[5]),
        (Reply::Resumed, &[6]),
        (Reply::Say, &[7]),
        (Reply::Blocked { id: 1, reference: 2, holds: true }, &[8, 1, 2, 1]),
        (Reply::Kill { actor: 5 }, &[9, 5]),
        (Reply::Tie { actor: 5 }, &[10, 5]),
        (Reply::Trail { reference: 5 }, &[11, 5]),
    ];
    for (message, bytes) in replies {
        assert_eq!(encoded(|into| message.encode(into)), bytes);
    }
}

#[test]
fn the_longest_message_has_room() {
    let longest = encoded(|into| spawn(u64::MAX, u32::MAX, Some(u64::MAX)).encode(into));
    assert!((MAX_HEAD - 16..=MAX_HEAD).contains(&longest.len()), "{} bytes", longest.len());
}

#[test]
fn an_unknown_variant_is_refused() {
    assert_eq!(Work::decode(&[5, 0, 0, 0, 0, 0]), Err(Error::NoMessage));
    assert_eq!(Work::decode(&[4, 2, 1, 6, 5, 0]), Err(Error::NoMessage), "a verb");
    assert_eq!(Answer::decode(&[5, 0, 0, 0, 0, 0]), Err(Error::NoMessage));
    assert_eq!(Answer::decode(&[0, 5, 12, 0]), Err(Error::NoMessage), "an end");
    assert_eq!(Reply::decode(&[12]), Err(Error::NoMessage));
    assert_eq!(Reply::decode(&[2, 1, 1, 2, 3, 0]), Err(Error::NoMessage), "neither true nor false");
    assert_eq!(Reply::decode(&[2, 1, 1, 1, 3, 2]), Err(Error::NoMessage), "neither there nor not");
    assert_eq!(Work::decode(&[1, 0xff, 0xff, 0xff, 0xff, 0x1f]), Err(Error::NoMessage), "more than an u32");
}

#[test]
fn a_message_without_a_body_takes_none() {
    assert_eq!(Work::decode(&[1, 1, 0, 0]), Err(Error::Trailing { length: 2 }));
    assert_eq!(Answer::decode(&[1, 3, 0, 0]), Err(Error::Trailing { length: 2 }));
    assert_eq!(Answer::decode(&[3, 3, 0, 0]), Err(Error::Trailing { length: 2 }));
    for bodiless in [&[0][..], &[4, 4], &[5], &[6], &[8, 1, 2, 1], &[9, 5], &[10, 5]] {
        let frame = [bodiless, &[0, 0]].concat();
        assert_eq!(Reply::decode(&frame), Err(Error::Trailing { length: 2 }), "{bodiless:?}");
        Reply::decode(bodiless).expect("a message");
    }
}

#[test]
fn a_blobs_head_has_a_limit() {
    let (length, limit) = (MAX_BLOB_HEAD + 1, MAX_BLOB_HEAD);
    let refused = Error::TooMuch { length, limit };
    let frames = |blob| {
        let work = Work::Function { id: 1, blob };
        let task = Work::Task { id: 1, function: 1, weightless: false, blob };
        let ended = Answer::Ended { reference: 1, end: End::Value, blob };
        let done = Reply::Done { id: 1, end: End::Value, retry: false, nanos: 1, blob };
        [
            Work::decode(&encoded(|into| work.encode(into))).map(drop),
            Work::decode(&encoded(|into| task.encode(into))).map(drop),
            Answer::decode(&encoded(|into| ended.encode(into))).map(drop),
            Reply::decode(&encoded(|into| done.encode(into))).map(drop),
            Reply::decode(&encoded(|into| spawn(1, 0, blob).encode(into))).map(drop),
        ]
    };
    assert_eq!(frames(Some(length)), [Err(refused); 5]);
    assert_eq!(frames(Some(limit)), [Ok(()); 5]);
}

#[test]
fn a_function_is_not_longer_than_the_body_it_is_in() {
    let frame = |body: &[u8]| {
        encoded(|into| {
            spawn(1, 3, None).encode(into);
            into.extend(body);
        })
    };
    assert_eq!(Reply::decode(&frame(b"ab")), Err(Error::CutOff));
    assert_eq!(Reply::decode(&frame(b"abc")), Ok((spawn(1, 3, None), &b"abc"[..])));
    let named = |body: &[u8]| {
        encoded(|into| {
            spawn(1, 8, None).encode(into);
            into.extend(body);
        })
    };
    assert_eq!(Reply::decode(&named(b"function-")), Err(Error::CutOff), "its name");
    assert!(Reply::decode(&named(b"function-1")).is_ok());
}
