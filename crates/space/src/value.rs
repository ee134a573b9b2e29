//! Values: what stands in a tuple, in a form of our own, so that no foreign code runs when two are compared.
//!
//! They compare by kind and by value: `1`, `1.0` and `True` are three. What is not a plain value is carried with its type
//! and never compared, because nobody knows what its bytes mean.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::words;

/// A tuple. It is shared, so that a reader's copy costs nothing.
pub type Tuple = Arc<[Value]>;

/// One field of a tuple.
#[derive(Clone)]
pub enum Value {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond that.
    Large(Large),
    /// A floating-point number.
    Float(f64),
    /// Text, as UTF-8 that may hold lone surrogates: so all text of Python has its place, and sorts by code points.
    Text(Box<[u8]>),
    /// Bytes.
    Bytes(Box<[u8]>),
    /// A tuple.
    Tuple(Tuple),
    /// Anything else.
    Other(Arc<Other>),
}

/// A whole number that does not fit in 64 bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Large {
    negative: bool,
    /// Little-endian, without zeros at its end.
    magnitude: Box<[u8]>,
}

impl Large {
    /// From the bytes of its magnitude, the least first.
    #[must_use]
    pub fn new(negative: bool, magnitude: &[u8]) -> Self {
        let zeros = magnitude.iter().rev().take_while(|&&byte| byte == 0).count();
        Self { negative, magnitude: magnitude[..magnitude.len() - zeros].into() }
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The bytes of its magnitude, the least first.
    #[must_use]
    pub fn magnitude(&self) -> &[u8] {
        &self.magnitude
    }

    fn compare(&self, other: &Self) -> Ordering {
        let of_magnitudes = || {
            let length = self.magnitude.len().cmp(&other.magnitude.len());
            length.then_with(|| self.magnitude.iter().rev().cmp(other.magnitude.iter().rev()))
        };
        match (self.negative, other.negative) {
            (false, false) => of_magnitudes(),
            (true, true) => of_magnitudes().reverse(),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

/// What is no plain value: its type, and what it can be made of again.
pub struct Other {
    /// The module and the name of its type.
    pub kind: Box<str>,
    /// Whatever its owner wrote.
    pub data: Box<[u8]>,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `None`.
    None,
    /// A truth value.
    Bool,
    /// A whole number of any size.
    Int,
    /// A floating-point number.
    Float,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// A tuple.
    Tuple,
    /// Something else, of the type with this name.
    Other(Box<str>),
}

impl Value {
    /// Whether it is of this kind.
    #[must_use]
    pub fn is_of(&self, kind: &Kind) -> bool {
        match (self, kind) {
            (Self::None, Kind::None)
            | (Self::Bool(_), Kind::Bool)
            | (Self::Int(_) | Self::Large(_), Kind::Int)
            | (Self::Float(_), Kind::Float)
            | (Self::Text(_), Kind::Text)
            | (Self::Bytes(_), Kind::Bytes)
            | (Self::Tuple(_), Kind::Tuple) => true,
            (Self::Other(other), Kind::Other(kind)) => other.kind == *kind,
            _ => false,
        }
    }

    /// How two values of one kind stand to each other, where that kind has an order.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(one), Self::Int(two)) => Some(one.cmp(two)),
            (Self::Large(one), Self::Large(two)) => Some(one.compare(two)),
            (Self::Int(_), Self::Large(large)) => Some(beyond(large).reverse()),
            (Self::Large(large), Self::Int(_)) => Some(beyond(large)),
            (Self::Float(one), Self::Float(two)) => one.partial_cmp(two),
            (Self::Text(one), Self::Text(two)) | (Self::Bytes(one), Self::Bytes(two)) => Some(one.cmp(two)),
            _ => None,
        }
    }

    /// Whether it can be told from others, itself and all that is in it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Other(_) => false,
            Self::Tuple(fields) => fields.iter().all(Self::is_plain),
            _ => true,
        }
    }

    /// Whether it can have an order among those of its kind.
    #[must_use]
    pub fn has_order(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Large(_) | Self::Float(_) | Self::Text(_) | Self::Bytes(_))
    }
}

/// How a large number stands to all that are not.
fn beyond(large: &Large) -> Ordering {
    if large.negative { Ordering::Less } else { Ordering::Greater }
}

/// By kind and value. Not a number equals nothing, and so does what is not plain.
impl PartialEq for Value {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Bool(one), Self::Bool(two)) => one == two,
            (Self::Int(one), Self::Int(two)) => one == two,
            (Self::Large(one), Self::Large(two)) => one == two,
            (Self::Float(one), Self::Float(two)) => one == two,
            (Self::Text(one), Self::Text(two)) | (Self::Bytes(one), Self::Bytes(two)) => one == two,
            (Self::Tuple(one), Self::Tuple(two)) => one == two,
            _ => false,
        }
    }
}

/// Values that are equal have equal hashes.
impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::None => {}
            Self::Bool(value) => value.hash(state),
            Self::Int(value) => value.hash(state),
            Self::Large(value) => value.hash(state),
            // Zero has two signs and is one number.
            Self::Float(value) => (value + 0.0).to_bits().hash(state),
            Self::Text(value) | Self::Bytes(value) => value.hash(state),
            Self::Tuple(fields) => fields.hash(state),
            Self::Other(other) => other.kind.hash(state),
        }
    }
}

/// As Python writes it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        words::value(self, f)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        words::value(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    fn large(negative: bool, number: u128) -> Value {
        Value::Large(Large::new(negative, &number.to_le_bytes()))
    }

    #[test]
    fn one_is_not_one_point_zero_nor_true() {
        let three = [Value::Int(1), Value::Float(1.0), Value::Bool(true)];
        for (place, one) in three.iter().enumerate() {
            for (other, two) in three.iter().enumerate() {
                assert_eq!(one == two, place == other);
                assert_eq!(one.compare(two).is_some(), place == other && place < 2);
            }
        }
    }

    #[test]
    fn not_a_number_equals_nothing_and_zero_has_one_hash() {
        assert_ne!(Value::Float(f64::NAN), Value::Float(f64::NAN));
        let state = RandomState::new();
        assert_eq!(Value::Float(0.0), Value::Float(-0.0));
        assert_eq!(state.hash_one(Value::Float(0.0)), state.hash_one(Value::Float(-0.0)));
    }

    #[test]
    fn whole_numbers_of_every_size_have_one_order() {
        let beyond = 1 << 70;
        let ordered = [
            large(true, beyond + 1),
            large(true, beyond),
            Value::Int(i64::MIN),
            Value::Int(0),
            Value::Int(i64::MAX),
            large(false, beyond),
            large(false, beyond + 256),
        ];
        for (place, one) in ordered.iter().enumerate() {
            for (other, two) in ordered.iter().enumerate() {
                assert_eq!(one.compare(two), Some(place.cmp(&other)), "{one} and {two}");
                assert_eq!(one == two, place == other);
            }
        }
    }

    #[test]
    fn zeros_in_front_of_a_number_are_nothing() {
        assert_eq!(Large::new(false, &[1, 0, 0]).magnitude(), [1]);
    }
}
