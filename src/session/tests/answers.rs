//! What a client is answered, and in which order, on a backplane that is odd.

use std::{
    future::{pending, ready},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep_until};

use super::*;
use crate::{
    domain::{Epoch, Position, SecretHash, SessionId},
    session::client_link::Pace,
};

/// A client that takes everything at once, unless it sleeps.
pub(super) struct Taker {
    told: Mutex<Vec<Answer>>,
    last: Mutex<Instant>,
    asleep: AtomicBool,
    full: AtomicBool,
}

impl Taker {
    pub(super) fn new() -> Self {
        let (told, last) = (Mutex::default(), Mutex::new(Instant::now()));
        Self { told, last, asleep: AtomicBool::new(false), full: AtomicBool::new(false) }
    }

    fn sleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::Relaxed);
        *self.last.lock().unwrap() = Instant::now();
    }

    fn told(&self) -> Vec<Answer> {
        self.told.lock().unwrap().clone()
    }

    pub(super) fn link(&self, head: Position) -> ClientLink<'_> {
        ClientLink {
            answers: self,
            repeats: &Unbounded,
            appended: (0, head),
            resumed: false,
            ping_interval: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            drain_spread: Duration::from_secs(5),
        }
    }
}

impl Responder for Taker {
    fn answer(&self, answer: &Answer) {
        self.told.lock().unwrap().push(answer.clone());
        if !self.is_waiting() {
            *self.last.lock().unwrap() = Instant::now();
        }
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.is_full() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn last_taken(&self) -> Instant {
        *self.last.lock().unwrap()
    }

    fn is_waiting(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_sent_elsewhere_has_the_time_that_it_was_told_from_when_it_takes_that() {
    let taker = Taker::new();
    let link = taker.link(Position::new(Epoch(1), 1));
    let ways = [ReconnectReason::ShuttingDown, ReconnectReason::TooOld];
    for (asleep, why) in [false, true].into_iter().flat_map(|it| ways.map(|why| (it, why))) {
        let mut pace = Pace::new(&link);
        taker.sleep(asleep);
        tokio::time::sleep(Duration::from_millis(1)).await;
        pace.send_away(Duration::from_secs(2), why);
        let Some(Answer::Reconnect(after, told)) = taker.told().pop() else {
            panic!("it is not told")
        };
        assert_eq!(told, why);
        if asleep {
            let wakes = Instant::now() + Duration::from_secs(20);
            while Instant::now() < wakes {
                sleep_until(pace.over.unwrap()).await;
                assert_eq!(pace.look_after(), Ok(()), "it knows nothing of it");
            }
            taker.sleep(false);
        }
        let taken = Instant::now();
        let ending = loop {
            sleep_until(pace.over.unwrap()).await;
            if let Err(ending) = pace.look_after() {
                break ending;
            }
        };
        assert_eq!(ending, why.ending());
        let served = taken.elapsed();
        assert!(served >= after, "told {after:?}, served for {served:?}");
        assert!(served <= after + Duration::from_secs(3), "told {after:?}, served for {served:?}");
    }
}

/// Counts.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Unstored for Counted {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_busy(&self) -> bool {
        false
    }
}

/// How bob's stream ends in slow mode, after how long, and what was counted of it before.
async fn said_too_fast(contents: &[&str]) -> (Ending, Duration, usize) {
    let memory = memory();
    let here = attach(&memory);
    let (backplane, metrics) = (here.backplane, Metrics::new());
    let hub = Hub::start(backplane, here.signals, here.id, hub_config(), metrics, Sampler::off());
    let arrived = hub.enter(claim(&props::some_room(), SessionClaim::Plain), nobody()).await;
    let rate = Rate { interval: Duration::from_secs(3600), burst: 1 };
    let (content_bytes, max_age) = (1024, Duration::ZERO);
    let limits = SessionLimits { content_bytes, inflight: 8, rate, max_age };
    let says: Vec<_> = contents
        .iter()
        .map(|content| Ok(Input::Say(Say { content: (*content).to_owned(), ..Say::default() })))
        .collect();
    let (counted, began) = (Counted::default(), Instant::now());
    let most = AtomicUsize::new(0);
    let gone = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        most.store(counted.0.load(Ordering::Relaxed), Ordering::Relaxed);
        Ending::Disconnected
    };
    let input = stream::iter(says).chain(stream::pending());
    let ended =
        run(&hub, arrived.unwrap().membership, input, gone, allowed(&limits), &counted, None).await;
    let took = began.elapsed();
    assert_eq!(counted.0.load(Ordering::Relaxed), 0, "nothing stays behind");
    hub.stop().await;
    (ended, took, most.into_inner())
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_slow_mode_is_short_and_counted() {
    let (ended, took, counted) = said_too_fast(&["a", &"b".repeat(1000)]).await;
    assert_eq!((ended, took.as_secs(), counted), (Ending::Disconnected, 10, 1000));
    let (ended, took, _) = said_too_fast(&["a", &"b".repeat(5000)]).await;
    assert_eq!(ended, Ending::ContentTooLong { got: 5000, max: 1024 });
    assert!(took < Duration::from_secs(1), "its turn need not come: {took:?}");
}

/// Whose answers are not taken is not read, but ends when what it has sent is given up.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_given_up_while_it_is_not_read_ends_at_once() {
    let memory = memory();
    let here = attach(&memory);
    let (backplane, metrics) = (here.backplane, Metrics::new());
    let hub = Hub::start(backplane, here.signals, here.id, hub_config(), metrics, Sampler::off());
    let session = SessionClaim::New(SessionId::from_bytes([7; 16]), SecretHash::of(&[7; 32]));
    let arrived = hub.enter(claim(&props::some_room(), session), nobody()).await.unwrap();
    let (rate, max_age) = (UNLIMITED, Duration::ZERO);
    let limits = SessionLimits { content_bytes: 1024, inflight: 8, rate, max_age };
    let taker = Taker::new();
    taker.full.store(true, Ordering::Relaxed);
    let link = taker.link(arrived.head);
    let (began, second) = (Instant::now(), Duration::from_secs(1));
    let gone = async {
        tokio::time::sleep(second).await;
        Ending::Crowded
    };
    let input = stream::repeat_with(|| Ok(Input::Ping(1)));
    let ended =
        run(&hub, arrived.membership, input, gone, allowed(&limits), &Uncounted, Some(&link)).await;
    assert_eq!((ended, began.elapsed()), (Ending::Crowded, second));
    hub.stop().await;
}

