use std::{collections::VecDeque, task::Waker};

use super::*;
use crate::gateway::intake::{IntakeLimits, OfAddress, Total};

/// A client that has sent this, and goes on or does not.
#[derive(Debug, Default)]
struct Sent {
    parts: VecDeque<Bytes>,
    goes_on: bool,
    released: Arc<Mutex<usize>>,
}

impl Source for Sent {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, FrameError>>> {
        match self.parts.pop_front() {
            None if self.goes_on => Poll::Pending,
            part => Poll::Ready(part.map(Ok)),
        }
    }

    fn release(&mut self, bytes: usize) {
        *self.released.lock().unwrap() += bytes;
    }
}

const LIMITS: IntakeLimits =
    IntakeLimits { replica: 1 << 20, peer: 1 << 20, connection: 200 * 1024 };

fn intake() -> Arc<Intake> {
    Intake::new(OfAddress::new(&Total::new(LIMITS)))
}

/// A stream on which this was sent, and how much of it its client may send again.
struct Stream {
    frames: Frames<Sent>,
    receiver: Receiver<Sent>,
    released: Arc<Mutex<usize>>,
}

impl Stream {
    fn new(intake: &Arc<Intake>, parts: &[Vec<u8>], goes_on: bool) -> Self {
        let parts = parts.iter().cloned().map(Bytes::from).collect();
        let sent = Sent { parts, goes_on, released: Arc::default() };
        let released = sent.released.clone();
        let (frames, receiver) = frames(sent, Encoding::Identity, intake.clone());
        let stream = Self { frames, receiver, released };
        stream.receive();
        stream
    }

    fn receive(&self) {
        self.receiver.receive(&mut Context::from_waker(Waker::noop()));
    }

    fn next(&mut self) -> Poll<Option<Result<Bytes, String>>> {
        self.receive();
        let next = lock(&self.frames.0).next();
        next.map(|it| it.map(|it| it.map_err(|error| error.to_string())))
    }

    fn released(&self) -> usize {
        *self.released.lock().unwrap()
    }
}

fn read(parts: &[Vec<u8>]) -> Vec<Result<Bytes, String>> {
    let mut stream = Stream::new(&intake(), parts, false);
    std::iter::from_fn(|| match stream.next() {
        Poll::Ready(next) => next,
        Poll::Pending => panic!("the stream has ended"),
    })
    .collect()
}

fn framed(size: usize) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(size).unwrap().to_be_bytes());
    framed.resize(PREFIX + size, b'x');
    framed
}

#[tokio::test]
async fn messages_are_found_however_they_are_cut() {
    let bytes = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 1], b"z"].concat();
    let expected = [&b"abc"[..], b"", b"z"].map(|it| Ok(Bytes::from(it)));
    for size in 1..=bytes.len() {
        let parts: Vec<_> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
        assert_eq!(read(&parts), expected);
    }
}

#[tokio::test]
async fn what_cannot_be_a_message_is_refused_once() {
    let too_long = [&[0][..], &u32::MAX.to_be_bytes()].concat();
    for (bytes, said) in [
        (vec![1, 0, 0, 0, 0], "flag 1"),
        (too_long, "4294967295 bytes"),
        (vec![0, 0, 0, 0, 9, 1], "within a message"),
        (vec![0, 0], "within a message"),
    ] {
        let got = read(&[bytes]);
        assert_eq!(got.len(), 1);
        assert!(got[0].as_ref().unwrap_err().contains(said), "{got:?}");
    }
}

#[tokio::test]
async fn a_framed_message_reads_back() {
    let message = crate::proto::chat::ChatMessage {
        username: "bob".into(),
        content: "x".repeat(300),
        timestamp: String::new(),
    };
    let got = read(&[encode(&message).to_vec()]).remove(0).unwrap();
    assert_eq!(crate::proto::chat::ChatMessage::decode(got).unwrap(), message);
}

#[tokio::test]
async fn the_window_opens_as_messages_are_read_and_not_before() {
    let intake = intake();
    let (one, two) = (framed(10_000), framed(20_000));
    let both = [&one[..], &two[..15_000]].concat();
    let mut stream = Stream::new(&intake, &[both], true);
    assert_eq!((stream.released(), intake.bytes()), (0, 25_005));
    assert!(matches!(stream.next(), Poll::Ready(Some(Ok(it))) if it.len() == 10_000));
    assert_eq!((stream.released(), intake.bytes()), (10_005, 15_000));
    assert!(stream.next().is_pending());
    assert_eq!(stream.released(), 10_005);
    drop(stream);
    assert_eq!(intake.bytes(), 0);
}

