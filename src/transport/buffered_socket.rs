//! A socket that writes when the connection's task has nothing more to add.
//!
//! h2 makes one system call for each DATA frame of 256 bytes or more, and flushes as it likes.
//! Here its writes go to a bounded buffer; the task sends that in one go.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::inbound::{Inbound, LargeHeads};

/// What may wait to be written; then the connection waits.
const BUFFER: usize = 128 * 1024;

/// How much is read before the streams have looked at it, and requests that were reset are forgotten: frames of one
/// byte pile up in HTTP/2, and whoever sends much holds up those who share the connection.
const READ: usize = 16 * 1024;

/// A buffer larger than this is not kept once it is empty.
const KEEP: usize = 64 * 1024;

thread_local! {
    /// A buffer for whichever connection writes next. Most write all they have in one turn of their task,
    /// so that idle ones have none, and this one is in the core's cache.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A socket that may hold back some of what it took, as TLS does, until it is flushed.
pub(super) trait Progress: AsyncWrite + Unpin {
    /// How many bytes of what it held back have left, ever.
    fn taken(&self) -> u64;
}

/// The connection's end of the socket.
#[derive(Debug)]
pub(super) struct BufferedSocket<IO>(Arc<Mutex<Inner<IO>>>);

/// The task's end of the socket.
#[derive(Debug)]
pub(super) struct Flusher<IO>(Arc<Mutex<Inner<IO>>>);

/// How the other side does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// How many bytes ever came in.
    pub(super) received: usize,
    /// Since when the head of a request has been coming in, if one is.
    pub(super) request: Option<Instant>,
    /// Since when the socket takes nothing, although something waits.
    pub(super) stalled: Option<Instant>,
    /// More has come in than any client has a reason for.
    pub(super) flooded: bool,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a state of its own, and all of them combine"
)]
struct Inner<IO> {
    io: IO,
    /// What waits to be written.
    buffer: Vec<u8>,
    /// The connection wants to write and cannot.
    blocked: bool,
    /// The connection wants to read and may not, until something is sent.
    ahead: bool,
    /// The connection wants to end once all is sent.
    closing: bool,
    received: usize,
    /// How much was read since the last flush, and whether the connection wants to read on.
    read: usize,
    hungry: bool,
    inbound: Inbound,
    /// Since when the socket takes nothing of what waits.
    stalled: Option<Instant>,
    /// What `Progress::taken` said last.
    taken: u64,
}

/// Both ends of a socket. Large heads of requests are counted with those of other connections.
pub(super) fn wire<IO>(io: IO, large_heads: LargeHeads) -> (BufferedSocket<IO>, Flusher<IO>) {
    let inner = Inner {
        io,
        buffer: Vec::new(),
        blocked: false,
        ahead: false,
        closing: false,
        received: 0,
        read: 0,
        hungry: false,
        inbound: Inbound::new(large_heads),
        stalled: None,
        taken: 0,
    };
    let inner = Arc::new(Mutex::new(inner));
    (BufferedSocket(inner.clone()), Flusher(inner))
}

impl<IO: Progress> Inner<IO> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        while sent < self.buffer.len() {
            let Poll::Ready(written) = Pin::new(&mut self.io).poll_write(cx, &self.buffer[sent..])
            else {
                self.buffer.drain(..sent);
                self.note_wait();
                return Poll::Pending;
            };
            match written? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    sent += written;
                    self.inbound.sent(written);
                }
            }
            self.stalled = None;
        }
        let mut spare = std::mem::take(&mut self.buffer);
        if (1..=KEEP).contains(&spare.capacity()) {
            spare.clear();
            SPARE.set(spare);
        }
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_pending() {
            self.note_wait();
        } else {
            self.stalled = None;
            self.inbound.sent_all();
        }
        flushed
    }

    /// The socket takes no more for now. Whether it took something since it was last so full that
    /// it had to hold something back shows below TLS only.
    fn note_wait(&mut self) {
        let taken = self.io.taken();
        if taken != self.taken {
            self.taken = taken;
            self.stalled = None;
        }
        self.stalled.get_or_insert_with(Instant::now);
    }
}

