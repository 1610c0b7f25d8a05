//! What backends watch: every event of each room once and in order, through whatever happens.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use roomcast_proto::room::{
    DeleteRoomRequest, Gap, Position, PublishManyRequest, RoomList, RoomPosition,
    WatchEventsRequest, WatchEventsResponse, WatchStart, event::What,
    watch_events_request::Watched, watched_item::Item,
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::{Backend, KEY, backend, keyed, message, reason};
use crate::harness::{Cluster, Layout, Replica, RichClient, SOON, eventually};

on_both_backplanes!(
    what_happens_in_named_rooms_is_told,
    rooms_that_come_into_being_are_told_from_their_beginning,
    a_watch_goes_on_from_positions,
    what_the_log_no_longer_has_is_told_as_a_gap,
    whoever_watches_slowly_delays_nobody_and_misses_nothing,
    a_watch_ends_when_its_replica_does,
    there_are_only_so_many_watchers_and_rooms,
    a_quiet_watch_gives_signs_of_life,
    a_room_that_is_deleted_begins_anew,
);

/// What a watcher has been told, and the stream that tells it more.
struct Watcher {
    stream: Streaming<WatchEventsResponse>,
    told: Told,
}

/// What was told of each room, and checked on its way.
#[derive(Default)]
struct Told {
    /// The last position.
    positions: HashMap<String, Position>,
    /// What was said, joined or left, in order.
    stories: BTreeMap<String, Vec<String>>,
    gaps: Vec<(String, Gap)>,
    heartbeats: usize,
}

fn named(rooms: &[&str]) -> Watched {
    Watched::Rooms(RoomList { rooms: rooms.iter().map(ToString::to_string).collect() })
}

fn all(prefix: &str) -> Watched {
    Watched::Prefix(prefix.to_owned())
}

fn asked(watched: Watched, start: WatchStart) -> WatchEventsRequest {
    WatchEventsRequest { watched: Some(watched), after: vec![], start: start.into() }
}

impl Watcher {
    async fn open(backend: &mut Backend, watched: Watched, start: WatchStart) -> Self {
        let stream = backend.watch_events(asked(watched, start)).await.expect("a watch");
        Self { stream: stream.into_inner(), told: Told::default() }
    }

    /// Goes on with what was told, by way of another stream.
    async fn resume(self, backend: &mut Backend, watched: Watched) -> Self {
        let after = self
            .told
            .positions
            .iter()
            .map(|(room, position)| RoomPosition { room: room.clone(), position: Some(*position) });
        let request =
            WatchEventsRequest { after: after.collect(), ..asked(watched, WatchStart::Beginning) };
        let stream = backend.watch_events(request).await.expect("a watch").into_inner();
        Self { stream, told: self.told }
    }

    /// Takes the next message. Fails with how the stream ended.
    async fn next(&mut self) -> Result<(), Status> {
        let next = timeout(SOON, self.stream.message()).await.expect("something in time");
        let next = next?.ok_or_else(|| Status::cancelled("no status"))?;
        self.told.take(next);
        Ok(())
    }

    /// Takes what comes until that is enough.
    async fn until(&mut self, what: &str, mut enough: impl FnMut(&Told) -> bool) {
        let end = Instant::now() + 2 * SOON;
        while !enough(&self.told) {
            assert!(Instant::now() < end, "{what}: {:?}", self.told.stories);
            self.next().await.unwrap_or_else(|status| panic!("{what}: {status}"));
        }
    }

    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

impl Told {
    fn take(&mut self, response: WatchEventsResponse) {
        let WatchEventsResponse { room, items, after, heartbeat } = response;
        self.heartbeats += usize::from(heartbeat.is_some());
        if let Some(after) = after {
            // A room that goes on goes on from where it was.
            if let Some(known) = self.positions.insert(room.clone(), after)
                && after.seq > 0
            {
                assert_eq!(known, after, "{room} goes on elsewhere");
            }
        }
        for item in items {
            match item.item.expect("an item") {
                Item::Event(event) => {
                    let position = event.position.expect("a position");
                    let before = self.positions.insert(room.clone(), position);
                    let before = before.expect("where the watch begins is told first");
                    assert_eq!(position.seq, before.seq + 1, "{room}: each once and in order");
                    let line = match event.what {
                        Some(What::Said(said)) => said.content,
                        Some(What::Joined(_)) => format!("{} joined", event.username),
                        Some(What::Left(_)) => format!("{} left", event.username),
                        Some(What::Moderated(_)) => format!("{} moderated", event.username),
                        None => "unknown".to_owned(),
                    };
                    self.stories.entry(room.clone()).or_default().push(line);
                }
                Item::Gap(gap) => {
                    let last = gap.to.unwrap_or_default();
                    self.positions.insert(room.clone(), last);
                    self.gaps.push((room.clone(), gap));
                }
            }
        }
    }