#[tokio::test]
async fn a_large_message_gets_on_in_its_place() {
    let intake = intake();
    let whole = framed(100 * 1024);
    let mut stream = Stream::new(&intake, &[whole[..60_000].to_vec()], true);
    assert_eq!((stream.released(), intake.bytes()), (60_000, 60_000));
    lock(&stream.frames.0).source.as_mut().unwrap().parts.push_back(whole.slice_from(60_000));
    assert!(matches!(stream.next(), Poll::Ready(Some(Ok(it))) if it.len() == 100 * 1024));
    assert_eq!((stream.released(), intake.bytes()), (whole.len(), 0));
}

trait SliceFrom {
    fn slice_from(&self, from: usize) -> Bytes;
}

impl SliceFrom for Vec<u8> {
    fn slice_from(&self, from: usize) -> Bytes {
        Bytes::copy_from_slice(&self[from..])
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_arrive_is_given_up() {
    let intake = intake();
    let mut stream = Stream::new(&intake, &[framed(10_000)[..9_000].to_vec()], true);
    assert!(stream.next().is_pending());
    tokio::time::sleep(MESSAGE_TIME).await;
    let Poll::Ready(Some(Err(error))) = stream.next() else { panic!("it goes on") };
    assert!(error.contains("did not arrive"), "{error}");
    assert_eq!(intake.bytes(), 0);
    assert_eq!(stream.next(), Poll::Ready(None));
}

/// Unfinished messages fill what a connection may hold; small ones get through, and so do large ones,
/// in the place of those that have been waiting for the longest.
#[tokio::test]
async fn unfinished_messages_give_way() {
    let intake = intake();
    let unfinished = [framed(64 * 1024)[..60_000].to_vec()];
    let mut stalled: Vec<_> = (0..10).map(|_| Stream::new(&intake, &unfinished, true)).collect();
    let small = Stream::new(&intake, &[framed(1_000)], true).next();
    assert!(matches!(small, Poll::Ready(Some(Ok(_)))), "{small:?}");
    let whole = Stream::new(&intake, &[framed(16_384)], true).next();
    assert!(matches!(whole, Poll::Ready(Some(Ok(_)))), "{whole:?}");
    let ended = stalled.iter_mut().map(Stream::next).filter(Poll::is_ready).count();
    assert_eq!(ended, 7, "three fit");
    assert!(stalled[9].next().is_pending() && stalled[0].next().is_ready());
    assert!(intake.bytes() <= LIMITS.connection);
    drop(stalled);
    assert_eq!(intake.bytes(), 0);
}

/// What came into a window that is opened again would be counted nowhere, until it is dropped.
#[tokio::test]
async fn a_stream_that_is_given_up_may_send_no_more() {
    let intake = intake();
    let unfinished = [framed(40_000)[..39_000].to_vec()];
    let mut streams: Vec<_> = (0..10).map(|_| Stream::new(&intake, &unfinished, true)).collect();
    let first = &mut streams[0];
    first.receive();
    assert!(first.frames.given_up()());
    assert_eq!(first.released(), 0);
    assert!(matches!(first.next(), Poll::Ready(Some(Err(_)))));
    assert_eq!(first.released(), 0);
    assert!(first.frames.stop().is_some());
    assert_eq!(first.released(), 39_000);
}

/// A message that arrives before it has got its place leaves it to others.
#[tokio::test]
async fn no_place_is_kept_for_a_message_that_is_there() {
    let intake = intake();
    let whole = framed(50_000);
    let begin = || Stream::new(&intake, &[whole[..5_000].to_vec()], true);
    let first: Vec<_> = (0..8).map(|_| begin()).collect();
    assert!(first.iter().all(|it| it.released() == 5_000));
    let mut late: Vec<_> = (0..8).map(|_| begin()).collect();
    for stream in &mut late {
        assert_eq!(stream.released(), 0, "it waits");
        lock(&stream.frames.0).source.as_mut().unwrap().parts.push_back(whole.slice_from(5_000));
        assert!(matches!(stream.next(), Poll::Ready(Some(Ok(_)))));
    }
    drop(first);
    assert!((0..8).map(|_| begin()).all(|it| it.released() == 5_000));
}
