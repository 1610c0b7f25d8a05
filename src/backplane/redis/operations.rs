//! What each operation of the backplane sends to Redis, and how it reads the answer.

use std::{hash::BuildHasher, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    Redis,
    address::Endpoint,
    answers::{
        read_deadline, read_entry, read_joined, read_overdue, read_present, read_stream,
        read_verdict,
    },
    arguments::{
        add_evictions, confirmed, contact, departure_keys, identity, kept_name, leases, takeover,
        text,
    },
    codec,
    lane::Pipeline,
    op::Work,
    reply::{self, Reply, ReplyError},
    script_name::ScriptName,
    scripts::millis,
};
use crate::{
    backplane::{
        AppendError, Appended, Backplane, Eviction, Hold, Join, JoinError, Joined, MEMBERS_PAGE,
        Members, MembersCursor, MembersPage, Overdue, PageLimit, REAP_BATCH, Reaped, Renewal,
        Seated, Shard, Unavailable, Verdict,
    },
    domain::{Contact, Event, Page, Position, RoomName, Username},
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

    async fn join(&self, join: Join<'_>) -> Result<Joined, JoinError> {
        let hold = join.hold;
        let mut keys = departure_keys(self.keys(), hold);
        let mut args = vec![text(millis(self.lease))];
        args.extend(identity(hold));
        args.extend([codec::encode_member(hold), codec::encode(&join.event)]);
        args.extend(confirmed(hold));
        args.extend([text(u8::from(join.reap_first)), text(REAP_BATCH), text(join.appended)]);
        args.extend([takeover(join.takeover), text(self.members_per_room)]);
        args.extend([codec::attempt(hold.attempt).into_bytes(), text(codec::linger_millis(hold))]);
        args.extend(contact(join.contact));
        args.push(text(u8::from(join.silent)));
        add_evictions(self.keys(), &hold.room, join.evict, &mut keys, &mut args);
        let lane = self.lane(&hold.room);
        self.script(lane, ScriptName::Join, &hold.room, keys, args, |reply| {
            read_joined(reply, self.members_per_room)
        })
        .await?
    }

    async fn append(
        &self,
        hold: &Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> Result<Appended, AppendError> {
        let payload = codec::encode(&event);
        let work = Work::Append { hold: hold.clone(), client_seq, payload };
        let reply = self.lane(&hold.room).submit(work, Instant::now() + self.timeout).await?;
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
        let keys = departure_keys(self.keys(), hold);
        let mut args = identity(hold).to_vec();
        args.push(codec::encode(&event));
        args.extend(confirmed(hold));
        args.push(text(millis(self.lease)));
        let lane = self.lane(&hold.room);
        self.script(lane, ScriptName::Leave, &hold.room, keys, args, |reply| {
            let seq = reply.int(0)?.unsigned_abs();
            Ok((seq > 0).then_some(Position::new(reply.head()?.position.epoch, seq)))
        })
        .await
    }

    async fn linger(&self, hold: &Hold, time: Duration) -> Result<bool, Unavailable> {
        let keys = departure_keys(self.keys(), hold);
        let mut args = identity(hold).to_vec();
        args.extend([text(millis(time)), text(millis(self.lease))]);
        // In order with joins of the same hold.
        let lane = self.lane(&hold.room);
        self.script(
            lane,
            ScriptName::Linger,
            &hold.room,
            keys,
            args,
            |reply| Ok(reply.int(0)? == 1),
        )
        .await
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
        let skeleton = name.skeleton();
        let keys = vec![self.keys().lease(room, skeleton)];
        let args = vec![skeleton.as_bytes().to_vec()];
        self.script(self.upkeep(room), ScriptName::Lookup, room, keys, args, |reply| {
            if reply.rest.is_empty() {
                return Ok(None);
            }
            let stream = read_stream(reply.bytes(1)?)?;
            let seated = codec::decode_entry(reply.bytes(0)?).and_then(|it| it.seated(stream));
            seated.map(Some).map_err(|_| ReplyError::Unexpected("an entry of a roster"))
        })
        .await
    }

    async fn members(&self, room: &RoomName, page: MembersPage) -> Result<Members, Unavailable> {
        let cursor = page.cursor.map_or(0, |MembersCursor(cursor)| cursor);
        let args = vec![text(cursor), text(page.limit.clamp(1, MEMBERS_PAGE))];
        self.script(self.upkeep(room), ScriptName::Members, room, Vec::new(), args, |reply| {
            // It is as large as a number gets.
            let next = std::str::from_utf8(reply.bytes(0)?).ok().and_then(|it| it.parse().ok());
            let next: u64 = next.ok_or(ReplyError::Unexpected("a cursor"))?;
            let members = reply.array(2)?.iter().map(read_present);
            Ok(Members {
                members: members.collect::<Result<_, _>>()?,
                next: (next != 0).then_some(MembersCursor(next)),
                total: usize::try_from(reply.int(1)?).unwrap_or(0),
            })
        })
        .await
    }

    async fn renew(&self, room: &RoomName, holds: &[Hold]) -> Result<Renewal, Unavailable> {
        // It may be asked for twice.
        let renewed = tokio::time::timeout(self.timeout, self.extend_or_renew(room, holds));
        renewed.await.unwrap_or(Err(Unavailable))
    }

    async fn overdue(&self, room: &RoomName) -> Result<Vec<Overdue>, Unavailable> {
        let args = vec![text(REAP_BATCH)];
        self.script(self.upkeep(room), ScriptName::Overdue, room, Vec::new(), args, |reply| {
            read_overdue(reply.array(0)?)
        })
        .await
    }

    async fn reap(
        &self,
        room: &RoomName,
        seen: Contact,
        evict: &[Eviction],
    ) -> Result<Reaped, Unavailable> {
        let (mut keys, mut args) = (Vec::new(), vec![text(millis(self.lease))]);
        args.extend(contact(Some(seen)));
        add_evictions(self.keys(), room, evict, &mut keys, &mut args);
        self.script(self.upkeep(room), ScriptName::Reap, room, keys, args, |reply| {
            let count = usize::try_from(reply.int(0)?).unwrap_or(0);
            Ok(Reaped { count, next_deadline: read_deadline(reply.int(1)?) })
        })
        .await
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
        let mut sent: FuturesUnordered<_> = self
            .connector
            .servers()
            .into_iter()
            // One that is away shall hold up no other one, and those that are slow are sent all the same.
            .map(|server| self.tasks.spawn(self.canary_by(server.as_ref(), number)))
            .collect();
        while let Some(sent) = sent.next().await {
            if let Ok(Ok(())) = sent {
                return Ok(());
            }
        }
        Err(Unavailable)
    }

    fn shards(&self) -> Vec<Shard> {
        self.connector.servers().iter().map(|server| self.shard_at(server.as_ref())).collect()
    }

    fn shard(&self, room: &RoomName) -> Shard {
        self.shard_at(self.connector.node_of(self.keys().partition(room)).as_ref())
    }

    async fn clock(&self, shard: Shard) -> Result<Duration, Unavailable> {
        let mut servers = self.connector.servers().into_iter();
        let server = servers.find(|it| self.shard_at(it.as_ref()) == shard).ok_or(Unavailable)?;
        let partition = self.connector.partition_at(server.as_ref()).ok_or(Unavailable)?;
        let work = Work::Contact { key: self.keys().contact(partition, self.replica) };
        let lane = self.upkeep.of(partition, 0);
        let reply = lane.submit(work, Instant::now() + self.timeout).await?;
        let number = |index| u64::try_from(reply.int(index).ok()?).ok();
        let (Some(seconds), Some(micros)) = (number(0), number(1)) else { return Err(Unavailable) };
        Ok(Duration::from_secs(seconds) + Duration::from_micros(micros))
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
}

impl Redis {
    /// Whoever listens to a room's server has to look at the room.
    fn listeners_follow(&self, room: &RoomName) {
        let node = self.connector.node_of(self.keys().partition(room));
        if let Some(listening) = self.listeners.at(node.as_ref()) {
            listening.change(room);
        }
    }

    fn shard_at(&self, server: Option<&Endpoint>) -> Shard {
        Shard(self.hasher.hash_one(server))
    }

    /// Sends a canary by way of a server.
    fn canary_by(
        &self,
        server: Option<&Endpoint>,
        number: u64,
    ) -> impl Future<Output = Result<(), Unavailable>> + use<> {
        let partition = self.connector.partition_at(server);
        let lane = partition.map(|partition| self.canaries.of(partition, 0).clone());
        let listening = self.listeners.at(server);
        let (replica, status, timeout) = (self.replica, self.status.clone(), self.timeout);
        async move {
            let (Some(partition), Some(lane)) = (partition, lane) else { return Err(Unavailable) };
            let work = Work::Canary { partition, replica, number };
            lane.submit(work, Instant::now() + timeout).await?;
            status.accepted();
            if let Some(listening) = listening {
                listening.canary_sent(number);
            }
            Ok(())
        }
    }

    /// Runs a script and reads its reply.
    async fn script<T>(
        &self,
        lane: &Pipeline,
        name: ScriptName,
        room: &RoomName,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
        read: impl FnOnce(&Reply) -> Result<T, ReplyError>,
    ) -> Result<T, Unavailable> {
        let work = Work::Script { name, room: room.clone(), keys, args };
        let reply = lane.submit(work, Instant::now() + self.timeout).await?;
        read(&reply).map_err(|error| {
            self.status.misunderstood(&error);
            Unavailable
        })
    }

    async fn extend_or_renew(
        &self,
        room: &RoomName,
        holds: &[Hold],
    ) -> Result<Renewal, Unavailable> {
        if let Some(renewal) = self.extend(room, holds).await? {
            return Ok(renewal);
        }
        let keys = leases(self.keys(), room, holds);
        let mut args = vec![text(millis(self.lease))];
        for hold in holds {
            args.extend(identity(hold));
            args.push(codec::attempt(hold.attempt).into_bytes());
        }
        self.script(self.upkeep(room), ScriptName::Renew, room, keys, args, |reply| {
            let verdicts =
                reply.array(1)?.iter().map(read_verdict).collect::<Result<Vec<_>, _>>()?;
            if verdicts.len() != holds.len() {
                return Err(ReplyError::Unexpected("one verdict for each hold"));
            }
            let next_deadline = read_deadline(reply.int(0)?);
            Ok(Renewal { verdicts, head: reply.head()?.clone(), next_deadline })
        })
        .await
    }

    /// Renews leases where all is as it was. Nothing was decided if it is not.
    async fn extend(
        &self,
        room: &RoomName,
        holds: &[Hold],
    ) -> Result<Option<Renewal>, Unavailable> {
        if holds.is_empty() {
            return Ok(None);
        }
        let work = Work::Extend {
            room: room.clone(),
            leases: leases(self.keys(), room, holds),
            names: holds.iter().flat_map(kept_name).collect(),
            tokens: holds.iter().map(|hold| hold.token.to_hex()).collect(),
        };
        let reply = self.upkeep(room).submit(work, Instant::now() + self.timeout).await?;
        if reply.rest.is_empty() {
            return Ok(None);
        }
        let head = reply::head(&mut reply.rest.iter().take(3).cloned());
        let renewal = head.and_then(|head| {
            let next_deadline = read_deadline(reply.int(3)?);
            Ok(Renewal { verdicts: vec![Verdict::Held; holds.len()], head, next_deadline })
        });
        renewal.map(Some).map_err(|error| {
            self.status.misunderstood(&error);
            Unavailable
        })
    }
}
