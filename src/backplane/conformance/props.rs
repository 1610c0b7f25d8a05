//! What the rules are told with: rooms, holds, and the acts of a replica in one line each.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::Replica;
use crate::{
    backplane::{
        AppendError, Appended, Checked, Eviction, Hold, Join, JoinError, Joined, Live, Moved,
        Overdue, PageLimit, ReapStep, Renewal, RoomHead, Seated, Shard, Signal, Takeover, Verdict,
    },
    domain::{
        Contact, Event, EventKind, FencingToken, Head, Identity, LeftCause, Member, Page, Position,
        ReplicaId, RoomName, RoomRole, SessionId, StreamId, Username, UsernameLimits,
    },
};

/// How long anything that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Contact that allows everything.
pub(crate) const EVER: Contact =
    Contact { since: Duration::ZERO, until: Duration::from_secs(1 << 40) };

/// A room that no other test uses.
pub(crate) fn some_room() -> RoomName {
    RoomName::parse(&format!("room-{:016x}", rand::random::<u64>())).expect("a good room name")
}

/// A token that no hold has.
pub(crate) fn some_token() -> FencingToken {
    FencingToken::from_bytes(rand::random())
}

/// A hold of a new membership under `name`, of no replica.
pub(crate) fn some_hold(room: &RoomName, name: &str) -> Hold {
    let name = Username::parse(name, UsernameLimits { max_chars: 64 }).expect("a good name");
    Hold {
        room: room.clone(),
        session: SessionId::from_bytes(rand::random()),
        since: jiff::Timestamp::UNIX_EPOCH,
        secret: None,
        linger: Duration::ZERO,
        attempt: 0,
        token: some_token(),
        replica: ReplicaId::from_bytes([0; 16]),
        identity: Some(Identity::Name(name.skeleton().into())),
        role: RoomRole::Member,
        name,
        confirmed: None,
    }
}

/// The same hold under a fresh token, of the same stream, last confirmed there.
pub(crate) fn again(hold: &Hold, confirmed: Position) -> Hold {
    let token = hold.token.again(rand::random());
    Hold { token, confirmed: Some(confirmed), ..hold.clone() }
}

/// An event of the member who has this hold.
pub(crate) fn event(hold: &Hold, what: EventKind) -> Arc<Event> {
    let member = Member { name: hold.name.display().clone(), session: hold.session };
    Arc::new(Event { at: jiff::Timestamp::now(), member, what, trace: None })
}

/// That the member said `content`.
pub(crate) fn said(hold: &Hold, content: &str) -> Arc<Event> {
    event(hold, EventKind::Said { content: Arc::from(content) })
}

/// The evictions of these members.
pub(crate) fn evictions(overdue: &[Overdue]) -> Vec<Eviction> {
    let eviction = |overdue: &Overdue| {
        let member = overdue.member.clone();
        let at = jiff::Timestamp::now();
        let what = EventKind::Left { cause: overdue.cause() };
        let event = Arc::new(Event { at, member, what, trace: None });
        Eviction { overdue: overdue.clone(), event }
    };
    overdue.iter().map(eviction).collect()
}

/// The names of these members, as spelled.
pub(crate) fn names(overdue: &[Overdue]) -> Vec<&str> {
    overdue.iter().map(|overdue| overdue.member.name.as_str()).collect()
}

/// An event in a line: `2 bob: hi`, `1 bob joined`.
pub(crate) fn line(seq: u64, event: &Event) -> String {
    let name = &event.member.name;
    match &event.what {
        EventKind::Said { content } => format!("{seq} {name}: {content}"),
        EventKind::Joined => format!("{seq} {name} joined"),
        EventKind::Left { .. } => format!("{seq} {name} left"),
        EventKind::Moderated(_) => format!("{seq} {name} moderated"),
        EventKind::Unknown => format!("{seq} unknown"),
    }
}

/// What a replica heard of one room.
#[derive(Default, Debug)]
pub(crate) struct Heard {
    /// Sequence numbers and events, as they came.
    pub(crate) events: Vec<(u64, Arc<Event>)>,
    /// Whether an interruption was announced.
    pub(crate) resumed: bool,
    /// Sessions that have another stream.
    pub(crate) moved: Vec<Moved>,
}

impl Heard {
    fn add(&mut self, live: Live) {
        assert!(!live.events.is_empty(), "a live signal has at least one event");
        self.events.extend((live.first..).zip(live.events));
    }

    fn last(&self) -> u64 {
        self.events.last().map_or(0, |(seq, _)| *seq)
    }

    /// The events in lines.
    pub(crate) fn story(&self) -> Vec<String> {
        self.events.iter().map(|(seq, event)| line(*seq, event)).collect()
    }
}

impl Replica {
    /// A hold that this replica could ask for: a new membership under `name`.
    pub(crate) fn hold(&self, room: &RoomName, name: &str) -> Hold {
        Hold { replica: self.id, ..some_hold(room, name) }
    }

