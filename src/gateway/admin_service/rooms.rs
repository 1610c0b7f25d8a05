//! `ListRooms`, `GetRoom` and `DeleteRoom`.

use tracing::info;

use super::room;
use crate::{
    backplane::{
        Backplane, Deletion, LIST_BATCH, ListError, ListPage, RoomNames, RoomSummary, Unavailable,
    },
    domain::RoomName,
    gateway::{
        status::{AdminRefusal, Outcome},
        v1::translate,
    },
    proto::room::{
        DeleteRoomRequest, DeleteRoomResponse, GetRoomRequest, ListRoomsRequest, ListRoomsResponse,
        Room,
    },
};

/// How often more is looked for where a page would be empty.
const ROUNDS: usize = 4;

/// `ListRooms`.
pub(super) async fn list_rooms(
    backplane: &dyn Backplane,
    page_size: usize,
    request: ListRoomsRequest,
) -> Result<ListRoomsResponse, Outcome> {
    let ListRoomsRequest { prefix, page_size: asked, page_token } = request;
    check_prefix(&prefix)?;
    let limit = match usize::try_from(asked).unwrap_or(usize::MAX) {
        0 => page_size,
        asked => asked.min(page_size),
    };
    let mut from = Some(page_token).filter(|token| !token.is_empty());
    for round in 1.. {
        let page =
            ListPage { prefix: &prefix, from: from.as_deref(), limit: limit.min(LIST_BATCH) };
        let RoomNames { names, next } = backplane.room_names(page).await.map_err(refused)?;
        let summaries = backplane.summaries(&names).await.map_err(unreachable)?;
        let there = names.into_iter().zip(summaries);
        let rooms: Vec<Room> = there.filter_map(|(name, it)| Some(told(&name, &it?))).collect();
        if !rooms.is_empty() || next.is_none() || round == ROUNDS {
            return Ok(ListRoomsResponse { rooms, next_page_token: next.unwrap_or_default() });
        }
        from = next;
    }
    Err(Outcome::Unreachable)
}

/// `GetRoom`.
pub(super) async fn get_room(
    backplane: &dyn Backplane,
    request: GetRoomRequest,
) -> Result<Room, Outcome> {
    let name = room(&request.room)?;
    let summaries = backplane.summaries(std::slice::from_ref(&name)).await.map_err(unreachable)?;
    match summaries.into_iter().next().flatten() {
        Some(standing) => Ok(told(&name, &standing)),
        None => Err(Outcome::Admin(AdminRefusal::NoRoom(name))),
    }
}

/// `DeleteRoom`, by whom a token names.
pub(super) async fn delete_room(
    backplane: &dyn Backplane,
    subject: Option<&str>,
    request: DeleteRoomRequest,
) -> Result<DeleteRoomResponse, Outcome> {
    let name = room(&request.room)?;
    match backplane.delete_room(&name).await.map_err(unreachable)? {
        Deletion::Deleted => {
            info!(target: "audit", parent: None, room = %name, subject, "deleted");
            Ok(DeleteRoomResponse {})
        }
        Deletion::NotThere => Err(Outcome::Admin(AdminRefusal::NoRoom(name))),
        Deletion::Occupied(members) => Err(Outcome::Admin(AdminRefusal::NotEmpty(members))),
    }
}

/// Whether names of rooms can begin like this.
pub(super) fn check_prefix(prefix: &str) -> Result<(), Outcome> {
    if prefix.is_empty() {
        return Ok(());
    }
    let invalid = |why| Outcome::Admin(AdminRefusal::Invalid(format!("prefix: {why}")));
    RoomName::parse(prefix).map(drop).map_err(invalid)
}

fn told(name: &RoomName, standing: &RoomSummary) -> Room {
    Room {
        room: name.to_string(),
        members: u32::try_from(standing.members).unwrap_or(u32::MAX),
        last_activity: standing.last_activity.map(translate::timestamp),
        head: Some(translate::position(standing.head.last())),
    }
}

fn refused(error: ListError) -> Outcome {
    match error {
        ListError::Place => Outcome::PageToken,
        ListError::Unavailable(Unavailable) => Outcome::Unreachable,
    }
}

fn unreachable(Unavailable: Unavailable) -> Outcome {
    Outcome::Unreachable
}
