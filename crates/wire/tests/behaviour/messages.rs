//! What is no message is refused, and what the bytes are is written down.

use thistledown_wire::{Answer, End, Error, MAX_BLOB_HEAD, MAX_HEAD, Reply, SpawnOptions, VERSION, Work};

fn encoded(encode: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes
}

fn spawn(number: u64, function_length: u32, blob: Option<u64>) -> Reply {
    let (timeout_nanos, memory, key) = (Some(number), Some(number), Some(number));
    let options = SpawnOptions { timeout_nanos, memory, retries: number as u32, priority: i32::MIN, key };
    let options = Some(options);
    let function_blob = blob;
    Reply::Spawn { reference: number, function_length, function_blob, weightless: true, options, blob }
}

/// Every variant, with its bytes. Who has to change this has to change `VERSION`.
#[test]
fn the_bytes_of_this_version() {
    assert_eq!(VERSION, 2);
    let works: [(Work, &[u8]); 5] = [
        (Work::Function { id: 300, blob: None }, &[0, 0xac, 2, 0]),
        (Work::Forget { id: 1 }, &[1, 1]),
        (Work::Discard { task: 7 }, &[2, 7]),
        (Work::Task { id: 2, function: 1, weightless: false, blob: None }, &[3, 2, 1, 0, 0]),
        (Work::Task { id: 2, function: 1, weightless: true, blob: Some(9) }, &[3, 2, 1, 1, 1, 9]),
    ];
    for (message, bytes) in works {
        assert_eq!(encoded(|into| message.encode(into)), bytes);
    }
    let ends = [End::Value, End::Error, End::Cancelled, End::Died, End::TimedOut, End::Refused];
    for (number, end) in (0..).zip(ends) {
        let message = Answer::Ended { reference: 5, end, blob: None };
        assert_eq!(encoded(|into| message.encode(into)), [0, 5, number, 0]);
    }
    assert_eq!(encoded(|into| Answer::Cancel { id: 3 }.encode(into)), [1, 3]);
    let options = SpawnOptions { retries: 1, priority: -1, ..SpawnOptions::default() };
    let replies: [(Reply, &[u8]); 8] = [
        (Reply::Ready, &[0]),
        (Reply::Failed, &[1]),
        (Reply::Done { id: 1, end: End::Error, retry: true, nanos: 3, blob: None }, &[2, 1, 1, 1, 3, 0]),
        (
            Reply::Spawn {
                reference: 1,
                function_length: 3,
                function_blob: Some(2),
                weightless: false,
                options: Some(options),
                blob: None,
            },
            &[3, 1, 3, 1, 2, 0, 1, 0, 0, 1, 1, 0, 0],
        ),
        (Reply::CancelSpawned { reference: 4 }, &[4, 4]),
        (Reply::Waiting, &[5]),
        (Reply::Resumed, &[6]),
        (Reply::Say, &[7]),
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
    assert_eq!(Work::decode(&[4, 0, 0, 0, 0, 0]), Err(Error::NoMessage));
    assert_eq!(Answer::decode(&[2, 0, 0, 0, 0, 0]), Err(Error::NoMessage));
    assert_eq!(Answer::decode(&[0, 5, 6, 0]), Err(Error::NoMessage), "an end");
    assert_eq!(Reply::decode(&[8]), Err(Error::NoMessage));
    assert_eq!(Reply::decode(&[2, 1, 1, 2, 3, 0]), Err(Error::NoMessage), "neither true nor false");
    assert_eq!(Reply::decode(&[2, 1, 1, 1, 3, 2]), Err(Error::NoMessage), "neither there nor not");
    assert_eq!(Work::decode(&[1, 0xff, 0xff, 0xff, 0xff, 0x1f]), Err(Error::NoMessage), "more than an u32");
}

#[test]
fn a_message_without_a_body_takes_none() {
    assert_eq!(Work::decode(&[1, 1, 0, 0]), Err(Error::Trailing { length: 2 }));
    assert_eq!(Answer::decode(&[1, 3, 0, 0]), Err(Error::Trailing { length: 2 }));
    for bodiless in [&[0][..], &[4, 4], &[5], &[6]] {
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
}
