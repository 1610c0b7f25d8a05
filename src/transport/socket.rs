//! A connection's socket, plain or behind TLS.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::buffered_socket::Progress;

/// How long, and how far, a client whose handshake failed is listened to. A socket that is closed
/// with something unread resets the connection, and then the client may never see why.
const PARTING: Duration = Duration::from_secs(1);
const PARTING_BYTES: u64 = 64 * 1024;

/// What the preface of HTTP/2 begins with, and no request of HTTP/1.1 that anybody makes.
const HTTP2: [u8; 3] = *b"PRI";

/// What a connection reads from and writes to.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    first: FirstBytes,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<Counted>>),
}

/// What was read to find out what a client speaks, and is still to be read by whoever speaks that.
#[derive(Debug, Default)]
struct FirstBytes {
    bytes: [u8; HTTP2.len()],
    have: u8,
}

/// What a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Why a connection has no TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("no TLS handshake in time")]
    Late,
    /// As a probe of a load balancer does.
    #[error("it closed the connection without a word")]
    Silent,
    #[error("the TLS handshake failed: {0}")]
    Failed(io::Error),
}

impl Socket {
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self { stream: Stream::Plain(socket), first: FirstBytes::default() }
    }

    /// Does the server's part of the TLS handshake.
    pub(super) async fn accept(
        socket: TcpStream,
        tls: TlsAcceptor,
        deadline: Instant,
    ) -> Result<Self, HandshakeError> {
        let accept = tls.accept(Counted { socket, heard: false, taken: 0 }).into_fallible();
        match timeout_at(deadline, accept).await {
            Ok(Ok(stream)) => {
                let stream = Stream::Tls(Box::new(stream));
                Ok(Self { stream, first: FirstBytes::default() })
            }
            Ok(Err((_, Counted { heard: false, .. }))) => Err(HandshakeError::Silent),
            Ok(Err((error, Counted { socket, .. }))) => {
                let until = deadline.min(Instant::now() + PARTING);
                // However that goes, the connection is over.
                let _ = timeout_at(until, part(socket)).await;
                Err(HandshakeError::Failed(error))
            }
            Err(_) => Err(HandshakeError::Late),
        }
    }
}

impl Socket {
    /// Waits for what the client says first, and tells by that what it speaks. `None` when it closes the
    /// connection instead.
    pub(super) async fn version(&mut self) -> io::Result<Option<Version>> {
        loop {
            let have = usize::from(self.first.have);
            if self.first.bytes[..have] != HTTP2[..have] {
                return Ok(Some(Version::Http1));
            }
            if have == HTTP2.len() {
                return Ok(Some(Version::Http2));
            }
            match self.stream.read(&mut self.first.bytes[have..]).await? {
                0 => return Ok(None),
                read => self.first.have += u8::try_from(read).expect("no more than there is room"),
            }
        }
    }

    /// Whom the certificate of the other side names, if it had to show one.
    pub(super) fn peer_name(&self) -> Option<Arc<str>> {
        let Stream::Tls(stream) = &self.stream else { return None };
        let certificate = stream.get_ref().1.peer_certificates()?.first()?;
        Some(roomcast_tls::subject(certificate).into())
    }
}

async fn part(mut socket: TcpStream) -> io::Result<()> {
    socket.shutdown().await?;
    tokio::io::copy(&mut socket.take(PARTING_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

impl Progress for Socket {
    fn taken(&self) -> u64 {
        match &self.stream {
            // Holds nothing back.
            Stream::Plain(_) => 0,
            Stream::Tls(stream) => stream.get_ref().0.taken,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let have = usize::from(this.first.have);
        if have > 0 {
            let taken = have.min(buf.remaining());
            buf.put_slice(&this.first.bytes[..taken]);
            this.first.bytes.copy_within(taken..have, 0);
            this.first.have -= u8::try_from(taken).expect("no more than there are");
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The socket below TLS, which knows how much it was given.
#[derive(Debug)]
pub(super) struct Counted {
    socket: TcpStream,
    /// Anything came from the other side.
    heard: bool,
    taken: u64,
}

impl Counted {
    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.taken += *bytes as u64;
        }
        written
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        this.heard |= buf.filled().len() > before;
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.count(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.count(written)
    }

    /// TLS writes all its records at once where that is of use.
    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
