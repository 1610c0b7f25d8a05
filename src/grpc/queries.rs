//! The rich door's unary calls: who is in a room, and what happened there. Any replica answers for
//! any room, from the backplane alone.

mod history;
#[cfg(test)]
mod tests;

use futures_util::future::BoxFuture;

use self::history::{Found, History, Log};
use super::{status::Outcome, translate};
use crate::{
    backplane::{
        Backplane, Members, MembersCursor, MembersPage, Page, PageLimit, Present, Unavailable,
    },
    domain::RoomName,
    proto::room::{
        ListEventsRequest, ListEventsResponse, ListMembersRequest, ListMembersResponse, Member,
        list_events_request::Range,
    },
};

/// About the most bytes of events in one page. A page has one event at least, however large, so that
/// nobody is stuck; the largest one fits into the largest message of gRPC.
const PAGE_BYTES: usize = 1 << 20;

/// How often more is read for a page of members that would be empty.
const ROUNDS: usize = 16;

/// What a page may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct QueryLimits {
    /// The most events or members; at least 1.
    pub(super) page_size: usize,
}

impl QueryLimits {
    /// How many a client gets that asks for so many.
    fn page(self, asked: u32) -> usize {
        match usize::try_from(asked).unwrap_or(usize::MAX) {
            0 => self.page_size,
            asked => asked.min(self.page_size),
        }
    }
}

/// `ListMembers`.
pub(super) async fn list_members(
    backplane: &dyn Backplane,
    limits: &QueryLimits,
    request: ListMembersRequest,
) -> Result<ListMembersResponse, Outcome> {
    let room = room(&request.room)?;
    let cursor = read_token(&request.page_token)?;
    let read = |page| backplane.members(&room, page);
    let page = members(read, cursor, limits.page(request.page_size)).await;
    let Members { members, next, total } = page.map_err(unavailable)?;
    Ok(ListMembersResponse {
        members: members.into_iter().map(member).collect(),
        next_page_token: next.map(write_token).unwrap_or_default(),
        total_size: total as u64,
    })
}

/// `ListEvents`.
pub(super) async fn list_events(
    backplane: &dyn Backplane,
    limits: &QueryLimits,
    request: ListEventsRequest,
) -> Result<ListEventsResponse, Outcome> {
    let room = room(&request.room)?;
    let log = RoomLog { backplane, room: &room };
    let limit = PageLimit { events: limits.page(request.page_size), bytes: PAGE_BYTES };
    let history = History { log: &log, limit };
    let found = match request.range {
        None => history.before(None).await,
        Some(Range::After(after)) => history.after(translate::read_position(after)).await,
        Some(Range::Before(before)) => history.before(Some(translate::read_position(before))).await,
    };
    let Found { events, head, lost } = found.map_err(unavailable)?;
    Ok(ListEventsResponse {
        events: events.iter().map(|(at, event)| translate::event(*at, event)).collect(),
        head: head.map(translate::position),
        gap: lost.as_ref().map(translate::gap),
    })
}

fn room(name: &str) -> Result<RoomName, Outcome> {
    if name.is_empty() {
        return Ok(RoomName::lobby());
    }
    RoomName::parse(name).map_err(Outcome::JoinRoom)
}

fn unavailable(Unavailable: Unavailable) -> Outcome {
    Outcome::Unreachable
}

/// A page that is not empty unless it is the last one, or others are far away. The backplane may give
/// some more than it was asked for; then it is asked for less.
async fn members<'a>(
    read: impl Fn(MembersPage) -> BoxFuture<'a, Result<Members, Unavailable>>,
    mut cursor: Option<MembersCursor>,
    most: usize,
) -> Result<Members, Unavailable> {
    let mut limit = most;
    let mut rounds = 0..ROUNDS;
    loop {
        let page = read(MembersPage { cursor, limit }).await?;
        if page.members.len() > most && limit > 1 {
            limit -= (limit / 4).max(1);
            continue;
        }
        if !page.members.is_empty() || page.next.is_none() || rounds.next().is_none() {
            return Ok(page);
        }
        cursor = page.next;
    }
}

fn member(present: Present) -> Member {
    let Present { member, since, lingers } = present;
    Member {
        username: member.name.to_string(),
        since: Some(translate::timestamp(since)),
        lingering: lingers,
    }
}

fn write_token(MembersCursor(cursor): MembersCursor) -> String {
    format!("{cursor:016x}")
}

fn read_token(token: &str) -> Result<Option<MembersCursor>, Outcome> {
    if token.is_empty() {
        return Ok(None);
    }
    let digits = token.len() == 16 && token.bytes().all(|digit| digit.is_ascii_hexdigit());
    let cursor = digits.then(|| u64::from_str_radix(token, 16).ok()).flatten();
    cursor.map(|cursor| Some(MembersCursor(cursor))).ok_or(Outcome::PageToken)
}

/// One room's log.
struct RoomLog<'a> {
    backplane: &'a dyn Backplane,
    room: &'a RoomName,
}

impl Log for RoomLog<'_> {
    async fn read(&self, after: u64, limit: PageLimit) -> Result<Page, Unavailable> {
        self.backplane.read(self.room, after, limit).await
    }
}