impl<IO> BufferedSocket<IO> {
    fn lock(&self) -> MutexGuard<'_, Inner<IO>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<IO: Progress> Flusher<IO> {
    fn lock(&self) -> MutexGuard<'_, Inner<IO>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is buffered, as far as the socket takes it, and lets the connection read on. True when that is
    /// what it was waiting for.
    pub(super) fn flush(&self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut inner = self.lock();
        let sent = inner.poll_send(cx)?;
        let unblocked = inner.blocked && inner.buffer.len() < BUFFER;
        let closed = inner.closing && sent.is_ready();
        let answered = inner.ahead && !inner.inbound.is_ahead();
        inner.blocked &= !unblocked;
        inner.closing &= !closed;
        inner.ahead &= !answered;
        inner.read = 0;
        let hungry = std::mem::take(&mut inner.hungry);
        Ok(unblocked || closed || answered || hungry)
    }

    /// How the other side does.
    pub(super) fn look(&self) -> Look {
        let inner = self.lock();
        let Inner { received, stalled, .. } = *inner;
        let (request, flooded) = (inner.inbound.block(), inner.inbound.is_flooded());
        Look { received, request, stalled, flooded }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for BufferedSocket<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        if inner.stalled.is_some() && inner.inbound.is_ahead() {
            // The task's own flush wakes it.
            inner.ahead = true;
            return Poll::Pending;
        }
        if inner.read >= READ {
            inner.hungry = true;
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut inner.io).poll_read(cx, buf);
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            inner.received = inner.received.saturating_add(bytes.len());
            inner.read += bytes.len();
            inner.inbound.read(bytes, Instant::now());
        }
        read
    }
}