    fn story(&self, room: &str) -> &[String] {
        self.stories.get(room).map_or(&[], Vec::as_slice)
    }

    fn knows(&self, room: &str) -> bool {
        self.positions.contains_key(room)
    }
}

async fn start(layout: Layout) -> Cluster {
    layout.plan().with("ROOMCAST_API__KEY", KEY).start().await
}

async fn publish(backend: &mut Backend, room: &str, content: &str) {
    backend.publish(message(room, content)).await.expect("published");
}

/// So many messages at once, which are numbers.
async fn publish_numbers(backend: &mut Backend, room: &str, numbers: std::ops::Range<usize>) {
    let messages = numbers.map(|at| message(room, &at.to_string())).collect();
    backend.publish_many(PublishManyRequest { messages }).await.expect("published");
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|at| at.to_string()).collect()
}

async fn what_happens_in_named_rooms_is_told(layout: Layout) {
    let cluster = start(layout).await;
    let mut publisher = backend(&cluster, 0).await;
    publish(&mut publisher, "den", "before").await;
    let mut watching = backend(&cluster, 1).await;
    let rooms = || named(&["den", "later"]);
    let mut now = Watcher::open(&mut watching, rooms(), WatchStart::Now).await;
    let mut from_beginning = Watcher::open(&mut watching, rooms(), WatchStart::Beginning).await;
    for watcher in [&mut now, &mut from_beginning] {
        watcher.until("both rooms", |told| told.knows("den") && told.knows("later")).await;
    }
    let mut bob = RichClient::open(&cluster.endpoint(2), RichClient::asking("den", "bob")).await;
    bob.welcome().await;
    bob.say_and_wait(1, "hi").await;
    publish(&mut publisher, "den", "from a service").await;
    publish(&mut publisher, "later", "the first").await;
    publish(&mut publisher, "elsewhere", "not watched").await;
    bob.leave().await;
    let story = ["before", "bob joined", "hi", "from a service", "bob left"];
    for (watcher, story) in [(&mut now, &story[1..]), (&mut from_beginning, &story[..])] {
        let enough = |told: &Told| told.story("den").len() == story.len();
        watcher.until("what happens", |told| enough(told) && !told.story("later").is_empty()).await;
        assert_eq!(watcher.told.story("den"), story);
        assert_eq!(watcher.told.story("later"), ["the first"]);
        assert_eq!((watcher.told.stories.len(), watcher.told.gaps.len()), (2, 0));
    }
    cluster.assert_no_errors();
}

async fn rooms_that_come_into_being_are_told_from_their_beginning(layout: Layout) {
    let cluster = start(layout).await;
    let mut publisher = backend(&cluster, 0).await;
    publish(&mut publisher, "w-0", "before").await;
    publish(&mut publisher, "other", "before").await;
    let mut watching = backend(&cluster, 1).await;
    let mut watcher = Watcher::open(&mut watching, all("w-"), WatchStart::Now).await;
    watcher.until("the room that is there", |told| told.knows("w-0")).await;
    let began = Instant::now();
    for room in 1..20 {
        publish_numbers(&mut publisher, &format!("w-{room}"), 0..5).await;
    }
    let expected = numbers(0..5);
    let all_told = |told: &Told| (1..20).all(|at| told.story(&format!("w-{at}")) == expected);
    watcher.until("all of the new ones", all_told).await;
    assert!(began.elapsed() < Duration::from_secs(5), "only after {:?}", began.elapsed());
    publish(&mut publisher, "w-0", "after").await;
    publish(&mut publisher, "w-7", "5").await;
    let more = |told: &Told| told.story("w-0").len() == 1 && told.story("w-7").len() == 6;
    watcher.until("what comes then", more).await;
    assert_eq!(watcher.told.story("w-0"), ["after"], "it is watched from then on");
    assert!(!watcher.told.knows("other") && watcher.told.gaps.is_empty());
}

