//! What another process asks of a space, and what it hears from it, as bytes.
//!
//! In the words of the [codec](crate::codec): a version, a tag, then what belongs to it. What comes in is not believed.

use std::sync::Arc;
use std::time::Duration;

use crate::claims::ClaimId;
use crate::codec::{CodecError, Reader, Writer};
use crate::space::{How, Wanted};
use crate::template::Template;
use crate::transactions::TransactionId;
use crate::value::Tuple;

/// An operation, as whoever asks for it calls it: whoever asks again says the same, and it is done once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OperationId {
    /// Who asks: a number that nobody else has.
    pub asker: u64,
    /// Which of his.
    pub number: u64,
}

/// Something that is asked.
#[derive(Debug)]
pub struct Ask {
    /// What time it is for who asks, if that is not the system's: his clock is one of tests.
    pub now: Option<Duration>,
    /// What it is called, if it may be asked again.
    pub operation: Option<OperationId>,
    /// What.
    pub act: Act,
}

/// What is asked.
#[derive(Debug)]
pub enum Act {
    /// To write a tuple, which is gone by itself when its lease is over; also within a transaction.
    Write(Tuple, Option<Duration>, Option<TransactionId>),
    /// To look for a tuple; who asks waits for it by this number, or does not wait.
    Look(Arc<Wanted>, Option<u64>),
    /// The time at which who waits was to look is there.
    LookAgain(u64),
    /// Copies of all that match.
    All(Template),
    /// How many match.
    Count(Template),
    /// To watch, by this number of who asks, and how many may wait to be told.
    Watch(Template, u64, u64),
    /// To watch no more.
    Unwatch(u64),
    /// Of the watch by this number so many more were heard of.
    Heard(u64, u64),
    /// To confirm a claim.
    Confirm(ClaimId),
    /// To extend it.
    Renew(ClaimId, Duration),
    /// To end it.
    GiveBack(ClaimId),
    /// What is held by it cannot be used by who was given it: it is to be behind all others.
    Spoilt(ClaimId),
    /// To begin a transaction.
    Begin,
    /// To commit it.
    Commit(TransactionId),
    /// To roll it back.
    RollBack(TransactionId),
    /// The operation is not wanted any more: what an earlier owner has done for it is undone.
    Forsake,
    /// Whoever asks has this claim, which an earlier owner gave him.
    Keep(ClaimId),
}

/// What a process hears without having asked.
#[derive(Clone, Debug)]
pub enum News {
    /// Who waits by this number is enlisted, and is to look again after so long.
    Enlisted(u64, Option<Duration>),
    /// Who watches by this number sees a tuple.
    Seen(u64, Tuple),
    /// Who watches by this number has missed so many.
    Missed(u64, u64),
    /// The space's file is closed here: another process may have it.
    Closed,
}

impl Writer {
    fn option(&mut self, number: Option<u64>) {
        self.0.push(u8::from(number.is_some()));
        number.into_iter().for_each(|number| self.number(number));
    }

    fn duration(&mut self, duration: Duration) {
        self.number(duration.as_secs());
        self.number(duration.subsec_nanos().into());
    }

    fn some_duration(&mut self, duration: Option<Duration>) {
        self.0.push(u8::from(duration.is_some()));
        duration.into_iter().for_each(|duration| self.duration(duration));
    }

    fn wanted(&mut self, wanted: &Wanted) -> Result<(), CodecError> {
        match wanted.how {
            How::Read => self.0.push(0),
            How::Take => self.0.push(1),
            How::Claim(lease) => {
                self.0.push(2);
                self.duration(lease);
            }
        }
        self.option(wanted.within.map(TransactionId::number));
        self.template(&wanted.template)
    }
}

impl Reader<'_> {
    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.byte()? {
            tag @ (0 | 1) => Ok(tag == 1),
            tag => Err(CodecError::Tag { what: "flag", tag }),
        }
    }

    fn option(&mut self) -> Result<Option<u64>, CodecError> {
        self.flag()?.then(|| self.number()).transpose()
    }

    fn duration(&mut self) -> Result<Duration, CodecError> {
        let seconds = self.number()?;
        let nanos = self.number()?;
        match u32::try_from(nanos) {
            Ok(nanos) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
            _ => Err(CodecError::Tag { what: "part of a second", tag: 0xff }),
        }
    }

    fn some_duration(&mut self) -> Result<Option<Duration>, CodecError> {
        self.flag()?.then(|| self.duration()).transpose()
    }

    fn transaction(&mut self) -> Result<TransactionId, CodecError> {
        self.number().map(TransactionId::from_number)
    }

    fn claim(&mut self) -> Result<ClaimId, CodecError> {
        self.number().map(ClaimId::from_number)
    }

    fn wanted(&mut self) -> Result<Wanted, CodecError> {
        let how = match self.byte()? {
            0 => How::Read,
            1 => How::Take,
            2 => How::Claim(self.duration()?),
            tag => return Err(CodecError::Tag { what: "way to look", tag }),
        };
        let within = self.option()?.map(TransactionId::from_number);
        Ok(Wanted { template: self.template()?, how, within, held: how != How::Read })
    }
}

