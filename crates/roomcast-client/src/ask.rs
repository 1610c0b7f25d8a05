//! Questions about the room, asked beside the stream.

use std::time::{Duration, SystemTime};

use roomcast_common::Position;
use roomcast_proto::room::{
    self as proto, ListEventsRequest, ListMembersRequest, list_events_request,
    room_service_client::RoomServiceClient,
};
use tokio::time::timeout;

use super::{
    Client,
    error::CallError,
    requests::Connected,
    update::{Event, Gap, position, wire},
};

/// How long an answer may take, with the wait for a connection while the client is away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is in a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    /// The members, as many as were asked for. Whoever was there all the time is among all.
    pub members: Vec<Member>,
    /// How many there are.
    pub total: u64,
}

/// Somebody who is in a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The name.
    pub username: String,
    /// Since when.
    pub since: SystemTime,
    /// Out of reach, and expected back.
    pub lingering: bool,
}

/// Which events to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Range {
    /// The latest ones.
    Latest,
    /// Those right after this position.
    After(Position),
    /// Those right before this position.
    Before(Position),
}

/// Some events of a room, the oldest first.
#[derive(Clone, PartialEq, Debug)]
pub struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// The room's last position; none when it has no log.
    pub head: Option<Position>,
    /// What is gone between what was asked for and the first event.
    pub gap: Option<Gap>,
}

impl Client {
    /// Who is in the room, at most so many of them (0: all). Asks for as many pages as that takes.
    pub async fn members(&self, limit: usize) -> Result<Members, CallError> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut all = Members { members: Vec::new(), total: 0 };
        let mut next = String::new();
        loop {
            let rest = u32::try_from(limit - all.members.len()).unwrap_or(0);
            let page_token = std::mem::take(&mut next);
            let page = self
                .ask(async |here: Connected| {
                    let room = here.room.clone();
                    let request =
                        here.request(ListMembersRequest { room, page_size: rest, page_token });
                    RoomServiceClient::new(here.channel).list_members(request).await
                })
                .await?;
            all.total = page.total_size;
            all.members.extend(page.members.into_iter().map(Member::from));
            all.members.truncate(limit);
            if page.next_page_token.is_empty() || all.members.len() == limit {
                return Ok(all);
            }
            next = page.next_page_token;
        }
    }

    /// A page of the room's past, with at most so many events (0, or more than the server's bound: as
    /// many as it gives).
    pub async fn history(&self, range: Range, limit: u32) -> Result<Page, CallError> {
        let range = match range {
            Range::Latest => None,
            Range::After(at) => Some(list_events_request::Range::After(wire(at))),
            Range::Before(at) => Some(list_events_request::Range::Before(wire(at))),
        };
        let page = self
            .ask(async |here: Connected| {
                let room = here.room.clone();
                let request = here.request(ListEventsRequest { room, page_size: limit, range });
                RoomServiceClient::new(here.channel).list_events(request).await
            })
            .await?;
        Ok(Page {
            // An event without a position is none.
            events: page.events.into_iter().filter_map(Event::from_wire).collect(),
            head: page.head.map(position),
            gap: page.gap.map(Gap::from),
        })
    }

    /// Asks on the connection in use, or on the next one.
    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(Connected) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, CallError> {
        let mut here = self.here.clone();
        let asked = async {
            let found = here.wait_for(Option::is_some).await.map(|here| here.clone());
            let here = found.ok().flatten().ok_or(CallError::Ended)?;
            Ok(question(here).await?.into_inner())
        };
        timeout(PATIENCE, asked).await.unwrap_or(Err(CallError::TimedOut(PATIENCE)))
    }
}

impl From<proto::Member> for Member {
    fn from(member: proto::Member) -> Self {
        let since = member.since.and_then(|since| SystemTime::try_from(since).ok());
        Self {
            username: member.username,
            since: since.unwrap_or(SystemTime::UNIX_EPOCH),
            lingering: member.lingering,
        }
    }
}