async fn a_watch_goes_on_from_positions(layout: Layout) {
    let cluster = start(layout).await;
    let mut publisher = backend(&cluster, 0).await;
    publish_numbers(&mut publisher, "w-a", 0..3).await;
    publish_numbers(&mut publisher, "w-quiet", 0..3).await;
    let mut first = backend(&cluster, 1).await;
    let mut watcher = Watcher::open(&mut first, all("w-"), WatchStart::Now).await;
    watcher.until("both rooms", |told| told.positions.len() == 2).await;
    publish_numbers(&mut publisher, "w-a", 3..6).await;
    watcher.until("what is new", |told| told.story("w-a").len() == 3).await;
    // It is away, and much happens.
    publish_numbers(&mut publisher, "w-a", 6..900).await;
    publish_numbers(&mut publisher, "w-quiet", 3..4).await;
    publish_numbers(&mut publisher, "w-new", 0..2).await;
    let mut second = backend(&cluster, 2).await;
    let mut watcher = watcher.resume(&mut second, all("w-")).await;
    publish_numbers(&mut publisher, "w-a", 900..1000).await;
    let enough = |told: &Told| told.story("w-a").len() == 997 && told.story("w-new").len() == 2;
    watcher.until("all of it", |told| enough(told) && !told.story("w-quiet").is_empty()).await;
    assert_eq!(watcher.told.story("w-a"), numbers(3..1000));
    assert_eq!(watcher.told.story("w-quiet"), ["3"], "from when it was first watched");
    assert_eq!(watcher.told.story("w-new"), numbers(0..2));
    assert_eq!(watcher.told.gaps, []);
}

async fn what_the_log_no_longer_has_is_told_as_a_gap(layout: Layout) {
    let plan = layout.plan().with("ROOMCAST_API__KEY", KEY);
    let cluster = plan.with("ROOMCAST_HISTORY__LENGTH", "100").start().await;
    let mut backend = backend(&cluster, 0).await;
    let first = backend.publish(message("den", "0")).await.expect("published").into_inner();
    publish_numbers(&mut backend, "den", 1..1000).await;
    let after = vec![RoomPosition { room: "den".to_owned(), position: first.position }];
    let request = WatchEventsRequest { after, ..asked(named(&["den"]), WatchStart::Now) };
    let stream = backend.watch_events(request).await.expect("a watch").into_inner();
    let mut watcher = Watcher { stream, told: Told::default() };
    watcher.until("the last", |told| told.story("den").last().is_some_and(|it| it == "999")).await;
    let [(_, Gap { from: Some(from), to: Some(to) })] = watcher.told.gaps.as_slice() else {
        panic!("{:?}", watcher.told.gaps)
    };
    assert_eq!(from.seq, 2, "from the first that is missed");
    // Numbers count from 0, positions from 1.
    assert_eq!(watcher.told.story("den")[0], to.seq.to_string(), "to the last that is gone");
}

