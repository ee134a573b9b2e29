//! Values and templates as Python writes them, for whoever asks what is being waited for. Long ones are cut.

use std::fmt::{self, Write};

use crate::template::{Field, Template};
use crate::value::{Kind, Large, Value};

/// Characters of a text, bytes, or fields of a tuple that are shown.
const SHOWN: usize = 40;

pub(crate) fn value(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        Value::None => f.write_str("None"),
        Value::Bool(true) => f.write_str("True"),
        Value::Bool(false) => f.write_str("False"),
        Value::Int(number) => write!(f, "{number}"),
        Value::Large(number) => large(number, f),
        Value::Float(number) => write!(f, "{number:?}"),
        Value::Text(bytes) => text(&String::from_utf8_lossy(bytes), f),
        Value::Bytes(bytes) => {
            write!(f, "b'{}'", bytes[..bytes.len().min(SHOWN)].escape_ascii())?;
            f.write_str(if bytes.len() > SHOWN { ".." } else { "" })
        }
        Value::Tuple(fields) => all(fields, f),
        Value::Other(other) => write!(f, "<{}>", other.kind),
    }
}

fn large(number: &Large, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(if number.is_negative() { "-0x" } else { "0x" })?;
    let bytes = number.magnitude();
    bytes.iter().rev().take(SHOWN / 2).try_for_each(|byte| write!(f, "{byte:02x}"))?;
    f.write_str(if bytes.len() > SHOWN / 2 { ".." } else { "" })
}

fn text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('\'')?;
    for character in text.chars().take(SHOWN) {
        match character {
            '\'' => f.write_str("\\'")?,
            '"' => f.write_char('"')?,
            other => write!(f, "{}", other.escape_debug())?,
        }
    }
    f.write_str(if text.chars().nth(SHOWN).is_some() { "'.." } else { "'" })
}

/// Several in parentheses.
pub(crate) fn all<T: fmt::Display>(items: &[T], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('(')?;
    for (place, item) in items.iter().enumerate().take(SHOWN) {
        write!(f, "{}{item}", if place > 0 { ", " } else { "" })?;
    }
    f.write_str(match items.len() {
        1 => ",)",
        count if count > SHOWN => ", ..)",
        _ => ")",
    })
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "NoneType",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Text => "str",
            Self::Bytes => "bytes",
            Self::Tuple => "tuple",
            Self::Other(name) => name,
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => f.write_str("..."),
            Self::Value(value) => value.fmt(f),
            Self::Kind(kind) => kind.fmt(f),
            Self::Between(low, high) => {
                let end = |value: &Option<Value>| value.as_ref().map_or("...".into(), Value::to_string);
                write!(f, "between({}, {})", end(low), end(high))
            }
            Self::OneOf(fields) => {
                f.write_str("one_of(")?;
                for (place, field) in fields.iter().enumerate().take(SHOWN) {
                    write!(f, "{}{field}", if place > 0 { ", " } else { "" })?;
                }
                f.write_char(')')
            }
            Self::Tuple(fields) => all(fields, f),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => f.write_str("..."),
            Self::Fields(fields) => all(fields, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Value {
        Value::Text(text.as_bytes().into())
    }

    #[test]
    fn a_template_reads_as_it_was_written() {
        let template = Template::Fields(
            [
                Field::Value(word("it's")),
                Field::Kind(Kind::Int),
                Field::Anything,
                Field::Between(Some(Value::Int(3)), None),
                Field::OneOf([Field::Value(Value::Float(1.0)), Field::Value(Value::None)].into()),
                Field::Tuple([Field::Value(Value::Bool(true))].into()),
            ]
            .into(),
        );
        assert_eq!(template.to_string(), r"('it\'s', int, ..., between(3, ...), one_of(1.0, None), (True,))");
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = Value::Tuple([word(&"x".repeat(1_000)), Value::Bytes([0; 1_000].into())].into());
        assert!(long.to_string().len() < 250);
        let large = Value::Large(Large::new(true, &[0xff; 1_000]));
        assert_eq!(large.to_string(), format!("-0x{}..", "ff".repeat(20)));
    }
}
