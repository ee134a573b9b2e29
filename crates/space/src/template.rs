//! Templates: which tuples somebody looks for. They have as many fields as the tuples, and match field by field.

use crate::value::{Kind, Value};

/// What a tuple must be like.
#[derive(Clone, Debug)]
pub enum Template {
    /// Any, of any length.
    Anything,
    /// As many fields, each matching.
    Fields(Box<[Field]>),
}

/// What one field must be like.
#[derive(Clone, Debug)]
pub enum Field {
    /// Anything.
    Anything,
    /// This value.
    Value(Value),
    /// A value of this kind.
    Kind(Kind),
    /// A value of the same kind as the ends, from the one to the other, both included. An end may be open, not both.
    Between(Option<Value>, Option<Value>),
    /// One of these.
    OneOf(Box<[Field]>),
    /// A tuple whose fields match these.
    Tuple(Box<[Field]>),
}

impl Field {
    /// Whether a value is like this.
    #[must_use]
    pub fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Anything => true,
            Self::Value(wanted) => wanted == value,
            Self::Kind(kind) => value.is_of(kind),
            Self::Between(low, high) => {
                let holds = |end: &Option<Value>, is_fit: fn(std::cmp::Ordering) -> bool| {
                    end.as_ref().is_none_or(|end| value.compare(end).is_some_and(is_fit))
                };
                holds(low, std::cmp::Ordering::is_ge) && holds(high, std::cmp::Ordering::is_le)
            }
            Self::OneOf(fields) => fields.iter().any(|field| field.matches(value)),
            Self::Tuple(fields) => match value {
                Value::Tuple(values) => all_match(fields, values),
                _ => false,
            },
        }
    }
}

fn all_match(fields: &[Field], values: &[Value]) -> bool {
    fields.len() == values.len() && fields.iter().zip(values).all(|(field, value)| field.matches(value))
}

impl Template {
    /// Whether a tuple is like this.
    #[must_use]
    pub fn matches(&self, tuple: &[Value]) -> bool {
        match self {
            Self::Anything => true,
            Self::Fields(fields) => all_match(fields, tuple),
        }
    }

    /// The values that it begins with.
    pub(crate) fn leading(&self) -> impl Iterator<Item = &Value> {
        let fields: &[Field] = match self {
            Self::Anything => &[],
            Self::Fields(fields) => fields,
        };
        fields.iter().map_while(|field| match field {
            Field::Value(value) => Some(value),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_takes_its_ends_and_no_other_kind() {
        let between = Field::Between(Some(Value::Int(3)), Some(Value::Int(9)));
        let fits = |value| between.matches(&value);
        assert!(fits(Value::Int(3)) && fits(Value::Int(9)));
        assert!(!fits(Value::Int(2)) && !fits(Value::Int(10)) && !fits(Value::Float(5.0)));
        let open = Field::Between(None, Some(Value::Float(1.0)));
        assert!(open.matches(&Value::Float(f64::NEG_INFINITY)) && !open.matches(&Value::Float(f64::NAN)));
    }

    #[test]
    fn as_many_fields_are_needed_within_tuples_too() {
        let inner = Field::Tuple([Field::Anything].into());
        assert!(inner.matches(&Value::Tuple([Value::None].into())));
        assert!(!inner.matches(&Value::Tuple([].into())) && !inner.matches(&Value::None));
        assert!(!Template::Fields([].into()).matches(&[Value::None]));
        assert!(Template::Anything.matches(&[Value::None]) && Template::Anything.matches(&[]));
    }
}