async fn whoever_watches_slowly_delays_nobody_and_misses_nothing(layout: Layout) {
    const MESSAGES: usize = 6000;
    let plan = layout.plan().with("ROOMCAST_API__KEY", KEY);
    let cluster = plan.with("ROOMCAST_LIMITS__WINDOW_EVENTS", "4096").start().await;
    let mut publisher = backend(&cluster, 0).await;
    let mut fast = cluster.endpoint(1).into_room("den").enter("fast").await;
    let endpoint = cluster.endpoint(1).with_windows(65_535, 65_535);
    let mut watching = super::bearing(&endpoint, KEY).await;
    let mut slow = Watcher::open(&mut watching, all("den"), WatchStart::Now).await;
    slow.until("the room", |told| told.knows("den")).await;
    let before = cluster.replicas[1 % cluster.replicas.len()].resident_bytes();
    let content = "x".repeat(1000);
    for batch in 0..MESSAGES / 500 {
        let numbers = batch * 500..(batch + 1) * 500;
        let messages = numbers.map(|at| message("den", &format!("{at} {content}"))).collect();
        publisher.publish_many(PublishManyRequest { messages }).await.expect("published");
        // It takes nothing, and the other one hears all of it as it happens.
        for at in batch * 500..(batch + 1) * 500 {
            fast.expect_said("System", &format!("{at} {content}")).await;
        }
    }
    let grown = cluster.replicas[1 % cluster.replicas.len()].resident_bytes();
    let grown = grown.saturating_sub(before) / (1 << 20);
    if layout == Layout::Redis {
        assert!(grown < 32, "{grown} MiB for one who watches slowly");
    }
    slow.until("all of it", |told| told.story("den").len() >= MESSAGES).await;
    let said = slow.told.story("den").iter().filter(|it| it.ends_with(&content)).enumerate();
    for (at, line) in said {
        assert!(line.starts_with(&format!("{at} ")), "{at}");
    }
    assert_eq!(slow.told.gaps, [], "the log has all of it");
}

async fn a_watch_ends_when_its_replica_does(layout: Layout) {
    let mut cluster = start(layout).await;
    let mut backend = backend(&cluster, 0).await;
    let mut watcher = Watcher::open(&mut backend, all(""), WatchStart::Now).await;
    watcher.until("all that is there", |told| told.heartbeats > 0).await;
    publish(&mut backend, "den", "hi").await;
    watcher.until("the message", |told| told.story("den").len() == 1).await;
    let began = Instant::now();
    cluster.replicas[0].signal(Signal::SIGTERM);
    let ended = watcher.end().await;
    let told = (ended.code(), reason(&ended));
    assert_eq!(told, (Code::Unavailable, "SHUTTING_DOWN".to_owned()), "{ended}");
    assert!(began.elapsed() < Duration::from_secs(2), "at once");
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
}

async fn there_are_only_so_many_watchers_and_rooms(layout: Layout) {
    let plan = layout.plan().with("ROOMCAST_API__KEY", KEY);
    let plan = plan.with("ROOMCAST_LIMITS__WATCHERS", "2");
    let cluster = plan.with("ROOMCAST_LIMITS__WATCHED_ROOMS", "3").start().await;
    let mut backend = backend(&cluster, 0).await;
    let mut one = Watcher::open(&mut backend, named(&["a", "b"]), WatchStart::Now).await;
    one.until("its rooms", |told| told.positions.len() == 2).await;
    let mut two = Watcher::open(&mut backend, named(&["a"]), WatchStart::Now).await;
    two.until("its room", |told| told.positions.len() == 1).await;
    let refused = backend.watch_events(asked(all(""), WatchStart::Now)).await.expect_err("full");
    let told = (refused.code(), reason(&refused));
    assert_eq!(told, (Code::ResourceExhausted, "TOO_MANY_STREAMS".to_owned()), "{refused}");
    drop(two);
    let ended = eventually(SOON, "its place is free", async || {
        let stream = backend.watch_events(asked(named(&["c", "d"]), WatchStart::Now)).await.ok()?;
        let mut two = Watcher { stream: stream.into_inner(), told: Told::default() };
        Some(two.end().await)
    });
    let ended = ended.await;
    let told = (ended.code(), reason(&ended));
    assert_eq!(told, (Code::ResourceExhausted, "TOO_MANY_ROOMS".to_owned()), "{ended}");
    publish(&mut backend, "a", "hi").await;
    one.until("what happens", |told| told.story("a") == ["hi"]).await;
    drop(one);
    eventually(SOON, "their places are free", async || {
        let rooms = named(&["c", "d", "e"]);
        let stream = backend.watch_events(asked(rooms, WatchStart::Now)).await.ok()?;
        let mut watcher = Watcher { stream: stream.into_inner(), told: Told::default() };
        while watcher.told.positions.len() < 3 {
            watcher.next().await.ok()?;
        }
        Some(())
    })
    .await;
}

