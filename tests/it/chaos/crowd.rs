//! Everybody who talks.

use std::{collections::BTreeMap, time::Duration};

use roomcast_proto::room::{ListEventsRequest, ListMembersRequest, list_events_request::Range};
use tokio::task::JoinSet;

use super::{
    diary::{Clock, Diary},
    guests::Guests,
    library,
    part::{Cues, Part, Speech},
    raw,
    record::{Entry, Event, Record},
};
use crate::harness::{Dialect, Endpoint, FaultProxy, Proxy, RichClient, SOON, eventually};

/// How many rooms there are, and how many clients in each.
/// In a cluster of three, each node has two of them.
pub(super) const ROOMS: [&str; 6] = ["lobby", "kitchen", "balcony", "loft", "terrace", "porch"];
pub(super) const PER_ROOM: usize = 5;
/// How many of them are not helped by the library: they note each stream that they had.
pub(super) const UNHELPED_PER_ROOM: usize = PER_ROOM.div_ceil(3);
/// How often each says something: 200 messages a second in all.
const PACE: Duration = Duration::from_millis(150);

/// The clients, each with a way to the proxy that can be cut.
pub(super) struct Crowd {
    talks: JoinSet<()>,
    guests: Guests,
    cues: Cues,
    pub(super) ways: Vec<FaultProxy>,
    diaries: Vec<Diary>,
    endpoint: Endpoint,
}

impl Crowd {
    /// Comes in by way of the proxy, and talks.
    pub(super) async fn gather(proxy: &Proxy, clock: Clock) -> Self {
        let cues = Cues::new();
        let mut crowd = Self {
            talks: JoinSet::new(),
            cues,
            ways: vec![],
            diaries: vec![],
            guests: Guests::default(),
            endpoint: proxy.endpoint(Dialect::Typed),
        };
        for number in 0..PER_ROOM {
            for room in ROOMS {
                let endpoint = crowd.way_to(proxy).await;
                let diary = Diary::new(room, &format!("{room} {number}"), clock);
                let (cues, speech) = (crowd.cues.clone(), Speech::new(PACE, &crowd.cues));
                let part = Part { endpoint, diary: diary.clone(), cues, speech };
                if number < UNHELPED_PER_ROOM {
                    crowd.talks.spawn(raw::talk(part));
                } else {
                    crowd.talks.spawn(library::talk(part));
                }
                crowd.diaries.push(diary);
            }
        }
        crowd.until_all_are_heard(SOON).await;
        crowd
    }

    /// Fails if somebody's talk has ended.
    fn assert_going_on(&mut self) {
        if let Some(ended) = self.talks.try_join_next() {
            panic!("a client gave up: {ended:?}");
        }
    }

    /// Waits until nobody else is there: those who said that no more comes have lingered.
    async fn until_others_are_gone(&self, within: Duration) {
        let mut calls = RichClient::calls(&self.endpoint).await;
        for room in ROOMS {
            let what = format!("only the crowd is in the {room}");
            eventually(within, &what, async || {
                let request = ListMembersRequest { room: room.to_owned(), ..Default::default() };
                let members = calls.list_members(request).await.ok()?.into_inner().members;
                let there = members.iter().filter(|member| !member.lingering).count();
                (there == PER_ROOM && members.len() == PER_ROOM).then_some(())
            })
            .await;
        }
    }

    fn misses(&self, farewell: bool) -> Vec<String> {
        let mut misses = vec![];
        for diary in &self.diaries {
            let room = self.diaries.iter().filter(|it| it.room == diary.room);
            let names: Vec<&str> = room.map(|it| &*it.name).collect();
            for missed in diary.misses(&names, farewell) {
                misses.push(format!("{} from {missed}", diary.name));
            }
        }
        misses
    }

