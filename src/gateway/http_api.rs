//! The unary calls over plain HTTP, as the [Connect protocol](https://connectrpc.com/docs/protocol) has them: `POST` to
//! a method's path, a message as JSON or protobuf there and back, and an error as JSON.
//!
//! A call becomes a gRPC call of the same method, and its answer is translated back. So nothing here knows any method:
//! all that is known of them is what the descriptors say.

mod content;
mod error;
mod grpc;
mod message;
mod methods;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Version,
    header::{CONTENT_TYPE, HeaderMap},
};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Full};
use prost_reflect::{DescriptorError, DescriptorPool};
use tokio::time::timeout;
use tonic::{Code, Status, body::Body};

pub(super) use self::content::is_grpc;
use self::{
    content::{Codec, Packing},
    error::Errors,
    message::{from_protobuf, to_protobuf},
    methods::{Method, Methods, NoMethod},
};
use crate::proto::PUBLIC_DESCRIPTORS;

/// What can be called, and how errors are told.
#[derive(Debug)]
pub(super) struct HttpApi {
    methods: Methods,
    errors: Errors,
}

/// How a request is to be answered.
#[derive(Debug)]
pub(super) enum Dialect {
    /// As a gRPC call.
    Grpc,
    /// As a call over plain HTTP.
    Http(HttpCall),
}

/// What the head of a call says.
#[derive(Debug)]
pub(super) struct HttpCall {
    method: Arc<Method>,
    codec: Codec,
    packing: Packing,
    /// How long its client waits.
    timeout: Option<Duration>,
}

/// The answer to what is not gRPC on the path of a stream.
pub(super) fn not_grpc(headers: &HeaderMap, method: &str) -> Response<Body> {
    if Codec::of(headers).is_none() {
        return error::wrong_content_type(&["application/grpc"]);
    }
    error::no_method(&NoMethod::Stream(method.to_owned()))
}

impl HttpApi {
    /// All unary calls of the public protocols.
    pub(super) fn new() -> Result<Self, DescriptorError> {
        let methods = Methods::new(&DescriptorPool::decode(PUBLIC_DESCRIPTORS)?);
        Ok(Self { methods, errors: Errors::new()? })
    }

    /// How a call is to be answered; an error is the answer to what is no call.
    pub(super) fn dialect<B>(&self, request: &Request<B>) -> Result<Dialect, Box<Response<Body>>> {
        let (path, headers) = (request.uri().path(), request.headers());
        if is_grpc(headers) {
            return match request.version() {
                Version::HTTP_2 => Ok(Dialect::Grpc),
                _ => Err(error::grpc_needs_http2().into()),
            };
        }
        let method = self.methods.of(path).map_err(|none| error::no_method(&none))?;
        let refuse = |status: Status| self.errors.response(&status);
        let codec =
            Codec::of(headers).ok_or_else(|| error::wrong_content_type(&content::ACCEPTED))?;
        content::check_version(headers).map_err(refuse)?;
        let packing = Packing::of(headers).map_err(|encoding| error::wrong_encoding(&encoding))?;
        let timeout = content::timeout(headers).map_err(refuse)?;
        Ok(Dialect::Http(HttpCall { method, codec, packing, timeout }))
    }

    /// Says why a call is not answered.
    pub(super) fn refuse(&self, dialect: &Dialect, status: &Status) -> Response<Body> {
        match dialect {
            Dialect::Grpc => status.clone().into_http(),
            Dialect::Http(_) => self.errors.response(status),
        }
    }

    /// Answers a call whose message has at most `max` bytes by way of `routes`, which answer gRPC calls. What the
    /// request's extensions have gets there.
    pub(super) async fn call<B, R>(
        &self,
        call: HttpCall,
        request: Request<B>,
        max: usize,
        routes: impl FnOnce(Request<Body>) -> R,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes, Error = Status>,
        R: Future<Output = Response<Body>>,
    {
        let time = call.timeout;
        let called = exchange(call, request, max, routes);
        let answer = match time {
            None => called.await,
            Some(time) => timeout(time, called).await.unwrap_or_else(|_| {
                Err(Status::deadline_exceeded(format!(
                    "connect-timeout-ms: {} ms have passed",
                    time.as_millis()
                )))
            }),
        };
        answer.unwrap_or_else(|status| self.errors.response(&status))
    }
}

async fn exchange<B, R>(
    HttpCall { method, codec, packing, .. }: HttpCall,
    request: Request<B>,
    max: usize,
    routes: impl FnOnce(Request<Body>) -> R,
) -> Result<Response<Body>, Status>
where
    B: HttpBody<Data = Bytes, Error = Status>,
    R: Future<Output = Response<Body>>,
{
    let (mut head, body) = request.into_parts();
    let sent = packing.unpack(body.collect().await?.to_bytes(), max)?;
    let message = to_protobuf(codec, &method.input, sent).await?;
    grpc::translate_request(&mut head);
    let asked = Request::from_parts(head, Body::new(Full::new(grpc::frame(&message))));
    let (mut head, body) = routes(asked).await.into_parts();
    let failed = |status: &Status| status.code() != Code::Ok;
    if let Some(status) = Status::from_header_map(&head.headers).filter(failed) {
        return Err(status);
    }
    let answered = body.collect().await?;
    let trailers = answered.trailers().cloned().unwrap_or_default();
    if let Some(status) = Status::from_header_map(&trailers).filter(failed) {
        return Err(status);
    }
    let message = grpc::message(answered.to_bytes())?;
    let answer = from_protobuf(codec, &method.output, message).await?;
    grpc::translate_response(&mut head, &trailers);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(codec.content_type()));
    Ok(Response::from_parts(head, Body::new(Full::new(answer))))
}