    /// Asks for a name, evicting this member.
    pub(crate) async fn claim(
        &self,
        hold: &Hold,
        evict: Option<&Eviction>,
    ) -> Result<Joined, JoinError> {
        self.claim_after(hold, Some(EVER), evict).await
    }

    /// Asks for a name after this contact with the backplane.
    pub(crate) async fn claim_after(
        &self,
        hold: &Hold,
        contact: Option<Contact>,
        evict: Option<&Eviction>,
    ) -> Result<Joined, JoinError> {
        let event = event(hold, EventKind::Joined);
        let join = Join { contact, evict, ..Join::new(hold, event) };
        self.backplane.join(join).await
    }

    /// Asks for a name and gets it.
    pub(crate) async fn take(&self, hold: &Hold) -> Joined {
        self.claim(hold, None).await.unwrap_or_else(|error| {
            panic!("{} is free in {}, yet: {error}", hold.name, hold.room);
        })
    }

    /// A new membership under `name`.
    pub(crate) async fn join(&self, room: &RoomName, name: &str) -> Hold {
        let hold = self.hold(room, name);
        self.take(&hold).await;
        hold
    }

    /// Takes a session over for a new stream here, as one that has looked it up.
    pub(crate) async fn take_over(&self, from: &Hold) -> (Hold, Joined) {
        let seated = self.lookup(from).await.expect("the session is there");
        let hold = Hold { attempt: seated.attempt + 1, ..self.stream_of(from) };
        let joined = self.try_take_over(&hold, seated.stream).await;
        (hold, joined.expect("the session is there, as it was when it was looked up"))
    }

    /// A hold by which a new stream here could carry a session on.
    pub(crate) fn stream_of(&self, session: &Hold) -> Hold {
        Hold { token: some_token(), replica: self.id, confirmed: None, ..session.clone() }
    }

    /// Takes a session over from this stream, whatever comes of it.
    pub(crate) async fn try_take_over(
        &self,
        hold: &Hold,
        from: StreamId,
    ) -> Result<Joined, JoinError> {
        let (takeover, event) = (Some(Takeover { from }), event(hold, EventKind::Joined));
        let join = Join { takeover, contact: Some(EVER), ..Join::new(hold, event) };
        self.backplane.join(join).await
    }

    /// Who has the name.
    pub(crate) async fn lookup(&self, hold: &Hold) -> Option<Seated> {
        self.backplane.lookup(&hold.room, &hold.name).await.expect("the backplane answers")
    }

    /// Lets the name linger, if it is held.
    pub(crate) async fn linger(&self, hold: &Hold, time: Duration) -> bool {
        self.backplane.linger(hold, time).await.expect("the backplane answers")
    }

    /// Asserts that somebody else holds the name.
    pub(crate) async fn is_refused(&self, hold: &Hold, rule: &str) {
        let outcome = self.claim(hold, None).await;
        assert!(matches!(outcome, Err(JoinError::Taken)), "{rule}, yet: {outcome:?}");
    }

    /// Says `content`, whatever comes of it.
    pub(crate) async fn try_say(
        &self,
        hold: &Hold,
        client_seq: u64,
        content: &str,
    ) -> Result<Appended, AppendError> {
        self.backplane.append(hold, client_seq, said(hold, content)).await
    }

    /// Says `content` as a holder.
    pub(crate) async fn say(&self, hold: &Hold, client_seq: u64, content: &str) -> Appended {
        self.try_say(hold, client_seq, content).await.expect("a holder speaks")
    }

    /// Gives a name back.
    pub(crate) async fn leave(&self, hold: &Hold) -> Option<Position> {
        let left = event(hold, EventKind::Left { cause: LeftCause::Asked });
        self.backplane.leave(hold, left).await.expect("the backplane answers")
    }

    /// Renews its lease in a room's partition.
    pub(crate) async fn renew(&self, room: &RoomName) -> Renewal {
        let partition = self.backplane.partition(room);
        self.backplane.renew(partition).await.expect("the backplane answers")
    }

    /// Judges holds of one room.
    pub(crate) async fn check(&self, room: &RoomName, holds: &[Hold]) -> Checked {
        self.backplane.check(room, holds).await.expect("the backplane answers")
    }

    /// Judges one hold.
    pub(crate) async fn check_one(&self, hold: &Hold) -> Verdict {
        let verdicts = self.check(&hold.room, std::slice::from_ref(hold)).await.verdicts;
        assert_eq!(verdicts.len(), 1, "one verdict for each hold");
        verdicts[0]
    }

    /// Renews its lease, and judges one hold.
    pub(crate) async fn renew_one(&self, hold: &Hold) -> Verdict {
        self.renew(&hold.room).await;
        self.check_one(hold).await
    }

    /// Where rooms of one partition stand.
    pub(crate) async fn heads(&self, rooms: &[RoomName]) -> Vec<Option<RoomHead>> {
        let partition = self.backplane.partition(&rooms[0]);
        self.backplane.heads(partition, rooms).await.expect("the backplane answers")
    }