    async fn until_nobody_misses(&mut self, within: Duration, farewell: bool) {
        let deadline = tokio::time::Instant::now() + within;
        eventually(within + SOON, "everybody hears everybody", async || {
            self.assert_going_on();
            let misses = self.misses(farewell);
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "after {within:?} these did not hear, farewell {farewell}: {misses:?}");
            misses.is_empty().then_some(())
        })
        .await;
    }

    /// Waits until everybody has heard everybody, themselves as well, once more.
    pub(super) async fn until_all_are_heard(&mut self, within: Duration) {
        self.diaries.iter().for_each(Diary::prick_up);
        self.until_nobody_misses(within, false).await;
    }

    /// Whether everybody has a stream.
    pub(super) fn all_are_there(&mut self) -> bool {
        self.assert_going_on();
        self.diaries.iter().all(Diary::is_there)
    }

    /// From now on guests come and go in each room.
    pub(super) async fn invite(&mut self, proxy: &Proxy, clock: Clock) {
        for room in ROOMS {
            let endpoint = self.way_to(proxy).await;
            self.guests.invite(endpoint, room, clock);
        }
    }

    /// And others want the names of those who are there, or come for one message.
    pub(super) async fn invite_strangers(&mut self, proxy: &Proxy, clock: Clock) {
        for room in ROOMS {
            let endpoint = self.way_to(proxy).await;
            self.guests.invite_strangers(&endpoint, room, clock);
        }
    }

    /// A endpoint to the proxy by a way that can be cut with the others.
    async fn way_to(&mut self, proxy: &Proxy) -> Endpoint {
        let way = FaultProxy::to(proxy.addr()).await;
        let endpoint = proxy.endpoint(Dialect::Typed).by_way_of(way.addr());
        self.ways.push(way);
        endpoint
    }

    /// Waits until everybody has heard the last word of everybody, and has them stop.
    pub(super) async fn part(&mut self, within: Duration) {
        self.guests.go(within).await;
        self.until_others_are_gone(within).await;
        self.cues.farewell.cancel();
        self.until_nobody_misses(within, true).await;
        self.cues.stop.cancel();
        while self.talks.join_next().await.is_some() {}
    }

    /// How those were answered who asked for a name that was held.
    pub(super) fn knocks(&self) -> BTreeMap<String, usize> {
        self.guests.knocks()
    }

    /// What they have written.
    pub(super) fn records(&self) -> Vec<Record> {
        let guests = self.guests.diaries();
        self.diaries.iter().chain(&guests).map(Diary::record).collect()
    }
}

/// What the rooms' logs have, as the service lists it.
pub(super) async fn logs(endpoint: &Endpoint, clock: Clock) -> BTreeMap<String, Vec<Event>> {
    let mut calls = RichClient::calls(endpoint).await;
    let mut logs = BTreeMap::new();
    for room in ROOMS {
        let mut log: Vec<Event> = vec![];
        let mut range = None;
        loop {
            let request = ListEventsRequest { room: room.to_owned(), page_size: 0, range };
            let page = calls.list_events(request).await.expect("a page").into_inner();
            let Some(first) = page.events.first() else { break };
            range = first.position.map(Range::Before);
            let events = page.events.into_iter().map(|it| clock.event(it).expect("an event"));
            log.splice(0..0, events);
        }
        assert!(!log.is_empty(), "{room} has a log");
        logs.insert(room.to_owned(), log);
    }
    logs
}

/// What a test prints of its clients.
pub(super) fn figures(records: &[Record]) -> String {
    let count = |of: fn(&Entry) -> bool| {
        records.iter().flat_map(|it| &it.entries).filter(|(_, entry)| of(entry)).count()
    };
    let mut away: Vec<Duration> = vec![];
    for record in records {
        for pair in record.lives().windows(2) {
            let end = pair[0].1.expect("one that another one follows has ended");
            away.push(pair[1].0.saturating_sub(end));
        }
    }
    away.sort_unstable();
    let part = |part: usize| away.get(away.len().saturating_sub(1) * part / 100).copied();
    format!(
        "{} events told, {} messages acknowledged, {} gaps, {} sessions resumed and {} lost; \
         clients were away for {:?} (median), {:?} (99 %), {:?} (longest)",
        count(|it| matches!(it, Entry::Event(_))),
        count(|it| matches!(it, Entry::Acked { .. })),
        count(|it| matches!(it, Entry::Gap(_))),
        count(|it| matches!(it, Entry::Resumed { .. })),
        count(|it| matches!(it, Entry::Again { .. })),
        part(50).unwrap_or_default(),
        part(99).unwrap_or_default(),
        part(100).unwrap_or_default(),
    )
}
