//! Whoever watches, on memory. The clock stands still while anything can be done.

use std::{collections::HashMap, future::poll_fn, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::{
    backplane::{
        LogBounds, Signal,
        conformance::{Replica, props, publishing::message},
        memory::{Memory, MemoryConfig},
    },
    domain::ReplicaId,
    hub::{
        HubConfig,
        testing::{Given, LEASE, Plain, config, enter, start},
    },
    metrics::Metrics,
    trace::Sampler,
};

/// For how long logs are kept.
const AGE: Duration = Duration::from_secs(3600);

/// A hub that hears nothing, and another replica.
fn deaf() -> (Arc<Hub>, mpsc::Sender<Signal>, Replica) {
    let memory = Memory::new(MemoryConfig {
        lease: LEASE,
        log: LogBounds { length: 1_000, bytes: usize::MAX, age: AGE },
        bytes: usize::MAX,
        members_per_room: 10,
        signal_queue: 1_000,
    });
    let (silent, nothing) = mpsc::channel(1);
    let id = ReplicaId::from_bytes([1; 16]);
    let (backplane, _) = memory.attach(id);
    let hub = Hub::start(backplane, nothing, id, config(), Metrics::new(), Sampler::off());
    let id = ReplicaId::from_bytes([2; 16]);
    let (backplane, signals) = memory.attach(id);
    (hub, silent, Replica { id, backplane, signals })
}

fn watch(hub: &Arc<Hub>, rooms: WatchedRooms, from_beginning: bool) -> Watcher {
    let request = WatchRequest { rooms, after: HashMap::new(), from_beginning };
    hub.watch_rooms(request).expect("there may be another one")
}

async fn next(watcher: &mut Watcher) -> Watched {
    let next = poll_fn(|cx| watcher.poll_next(&Plain, cx));
    let next = timeout(20 * LEASE, next).await.expect("something comes");
    next.expect("it goes on")
}

/// The next events.
async fn next_events(watcher: &mut Watcher) -> (RoomName, Vec<Given>) {
    loop {
        if let Watched::Events(room, bytes, count) = next(watcher).await {
            let given = Plain::read(&bytes);
            assert_eq!(given.len(), count);
            return (room, given);
        }
    }
}

async fn publish(replica: &Replica, room: &RoomName, content: &str) {
    replica.backplane.publish(message(room, content)).await.expect("memory answers");
}

#[tokio::test(start_paused = true)]
async fn what_no_signal_tells_of_is_found_in_a_watched_room() {
    let (hub, _silent, other) = deaf();
    let room = props::some_room();
    let mut watcher = watch(&hub, WatchedRooms::Named(vec![room.clone()]), false);
    while next(&mut watcher).await != Watched::Ready {}
    publish(&other, &room, "hi").await;
    let began = Instant::now();
    let (_, given) = next_events(&mut watcher).await;
    let [Given::Event(_, content)] = given.as_slice() else { panic!("{given:?}") };
    assert_eq!(content, "hi");
    assert!(began.elapsed() < 5 * LEASE, "it was looked for: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_watched_room_is_forgotten_in_its_time() {
    let (hub, _silent, other) = deaf();
    let (room, busy) = (props::some_room(), props::some_room());
    // So that this replica looks after its partition.
    let _bob = enter(&hub, &busy, "bob", Duration::ZERO).await;
    publish(&other, &room, "hi").await;
    let mut watcher = watch(&hub, WatchedRooms::Prefix(room.to_string()), true);
    next_events(&mut watcher).await;
    assert!(other.read(&room, 0, 1).await.head.is_some());
    let forgotten = async {
        while other.read(&room, 0, 1).await.head.is_some() {
            sleep(LEASE).await;
        }
    };
    let watching = async { while timeout(LEASE, next(&mut watcher)).await.is_err() {} };
    tokio::select! {
        () = watching => panic!("nothing more happens"),
        forgotten = timeout(2 * AGE, forgotten) => forgotten.expect("watching keeps nothing"),
    }
    // Nor does it cost the watcher anything then.
    assert!(timeout(10 * LEASE, next(&mut watcher)).await.is_err(), "nothing comes");
    assert!(watcher.watching.is_empty() && watcher.known.is_empty());
    assert_eq!(hub.metrics.watched_rooms.get(), 0);
    publish(&other, &room, "anew").await;
    assert_eq!(next(&mut watcher).await, Watched::Began(room.clone(), BEGINNING));
    assert_eq!(next_events(&mut watcher).await.0, room);
}

#[tokio::test(start_paused = true)]
async fn few_pages_are_held_however_many_rooms_are_behind() {
    const ROOMS: usize = 60;
    const EVENTS: usize = 600;
    let (hub, _, other) = start(config(), 100_000);
    for room in 0..ROOMS {
        let room = RoomName::parse(&format!("r{room}")).expect("a name");
        for at in 0..EVENTS {
            publish(&other, &room, &at.to_string()).await;
        }
    }
    let mut watcher = watch(&hub, WatchedRooms::Prefix("r".to_owned()), true);
    let mut told: HashMap<RoomName, usize> = HashMap::new();
    while told.len() < ROOMS || told.values().any(|count| *count < EVENTS) {
        let (room, given) = next_events(&mut watcher).await;
        let held = watcher.reading.len() + watcher.served.len();
        assert!(held <= READING, "pages of {held} rooms");
        let told = told.entry(room).or_default();
        for given in given {
            let Given::Event(_, content) = given else { panic!("nothing is gone: {given:?}") };
            assert_eq!(content, told.to_string(), "each once and in order");
            *told += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_behind_does_not_wait_for_busy_ones() {
    const EVENTS: usize = 900;
    let (hub, _, other) = start(config(), 100_000);
    let [behind, busy] = ["behind", "busy"].map(|room| RoomName::parse(room).expect("a name"));
    publish(&other, &busy, "hi").await;
    for at in 0..EVENTS {
        publish(&other, &behind, &at.to_string()).await;
    }
    let rooms = WatchedRooms::Named(vec![busy.clone(), behind.clone()]);
    let mut watcher = watch(&hub, rooms, true);
    // Somebody speaks whenever something was taken.
    let mut told = 0;
    for _ in 0..200 {
        for _ in 0..10 {
            publish(&other, &busy, "hi").await;
            yield_now().await;
        }
        if let Watched::Events(room, _, count) = next(&mut watcher).await
            && room == behind
        {
            told += count;
        }
    }
    assert_eq!(told, EVENTS, "it has its turn");
}

#[tokio::test(start_paused = true)]
async fn what_is_watched_is_bounded_and_given_back() {
    let (hub, _, other) = start(HubConfig { watchers: 1, watched_rooms: 1, ..config() }, 100);
    let rooms = [props::some_room(), props::some_room()];
    let mut watcher = watch(&hub, WatchedRooms::Named(rooms[..1].to_vec()), false);
    assert!(matches!(next(&mut watcher).await, Watched::Began(..)));
    let request = WatchRequest {
        rooms: WatchedRooms::Named(rooms.to_vec()),
        after: HashMap::new(),
        from_beginning: false,
    };
    let full = hub.watch_rooms(request.clone()).err();
    assert_eq!(full, Some(WatchError::TooManyWatchers { max: 1 }));
    drop(watcher);
    let mut watcher = hub.watch_rooms(request).expect("its place is free");
    let full = loop {
        match poll_fn(|cx| watcher.poll_next(&Plain, cx)).await {
            Ok(Watched::Began(..)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(full, WatchError::TooManyRooms { max: 1 });
    drop((watcher, other));
    assert_eq!(hub.metrics.rooms.get(), 0, "no room stays open");
}
