//! What the headers of a call say of its message, and of its time.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use tonic::Status;

use crate::gateway::{
    encoding::{Encoding, UnpackError},
    status::{Outcome, status},
};

/// The content types that a unary call may have.
pub(super) const ACCEPTED: [&str; 3] =
    ["application/json", "application/proto", "application/grpc"];

/// The most digits of a timeout.
const DIGITS: usize = 10;

/// How a message is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Codec {
    Json,
    Proto,
}

/// How a request's message is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packing {
    Identity,
    Gzip,
}

/// Whether a request is a gRPC call.
pub(in crate::gateway) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let codec = content_type.and_then(|value| value.strip_prefix("application/grpc"));
    // `application/grpc-web` is another protocol.
    codec.is_some_and(|codec| codec.is_empty() || codec.starts_with(['+', ';']))
}

impl Codec {
    /// What the content type says. JSON is UTF-8.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?.to_ascii_lowercase();
        let mut parts = value.split(';').map(str::trim);
        let codec = match parts.next()? {
            "application/json" => Self::Json,
            "application/proto" => Self::Proto,
            _ => return None,
        };
        let mut charsets = parts.filter_map(|part| part.strip_prefix("charset="));
        let is_utf8 = charsets.all(|charset| charset.trim_matches('"') == "utf-8");
        is_utf8.then_some(codec)
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Proto => "application/proto",
        }
    }
}

impl Packing {
    /// What the content encoding says; an error if it is one that is not known.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, String> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let encoding = match values.next().map(|value| value.as_bytes().to_ascii_lowercase()) {
            None => Self::Identity,
            Some(value) if value.is_empty() || value == b"identity" => Self::Identity,
            Some(value) if value == b"gzip" => Self::Gzip,
            Some(other) => return Err(String::from_utf8_lossy(&other).chars().take(32).collect()),
        };
        match values.next() {
            None => Ok(encoding),
            Some(_) => Err("one within another".to_owned()),
        }
    }

    /// The message as it was before it was packed, when it had no more than `max` bytes.
    pub(super) fn unpack(self, message: Bytes, max: usize) -> Result<Bytes, Status> {
        let (encoding, flag) = match self {
            Self::Identity => (Encoding::Identity, 0),
            Self::Gzip => (Encoding::Gzip(max), 1),
        };
        encoding.unpack(flag, message).map_err(|error| match error {
            UnpackError::TooLong { max, .. } => status(&Outcome::RequestTooLarge { max }),
            UnpackError::NotGzip(_) => Status::invalid_argument(error.to_string()),
        })
    }
}

/// Refuses versions of the protocol that are not known.
pub(super) fn check_version(headers: &HeaderMap) -> Result<(), Status> {
    match headers.get("connect-protocol-version") {
        Some(version) if version != "1" => {
            Err(Status::invalid_argument("connect-protocol-version: send 1, or leave it out"))
        }
        _ => Ok(()),
    }
}

/// How long a client waits for its answer, if it says so.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("connect-timeout-ms") else { return Ok(None) };
    let digits = value.to_str().ok().filter(|it| {
        (1..=DIGITS).contains(&it.len()) && it.bytes().all(|digit| digit.is_ascii_digit())
    });
    let time = digits.and_then(|digits| digits.parse().ok()).map(Duration::from_millis);
    let wrong = || Status::invalid_argument("connect-timeout-ms: 1 to 10 digits");
    time.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers<const N: usize>(headers: [(&'static str, &'static str); N]) -> HeaderMap {
        let header = |(name, value): (&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        headers.into_iter().map(header).collect()
    }

    fn codec(content_type: &'static str) -> Option<Codec> {
        Codec::of(&headers([("content-type", content_type)]))
    }

    #[test]
    fn the_content_type_says_how_a_message_is_written() {
        for json in ["application/json", "Application/JSON; charset=UTF-8", "application/json;a=b"]
        {
            assert_eq!(codec(json), Some(Codec::Json), "{json}");
        }
        assert_eq!(codec("application/proto"), Some(Codec::Proto));
        for other in ["", "text/plain", "application/json; charset=latin1", "application/jsonp"] {
            assert_eq!(codec(other), None, "{other}");
        }
        assert_eq!(Codec::of(&HeaderMap::new()), None);
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        let is = |content_type| is_grpc(&headers([("content-type", content_type)]));
        assert!(
            ["application/grpc", "application/grpc+proto", "application/grpc;x=y"].map(is)
                == [true; 3]
        );
        assert!(["application/grpc-web", "application/json", ""].map(is) == [false; 3]);
    }

    #[test]
    fn messages_are_packed_with_gzip_or_not_at_all() {
        let of = |value| Packing::of(&headers([("content-encoding", value)]));
        assert_eq!(of("identity"), Ok(Packing::Identity));
        assert_eq!(of("GZIP"), Ok(Packing::Gzip));
        assert_eq!(of("br"), Err("br".to_owned()));
        assert!(of("gzip, gzip").is_err());
        let bomb = of("gzip").unwrap().unpack(Bytes::from_static(b"no gzip"), 100).unwrap_err();
        assert_eq!(bomb.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_timeout_is_a_number_of_milliseconds() {
        let of = |value| timeout(&headers([("connect-timeout-ms", value)])).ok().flatten();
        assert_eq!(of("1500"), Some(Duration::from_millis(1500)));
        assert_eq!(of("9999999999"), Some(Duration::from_millis(9_999_999_999)));
        for wrong in ["", "-1", "1.5", "12345678901", "+5", "x"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert!(matches!(timeout(&HeaderMap::new()), Ok(None)));
    }
}
