//! The admin port, as a probe sees it.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long a probe would wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection for one request.
#[derive(Debug)]
pub struct Probe {
    stream: TcpStream,
    addr: SocketAddr,
}

impl Probe {
    /// Connects, and asks nothing yet.
    pub async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream =
            timeout(PATIENCE, TcpStream::connect(addr)).await.map_err(io::Error::other)??;
        Ok(Self { stream, addr })
    }

    /// Status and body of a GET.
    pub async fn ask(self, path: &str) -> io::Result<(u16, String)> {
        timeout(PATIENCE, self.exchange(path)).await.map_err(io::Error::other)?
    }

    async fn exchange(mut self, path: &str) -> io::Result<(u16, String)> {
        let host = self.addr;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        self.stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status in {head:?}")))?;
        Ok((status, body.to_owned()))
    }
}

/// Status and body of a GET on a connection of its own.
pub async fn get(addr: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    Probe::open(addr).await?.ask(path).await
}
