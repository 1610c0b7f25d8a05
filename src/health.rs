//! `roomcast health`: asks a replica whether it is ready.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures_util::future;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// How long the whole question may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The most of an answer that is read.
const ANSWER: usize = 256 * 1024;

/// What a replica said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Whether it is ready.
    pub ready: bool,
    /// In its own words.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection came about.
    #[error("cannot reach {addr}: {source}")]
    Unreachable {
        /// Where it was tried.
        addr: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Time is up.
    #[error("{addr} did not answer within {} s", TIMEOUT.as_secs())]
    Late {
        /// Who did not.
        addr: String,
    },
    /// What listens there is not a replica's admin port.
    #[error("{addr} gave no readiness answer: {reason}")]
    Strange {
        /// Who.
        addr: String,
        /// What was wrong with it.
        reason: String,
    },
}

/// Where to ask a replica that listens at `addr`.
pub fn reachable(mut addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    addr
}

/// Asks `/readyz` of the admin port at `addr`, a host and a port.
pub async fn check(addr: &str) -> Result<Answer, Error> {
    match get(addr, "/readyz").await? {
        (StatusCode::OK, text) => Ok(Answer { ready: true, text }),
        (StatusCode::SERVICE_UNAVAILABLE, text) => Ok(Answer { ready: false, text }),
        (status, _) => {
            let reason = format!("HTTP status {status}");
            Err(Error::Strange { addr: addr.to_owned(), reason })
        }
    }
}

/// Asks an admin port for a path.
async fn get(addr: &str, path: &str) -> Result<(StatusCode, String), Error> {
    let late = |_| Err(Error::Late { addr: addr.to_owned() });
    timeout(TIMEOUT, ask(addr, path)).await.unwrap_or_else(late)
}

async fn ask(addr: &str, path: &str) -> Result<(StatusCode, String), Error> {
    let strange = |reason: String| Error::Strange { addr: addr.to_owned(), reason };
    let stream = TcpStream::connect(addr)
        .await
        .map_err(|source| Error::Unreachable { addr: addr.to_owned(), source })?;
    let request = Request::get(path)
        .header(HOST, addr)
        .body(Empty::<Bytes>::new())
        .map_err(|error| strange(error.to_string()))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| strange(error.to_string()))?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER).collect();
        let body = body.await.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    // What goes wrong with the connection, the exchange says better.
    let (_, exchanged) = future::join(connection, exchange).await;
    exchanged.map_err(strange)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn asked(answer: &str) -> Result<Answer, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        future::join(check(&addr), serve).await.0
    }

    #[tokio::test]
    async fn a_yes_and_a_no() {
        let yes = asked("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n").await.unwrap();
        assert_eq!(yes, Answer { ready: true, text: "ready\n".to_owned() });
        let no = asked("HTTP/1.1 503 No\r\ncontent-length: 5\r\n\r\ndeaf\n").await.unwrap();
        assert_eq!(no, Answer { ready: false, text: "deaf\n".to_owned() });
    }

    #[tokio::test]
    async fn what_is_no_admin_port_is_said_to_be_none() {
        for answer in ["", "SSH-2.0\r\n", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"] {
            assert!(matches!(asked(answer).await, Err(Error::Strange { .. })), "{answer:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(ANSWER + 1));
        assert!(matches!(asked(&endless).await, Err(Error::Strange { .. })));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        drop(listener);
        assert!(matches!(check(&addr).await, Err(Error::Unreachable { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_an_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        assert!(matches!(check(&addr).await, Err(Error::Late { .. })));
    }

    #[test]
    fn wildcards_are_asked_at_loopback() {
        for (addr, expected) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("192.0.2.7:3", "192.0.2.7:3")]
        {
            assert_eq!(reachable(addr.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
