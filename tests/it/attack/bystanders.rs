//! Those who are there when somebody attacks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures_util::stream;
use roomcast_proto::room::{
    ConnectRequest, Join, connect_request::Frame, room_service_client::RoomServiceClient,
};
use tokio::{
    runtime::Builder,
    sync::oneshot,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::harness::{ChatClient, Endpoint, Payload, SOON};

/// Where they speak, and how often.
const ROOM: &str = "bystanders";
const PACE: Duration = Duration::from_millis(10);
/// How often somebody new comes, and how long that may take.
const COMES: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(5);

/// Two in a room of their own, of whom one speaks steadily and one listens, and others who come one
/// after another. They live on a thread of their own.
pub(super) struct Bystanders {
    thread: JoinHandle<Report>,
    stop: CancellationToken,
    newcomers: Arc<Newcomers>,
}

/// How many came, and how many were not let in.
#[derive(Debug, Default)]
struct Newcomers {
    came: AtomicUsize,
    turned_away: AtomicUsize,
}

/// What became of them.
pub(super) struct Report {
    /// When each message was said, and when it was heard.
    messages: Vec<(Instant, Option<Instant>)>,
    /// How a stream ended, or what was never heard.
    pub(super) cut: Option<String>,
}

impl Bystanders {
    /// They are in, and speak.
    pub(super) async fn enter(endpoint: Endpoint) -> Self {
        let stop = CancellationToken::new();
        let newcomers = Arc::<Newcomers>::default();
        let (ready, is_ready) = oneshot::channel();
        let life = live(endpoint, stop.clone(), newcomers.clone(), ready);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let thread = thread::spawn(move || runtime.block_on(life));
        is_ready.await.expect("they come in");
        Self { thread, stop, newcomers }
    }

    /// How many came until now, and how many of them were not let in.
    pub(super) fn newcomers(&self) -> (usize, usize) {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (read(&self.newcomers.came), read(&self.newcomers.turned_away))
    }

    /// They stop, once all was heard that they said.
    pub(super) async fn leave(self) -> Report {
        self.stop.cancel();
        tokio::task::spawn_blocking(move || self.thread.join().expect("they came to no harm"))
            .await
            .expect("joined")
    }
}

impl Report {
    /// 99 of 100 messages that were said in this time took no longer. What was never heard took until
    /// the end.
    pub(super) fn p99(&self, from: Instant, until: Instant) -> Duration {
        let now = Instant::now();
        let said = self.messages.iter().filter(|(said, _)| (from..until).contains(said));
        let mut delays: Vec<_> = said
            .map(|(said, heard)| heard.unwrap_or(now).saturating_duration_since(*said))
            .collect();
        delays.sort_unstable();
        delays.get((delays.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }
}

async fn live(
    endpoint: Endpoint,
    stop: CancellationToken,
    newcomers: Arc<Newcomers>,
    ready: oneshot::Sender<()>,
) -> Report {
    let their_room = endpoint.clone().into_room(ROOM);
    let alice = their_room.enter("alice").await;
    let bob = their_room.enter_in_sight_of("bob", &alice).await;
    let heard = |client: &ChatClient, count: usize| {
        let speaker = client.record().state().counts.get("bob").copied();
        speaker.unwrap_or_default() >= count
    };
    let _ = ready.send(());
    let mut said = vec![];
    let mut pace = interval(PACE);
    let talking = async {
        while stop.run_until_cancelled(pace.tick()).await.is_some() {
            let now = Instant::now();
            let message = Payload::message("", &said.len().to_string(), "");
            tokio::select! {
                taken = bob.offer(message) => if !taken { break },
                () = alice.record().ended() => break,
            }
            said.push(now);
        }
        let all = alice.record().wait(2 * SOON, |state| state.ended.is_some().then_some(()));
        tokio::select! {
            _ = all => {}
            () = async { while !heard(&alice, said.len()) { tokio::time::sleep(PACE).await } } => {}
            () = tokio::time::sleep(2 * SOON) => {}
        }
    };
    tokio::select! {
        () = talking => {}
        () = come_and_go(&endpoint, &newcomers) => {}
    }
    let ended = [&alice, &bob].into_iter().find_map(|client| {
        let ended = client.record().state().ended.clone();
        ended.map(|ended| format!("{}: {:?} {}", client.name(), ended.code, ended.message))
    });
    let state = alice.record().state();
    let heard: Vec<_> = state.heard.iter().filter(|it| it.username == "bob").collect();
    let in_order = heard.iter().enumerate().all(|(place, it)| it.content == place.to_string());
    let complete = in_order && heard.len() == said.len();
    let lost = (!complete).then(|| format!("{} of {} heard", heard.len(), said.len()));
    let messages = said.iter().enumerate();
    let messages = messages.map(|(place, at)| (*at, heard.get(place).map(|it| it.at))).collect();
    Report { messages, cut: ended.or(lost) }
}

/// Newcomers, one after another, each on a connection of its own.
async fn come_and_go(endpoint: &Endpoint, newcomers: &Newcomers) {
    let mut pace = interval(COMES);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u64.. {
        pace.tick().await;
        let welcomed = timeout(PATIENCE, is_welcome(endpoint, number)).await == Ok(Some(()));
        newcomers.came.fetch_add(1, Ordering::Relaxed);
        newcomers.turned_away.fetch_add(usize::from(!welcomed), Ordering::Relaxed);
    }
}

async fn is_welcome(endpoint: &Endpoint, number: u64) -> Option<()> {
    let mut service = RoomServiceClient::new(endpoint.try_channel().await.ok()?);
    let (room, username) = ("newcomers".to_owned(), format!("newcomer {number}"));
    let join = Frame::Join(Join { room, username, ..Join::default() });
    // The stream stays open until the answer is there.
    let frames = stream::unfold(Some(join), async |next| match next {
        Some(frame) => Some((ConnectRequest { frame: Some(frame) }, None)),
        None => std::future::pending().await,
    });
    let mut answers = service.connect(frames).await.ok()?.into_inner();
    answers.message().await.ok()??.frame.map(drop)
}
