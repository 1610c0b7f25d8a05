//! A client that speaks HTTP/1.1 byte by byte, for what no client library does.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::SOON;

/// A connection.
#[derive(Debug)]
pub(crate) struct Http1<IO = TcpStream> {
    io: IO,
    /// What was read behind the last answer.
    rest: Vec<u8>,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of an error, and its text.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let json = self.json();
        let text = |key| json[key].as_str().unwrap_or_default().to_owned();
        (self.status, text("code"), text("message"))
    }
}

/// A request with this JSON.
pub(crate) fn post(path: &str, headers: &[&str], json: &str) -> String {
    let headers = [headers, &[""]].concat().join("\r\n");
    let length = json.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{json}"
    )
}

impl Http1 {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        Self::on(TcpStream::connect(addr).await.expect("the server listens"))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Http1<IO> {
    pub(crate) fn on(io: IO) -> Self {
        Self { io, rest: Vec::new() }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.expect("the connection takes it");
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// The same, where the server may close the connection instead.
    pub(crate) async fn try_ask(&mut self, request: impl AsRef<[u8]>) -> Option<Answer> {
        self.io.write_all(request.as_ref()).await.ok()?;
        timeout(SOON, self.read()).await.expect("an answer in time")
    }

    /// Sends a request with this JSON and reads its answer.
    pub(crate) async fn post(&mut self, path: &str, headers: &[&str], json: &str) -> Answer {
        self.ask(post(path, headers, json)).await
    }

    /// Reads the next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        timeout(SOON, self.read()).await.expect("an answer in time").expect("an answer")
    }

    /// Waits until the server closes the connection, without another answer.
    pub(crate) async fn until_closed(&mut self) {
        let closed = timeout(2 * SOON, self.read()).await.expect("it is closed in time");
        assert_eq!((closed, &*self.rest), (None, &b""[..]));
    }

    async fn read(&mut self) -> Option<Answer> {
        const END: &[u8] = b"\r\n\r\n";
        let at = loop {
            if let Some(at) = self.rest.windows(END.len()).position(|it| it == END) {
                break at;
            }
            self.read_more().await?;
        };
        let head: Vec<u8> = self.rest.drain(..at + END.len()).collect();
        let head = String::from_utf8(head).expect("text");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        };
        let headers: BTreeMap<_, _> = lines.filter_map(header).collect();
        let length = headers.get("content-length").map_or(0, |it| it.parse().expect("a length"));
        while self.rest.len() < length {
            self.read_more().await?;
        }
        let body = String::from_utf8(self.rest.drain(..length).collect()).expect("text");
        Some(Answer { status: status.expect("a status"), headers, body })
    }

    async fn read_more(&mut self) -> Option<()> {
        // What is reset is closed.
        let read = self.io.read_buf(&mut self.rest).await.unwrap_or(0);
        (read > 0).then_some(())
    }
}
