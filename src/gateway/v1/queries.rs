//! The `v1` protocol's unary calls: who is in a room, and what happened there. Any replica answers for
//! any room, from the backplane alone.

mod history;
#[cfg(test)]
mod tests;

use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};

use self::history::{Found, History, Log};
use super::translate;
use crate::{
    backplane::{
        Backplane, Members, MembersCursor, MembersPage, PageLimit, Present, Standing, Unavailable,
    },
    domain::{Page, RoomName},
    gateway::{
        principal::{Action, Principal},
        status::Outcome,
    },
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
    pub(super) fn page(self, asked: u32) -> usize {
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
    principal: &Principal,
    request: ListMembersRequest,
) -> Result<ListMembersResponse, Outcome> {
    let room = room(&request.room)?;
    may(backplane, principal, Action::ListMembers, &room).await?;
    let from = PageToken::read(&request.page_token)?;
    let read = |page| backplane.members(&room, page);
    let page = members(read, from, limits.page(request.page_size)).await;
    let (Members { members, total, .. }, next) = page.map_err(unavailable)?;
    Ok(ListMembersResponse {
        members: members.into_iter().map(member).collect(),
        next_page_token: next.map(PageToken::write).unwrap_or_default(),
        total_size: total as u64,
    })
}

/// `ListEvents`.
pub(super) async fn list_events(
    backplane: &dyn Backplane,
    limits: &QueryLimits,
    principal: &Principal,
    request: ListEventsRequest,
) -> Result<ListEventsResponse, Outcome> {
    let room = room(&request.room)?;
    may(backplane, principal, Action::ListEvents, &room).await?;
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

/// Whether this may be done in a room, by what was decided there.
pub(super) async fn may(
    backplane: &dyn Backplane,
    principal: &Principal,
    action: Action,
    room: &RoomName,
) -> Result<Standing, Outcome> {
    let identity = principal.nameless_identity();
    let standing = backplane.standing(room, identity.as_ref()).await.map_err(unavailable)?;
    principal.may(action, room, &standing)?;
    Ok(standing)
}

/// The room of that name; `lobby` where there is none.
pub(super) fn room(name: &str) -> Result<RoomName, Outcome> {
    if name.is_empty() {
        return Ok(RoomName::lobby());
    }
    RoomName::parse(name).map_err(Outcome::JoinRoom)
}

/// What a call fails with whose room cannot be reached.
pub(super) fn unavailable(Unavailable: Unavailable) -> Outcome {
    Outcome::Unreachable
}

/// Where a page of members begins.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct PageToken {
    /// From here the backplane is asked. `None`: from the beginning.
    cursor: Option<MembersCursor>,
    /// What was told already of what it gives there.
    told: Option<Told>,
}

/// A part of what the backplane gives together, and cannot be asked for in parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Told {
    /// Where that ends.
    next: Option<MembersCursor>,
    /// Members were told in the order of their keys, up to this one.
    key: u128,
}

impl PageToken {
    fn write(self) -> String {
        let number = |cursor: Option<MembersCursor>| cursor.map_or(0, |MembersCursor(at)| at);
        let cursor = number(self.cursor);
        match self.told {
            None => format!("{cursor:016x}"),
            Some(Told { next, key }) => format!("{cursor:016x}{:016x}{key:032x}", number(next)),
        }
    }

    fn read(token: &str) -> Result<Self, Outcome> {
        let digits = token.bytes().all(|digit| digit.is_ascii_hexdigit());
        // No page but the first one begins at 0.
        let cursor = |digits: &str| u64::from_str_radix(digits, 16).ok().map(MembersCursor);
        let from = |digits: &str| cursor(digits).filter(|MembersCursor(at)| *at > 0);
        match token.len() {
            0 => Some(Self::default()),
            16 if digits => Some(Self { cursor: cursor(token), told: None }),
            64 if digits => u128::from_str_radix(&token[32..], 16).ok().map(|key| {
                let told = Some(Told { next: from(&token[16..32]), key });
                Self { cursor: from(&token[..16]), told }
            }),
            _ => None,
        }
        .ok_or(Outcome::PageToken)
    }
}

/// By what those are ordered that the backplane gives together: random, and for as long as they are there.
fn key(present: &Present) -> u128 {
    let digest = Sha256::digest(present.member.session.as_bytes());
    digest.iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
}

/// A page with at most so many members that is not empty unless it is the last one, or others are far away;
/// and where the next one begins. The backplane may give more than it was asked for. Then it is asked for
/// less, and where that is not possible, the rest comes with the next page: asked from the same place, it
/// gives the same again if it ends at the same place. Otherwise all of that is told once more.
async fn members<'a>(
    read: impl Fn(MembersPage) -> BoxFuture<'a, Result<Members, Unavailable>>,
    PageToken { mut cursor, mut told }: PageToken,
    most: usize,
) -> Result<(Members, Option<PageToken>), Unavailable> {
    let mut limit = if told.is_some() { 1 } else { most };
    let mut rounds = 0..ROUNDS;
    loop {
        let mut page = read(MembersPage { cursor, limit }).await?;
        if let Some(told) = told.take().filter(|told| told.next == page.next) {
            page.members.retain(|present| key(present) > told.key);
        }
        if page.members.len() > most && limit > 1 {
            limit -= (limit / 4).max(1);
            continue;
        }
        if page.members.len() > most {
            page.members.sort_unstable_by_key(key);
            page.members.truncate(most);
            let told = page.members.last().map(|last| Told { next: page.next, key: key(last) });
            return Ok((page, Some(PageToken { cursor, told })));
        }
        let next = page.next.map(|cursor| PageToken { cursor: Some(cursor), told: None });
        if !page.members.is_empty() || next.is_none() || rounds.next().is_none() {
            return Ok((page, next));
        }
        (cursor, limit) = (page.next, most);
    }
}

fn member(present: Present) -> Member {
    let Present { member, since, lingers, .. } = present;
    Member {
        username: member.name.to_string(),
        since: Some(translate::timestamp(since)),
        lingering: lingers,
    }
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
