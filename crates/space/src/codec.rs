//! Tuples and templates as bytes, for files and for other processes.
//!
//! A version, then what it is, tag by tag; whole numbers as LEB128, those with a sign in zigzag, lengths in front. What
//! comes in is not believed: lengths are held against what is there, depth has a limit, text is text, and nothing may
//! follow. A tuple that was written is read back as it was, not-a-number with its bits and all.
//!
//! Not a pickle: what is no plain value lies in it as its owner packed it, and is not opened here.

use std::sync::Arc;

use crate::template::{Field, Template};
use crate::value::{Kind, Large, Other, Tuple, Value};

/// What the first byte says.
const VERSION: u8 = 1;
/// The most bytes of one tuple or template.
const MAX_BYTES: usize = 512 << 20;
/// Tuples in tuples, and fields in fields. More than the hundred that a program may write, for what stands around them.
const MAX_DEPTH: usize = 128;

/// Why bytes are no tuple or template; or why one has no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Another version wrote it.
    #[error("it was written in version {found} of the format, and this is version {VERSION}")]
    Version {
        /// Which one.
        found: u8,
    },
    /// It ends too early.
    #[error("it ends in the middle")]
    Truncated,
    /// A number stands where none can stand that means anything.
    #[error("{tag} is no {what}")]
    Tag {
        /// What was to come.
        what: &'static str,
        /// What came.
        tag: u8,
    },
    /// It is nested too deep.
    #[error("it is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// It is too long.
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLong,
    /// Text that is no text.
    #[error("its text is no text")]
    NotText,
    /// Something follows it.
    #[error("{count} bytes follow it")]
    Trailing {
        /// How many.
        count: usize,
    },
}

/// The bytes of a tuple.
pub fn encode_tuple(tuple: &[Value]) -> Result<Vec<u8>, CodecError> {
    let mut writer = Writer::begin();
    writer.tuple(tuple)?;
    writer.finish()
}

/// The tuple of these bytes.
pub fn decode_tuple(bytes: &[u8]) -> Result<Tuple, CodecError> {
    let mut reader = Reader::begin(bytes)?;
    let tuple = reader.tuple()?;
    reader.finish()?;
    Ok(tuple)
}

/// The bytes of a template.
pub fn encode_template(template: &Template) -> Result<Vec<u8>, CodecError> {
    let mut writer = Writer::begin();
    writer.template(template)?;
    writer.finish()
}

/// The template of these bytes.
pub fn decode_template(bytes: &[u8]) -> Result<Template, CodecError> {
    let mut reader = Reader::begin(bytes)?;
    let template = reader.template()?;
    reader.finish()?;
    Ok(template)
}

pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn begin() -> Self {
        Self(vec![VERSION])
    }

    pub(crate) fn tuple(&mut self, tuple: &[Value]) -> Result<(), CodecError> {
        self.many(tuple, |writer, value| writer.value(value, 0))
    }

    pub(crate) fn template(&mut self, template: &Template) -> Result<(), CodecError> {
        match template {
            Template::Anything => self.0.push(0),
            Template::Fields(fields) => {
                self.0.push(1);
                self.many(fields, |writer, field| writer.field(field, 0))?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>, CodecError> {
        if self.0.len() > MAX_BYTES { Err(CodecError::TooLong) } else { Ok(self.0) }
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn many<T>(
        &mut self,
        items: &[T],
        one: impl Fn(&mut Self, &T) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        self.number(items.len() as u64);
        items.iter().try_for_each(|item| one(self, item))
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), CodecError> {
        if depth > MAX_DEPTH {
            return Err(CodecError::TooDeep);
        }
        match value {
            Value::None => self.0.push(0),
            Value::Bool(false) => self.0.push(1),
            Value::Bool(true) => self.0.push(2),
            Value::Int(number) => {
                self.0.push(3);
                self.number((number << 1 ^ number >> 63) as u64);
            }
            Value::Large(number) => {
                self.0.push(4 + u8::from(number.is_negative()));
                self.bytes(number.magnitude());
            }
            Value::Float(number) => {
                self.0.push(6);
                self.0.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            Value::Text(bytes) => {
                self.0.push(7);
                self.bytes(bytes);
            }
            Value::Bytes(bytes) => {
                self.0.push(8);
                self.bytes(bytes);
            }
            Value::Tuple(fields) => {
                self.0.push(9);
                self.many(fields, |writer, field| writer.value(field, depth + 1))?;
            }
            Value::Other(other) => {
                self.0.push(10);
                self.bytes(other.kind.as_bytes());
                self.bytes(&other.data);
            }
        }
        Ok(())
    }

    fn kind(&mut self, kind: &Kind) {
        let tag = match kind {
            Kind::None => 0,
            Kind::Bool => 1,
            Kind::Int => 2,
            Kind::Float => 3,
            Kind::Text => 4,
            Kind::Bytes => 5,
            Kind::Tuple => 6,
            Kind::Other(_) => 7,
        };
        self.0.push(tag);
        if let Kind::Other(name) = kind {
            self.bytes(name.as_bytes());
        }
    }

    fn field(&mut self, field: &Field, depth: usize) -> Result<(), CodecError> {
        if depth > MAX_DEPTH {
            return Err(CodecError::TooDeep);
        }
        match field {
            Field::Anything => self.0.push(0),
            Field::Value(value) => {
                self.0.push(1);
                self.value(value, depth)?;
            }
            Field::Kind(kind) => {
                self.0.push(2);
                self.kind(kind);
            }
            Field::Between(low, high) => {
                self.0.push(3);
                self.0.push(u8::from(low.is_some()) | u8::from(high.is_some()) << 1);
                [low, high].into_iter().flatten().try_for_each(|end| self.value(end, depth))?;
            }
            Field::OneOf(fields) | Field::Tuple(fields) => {
                self.0.push(if matches!(field, Field::OneOf(_)) { 4 } else { 5 });
                self.many(fields, |writer, field| writer.field(field, depth + 1))?;
            }
        }
        Ok(())
    }
}

pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn tuple(&mut self) -> Result<Tuple, CodecError> {
        Ok(self.many(|reader| reader.value(0))?.into())
    }

    pub(crate) fn template(&mut self) -> Result<Template, CodecError> {
        match self.byte()? {
            0 => Ok(Template::Anything),
            1 => Ok(Template::Fields(self.many(|reader| reader.field(0))?.into())),
            tag => Err(CodecError::Tag { what: "template", tag }),
        }
    }

    pub(crate) fn begin(bytes: &'a [u8]) -> Result<Self, CodecError> {
        if bytes.len() > MAX_BYTES {
            return Err(CodecError::TooLong);
        }
        let mut reader = Self(bytes);
        match reader.byte()? {
            VERSION => Ok(reader),
            found => Err(CodecError::Version { found }),
        }
    }

    pub(crate) fn finish(self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError::Trailing { count: self.0.len() }) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CodecError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn number(&mut self) -> Result<u64, CodecError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(CodecError::Tag { what: "number of 64 bits", tag: byte });
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(CodecError::Tag { what: "number of 64 bits", tag: 0x80 })
    }

    /// A length or a count: each thing that is counted has a byte at least.
    fn length(&mut self) -> Result<usize, CodecError> {
        let length = usize::try_from(self.number()?).map_err(|_| CodecError::Truncated)?;
        if length > self.0.len() { Err(CodecError::Truncated) } else { Ok(length) }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.length()?;
        self.take(length)
    }

    fn name(&mut self) -> Result<Box<str>, CodecError> {
        Ok(std::str::from_utf8(self.bytes()?).map_err(|_| CodecError::NotText)?.into())
    }

    /// UTF-8 that may hold lone surrogates.
    fn text(&mut self) -> Result<Box<[u8]>, CodecError> {
        let bytes = self.bytes()?;
        let mut rest = bytes;
        while let Err(error) = std::str::from_utf8(rest) {
            match &rest[error.valid_up_to()..] {
                [0xed, 0xa0..=0xbf, 0x80..=0xbf, after @ ..] => rest = after,
                _ => return Err(CodecError::NotText),
            }
        }
        Ok(bytes.into())
    }

    pub(crate) fn many<T>(
        &mut self,
        one: impl Fn(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let count = self.length()?;
        (0..count).map(|_| one(self)).collect()
    }

    fn value(&mut self, depth: usize) -> Result<Value, CodecError> {
        if depth > MAX_DEPTH {
            return Err(CodecError::TooDeep);
        }
        Ok(match self.byte()? {
            0 => Value::None,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => {
                let number = self.number()?;
                Value::Int((number >> 1) as i64 ^ -((number & 1) as i64))
            }
            tag @ (4 | 5) => Value::Large(Large::new(tag == 5, self.bytes()?)),
            6 => {
                let bytes = self.take(8)?.try_into().map_err(|_| CodecError::Truncated)?;
                Value::Float(f64::from_bits(u64::from_le_bytes(bytes)))
            }
            7 => Value::Text(self.text()?),
            8 => Value::Bytes(self.bytes()?.into()),
            9 => Value::Tuple(self.many(|reader| reader.value(depth + 1))?.into()),
            10 => Value::Other(Arc::new(Other { kind: self.name()?, data: self.bytes()?.into() })),
            tag => return Err(CodecError::Tag { what: "value", tag }),
        })
    }

    fn kind(&mut self) -> Result<Kind, CodecError> {
        Ok(match self.byte()? {
            0 => Kind::None,
            1 => Kind::Bool,
            2 => Kind::Int,
            3 => Kind::Float,
            4 => Kind::Text,
            5 => Kind::Bytes,
            6 => Kind::Tuple,
            7 => Kind::Other(self.name()?),
            tag => return Err(CodecError::Tag { what: "kind", tag }),
        })
    }

    fn field(&mut self, depth: usize) -> Result<Field, CodecError> {
        if depth > MAX_DEPTH {
            return Err(CodecError::TooDeep);
        }
        Ok(match self.byte()? {
            0 => Field::Anything,
            1 => Field::Value(self.value(depth)?),
            2 => Field::Kind(self.kind()?),
            3 => {
                let ends = self.byte()?;
                if ends == 0 || ends > 3 {
                    return Err(CodecError::Tag { what: "range", tag: ends });
                }
                let low = (ends & 1 != 0).then(|| self.value(depth)).transpose()?;
                Field::Between(low, (ends & 2 != 0).then(|| self.value(depth)).transpose()?)
            }
            tag @ (4 | 5) => {
                let fields = self.many(|reader| reader.field(depth + 1))?.into();
                if tag == 4 { Field::OneOf(fields) } else { Field::Tuple(fields) }
            }
            tag => return Err(CodecError::Tag { what: "field", tag }),
        })
    }
}
