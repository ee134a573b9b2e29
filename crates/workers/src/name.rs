//! What people call a task: a name that it was given, or what it runs and a number.

use std::fmt;
use std::sync::Arc;

/// The longest name that travels, in bytes; what is longer is cut off.
pub(crate) const LONGEST: usize = 200;

/// The name of a task. To copy it costs little, so it is put together when somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    words: Arc<str>,
    /// Nothing: the words are all of it.
    number: Option<u64>,
}

impl Name {
    /// A name as it is.
    #[must_use]
    pub fn given(words: &str) -> Self {
        Self { words: words.into(), number: None }
    }

    /// What the task runs, and its number.
    #[must_use]
    pub fn numbered(words: &Arc<str>, number: u64) -> Self {
        Self { words: Arc::clone(words), number: Some(number) }
    }

    /// As it travels.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = self.to_string();
        let end = (0..=LONGEST.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        text.into_bytes()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{}-{number}", self.words),
            None => f.write_str(&self.words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_number_unless_it_was_given() {
        assert_eq!(Name::numbered(&"fib".into(), 7).to_string(), "fib-7");
        assert_eq!(Name::given("resize").to_string(), "resize");
    }

    #[test]
    fn a_long_name_is_cut_between_two_characters() {
        let bytes = Name::given(&"\u{20ac}".repeat(LONGEST)).to_bytes();
        assert_eq!(bytes.len(), LONGEST - LONGEST % 3);
        assert!(String::from_utf8(bytes).is_ok());
    }
}