async fn a_quiet_watch_gives_signs_of_life(layout: Layout) {
    let plan = layout.plan().with("ROOMCAST_API__KEY", KEY);
    let cluster = plan.with("ROOMCAST_SERVER__PING_INTERVAL", "100ms").start().await;
    let mut backend = backend(&cluster, 0).await;
    let mut watcher = Watcher::open(&mut backend, named(&["den"]), WatchStart::Now).await;
    watcher.until("signs of life", |told| told.heartbeats >= 3).await;
    publish(&mut backend, "den", "hi").await;
    watcher.until("the message", |told| told.story("den") == ["hi"]).await;
}

async fn a_room_that_is_deleted_begins_anew(layout: Layout) {
    let cluster = start(layout).await;
    let mut backend = backend(&cluster, 0).await;
    publish_numbers(&mut backend, "den", 0..3).await;
    let mut watcher = Watcher::open(&mut backend, all("d"), WatchStart::Beginning).await;
    watcher.until("the first room", |told| told.story("den").len() == 3).await;
    let before = watcher.told.positions["den"];
    let delete = DeleteRoomRequest { room: "den".to_owned() };
    backend.delete_room(delete).await.expect("nobody is in");
    publish_numbers(&mut backend, "den", 7..9).await;
    watcher.until("the second one", |told| told.story("den").len() == 5).await;
    assert_eq!(watcher.told.story("den"), ["0", "1", "2", "7", "8"]);
    let after = watcher.told.positions["den"];
    assert_eq!((after.seq, after.epoch == before.epoch), (2, false));
}

/// Publishes through a replica without a pause, once each, whatever happens to Redis meanwhile.
async fn speak(mut backend: Backend, rooms: usize, messages: usize) {
    for at in 0..messages {
        let room = format!("w-{}", at % rooms);
        let content = (at / rooms).to_string();
        eventually(3 * SOON, "it is published", async || {
            backend.publish(keyed(&room, &content, &content)).await.ok()
        })
        .await;
    }
}

/// While somebody speaks in several rooms, the replica that is watched is killed, again and again, and Redis in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_survives_its_replicas_and_redis() {
    const ROOMS: usize = 5;
    const MESSAGES: usize = 2000;
    let mut cluster = Cluster::durable_redis(4).with("ROOMCAST_API__KEY", KEY).start().await;
    let speaking = speak(backend(&cluster, 3).await, ROOMS, MESSAGES);
    let mut watching = backend(&cluster, 0).await;
    let mut watcher = Watcher::open(&mut watching, all("w-"), WatchStart::Beginning).await;
    let count = |told: &Told| told.stories.values().map(Vec::len).sum::<usize>();
    let watching = async {
        for round in 0..2 {
            let goal = count(&watcher.told) + 200;
            watcher.until("some of it", |told| count(told) >= goal).await;
            cluster.replicas[round].kill();
            let lost = watcher.end().await;
            assert_ne!(lost.code(), Code::Ok, "{lost}");
            let mut next = backend(&cluster, round + 1).await;
            watcher = watcher.resume(&mut next, all("w-")).await;
            let goal = count(&watcher.told) + 100;
            watcher.until("some more of it", |told| count(told) >= goal).await;
            cluster.shared().kill();
            cluster.shared().restart().await;
        }
        watcher.until("all of it", |told| count(told) == MESSAGES).await;
        watcher
    };
    let ((), watcher) = tokio::join!(speaking, watching);
    for room in 0..ROOMS {
        let story = watcher.told.story(&format!("w-{room}"));
        assert_eq!(story, numbers(0..MESSAGES / ROOMS), "w-{room}: each once, in order");
    }
    assert_eq!(watcher.told.gaps, []);
    cluster.replicas[2..].iter().for_each(Replica::assert_no_errors);
}