impl<IO: Progress> AsyncWrite for BufferedSocket<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.buffer.len() >= BUFFER
            && let Poll::Ready(Err(error)) = inner.poll_send(cx)
        {
            return Poll::Ready(Err(error));
        }
        let mut room = BUFFER.saturating_sub(inner.buffer.len());
        if room == 0 {
            inner.blocked = true;
            return Poll::Pending;
        }
        if inner.buffer.capacity() == 0 {
            inner.buffer = SPARE.take();
        }
        let before = inner.buffer.len();
        for buf in bufs {
            let taken = buf.len().min(room);
            inner.buffer.extend_from_slice(&buf[..taken]);
            room -= taken;
        }
        Poll::Ready(Ok(inner.buffer.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The task flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        let sent = inner.poll_send(cx)?;
        // TLS has something to say at the end, too.
        if sent.is_ready()
            && let Poll::Ready(ended) = Pin::new(&mut inner.io).poll_shutdown(cx)
        {
            return Poll::Ready(ended);
        }
        // The task's own flush takes the socket's waker over.
        inner.closing = true;
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    impl Progress for tokio::io::DuplexStream {
        fn taken(&self) -> u64 {
            0
        }
    }

    fn write(
        wire: &mut BufferedSocket<tokio::io::DuplexStream>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(wire).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
    }

    #[tokio::test]
    async fn writes_leave_together_when_flushed() {
        let (near, mut far) = duplex(1 << 20);
        let (mut wire, flusher) = wire(near, LargeHeads::default());
        for part in [&b"one "[..], b"two ", b"three"] {
            assert!(matches!(write(&mut wire, part), Poll::Ready(Ok(n)) if n == part.len()));
        }
        let mut got = vec![0; 100];
        let nothing = tokio::time::timeout(std::time::Duration::ZERO, far.read(&mut got)).await;
        assert!(nothing.is_err(), "it left before it was flushed");
        flusher.flush(&mut Context::from_waker(Waker::noop())).unwrap();
        let size = far.read(&mut got).await.unwrap();
        assert_eq!(&got[..size], b"one two three");
    }

    #[tokio::test]
    async fn ending_waits_for_the_last_byte_and_for_nothing_else() {
        let (near, mut far) = duplex(16);
        let (mut wire, flusher) = wire(near, LargeHeads::default());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(write(&mut wire, &[7; 40]), Poll::Ready(Ok(40))));
        assert!(Pin::new(&mut wire).poll_shutdown(&mut cx).is_pending());
        assert!(!flusher.flush(&mut cx).unwrap(), "there is nothing new");
        far.read_exact(&mut [0; 16]).await.unwrap();
        assert!(!flusher.flush(&mut cx).unwrap(), "not all is sent");
        far.read_exact(&mut [0; 16]).await.unwrap();
        assert!(flusher.flush(&mut cx).unwrap());
        assert!(Pin::new(&mut wire).poll_shutdown(&mut cx).is_ready());
    }

    /// Takes everything at once and lets go of it when it may, as TLS does.
    #[derive(Default)]
    struct Holding {
        held: usize,
        may_leave: usize,
        left: u64,
        ended: bool,
    }

    impl Progress for Holding {
        fn taken(&self) -> u64 {
            self.left
        }
    }

    impl AsyncWrite for Holding {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.held += buf.len();
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let leaving = self.held.min(self.may_leave);
            self.held -= leaving;
            self.may_leave -= leaving;
            self.left += leaving as u64;
            if self.held == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        /// Has a last byte to send.
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if !self.ended {
                self.ended = true;
                self.held += 1;
            }
            self.poll_flush(cx)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_socket_holds_back_is_pushed_out_and_waited_for() {
        let (mut wire, flusher) = wire(Holding::default(), LargeHeads::default());
        let mut cx = Context::from_waker(Waker::noop());
        let leave = |bytes| flusher.lock().io.may_leave = bytes;
        assert!(Pin::new(&mut wire).poll_write(&mut cx, &[7; 100]).is_ready());
        assert!(!flusher.flush(&mut cx).unwrap());
        let began = flusher.look().stalled.expect("something waits");
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
        assert!(!flusher.flush(&mut cx).unwrap());
        assert_eq!(flusher.look().stalled, Some(began), "nothing moved");
        leave(10);
        assert!(!flusher.flush(&mut cx).unwrap());
        assert_eq!(flusher.look().stalled, Some(Instant::now()), "it moves");
        leave(90);
        assert!(!flusher.flush(&mut cx).unwrap());
        assert_eq!(flusher.look().stalled, None);

        assert!(Pin::new(&mut wire).poll_shutdown(&mut cx).is_pending());
        assert!(!flusher.flush(&mut cx).unwrap(), "the last byte is held back");
        leave(1);
        assert!(flusher.flush(&mut cx).unwrap());
        assert!(Pin::new(&mut wire).poll_shutdown(&mut cx).is_ready());
    }

    #[tokio::test]
    async fn only_so_much_is_read_until_others_had_their_turn() {
        let (near, mut far) = duplex(1 << 20);
        let (mut wire, flusher) = wire(near, LargeHeads::default());
        far.write_all(&vec![7; 3 * READ]).await.unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = |most: usize| {
            let mut room = vec![0; most];
            let mut room = ReadBuf::new(&mut room);
            let read = Pin::new(&mut wire).poll_read(&mut cx, &mut room);
            read.map(|read| read.map(|()| room.filled().len()).unwrap())
        };
        assert_eq!(read(READ), Poll::Ready(READ));
        assert!(read(READ).is_pending());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(flusher.flush(&mut cx).unwrap(), "it wants to read on");
        assert_eq!(read(READ), Poll::Ready(READ));
        assert!(flusher.flush(&mut cx).is_ok_and(|more| !more), "it does not wait");
        assert_eq!(read(2 * READ), Poll::Ready(READ));
        assert!(flusher.flush(&mut cx).is_ok_and(|more| !more));
        assert!(read(READ).is_pending(), "there is nothing");
        assert!(flusher.flush(&mut cx).is_ok_and(|more| !more), "the socket wakes it");
    }

    #[tokio::test]
    async fn the_buffer_is_bounded_and_tells_when_there_is_room_again() {
        let (near, mut far) = duplex(16);
        let (mut wire, flusher) = wire(near, LargeHeads::default());
        let chunk = vec![7; BUFFER];
        assert!(matches!(write(&mut wire, &chunk), Poll::Ready(Ok(BUFFER))));
        // The pipe takes 16 bytes, and as many are taken in.
        assert!(matches!(write(&mut wire, &chunk), Poll::Ready(Ok(16))));
        assert!(write(&mut wire, &chunk).is_pending());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(!flusher.flush(&mut cx).unwrap());
        far.read_exact(&mut [0; 16]).await.unwrap();
        assert!(flusher.flush(&mut cx).unwrap());
    }
}
