//! Tuples and templates as bytes: what was written is read back, and what nobody wrote is an error.

use std::sync::Arc;

use proptest::prelude::*;
use thistledown_space::{
    CodecError, Field, Kind, Large, Other, Template, Value, decode_template, decode_tuple, encode_template,
    encode_tuple,
};

fn values() -> impl Strategy<Value = Value> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (any::<bool>(), bytes()).prop_map(|(negative, bytes)| Value::Large(Large::new(negative, &bytes))),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        any::<String>().prop_map(|text| Value::Text(text.as_bytes().into())),
        Just(Value::Text(b"a\xed\xa0\x80b".as_slice().into())),
        bytes().prop_map(|bytes| Value::Bytes(bytes.into())),
        (any::<String>(), bytes())
            .prop_map(|(kind, data)| Value::Other(Arc::new(Other { kind: kind.into(), data: data.into() }))),
    ];
    leaf.prop_recursive(4, 30, 6, |inner| {
        proptest::collection::vec(inner, 0..6).prop_map(|fields| Value::Tuple(fields.into()))
    })
}

fn fields() -> impl Strategy<Value = Field> {
    let kinds = prop_oneof![
        Just(Kind::None),
        Just(Kind::Bool),
        Just(Kind::Int),
        Just(Kind::Float),
        Just(Kind::Text),
        Just(Kind::Bytes),
        Just(Kind::Tuple),
        any::<String>().prop_map(|name| Kind::Other(name.into())),
    ];
    let leaf = prop_oneof![
        Just(Field::Anything),
        values().prop_map(Field::Value),
        kinds.prop_map(Field::Kind),
        (values(), proptest::option::of(values())).prop_map(|(low, high)| Field::Between(Some(low), high)),
        values().prop_map(|high| Field::Between(None, Some(high))),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        let several = || proptest::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            several().prop_map(|fields| Field::OneOf(fields.into())),
            several().prop_map(|fields| Field::Tuple(fields.into())),
        ]
    })
}

/// Bit by bit, so that not-a-number is itself.
fn same(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Float(one), Value::Float(two)) => one.to_bits() == two.to_bits(),
        (Value::Tuple(one), Value::Tuple(two)) => all_same(one, two),
        (Value::Other(one), Value::Other(two)) => one.kind == two.kind && one.data == two.data,
        _ => one == two,
    }
}

fn all_same(one: &[Value], two: &[Value]) -> bool {
    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(one, two))
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::None, |inner, _| Value::Tuple([inner].into()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tuple_is_read_back_as_it_was_written(tuple in proptest::collection::vec(values(), 0..6)) {
        let bytes = encode_tuple(&tuple).expect("not too deep");
        let back = decode_tuple(&bytes).expect("it was written so");
        prop_assert!(all_same(&tuple, &back), "{tuple:?} became {back:?}");
        for end in 0..bytes.len() {
            prop_assert!(decode_tuple(&bytes[..end]).is_err(), "cut after {end} of {}", bytes.len());
        }
    }

    #[test]
    fn a_template_is_read_back_as_it_was_written(fields in proptest::collection::vec(fields(), 0..6)) {
        let bytes = encode_template(&Template::Fields(fields.into())).expect("not too deep");
        let back = decode_template(&bytes).expect("it was written so");
        prop_assert_eq!(encode_template(&back).expect("not too deep"), bytes);
    }

    #[test]
    fn what_nobody_wrote_is_an_error_or_a_tuple_that_can_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let bytes = [&[1], bytes.as_slice()].concat();
        if let Ok(tuple) = decode_tuple(&bytes) {
            let again = decode_tuple(&encode_tuple(&tuple).expect("it was read")).expect("it was written");
            prop_assert!(all_same(&tuple, &again));
        }
        if let Ok(template) = decode_template(&bytes) {
            prop_assert!(decode_template(&encode_template(&template).expect("it was read")).is_ok());
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let error = |bytes: &[u8]| decode_tuple(bytes).expect_err("it is wrong");
    assert_eq!(error(&[]), CodecError::Truncated);
    assert_eq!(error(&[2, 0]), CodecError::Version { found: 2 });
    assert_eq!(error(&[1, 1, 77]), CodecError::Tag { what: "value", tag: 77 });
    assert_eq!(error(&[1, 0, 0, 0]), CodecError::Trailing { count: 2 });
    assert_eq!(error(&[1, 1, 7, 1, 0xff]), CodecError::NotText);
    assert_eq!(
        error(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        CodecError::Truncated
    );
    assert_eq!(
        error(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
        CodecError::Tag { what: "number of 64 bits", tag: 2 },
    );
}

#[test]
fn depth_has_a_limit_both_ways() {
    let bytes = encode_tuple(&[nested(100)]).expect("not too deep");
    assert!(all_same(&decode_tuple(&bytes).expect("not too deep"), &[nested(100)]));
    assert_eq!(encode_tuple(&[nested(1_000)]).expect_err("it is deep"), CodecError::TooDeep);
    let deep = [vec![1, 1], [9, 1].repeat(100_000)].concat();
    assert_eq!(decode_tuple(&deep).expect_err("it is deep"), CodecError::TooDeep);
    let fields = [vec![1, 1, 1], [5, 1].repeat(100_000)].concat();
    assert_eq!(decode_template(&fields).expect_err("it is deep"), CodecError::TooDeep);
}