/// Bob says these, one right after another, then nothing for a minute, and half-closes. Answers what he
/// was told and what the room heard.
async fn play(
    says: &[(u64, &str)],
    oddity: Oddity,
    rate: Rate,
    numbered: bool,
) -> (Vec<Answer>, Vec<String>) {
    let memory = memory();
    let (here, there) = (attach(&memory), attach(&memory));
    let odd = Odd::new(here.backplane, oddity);
    let hub = Hub::start(odd, here.signals, here.id, hub_config(), Metrics::new(), Sampler::off());
    let room = props::some_room();
    let new = SessionClaim::New(SessionId::from_bytes([7; 16]), SecretHash::of(&[7; 32]));
    let session = if numbered { new } else { SessionClaim::Plain };
    let arrived = hub.enter(claim(&room, session), nobody()).await.unwrap();
    let limits = SessionLimits { content_bytes: 1024, inflight: 8, rate, max_age: Duration::ZERO };
    let taker = Taker::new();
    let link = numbered.then(|| taker.link(arrived.head));
    let says: Vec<_> = says
        .iter()
        .map(|(seq, content)| {
            let client_seq = numbered.then_some(*seq);
            Ok(Input::Say(Say { client_seq, content: (*content).to_owned(), ..Say::default() }))
        })
        .collect();
    let minute = stream::once(Box::pin(tokio::time::sleep(Duration::from_secs(60))));
    let input = stream::iter(says).chain(minute.filter_map(|()| ready(None)));
    run(&hub, arrived.membership, input, pending(), allowed(&limits), &Uncounted, link.as_ref())
        .await;
    let story = there.story(&room).await;
    hub.stop().await;
    (taker.told(), story)
}

