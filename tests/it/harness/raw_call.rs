//! A call on the `chat` protocol below gRPC, for what no gRPC client library does.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{Reason, SendStream, client::ResponseFuture};
use http::HeaderMap;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tonic::{Code, Status};

use super::SOON;

/// One HTTP/2 request on a connection of its own, whose body a test writes byte by byte.
/// Dropped, it drops the connection.
#[derive(Debug)]
pub(crate) struct RawCall {
    body: SendStream<Bytes>,
    answer: Option<ResponseFuture>,
    _driver: JoinSet<()>,
}

impl RawCall {
    /// Sends the head of a request.
    pub(crate) async fn begin(addr: SocketAddr, method: &str, path: &str, kind: &str) -> Self {
        Self::ask(addr, method, path, &[("content-type", kind)]).await
    }

    /// Sends the head of a gRPC request with further headers.
    pub(crate) async fn begin_with(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let headers = [&[("content-type", "application/grpc")], headers].concat();
        Self::ask(addr, "POST", path, &headers).await
    }

    async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        let tcp = TcpStream::connect(addr).await.expect("the server listens");
        let (requests, connection) = h2::client::handshake(tcp).await.expect("HTTP/2");
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        let mut requests = requests.ready().await.expect("the server takes a request");
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{addr}{path}"))
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let (answer, body) = requests.send_request(request, false).expect("open a stream");
        Self { body, answer: Some(answer), _driver: driver }
    }

    /// Begins a stream of the `chat` protocol.
    pub(crate) async fn chat(addr: SocketAddr) -> Self {
        Self::begin(addr, "POST", "/chat.ChatService/ChatStream", "application/grpc").await
    }

    /// Sends bytes of the body as they are; whether the stream still takes any.
    pub(crate) fn write(&mut self, bytes: Bytes, end: bool) -> bool {
        self.body.send_data(bytes, end).is_ok()
    }

    /// Sends one payload in gRPC's frame.
    pub(crate) fn send(&mut self, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
        self.write([&[0], &length[..], payload].concat().into(), false)
    }

    /// Resets the stream, with nothing else before it; the connection stays.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.body.send_reset(reason);
    }

    /// The head of the answer.
    pub(crate) async fn head(&mut self) -> HeaderMap {
        let answer = self.answer.take().expect("not read yet");
        let answer = timeout(SOON, answer).await.expect("an answer in time");
        answer.expect("an answer").headers().clone()
    }

    /// Reads the answer to its end, which has to be a gRPC status.
    pub(crate) async fn status(&mut self) -> (Code, String) {
        let answer = self.answer.take().expect("not read yet");
        let read = async {
            let mut body = answer.await.expect("an answer").into_body();
            while let Some(Ok(chunk)) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.len());
            }
            body.trailers().await.expect("an end").expect("trailers")
        };
        let trailers = timeout(SOON, read).await.expect("an end in time");
        let status = Status::from_header_map(&trailers).expect("a status");
        (status.code(), status.message().to_owned())
    }

    /// The answer's HTTP status, if there is an answer.
    pub(crate) async fn http_status(&mut self) -> Option<u16> {
        Some(self.answer.take()?.await.ok()?.status().as_u16())
    }

    /// Reads the answer to its end, whatever it is.
    pub(crate) async fn read_to_end(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        let Ok(answer) = answer.await else { return };
        let mut body = answer.into_body();
        while let Some(Ok(chunk)) = body.data().await {
            let _ = body.flow_control().release_capacity(chunk.len());
        }
    }
}
