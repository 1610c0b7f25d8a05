//! The `chat` protocol's bytes, read with as little work as possible.
//!
//! A bench message's content begins with a mark of 16 characters, six bits each: the run's tag
//! (2), the sender (3), its sequence number (5) and the microsecond it was sent (6).

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use roomcast_proto::chat::ChatMessage;

/// The size of a mark.
const MARK: usize = 16;
/// The sender in a probe's mark.
const PROBE: u32 = (1 << 18) - 1;
/// gRPC's: a compression flag and four bytes of length.
const PREFIX: usize = 5;
/// The longest message that is read.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 64 {
        values[DIGITS[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// What a content's mark says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    /// Only shows that its receiver is in the room.
    Probe,
    /// A message of the load.
    Load {
        sender: u32,
        seq: u32,
        /// When it was sent, in microseconds since the run's base.
        micros: u64,
    },
}

/// The server sent what no message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a compressed message, or one over 4 MiB")]
    Frame,
    #[error("bytes that are no ChatMessage")]
    Message,
}

/// A content of `size` bytes with a mark.
pub(super) fn content(tag: u16, mark: Mark, size: usize) -> String {
    let (sender, seq, micros) = match mark {
        Mark::Probe => (PROBE, 0, 0),
        Mark::Load { sender, seq, micros } => (sender, seq, micros),
    };
    let mut content = String::with_capacity(size.max(MARK));
    let mut put = |value: u64, digits: u32| {
        for digit in (0..digits).rev() {
            content.push(char::from(DIGITS[(value >> (6 * digit) & 63) as usize]));
        }
    };
    put(tag.into(), 2);
    put(sender.into(), 3);
    put(seq.into(), 5);
    put(micros, 6);
    while content.len() < size {
        content.push('.');
    }
    content
}

/// The mark of a content of this run; anything else has none.
pub(super) fn mark(tag: u16, content: &[u8]) -> Option<Mark> {
    let digits: &[u8; MARK] = content.first_chunk()?;
    let mut bad = 0;
    let mut get = |range: std::ops::Range<usize>| {
        digits[range].iter().fold(0u64, |value, &digit| {
            bad |= VALUES[digit as usize];
            value << 6 | u64::from(VALUES[digit as usize] & 63)
        })
    };
    let (its_tag, sender, seq, micros) = (get(0..2), get(2..5), get(5..10), get(10..16));
    if bad > 63 || its_tag != u64::from(tag) {
        return None;
    }
    let sender = u32::try_from(sender).ok()?;
    let seq = u32::try_from(seq).ok()?;
    Some(if sender == PROBE { Mark::Probe } else { Mark::Load { sender, seq, micros } })
}

/// A message as it goes over the stream.
pub(super) fn frame(username: String, content: String) -> Bytes {
    let message = ChatMessage { username, content, timestamp: String::new() };
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("contents have at most 64 KiB"));
    message.encode(&mut frame).expect("there is room for it");
    frame.freeze()
}

/// Cuts a stream of bytes into messages.
#[derive(Default)]
pub(super) struct Frames {
    /// The beginning of a message whose rest has not come yet.
    partial: Vec<u8>,
}

impl Frames {
    /// Calls `each` with the content of every message that is complete with this chunk.
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Malformed> {
        if self.partial.is_empty() {
            let rest = cut(chunk, &mut each)?;
            self.partial.extend_from_slice(rest);
        } else {
            self.partial.extend_from_slice(chunk);
            let rest = cut(&self.partial, &mut each)?.len();
            self.partial.drain(..self.partial.len() - rest);
        }
        Ok(())
    }
}

/// Hands out complete messages and returns what is left.
fn cut<'a>(mut bytes: &'a [u8], each: &mut impl FnMut(&[u8])) -> Result<&'a [u8], Malformed> {
    while let Some((&[compressed, a, b, c, d], rest)) = bytes.split_first_chunk::<PREFIX>() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if compressed != 0 || length > MAX_MESSAGE {
            return Err(Malformed::Frame);
        }
        let Some((message, rest)) = rest.split_at_checked(length) else { break };
        each(content_of(message).ok_or(Malformed::Message)?);
        bytes = rest;
    }
    Ok(bytes)
}

/// The second field of a message whose fields are all strings.
fn content_of(mut message: &[u8]) -> Option<&[u8]> {
    let mut content: &[u8] = &[];
    while let Some((&key, rest)) = message.split_first() {
        let (length, rest) = varint(rest)?;
        let (value, rest) = rest.split_at_checked(length)?;
        match key {
            0x12 => content = value,
            0x0a | 0x1a => {}
            _ => return None,
        }
        message = rest;
    }
    Some(content)
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Mark = Mark::Load { sender: 199_999, seq: 1_000_000_000, micros: 3_600_000_000 };

    #[test]
    fn marks_survive() {
        for (known, size) in [(LOAD, 16), (Mark::Probe, 64), (LOAD, 1000)] {
            let content = content(0xfed, known, size);
            assert_eq!(content.len(), size);
            assert_eq!(mark(0xfed, content.as_bytes()), Some(known));
            assert_eq!(mark(0xfee, content.as_bytes()), None);
        }
        for other in ["", "bob joined", "what anybody may say, at any length"] {
            assert_eq!(mark(0xfed, other.as_bytes()), None);
        }
    }

    #[test]
    fn frames_survive_any_cut() {
        let contents = ["", "first", &content(1, LOAD, 300), "last"];
        let mut bytes = Vec::new();
        for content in contents {
            bytes.extend_from_slice(&frame("bob".to_owned(), content.to_owned()));
        }
        for size in [1, 2, 7, 100, 1000] {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for chunk in bytes.chunks(size) {
                let keep = |content: &[u8]| seen.push(String::from_utf8(content.into()).unwrap());
                frames.push(chunk, keep).unwrap();
            }
            assert_eq!(seen, contents);
            assert!(frames.partial.is_empty());
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let push = |bytes: &[u8]| Frames::default().push(bytes, |_| ());
        assert_eq!(push(&[1, 0, 0, 0, 0]), Err(Malformed::Frame));
        assert_eq!(push(&[0, 255, 0, 0, 0]), Err(Malformed::Frame));
        assert_eq!(push(&[0, 0, 0, 0, 2, 0x12, 9]), Err(Malformed::Message));
        assert_eq!(push(&[0, 0, 0, 0, 2, 0x08, 0]), Err(Malformed::Message));
        assert_eq!(push(&[0, 0, 0, 0, 6, 0x12, 255, 255, 255, 255, 255]), Err(Malformed::Message));
    }
}
