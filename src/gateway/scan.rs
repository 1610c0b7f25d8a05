//! Protobuf's wire format, read in place and with bounded work: what is skipped costs nothing, and a message
//! with more fields than any client sends is refused before anything is made of them.

use prost::encoding::{WireType, decode_key, decode_varint};

/// The most fields that are looked at in one message, at each level.
const MAX_FIELDS: usize = 64;

/// The value of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value<'a> {
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
    /// A number.
    Number,
}

/// Why a message cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum ScanError<'a> {
    #[error("it is not a protobuf message of this kind")]
    Malformed,
    /// It ends within a field that has a length.
    #[error("it ends within a field")]
    Truncated {
        /// The field's number.
        number: u32,
        /// Its length.
        size: u64,
        /// What is there of it.
        rest: &'a [u8],
    },
    #[error("it has more than {MAX_FIELDS} fields")]
    TooManyFields,
    #[error("it has text that is not UTF-8")]
    NotText,
}

/// The fields of a message, in their order. Ends with the first error.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    seen: usize,
}

/// The fields of a message.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message, seen: 0 }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u32, Value<'a>), ScanError<'a>> {
        self.seen += 1;
        if self.seen > MAX_FIELDS {
            return Err(ScanError::TooManyFields);
        }
        let (number, wire_type) = decode_key(&mut self.rest).map_err(|_| ScanError::Malformed)?;
        let skipped = match wire_type {
            WireType::LengthDelimited => {
                let size = decode_varint(&mut self.rest).map_err(|_| ScanError::Malformed)?;
                let whole =
                    usize::try_from(size).ok().and_then(|it| self.rest.split_at_checked(it));
                let Some((value, rest)) = whole else {
                    return Err(ScanError::Truncated { number, size, rest: self.rest });
                };
                self.rest = rest;
                return Ok((number, Value::Bytes(value)));
            }
            WireType::Varint => {
                decode_varint(&mut self.rest).map_err(|_| ScanError::Malformed)?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            // Nobody sends them any more.
            WireType::StartGroup | WireType::EndGroup => return Err(ScanError::Malformed),
        };
        self.rest = self.rest.get(skipped..).ok_or(ScanError::Malformed)?;
        Ok((number, Value::Number))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), ScanError<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// Whether a message has few fields, and so have the messages in it: those fields of it whose numbers are the
/// first of `nested`, and of those the second. Whoever decodes it then has little to do. Whether it can be
/// decoded at all is left to them.
pub(super) fn has_few_fields(message: &[u8], nested: &[&[u32]]) -> bool {
    let messages = nested.first().copied().unwrap_or_default();
    fields(message).all(|field| match field {
        Ok((number, Value::Bytes(inner))) if messages.contains(&number) => {
            has_few_fields(inner, &nested[1..])
        }
        Ok(_) => true,
        Err(error) => error != ScanError::TooManyFields,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_skipped() {
        let message =
            [&[0x08, 0x96, 1][..], &[0x12, 2, b'h', b'i'], &[0x19], &[0; 8], &[0x25], &[0; 4]];
        let found: Vec<_> = fields(&message.concat()).map(Result::unwrap).map(|it| it.0).collect();
        assert_eq!(found, [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_no_message_ends_with_an_error() {
        for (bytes, expected) in [
            (&[0x12, 9, b'x'][..], ScanError::Truncated { number: 2, size: 9, rest: b"x" }),
            (&[0x12], ScanError::Malformed),
            (&[0x19, 0], ScanError::Malformed),
            (&[0x0b], ScanError::Malformed),
            (&[0x00, 0x00], ScanError::Malformed),
        ] {
            assert_eq!(fields(bytes).collect::<Vec<_>>(), [Err(expected)]);
        }
    }

    #[test]
    fn a_message_of_very_many_fields_is_not_read_to_its_end() {
        let bomb = [0x0a, 0].repeat(1 << 20);
        let mut seen = fields(&bomb);
        assert_eq!(seen.by_ref().flatten().count(), MAX_FIELDS);
        assert_eq!(fields(&bomb).last(), Some(Err(ScanError::TooManyFields)));
        assert!(!has_few_fields(&bomb, &[]));
        // One level down, where it is looked for.
        let nested = [&[0x12][..], &[0x80, 0x80, 0x40], &[0x08, 1].repeat(1 << 19)].concat();
        assert!(!has_few_fields(&nested, &[&[2]]));
        assert!(has_few_fields(&nested, &[&[1], &[2]]));
    }
}
