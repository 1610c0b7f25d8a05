//! How the messages of a stream are packed.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue};

/// The largest message that is read, packed or unpacked: gRPC's own default.
pub(super) const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// What a message may have beside its content when it is unpacked.
const BESIDE_CONTENT: usize = 64 * 1024;

/// How the messages of a stream are packed, where their flag says that they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    Identity,
    /// With the most bytes to which one is unpacked.
    Gzip(usize),
}

/// Why a message is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// It is not what it is said to be.
    #[error("the message is not gzip: {0}")]
    NotGzip(io::Error),
    /// It is unpacked no further.
    #[error("the message has more than {max} bytes unpacked")]
    TooLong {
        /// How far it was.
        max: usize,
        /// So far.
        beginning: Bytes,
    },
}

impl Encoding {
    /// What a request's headers say; an error if it is an encoding that is not known.
    pub(super) fn of(headers: &HeaderMap, content_bytes: usize) -> Result<Self, String> {
        match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip(MAX_MESSAGE.min(content_bytes + BESIDE_CONTENT))),
            Some(other) => Err(String::from_utf8_lossy(other).chars().take(32).collect()),
        }
    }

    /// Whether a message may have this flag.
    pub(super) fn explains(self, flag: u8) -> bool {
        flag == 0 || (flag == 1 && self != Self::Identity)
    }

    /// The message as it was before it was packed.
    pub(super) fn unpack(self, flag: u8, message: Bytes) -> Result<Bytes, UnpackError> {
        let max = match self {
            Self::Gzip(max) if flag != 0 => max,
            Self::Gzip(_) | Self::Identity => return Ok(message),
        };
        let mut unpacked = Vec::new();
        let mut reader = GzDecoder::new(&message[..]).take(max as u64 + 1);
        reader.read_to_end(&mut unpacked).map_err(UnpackError::NotGzip)?;
        let fits = unpacked.len() <= max;
        let unpacked = Bytes::from(unpacked);
        if fits { Ok(unpacked) } else { Err(UnpackError::TooLong { max, beginning: unpacked }) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(message: &[u8]) -> Bytes {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(message).unwrap();
        packer.finish().unwrap().into()
    }

    #[test]
    fn what_was_packed_is_unpacked_up_to_a_limit() {
        let gzip = Encoding::Gzip(1000);
        let whole = vec![7; 1000];
        assert_eq!(gzip.unpack(1, packed(&whole)).unwrap(), whole);
        assert_eq!(gzip.unpack(0, whole.clone().into()).unwrap(), whole);
        let Err(UnpackError::TooLong { max, beginning }) =
            gzip.unpack(1, packed(&vec![7; 1 << 24]))
        else {
            panic!("a bomb is unpacked")
        };
        assert_eq!((max, beginning.len()), (1000, 1001));
        assert!(matches!(gzip.unpack(1, whole.into()), Err(UnpackError::NotGzip(_))));
    }

    #[test]
    fn headers_say_what_is_known() {
        let of = |value: Option<&'static str>| {
            let name = http::HeaderName::from_static("grpc-encoding");
            let value = value.map(|value| (name, HeaderValue::from_static(value)));
            Encoding::of(&value.into_iter().collect(), 16)
        };
        assert_eq!(of(None), Ok(Encoding::Identity));
        assert_eq!(of(Some("identity")), Ok(Encoding::Identity));
        assert_eq!(of(Some("gzip")), Ok(Encoding::Gzip(16 + BESIDE_CONTENT)));
        assert_eq!(of(Some("zstd")), Err("zstd".to_owned()));
        assert!(!Encoding::Identity.explains(1) && !Encoding::Gzip(1).explains(2));
    }
}
