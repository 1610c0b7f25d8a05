//! Errors over plain HTTP: `{"code": "permission_denied", "message": "…", "details": [{"type", "value", "debug"}]}`.
//!
//! Source: <https://connectrpc.com/docs/protocol#error-codes>.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_TYPE, DATE, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use prost::Message;
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tonic::{Code, Status, body::Body};
use tonic_types::pb;

use super::{grpc::is_reserved, methods::NoMethod};

/// Where a client finds what it may send.
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// What details are made of.
#[derive(Debug)]
pub(super) struct Errors(DescriptorPool);

impl Errors {
    pub(super) fn new() -> Result<Self, DescriptorError> {
        Ok(Self(DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET)?))
    }

    /// The response that tells of a status; its metadata are headers.
    pub(super) fn response(&self, status: &Status) -> Response<Body> {
        let (http, code) = http_and_name(status.code());
        let details = pb::Status::decode(status.details()).unwrap_or_default().details;
        let details: Vec<_> = details.iter().map(|detail| self.detail(detail)).collect();
        let mut response = error(http, code, status.message(), details);
        let headers = response.headers_mut();
        for (name, value) in &status.metadata().clone().into_headers() {
            if !is_reserved(name) && ![CONTENT_TYPE, DATE].contains(name) {
                headers.append(name, value.clone());
            }
        }
        if status.code() == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    fn detail(&self, detail: &prost_types::Any) -> Value {
        let name = detail.type_url.rsplit('/').next().unwrap_or_default();
        let mut told = json!({ "type": name, "value": STANDARD_NO_PAD.encode(&detail.value) });
        // For who reads it without the protocol at hand.
        let message = self.0.get_message_by_name(name);
        let message = message.and_then(|it| DynamicMessage::decode(it, &*detail.value).ok());
        if let Some(debug) = message.and_then(|it| serde_json::to_value(it).ok()) {
            told["debug"] = debug;
        }
        told
    }
}

/// The HTTP status and the name of a code. OK is no error.
fn http_and_name(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::Ok | Code::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, "unknown"),
        // As some proxies say that a client has closed its request.
        Code::Cancelled => (StatusCode::from_u16(499).expect("three digits"), "canceled"),
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid_argument"),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
        Code::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        Code::AlreadyExists => (StatusCode::CONFLICT, "already_exists"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "resource_exhausted"),
        Code::FailedPrecondition => (StatusCode::BAD_REQUEST, "failed_precondition"),
        Code::Aborted => (StatusCode::CONFLICT, "aborted"),
        Code::OutOfRange => (StatusCode::BAD_REQUEST, "out_of_range"),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "unimplemented"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "data_loss"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
    }
}

fn error(http: StatusCode, code: &str, message: &str, details: Vec<Value>) -> Response<Body> {
    let mut told = json!({ "code": code });
    if !message.is_empty() {
        told["message"] = message.into();
    }
    if !details.is_empty() {
        told["details"] = details.into();
    }
    let mut response = Response::new(Body::new(Full::new(Bytes::from(told.to_string()))));
    *response.status_mut() = http;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Refuses what is no method, or none that can be called so.
pub(super) fn no_method(none: &NoMethod) -> Response<Body> {
    let http = match none {
        NoMethod::Unknown => StatusCode::NOT_FOUND,
        NoMethod::Stream(_) => StatusCode::NOT_IMPLEMENTED,
    };
    error(http, "unimplemented", &none.to_string(), vec![])
}

/// Refuses messages that are written otherwise than so.
pub(super) fn wrong_content_type(accepted: &[&str]) -> Response<Body> {
    let accepted = accepted.join(", ");
    let message = format!("content-type: send one of {accepted}; in UTF-8");
    let http = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let mut response = error(http, "invalid_argument", &message, vec![]);
    let accepted = HeaderValue::try_from(accepted).expect("names of types");
    response.headers_mut().insert(ACCEPT_POST, accepted);
    response
}

/// Refuses messages that are packed otherwise than with gzip.
pub(super) fn wrong_encoding(encoding: &str) -> Response<Body> {
    let message = format!("content-encoding: {encoding:?} cannot be read; send gzip or identity");
    let mut response = error(StatusCode::NOT_IMPLEMENTED, "unimplemented", &message, vec![]);
    let accepted = HeaderValue::from_static("gzip, identity");
    response.headers_mut().insert(ACCEPT_ENCODING, accepted);
    response
}

/// Refuses gRPC where its trailers could not be sent.
pub(super) fn grpc_needs_http2() -> Response<Body> {
    const SAID: &str = "gRPC needs HTTP/2. Over HTTP/1.1 unary calls are answered that are sent as application/json or application/proto.\n";
    let mut response = Response::new(Body::new(Full::new(Bytes::from_static(SAID.as_bytes()))));
    *response.status_mut() = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    async fn told(status: &Status) -> (u16, Value) {
        let response = Errors::new().unwrap().response(status);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn each_code_has_its_http_status() {
        let rows = [
            (Code::Cancelled, 499, "canceled"),
            (Code::Unknown, 500, "unknown"),
            (Code::InvalidArgument, 400, "invalid_argument"),
            (Code::DeadlineExceeded, 504, "deadline_exceeded"),
            (Code::NotFound, 404, "not_found"),
            (Code::AlreadyExists, 409, "already_exists"),
            (Code::PermissionDenied, 403, "permission_denied"),
            (Code::ResourceExhausted, 429, "resource_exhausted"),
            (Code::FailedPrecondition, 400, "failed_precondition"),
            (Code::Aborted, 409, "aborted"),
            (Code::OutOfRange, 400, "out_of_range"),
            (Code::Unimplemented, 501, "unimplemented"),
            (Code::Internal, 500, "internal"),
            (Code::Unavailable, 503, "unavailable"),
            (Code::DataLoss, 500, "data_loss"),
            (Code::Unauthenticated, 401, "unauthenticated"),
        ];
        for (code, http, name) in rows {
            let expected = (http, json!({ "code": name, "message": "why" }));
            assert_eq!(told(&Status::new(code, "why")).await, expected);
        }
    }

    #[tokio::test]
    async fn details_are_told_as_bytes_and_for_people() {
        let mut details = ErrorDetails::with_error_info("MUTED", "roomcast", []);
        details.set_retry_info(Some(Duration::from_millis(1500)));
        let (_, told) = told(&Status::with_error_details(Code::Aborted, "", details)).await;
        assert!(told.get("message").is_none(), "{told}");
        let told = told["details"].as_array().unwrap();
        let of = |name: &str| told.iter().find(|it| it["type"] == name).unwrap();
        let info = of("google.rpc.ErrorInfo");
        assert_eq!(info["debug"], json!({ "reason": "MUTED", "domain": "roomcast" }));
        let value = STANDARD_NO_PAD.decode(info["value"].as_str().unwrap()).unwrap();
        assert_eq!(pb::ErrorInfo::decode(&*value).unwrap().reason, "MUTED");
        assert_eq!(of("google.rpc.RetryInfo")["debug"], json!({ "retryDelay": "1.500s" }));
    }

    #[test]
    fn who_shows_no_token_is_asked_for_one() {
        let response = Errors::new().unwrap().response(&Status::unauthenticated("no token"));
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    }
}