impl Ask {
    /// As bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let mut writer = Writer::begin();
        writer.some_duration(self.now);
        writer.option(self.operation.map(|operation| operation.asker));
        self.operation.into_iter().for_each(|operation| writer.number(operation.number));
        match &self.act {
            Act::Write(tuple, lease, within) => {
                writer.0.push(0);
                writer.some_duration(*lease);
                writer.option(within.map(TransactionId::number));
                writer.tuple(tuple)?;
            }
            Act::Look(wanted, waits) => {
                writer.0.push(1);
                writer.option(*waits);
                writer.wanted(wanted)?;
            }
            Act::All(template) | Act::Count(template) => {
                writer.0.push(if matches!(self.act, Act::All(_)) { 2 } else { 3 });
                writer.template(template)?;
            }
            Act::Watch(template, number, capacity) => {
                writer.0.push(4);
                writer.number(*number);
                writer.number(*capacity);
                writer.template(template)?;
            }
            Act::Unwatch(number) => writer.tagged(5, *number),
            Act::Confirm(claim) => writer.tagged(6, claim.number()),
            Act::Renew(claim, lease) => {
                writer.tagged(7, claim.number());
                writer.duration(*lease);
            }
            Act::GiveBack(claim) => writer.tagged(8, claim.number()),
            Act::Spoilt(claim) => writer.tagged(13, claim.number()),
            Act::Begin => writer.0.push(9),
            Act::Commit(id) => writer.tagged(10, id.number()),
            Act::RollBack(id) => writer.tagged(11, id.number()),
            Act::LookAgain(number) => writer.tagged(12, *number),
            Act::Forsake => writer.0.push(14),
            Act::Keep(claim) => writer.tagged(15, claim.number()),
            Act::Heard(number, count) => {
                writer.tagged(16, *number);
                writer.number(*count);
            }
        }
        writer.finish()
    }

    /// From bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::begin(bytes)?;
        let now = reader.some_duration()?;
        let operation = match reader.option()? {
            Some(asker) => Some(OperationId { asker, number: reader.number()? }),
            None => None,
        };
        let act = match reader.byte()? {
            0 => {
                let lease = reader.some_duration()?;
                let within = reader.option()?.map(TransactionId::from_number);
                Act::Write(reader.tuple()?, lease, within)
            }
            1 => {
                let waits = reader.option()?;
                Act::Look(Arc::new(reader.wanted()?), waits)
            }
            2 => Act::All(reader.template()?),
            3 => Act::Count(reader.template()?),
            4 => {
                let (number, capacity) = (reader.number()?, reader.number()?);
                Act::Watch(reader.template()?, number, capacity)
            }
            5 => Act::Unwatch(reader.number()?),
            6 => Act::Confirm(reader.claim()?),
            7 => Act::Renew(reader.claim()?, reader.duration()?),
            8 => Act::GiveBack(reader.claim()?),
            9 => Act::Begin,
            10 => Act::Commit(reader.transaction()?),
            11 => Act::RollBack(reader.transaction()?),
            12 => Act::LookAgain(reader.number()?),
            13 => Act::Spoilt(reader.claim()?),
            14 => Act::Forsake,
            15 => Act::Keep(reader.claim()?),
            16 => Act::Heard(reader.number()?, reader.number()?),
            tag => return Err(CodecError::Tag { what: "thing to ask", tag }),
        };
        reader.finish()?;
        Ok(Self { now, operation, act })
    }
}

impl Writer {
    fn tagged(&mut self, tag: u8, number: u64) {
        self.0.push(tag);
        self.number(number);
    }
}