    /// Who is overdue in a room, by name. Replicas whose leases have ended are dead then.
    pub(crate) async fn overdue(&self, room: &RoomName) -> Vec<Overdue> {
        self.overdue_after(room, EVER).await
    }

    /// The same after this contact with the backplane.
    pub(crate) async fn overdue_after(&self, room: &RoomName, contact: Contact) -> Vec<Overdue> {
        let partition = self.backplane.partition(room);
        let mut overdue = Vec::new();
        let mut step = Some(ReapStep::BeginNow);
        while let Some(next) = step {
            let survey = self.backplane.overdue(partition, contact, next).await;
            let survey = survey.expect("the backplane answers");
            overdue.extend(survey.overdue.into_iter().filter(|it| it.room == *room));
            // Nobody is reaped before it could begin again.
            step = survey.next.filter(|it| matches!(it, ReapStep::Rooms(_)));
        }
        overdue.sort_by(|a, b| a.skeleton.cmp(&b.skeleton));
        overdue
    }

    /// Reaps these members of a room. Returns how many were.
    pub(crate) async fn reap(&self, room: &RoomName, overdue: &[Overdue]) -> usize {
        self.reap_after(room, EVER, overdue).await
    }

    /// Reaps these members after this contact with the backplane.
    pub(crate) async fn reap_after(
        &self,
        room: &RoomName,
        contact: Contact,
        overdue: &[Overdue],
    ) -> usize {
        let partition = self.backplane.partition(room);
        let reaped = self.backplane.reap(partition, contact, &evictions(overdue)).await;
        reaped.expect("the backplane answers")
    }

    /// The clock of the part of the backplane that keeps a room.
    pub(crate) async fn clock(&self, room: &RoomName) -> Duration {
        self.backplane.clock(self.shard(room)).await.expect("the backplane answers")
    }

    /// A page of the log.
    pub(crate) async fn read(&self, room: &RoomName, after: u64, limit: usize) -> Page {
        let limit = PageLimit { events: limit, bytes: usize::MAX };
        self.backplane.read(room, after, limit).await.expect("the backplane answers")
    }

    /// Where the log ends.
    pub(crate) async fn head(&self, room: &RoomName) -> Head {
        self.read(room, 0, 0).await.head.expect("the room has a log")
    }

    /// The whole log in lines.
    pub(crate) async fn story(&self, room: &RoomName) -> Vec<String> {
        let page = self.read(room, 0, 100_000).await;
        page.events.iter().map(|(seq, event)| line(*seq, event)).collect()
    }

    /// Another room in the same part of the backplane.
    pub(crate) fn room_beside(&self, room: &RoomName) -> RoomName {
        let mut others = std::iter::repeat_with(some_room);
        let beside = |other: &RoomName| self.shard(other) == self.shard(room);
        others.find(beside).expect("there is always another")
    }

    fn shard(&self, room: &RoomName) -> Shard {
        self.backplane.shard(self.backplane.partition(room))
    }

    /// Starts listening.
    pub(crate) async fn subscribe(&self, room: &RoomName) {
        self.backplane.subscribe(room).await.expect("the backplane answers");
    }

    /// The next signal, which must come.
    async fn signal(&mut self, waiting_for: &str) -> Signal {
        timeout(PATIENCE, self.signals.recv())
            .await
            .unwrap_or_else(|_| panic!("nothing came while waiting for {waiting_for}"))
            .expect("signals end only with the backplane")
    }

    /// What comes of a room until the event at `seq`.
    pub(crate) async fn hear_until(&mut self, room: &RoomName, seq: u64) -> Heard {
        let mut heard = Heard::default();
        while heard.last() < seq {
            match self.signal(&format!("event {seq}")).await {
                Signal::Live(live) if live.room == *room => heard.add(live),
                Signal::Resumed(_) => heard.resumed = true,
                Signal::Live(_) | Signal::Canary(_) | Signal::Moved(_) => {}
            }
        }
        heard
    }

    /// What comes of a room before a canary sent now, from all parts of the backplane: all that there is, if live
    /// delivery works. A canary that an interruption swallowed is sent again.
    pub(crate) async fn hear_all(&mut self, room: &RoomName) -> Heard {
        let mut heard = Heard::default();
        for _ in 0..20 {
            let number = rand::random();
            let mut missing = self.backplane.shards().len();
            self.backplane.canary(number).await.expect("the backplane answers");
            while let Ok(signal) = timeout(PATIENCE / 20, self.signals.recv()).await {
                match signal.expect("signals end only with the backplane") {
                    Signal::Live(live) if live.room == *room => heard.add(live),
                    Signal::Resumed(_) => heard.resumed = true,
                    Signal::Moved(moved) if moved.room == *room => heard.moved.push(moved),
                    Signal::Canary(got) if got == number => {
                        missing -= 1;
                        if missing == 0 {
                            return heard;
                        }
                    }
                    Signal::Live(_) | Signal::Canary(_) | Signal::Moved(_) => {}
                }
            }
        }
        panic!("no canary came back");
    }
}
