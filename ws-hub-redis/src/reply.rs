//! What scripts answer.

use crate::link::Value;
use ws_hub::{Continuity, MessageId, Position};

use crate::error::Failure;

/// The parts of an answer, one after the other.
pub(crate) struct Reply(std::vec::IntoIter<Value>);

fn not_understood() -> Failure {
    Failure::unknown("an answer of the server is not understood")
}

impl Reply {
    pub(crate) fn new(value: Value) -> Result<Self, Failure> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(not_understood()),
        }
    }

    pub(crate) fn next(&mut self) -> Result<Value, Failure> {
        self.0.next().ok_or_else(not_understood)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Failure> {
        number(&self.next()?)
    }

    pub(crate) fn count(&mut self) -> Result<usize, Failure> {
        usize::try_from(self.number()?).map_err(|_| not_understood())
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Failure> {
        Ok(self.number()? != 0)
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, Failure> {
        bytes(self.next()?)
    }

    pub(crate) fn text(&mut self) -> Result<String, Failure> {
        String::from_utf8(self.bytes()?).map_err(|_| not_understood())
    }

    pub(crate) fn id(&mut self) -> Result<MessageId, Failure> {
        let bytes: [u8; 8] = self.bytes()?.try_into().map_err(|_| not_understood())?;
        Ok(MessageId::new(u64::from_be_bytes(bytes)))
    }

    /// A number and an id; none if the number is 0.
    pub(crate) fn position(&mut self) -> Result<Option<Position>, Failure> {
        let (number, id) = (self.number()?, self.id()?);
        Ok((number > 0).then_some(Position::new(number, id)))
    }

    pub(crate) fn continuity(&mut self) -> Result<Continuity, Failure> {
        Ok(if self.flag()? { Continuity::Complete } else { Continuity::Incomplete })
    }

    /// The rest, as entries that come after a number.
    pub(crate) fn entries<T, E>(
        self,
        after: u64,
        decode: impl Fn(u64, &[u8]) -> Result<T, E>,
    ) -> Result<Vec<T>, Failure> {
        let entries = (after + 1..).zip(self.0);
        let decoded = entries.map(|(number, value)| {
            decode(number, &bytes(value)?).map_err(|_| Failure::unknown("a message on the server is damaged"))
        });
        decoded.collect()
    }
}

pub(crate) fn number(value: &Value) -> Result<u64, Failure> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| not_understood()),
        _ => Err(not_understood()),
    }
}

pub(crate) fn bytes(value: Value) -> Result<Vec<u8>, Failure> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(not_understood()),
    }
}

/// A list of anything.
pub(crate) fn list(value: Value) -> Result<Vec<Vec<u8>>, Failure> {
    match value {
        Value::Array(values) | Value::Set(values) => values.into_iter().map(bytes).collect(),
        _ => Err(not_understood()),
    }
}

/// A list of texts.
pub(crate) fn texts(value: Value) -> Result<Vec<String>, Failure> {
    list(value)?.into_iter().map(|it| String::from_utf8(it).map_err(|_| not_understood())).collect()
}

/// Whether a script has refused to do anything because the lease of the node has ended.
pub(crate) fn is_without_lease(value: &Value) -> bool {
    let Value::Array(values) = value else { return false };
    matches!(values.first(), Some(Value::BulkString(word)) if word == b"LEASE")
}
