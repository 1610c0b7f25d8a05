//! What each operation of the backplane sends to Redis, and how it reads the answer.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Redis,
    answers::{read_entry, read_joined, read_present, read_published, read_verdict},
    arguments::{confirmed, contact, eviction, identity, text},
    codec,
    lane::Pipeline,
    moderating::{self, read_silenced},
    op::Work,
    reply::{self, Reply, ReplyError},
    script_name::ScriptName,
    scripts::millis,
};
use crate::{
    backplane::{
        Affected, AppendError, Appended, BANS_PAGE, Backplane, Bans, Checked, DECISIONS,
        DecideError, Decision, Deletion, DirectError, Directives, Enforcement, Eviction, Hold,
        Join, JoinError, Joined, ListError, ListPage, MEMBERS_PAGE, Members, MembersCursor,
        MembersPage, PageLimit, Partition, Publish, PublishError, Published, ReapStep, Renewal,
        RoomHead, RoomNames, RoomSummary, Seated, Shard, Standing, Survey, Unavailable,
    },
    domain::{Contact, Directive, Event, Identity, Page, Position, RoomName, Until, Username},
};

#[async_trait]
impl Backplane for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn subscribe(&self, room: &RoomName) -> Result<(), Unavailable> {
        let confirmed = self.subscriptions.add(room);
        self.listeners_follow(room);
        match tokio::time::timeout(self.timeout, confirmed).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unavailable),
        }
    }

    fn unsubscribe(&self, room: &RoomName) {
        self.subscriptions.remove(room);
        self.listeners_follow(room);
    }

    fn partition(&self, room: &RoomName) -> Partition {
        Partition(self.keys().partition(room))
    }

    async fn join(&self, join: Join<'_>) -> Result<Joined, JoinError> {
        // It may be asked for again.
        let joined = tokio::time::timeout(self.timeout, self.join_as_somebody(&join));
        joined.await.unwrap_or(Err(Unavailable.into()))
    }

    async fn append(
        &self,
        hold: &Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> Result<Appended, AppendError> {
        let payload = codec::encode(&event);
        let (incarnation, _) = self.incarnations.current(self.keys().partition(&hold.room));
        let work = Work::Append { hold: hold.clone(), incarnation, client_seq, payload };
        let reply = self.lane(&hold.room).submit(work, Instant::now() + self.timeout).await?;
        if let Some(silenced) = read_silenced(&reply) {
            return Err(AppendError::Silenced(silenced));
        }
        let (Ok(epoch), Ok(seq)) = (reply.epoch(0), reply.int(1)) else {
            return Err(Unavailable.into());
        };
        if seq == 0 {
            return Err(AppendError::Stale);
        }
        let duplicate = seq < 0;
        let later = if duplicate { reply.int(2).ok() } else { Some(0) };
        let later = later.and_then(|later| u64::try_from(later).ok()).ok_or(Unavailable)?;
        let seq = seq.unsigned_abs() - u64::from(duplicate);
        let position = Position::new(epoch, seq);
        Ok(Appended { position, client_seq: client_seq + later, duplicate })
    }

    async fn leave(&self, hold: &Hold, event: Arc<Event>) -> Result<Option<Position>, Unavailable> {
        let mut args = identity(hold).to_vec();
        args.push(codec::encode(&event));
        args.extend(confirmed(hold));
        self.member_script(ScriptName::Leave, hold, args, |reply| {
            let seq = reply.int(0)?.unsigned_abs();
            Ok((seq > 0).then_some(Position::new(reply.head()?.position.epoch, seq)))
        })
        .await
    }

    async fn linger(&self, hold: &Hold, time: Duration) -> Result<bool, Unavailable> {
        let mut args = identity(hold).to_vec();
        let (incarnation, _) = self.incarnations.current(self.keys().partition(&hold.room));
        args.extend([text(incarnation), text(millis(time))]);
        // In order with joins of the same hold.
        self.member_script(ScriptName::Linger, hold, args, |reply| Ok(reply.int(0)? == 1)).await
    }

    async fn owe(
        &self,
        room: &RoomName,
        name: &Username,
        time: Duration,
    ) -> Result<Duration, Unavailable> {
        let keys = vec![self.keys().owes(room, name.skeleton())];
        let args = vec![text(millis(time))];
        // In order with the leave that follows.
        self.script(self.lane(room), ScriptName::Owe, room, keys, args, |reply| {
            Ok(Duration::from_millis(u64::try_from(reply.int(0)?).unwrap_or(0)))
        })
        .await
    }

    async fn lookup(
        &self,
        room: &RoomName,
        name: &Username,
    ) -> Result<Option<Seated>, Unavailable> {
        let args = vec![name.skeleton().as_bytes().to_vec()];
        self.script(
            self.upkeep(self.keys().partition(room)),
            ScriptName::Lookup,
            room,
            Vec::new(),
            args,
            |reply| {
                if reply.rest.is_empty() {
                    return Ok(None);
                }
                let seated = codec::decode_entry(reply.bytes(0)?).and_then(codec::Entry::seated);
                seated.map(Some).map_err(|_| ReplyError::Unexpected("an entry of a roster"))
            },
        )
        .await
    }

    async fn members(&self, room: &RoomName, page: MembersPage) -> Result<Members, Unavailable> {
        let cursor = page.cursor.map_or(0, |MembersCursor(cursor)| cursor);
        let args = vec![text(cursor), text(page.limit.clamp(1, MEMBERS_PAGE))];
        self.script(
            self.upkeep(self.keys().partition(room)),
            ScriptName::Members,
            room,
            Vec::new(),
            args,
            |reply| {
                // It is as large as a number gets.
                let next = std::str::from_utf8(reply.bytes(0)?).ok().and_then(|it| it.parse().ok());
                let next: u64 = next.ok_or(ReplyError::Unexpected("a cursor"))?;
                let members = reply.array(2)?.iter().map(read_present);
                Ok(Members {
                    members: members.collect::<Result<_, _>>()?,
                    next: (next != 0).then_some(MembersCursor(next)),
                    total: usize::try_from(reply.int(1)?).unwrap_or(0),
                })
            },
        )
        .await
    }

    async fn renew(&self, partition: Partition) -> Result<Renewal, Unavailable> {
        self.renew_lease(partition).await
    }

    fn renounce(&self, Partition(partition): Partition) {
        let (incarnation, _) = self.incarnations.current(partition);
        self.incarnations.lose(partition, incarnation);
    }

    async fn check(&self, room: &RoomName, holds: &[Hold]) -> Result<Checked, Unavailable> {
        let (incarnation, _) = self.incarnations.current(self.keys().partition(room));
        let mut args = vec![text(incarnation)];
        for hold in holds {
            args.extend(identity(hold));
            args.push(codec::attempt(hold.attempt).into_bytes());
        }
        self.script(
            self.upkeep(self.keys().partition(room)),
            ScriptName::Check,
            room,
            Vec::new(),
            args,
            |reply| {
                let verdicts =
                    reply.array(1)?.iter().map(read_verdict).collect::<Result<Vec<_>, _>>()?;
                if verdicts.len() != holds.len() {
                    return Err(ReplyError::Unexpected("one verdict for each hold"));
                }
                let takeovers = reply.int(0)?.unsigned_abs();
                Ok(Checked { verdicts, head: RoomHead { log: reply.head()?.clone(), takeovers } })
            },
        )
        .await
    }

    async fn heads(
        &self,
        _: Partition,
        rooms: &[RoomName],
    ) -> Result<Vec<Option<RoomHead>>, Unavailable> {
        self.heads_of(rooms).await
    }

    async fn overdue(
        &self,
        partition: Partition,
        contact: Contact,
        step: ReapStep,
    ) -> Result<Survey, Unavailable> {
        match step {
            ReapStep::Begin => self.begin_survey(partition, contact, false).await,
            ReapStep::BeginNow => self.begin_survey(partition, contact, true).await,
            ReapStep::Rooms(cursor) => self.survey(partition, cursor).await,
        }
    }

    async fn reap(
        &self,
        partition: Partition,
        contact: Contact,
        evict: &[Eviction],
    ) -> Result<usize, Unavailable> {
        self.remove(partition, contact, evict).await
    }

    async fn decide(&self, room: &RoomName, decision: Decision<'_>) -> Result<Until, DecideError> {
        let (field, time, value) = moderating::decision(decision);
        let args = vec![field, text(time), value, text(DECISIONS)];
        let lane = self.lane(room);
        let kept = self.script(lane, ScriptName::Decide, room, Vec::new(), args, |reply| {
            Ok((reply.int(0)? == 1, codec::moderation::until(reply.int(1)?)))
        });
        let (kept, until) = kept.await?;
        if kept { Ok(until) } else { Err(DecideError::Full) }
    }

    async fn enforce(&self, enforcement: Enforcement<'_>) -> Result<usize, Unavailable> {
        let Enforcement { room, members, .. } = enforcement;
        let ended = |it: &Affected| self.keys().ended(room, it.member.session);
        let keys = members.iter().map(ended).collect();
        let args = moderating::enforcement(&enforcement);
        // In order with what members say.
        self.script(self.lane(room), ScriptName::Enforce, room, keys, args, |reply| {
            Ok(usize::try_from(reply.int(0)?).unwrap_or(0))
        })
        .await
    }

    async fn direct(&self, subject: &str, directive: &Directive) -> Result<(), DirectError> {
        self.keep_directive(subject, directive).await
    }

    async fn directives(&self, known: u64) -> Result<Option<Directives>, Unavailable> {
        self.directives_since(known).await
    }

    async fn standing(
        &self,
        room: &RoomName,
        identity: Option<&Identity>,
    ) -> Result<Standing, Unavailable> {
        let args = vec![identity.map_or_else(Vec::new, |it| it.key().into_bytes())];
        let upkeep = self.upkeep(self.keys().partition(room));
        let read = moderating::read_standing;
        self.script(upkeep, ScriptName::Standing, room, Vec::new(), args, read).await
    }

    async fn bans(
        &self,
        room: &RoomName,
        cursor: Option<MembersCursor>,
        limit: usize,
    ) -> Result<Bans, Unavailable> {
        let cursor = cursor.map_or(0, |MembersCursor(cursor)| cursor);
        let args = vec![text(cursor), text(limit.clamp(1, BANS_PAGE))];
        let upkeep = self.upkeep(self.keys().partition(room));
        let read = moderating::read_bans;
        self.script(upkeep, ScriptName::Bans, room, Vec::new(), args, read).await
    }

    async fn read(
        &self,
        room: &RoomName,
        after: u64,
        limit: PageLimit,
    ) -> Result<Page, Unavailable> {
        let args = vec![text(after), text(limit.events), text(limit.bytes)];
        self.script(self.reads(room), ScriptName::Read, room, Vec::new(), args, |reply| {
            if reply.rest.is_empty() {
                return Ok(Page { head: None, events: Vec::new() });
            }
            let head = reply::head(&mut reply.rest.iter().take(3).cloned())?;
            let events = reply.array(3)?.chunks_exact(2).map(|pair| {
                let entry = read_entry(&pair[0], &pair[1]);
                entry.ok_or(ReplyError::Unexpected("entries of a log"))
            });
            Ok(Page { head: Some(head), events: events.collect::<Result<_, _>>()? })
        })
        .await
    }

    async fn canary(&self, number: u64) -> Result<(), Unavailable> {
        self.send_canaries(number).await
    }

    fn shards(&self) -> Vec<Shard> {
        self.connector.servers().iter().map(|server| self.shard_at(server.as_ref())).collect()
    }

    fn shard(&self, Partition(partition): Partition) -> Shard {
        self.shard_at(self.connector.node_of(partition).as_ref())
    }

    async fn clock(&self, shard: Shard) -> Result<Duration, Unavailable> {
        self.clock_at(shard).await
    }

    fn write_error(&self) -> Option<String> {
        self.status.write_error()
    }

    async fn close(&self) {
        self.close.cancel();
        self.listeners.close();
        self.tasks.close();
        let _ = tokio::time::timeout(self.timeout, self.tasks.wait()).await;
    }

    async fn publish(&self, publish: Publish) -> Result<Published, PublishError> {
        let Publish { room, name, event, key } = publish;
        let (payload, pipeline) = (codec::encode(&event), self.lane(&room));
        let skeleton = name.map_or_else(String::new, |name| name.skeleton().to_owned());
        let work = Work::Publish { room, skeleton, key, payload };
        self.ask(pipeline, work, read_published).await?
    }

    async fn room_names(&self, page: ListPage<'_>) -> Result<RoomNames, ListError> {
        self.list(page).await
    }

    async fn summaries(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomSummary>>, Unavailable> {
        self.standings_of(rooms).await
    }

    async fn delete_room(&self, room: &RoomName) -> Result<Deletion, Unavailable> {
        self.delete(room).await
    }
}

impl Redis {
    /// Joins under the incarnation that this replica has in the room's partition, or, where that has lost its lease,
    /// under the next one.
    async fn join_as_somebody(&self, join: &Join<'_>) -> Result<Joined, JoinError> {
        let partition = self.keys().partition(&join.hold.room);
        loop {
            let (incarnation, established) = self.incarnations.current(partition);
            let hold = join.hold;
            let mut args = vec![text(incarnation), text(u8::from(established))];
            args.extend(identity(hold));
            args.extend([codec::encode_member(hold), codec::encode(&join.event)]);
            args.extend(confirmed(hold));
            args.push(text(join.appended));
            args.push(join.takeover.map_or_else(Vec::new, |it| text(it.from)));
            args.push(text(self.members_per_room));
            args.extend([codec::attempt(hold.attempt), codec::linger_millis(hold)].map(Into::into));
            args.extend(contact(join.contact));
            args.push(text(u8::from(join.silent)));
            args.extend(eviction(join.evict));
            args.push(hold.identity.as_ref().map_or_else(Vec::new, |it| it.key().into_bytes()));
            args.push(text(hold.role.letter()));
            let max = self.members_per_room;
            let read = |reply: &Reply| read_joined(reply, hold, max);
            match self.member_script(ScriptName::Join, hold, args, read).await? {
                Some(outcome) => {
                    if outcome.is_ok() {
                        self.incarnations.establish(partition, incarnation);
                    }
                    return outcome;
                }
                None => self.incarnations.lose(partition, incarnation),
            }
        }
    }

    /// Runs a script that is about one member and what has ended of its session, in order with what it says.
    async fn member_script<T>(
        &self,
        name: ScriptName,
        hold: &Hold,
        args: Vec<Vec<u8>>,
        read: impl FnOnce(&Reply) -> Result<T, ReplyError>,
    ) -> Result<T, Unavailable> {
        let mut keys = vec![self.keys().ended(&hold.room, hold.session)];
        if name == ScriptName::Join {
            keys.push(self.keys().decided(&hold.room));
        }
        let (room, skeleton) = (hold.room.clone(), hold.name.skeleton().to_owned());
        let work = Work::Script { name, room, skeleton, keys, args };
        self.ask(self.lane(&hold.room), work, read).await
    }

    /// Runs a script on a room and reads its reply.
    pub(super) async fn script<T>(
        &self,
        lane: &Pipeline,
        name: ScriptName,
        room: &RoomName,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
        read: impl FnOnce(&Reply) -> Result<T, ReplyError>,
    ) -> Result<T, Unavailable> {
        let (room, skeleton) = (room.clone(), String::new());
        self.ask(lane, Work::Script { name, room, skeleton, keys, args }, read).await
    }

    /// Has something done and reads the reply.
    pub(super) async fn ask<T>(
        &self,
        lane: &Pipeline,
        work: Work,
        read: impl FnOnce(&Reply) -> Result<T, ReplyError>,
    ) -> Result<T, Unavailable> {
        let reply = lane.submit(work, Instant::now() + self.timeout).await?;
        read(&reply).map_err(|error| {
            self.status.misunderstood(&error);
            Unavailable
        })
    }
}
