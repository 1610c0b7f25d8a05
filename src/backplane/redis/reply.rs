//! Reading what the scripts answer.

use redis::Value;

use crate::domain::{Epoch, Head, Position};

/// An answer of another form than the scripts give.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplyError {
    /// Redis refused.
    #[error("{0}")]
    Refused(String),
    /// Something else than expected.
    #[error("expected {0}")]
    Unexpected(&'static str),
}

/// A script's answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// Where the log stands. `None` for answers that do not say.
    pub(super) head: Option<Head>,
    /// What follows.
    pub(super) rest: Vec<Value>,
}

impl Reply {
    /// The head, for scripts that always tell it.
    pub(super) fn head(&self) -> Result<&Head, ReplyError> {
        self.head.as_ref().ok_or(ReplyError::Unexpected("where the log stands"))
    }

    /// The epoch at an index.
    pub(super) fn epoch(&self, index: usize) -> Result<Epoch, ReplyError> {
        let epoch = self.rest.get(index).and_then(as_text).and_then(parse_epoch);
        epoch.ok_or(ReplyError::Unexpected("an epoch"))
    }

    /// The number at an index.
    pub(super) fn int(&self, index: usize) -> Result<i64, ReplyError> {
        self.rest.get(index).and_then(as_int).ok_or(ReplyError::Unexpected("a number"))
    }

    /// The bytes at an index.
    pub(super) fn bytes(&self, index: usize) -> Result<&[u8], ReplyError> {
        self.rest.get(index).and_then(as_bytes).ok_or(ReplyError::Unexpected("a string"))
    }

    /// The array at an index.
    pub(super) fn array(&self, index: usize) -> Result<&[Value], ReplyError> {
        match self.rest.get(index) {
            Some(Value::Array(values)) => Ok(values),
            _ => Err(ReplyError::Unexpected("an array")),
        }
    }
}

/// An answer that is handed on as it is.
pub(super) fn plain(value: Value) -> Result<Reply, ReplyError> {
    match value {
        Value::ServerError(error) => Err(ReplyError::Refused(error.to_string())),
        Value::Array(rest) => Ok(Reply { head: None, rest }),
        value => Ok(Reply { head: None, rest: vec![value] }),
    }
}

/// An answer that begins with the replication id, which the connection takes over, and
/// where the log stands.
pub(super) fn stamped(value: Value, replid: &mut String) -> Result<Reply, ReplyError> {
    let Reply { rest, .. } = plain(value)?;
    let mut rest = rest.into_iter();
    let here = rest.next().ok_or(ReplyError::Unexpected("a replication id"))?;
    take_over(&here, replid);
    let head = head(&mut rest)?;
    Ok(Reply { head: Some(head), rest: rest.collect() })
}

/// Takes over the replication id that a script tells.
pub(super) fn take_over(here: &Value, replid: &mut String) {
    if let Some(here) = as_text(here)
        && here != replid
    {
        here.clone_into(replid);
    }
}

/// Epoch, seq and past, as the scripts write them.
pub(super) fn head(values: &mut impl Iterator<Item = Value>) -> Result<Head, ReplyError> {
    let unexpected = || ReplyError::Unexpected("epoch, seq and past");
    let (epoch, seq, past) = (values.next(), values.next(), values.next());
    let epoch = epoch.as_ref().and_then(as_text).and_then(parse_epoch).ok_or_else(unexpected)?;
    let seq = seq.as_ref().and_then(as_int).and_then(|seq| u64::try_from(seq).ok());
    let past = past.as_ref().and_then(as_text).ok_or_else(unexpected)?;
    let past = past.split_ascii_whitespace().map(|entry| {
        let (epoch, seq) = entry.split_once(':')?;
        Some(Position::new(parse_epoch(epoch)?, seq.parse().ok()?))
    });
    Ok(Head {
        position: Position::new(epoch, seq.ok_or_else(unexpected)?),
        past: past.collect::<Option<_>>().ok_or_else(unexpected)?,
    })
}

fn parse_epoch(text: &str) -> Option<Epoch> {
    text.parse().ok()
}

/// A number, however Redis chose to send it.
pub(super) fn as_int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        value => as_text(value)?.parse().ok(),
    }
}

/// A string's bytes.
pub(super) fn as_bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn as_text(value: &Value) -> Option<&str> {
    std::str::from_utf8(as_bytes(value)?).ok()
}
