//! Calls and answers between plain HTTP and gRPC.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE},
    request, response,
};
use tonic::Status;

/// What stands before a message: whether it is packed, and its length.
const PREFIX: usize = 5;

/// What belongs to one protocol and says nothing in the other.
const PREFIXES: [&str; 2] = ["grpc-", "connect-"];

/// A message that is not packed, as gRPC sends it.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a request is small"));
    frame.put_slice(message);
    frame.freeze()
}

/// The only message of an answer. A call that ends well has one.
pub(super) fn message(mut answer: Bytes) -> Result<Bytes, Status> {
    let is_one = answer.len() >= PREFIX
        && answer[0] == 0
        && u32::from_be_bytes([answer[1], answer[2], answer[3], answer[4]]) as usize
            == answer.len() - PREFIX;
    if is_one {
        return Ok(answer.split_off(PREFIX));
    }
    Err(Status::internal("the call was not answered by one message"))
}

/// Makes the head of a call that of a gRPC call. What else is in it stays as metadata.
pub(super) fn translate_request(head: &mut request::Parts) {
    head.version = Version::HTTP_2;
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, ACCEPT_ENCODING] {
        head.headers.remove(name);
    }
    drop_reserved(&mut head.headers);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert(TE, HeaderValue::from_static("trailers"));
}

/// Makes the head of a gRPC call's answer that of an answer; its trailers go into the head.
pub(super) fn translate_response(head: &mut response::Parts, trailers: &HeaderMap) {
    head.version = Version::default();
    drop_reserved(&mut head.headers);
    for (name, value) in trailers.iter().filter(|(name, _)| !is_reserved(name)) {
        if let Ok(name) = HeaderName::try_from(format!("trailer-{name}")) {
            head.headers.append(name, value.clone());
        }
    }
}

fn drop_reserved(headers: &mut HeaderMap) {
    let reserved: Vec<_> = headers.keys().filter(|name| is_reserved(name)).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

pub(super) fn is_reserved(name: &HeaderName) -> bool {
    PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    #[test]
    fn an_answer_is_one_message() {
        assert_eq!(message(frame(b"hello")).unwrap(), "hello");
        assert_eq!(message(frame(b"")).unwrap(), "");
        let two = [frame(b"a"), frame(b"b")].concat();
        for none in [b"".to_vec(), two, b"\0\0\0\0\x02a".to_vec(), b"\x01\0\0\0\0".to_vec()] {
            assert!(message(none.into()).is_err());
        }
    }

    #[test]
    fn metadata_goes_both_ways_and_what_belongs_to_a_protocol_does_not() {
        let request = Request::builder()
            .header("authorization", "Bearer x")
            .header("content-type", "application/json")
            .header("content-length", "7")
            .header("connect-timeout-ms", "5")
            .header("grpc-encoding", "gzip");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        translate_request(&mut head);
        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "content-type", "te"]);
        assert_eq!(head.headers["content-type"], "application/grpc");

        let response = Response::builder().header("grpc-encoding", "identity").header("a", "1");
        let (mut head, ()) = response.body(()).unwrap().into_parts();
        let trailers = [("grpc-status", "0"), ("b", "2")];
        let trailers = trailers
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        translate_response(&mut head, &trailers.into_iter().collect());
        assert_eq!(head.headers.len(), 2, "{:?}", head.headers);
        assert_eq!([&head.headers["a"], &head.headers["trailer-b"]], ["1", "2"]);
    }
}