impl News {
    /// As bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let mut writer = Writer::begin();
        match self {
            Self::Enlisted(number, looks) => {
                writer.tagged(0, *number);
                writer.some_duration(*looks);
            }
            Self::Seen(number, tuple) => {
                writer.tagged(1, *number);
                writer.tuple(tuple)?;
            }
            Self::Missed(number, count) => {
                writer.tagged(2, *number);
                writer.number(*count);
            }
            Self::Closed => writer.tagged(3, 0),
        }
        writer.finish()
    }

    /// From bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::begin(bytes)?;
        let (tag, number) = (reader.byte()?, reader.number()?);
        let news = match tag {
            0 => Self::Enlisted(number, reader.some_duration()?),
            1 => Self::Seen(number, reader.tuple()?),
            2 => Self::Missed(number, reader.number()?),
            3 => Self::Closed,
            tag => return Err(CodecError::Tag { what: "news", tag }),
        };
        reader.finish()?;
        Ok(news)
    }
}

/// The bytes of a tuple that somebody is given, and his claim on it.
pub fn encode_given(tuple: &Tuple, claim: Option<ClaimId>) -> Result<Vec<u8>, CodecError> {
    let mut writer = Writer::begin();
    writer.option(claim.map(ClaimId::number));
    writer.tuple(tuple)?;
    writer.finish()
}

/// The tuple that somebody is given, and his claim on it.
pub fn decode_given(bytes: &[u8]) -> Result<(Tuple, Option<ClaimId>), CodecError> {
    let mut reader = Reader::begin(bytes)?;
    let claim = reader.option()?.map(ClaimId::from_number);
    let tuple = reader.tuple()?;
    reader.finish()?;
    Ok((tuple, claim))
}

/// The bytes of many tuples.
pub fn encode_tuples(tuples: &[Tuple]) -> Result<Vec<u8>, CodecError> {
    let mut writer = Writer::begin();
    writer.many(tuples, |writer, tuple| writer.tuple(tuple))?;
    writer.finish()
}

/// Many tuples.
pub fn decode_tuples(bytes: &[u8]) -> Result<Vec<Tuple>, CodecError> {
    let mut reader = Reader::begin(bytes)?;
    let tuples = reader.many(Reader::tuple)?;
    reader.finish()?;
    Ok(tuples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn asks() -> Vec<Act> {
        let tuple: Tuple = [Value::Int(7), Value::Tuple([Value::None].into())].into();
        let how = How::Claim(Duration::from_millis(1500));
        let within = Some(TransactionId::from_number(9));
        let wanted = Wanted { template: Template::Anything, how, within, held: true };
        let claim = ClaimId::from_number(1 << 40);
        vec![
            Act::Write(tuple, Some(Duration::from_secs(3)), None),
            Act::Look(Arc::new(wanted), Some(4)),
            Act::LookAgain(4),
            Act::All(Template::Anything),
            Act::Count(Template::Anything),
            Act::Watch(Template::Anything, 5, 1000),
            Act::Unwatch(5),
            Act::Confirm(claim),
            Act::Renew(claim, Duration::from_nanos(1)),
            Act::GiveBack(claim),
            Act::Spoilt(claim),
            Act::Begin,
            Act::Commit(TransactionId::from_number(9)),
            Act::RollBack(TransactionId::from_number(9)),
            Act::Forsake,
            Act::Keep(claim),
            Act::Heard(4, 50),
        ]
    }

    #[test]
    fn what_is_asked_comes_out_as_it_went_in_and_nothing_less_does() {
        for act in asks() {
            let operation = Some(OperationId { asker: u64::MAX, number: 8 });
            let ask = Ask { now: Some(Duration::from_millis(2500)), operation, act };
            let bytes = ask.to_bytes().expect("it is small");
            let read = Ask::from_bytes(&bytes).expect("it was written");
            assert_eq!(format!("{read:?}"), format!("{ask:?}"));
            for length in 0..bytes.len() {
                assert!(Ask::from_bytes(&bytes[..length]).is_err(), "{length} bytes of {ask:?}");
            }
        }
    }

    #[test]
    fn news_come_out_as_they_went_in() {
        let tuple: Tuple = [Value::Bool(true)].into();
        let all = [
            News::Enlisted(1, None),
            News::Enlisted(1, Some(Duration::from_secs(2))),
            News::Seen(2, Arc::clone(&tuple)),
            News::Missed(2, 17),
            News::Closed,
        ];
        for news in all {
            let bytes = news.to_bytes().expect("it is small");
            let read = News::from_bytes(&bytes).expect("it was written");
            assert_eq!(format!("{read:?}"), format!("{news:?}"));
            assert!(News::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        }
        let claim = Some(ClaimId::from_number(3));
        let bytes = encode_given(&tuple, claim).expect("it is small");
        assert_eq!(decode_given(&bytes), Ok((Arc::clone(&tuple), claim)));
        let many = vec![Arc::clone(&tuple), tuple];
        let bytes = encode_tuples(&many).expect("they are small");
        assert_eq!(decode_tuples(&bytes), Ok(many));
    }
}