/// The sequence numbers of what was said, with what it says of each.
fn answered(told: &[Answer]) -> Vec<(u64, Option<u64>)> {
    let answers = told.iter().filter_map(|answer| match answer {
        Answer::Ack { client_seq, position, .. } => Some((*client_seq, position.map(|it| it.seq))),
        Answer::Nack { client_seq, .. } => Some((*client_seq, None)),
        Answer::Pong(_) | Answer::Reconnect(..) | Answer::Expiring(_) => None,
    });
    answers.collect()
}

/// What was said, in order.
fn said(story: &[String]) -> String {
    story.iter().filter_map(|line| line.split_once(": ")).map(|(_, content)| content).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_appended_twice_is_answered_with_its_own_position() {
    let says = [(1, "a"), (2, "b"), (3, "c")];
    let (told, story) = play(&says, Oddity::Twice, UNLIMITED, true).await;
    assert_eq!(answered(&told), [(1, Some(2)), (2, Some(3)), (3, Some(4))], "{told:?}");
    assert_eq!(said(&story), "abc", "{story:?}");
}

#[tokio::test(start_paused = true)]
async fn answers_keep_their_order_when_the_lease_was_lost() {
    let says = [(1, "a"), (1, "a"), (2, "b"), (4, "x"), (2, "b")];
    let (told, story) = play(&says, Oddity::StaleOnce, UNLIMITED, true).await;
    let expected = [(1, Some(2)), (1, Some(2)), (2, Some(3)), (4, None), (2, Some(3))];
    assert_eq!(answered(&told), expected, "{told:?}");
    assert_eq!(said(&story), "ab", "{story:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_behind_a_message_without_an_answer_is_out_of_order() {
    let says = [(1, "a"), (2, "b"), (3, "c")];
    let (told, story) = play(&says, Oddity::UnansweredOnce, UNLIMITED, true).await;
    assert_eq!(answered(&told), [(1, None), (2, None), (3, None)], "{told:?}");
    let last = told.iter().rfind(|it| matches!(it, Answer::Nack { .. }));
    let refused = Refused::OutOfOrder { expected: 1 };
    assert_eq!(last, Some(&Answer::Nack { client_seq: 3, refused }));
    // They are in the log all the same, and are not repeated when they are sent again.
    assert_eq!(said(&story), "abc", "{story:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_overtakes_what_was_said_too_fast() {
    let rate = Rate { interval: Duration::from_secs(10), burst: 1 };
    let says = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];
    let (_, story) = play(&says, Oddity::StaleOnce, rate, false).await;
    assert_eq!(said(&story), "abcd", "{story:?}");
}

#[tokio::test(start_paused = true)]
async fn neither_side_is_silent_for_longer_than_agreed() {
    let taker = Taker::new();
    let link = taker.link(Position::new(Epoch(1), 1));
    let mut pace = Pace::new(&link);
    let (interval, began) = (Duration::from_secs(5), Instant::now());
    // An ack just behind a look, then nothing.
    tokio::time::advance(interval).await;
    let next = pace.look(true).unwrap();
    assert_eq!(taker.told(), [Answer::Pong(0)]);
    tokio::time::advance(Duration::from_secs(1)).await;
    taker.answer(&Answer::Pong(7));
    tokio::time::advance(next - Instant::now()).await;
    let next = pace.look(true).unwrap();
    assert_eq!(
        (taker.told().len(), next),
        (2, began + interval + Duration::from_secs(1) + interval)
    );
    tokio::time::advance(next - Instant::now()).await;
    pace.look(true).unwrap();
    assert_eq!(taker.told().len(), 3, "it was silent for longer");
}
