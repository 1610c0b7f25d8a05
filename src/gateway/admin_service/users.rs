//! `GetUser`, `Disconnect` and `RevokeTokens`.

use jiff::Timestamp;
use tracing::info;

use crate::{
    backplane::{Backplane, DirectError, LIST_BATCH, ListError, ListPage, Unavailable},
    domain::Directive,
    gateway::{
        status::{AdminRefusal, Outcome},
        users::Users,
        v1::translate,
    },
    hub::Hub,
    proto::room::{
        DisconnectRequest, DisconnectResponse, GetUserRequest, GetUserResponse,
        RevokeTokensRequest, RevokeTokensResponse, UserMember,
    },
};

/// The most bytes of a subject, as in tokens, and of a reason.
const SUBJECT: usize = 256;
const REASON: usize = 512;

/// How many pages of rooms are looked through for a subject.
const ROOM_PAGES: usize = 1000;

/// `GetUser`: where somebody is, found by looking into every room.
pub(super) async fn get_user(
    hub: &Hub,
    request: GetUserRequest,
) -> Result<GetUserResponse, Outcome> {
    check_subject(&request.sub)?;
    let (mut members, mut from) = (Vec::new(), None);
    for _ in 0..ROOM_PAGES {
        let page = ListPage { prefix: "", from: from.as_deref(), limit: LIST_BATCH };
        let names = hub.backplane().room_names(page).await.map_err(list_error)?;
        for room in &names.names {
            let here = hub.members_of(room, &request.sub).await.map_err(unreachable)?;
            members.extend(here.into_iter().map(|(_, present)| UserMember {
                room: room.to_string(),
                username: present.member.name.to_string(),
                since: Some(translate::timestamp(present.since)),
                lingering: present.lingers,
            }));
        }
        from = names.next;
        if from.is_none() {
            break;
        }
    }
    Ok(GetUserResponse { members })
}

/// `Disconnect`.
pub(super) async fn disconnect(
    backplane: &dyn Backplane,
    users: &Users,
    by: Option<&str>,
    request: DisconnectRequest,
) -> Result<DisconnectResponse, Outcome> {
    let DisconnectRequest { sub, reason, may_return } = request;
    check_subject(&sub)?;
    if reason.len() > REASON || reason.chars().any(char::is_control) {
        return Err(invalid("reason: at most 512 bytes, and no control characters"));
    }
    info!(target: "audit", parent: None, sub = by, target_sub = sub, may_return, reason, "disconnected");
    let (at, reason) = (Timestamp::now(), reason.into());
    direct(backplane, users, &sub, Directive::Disconnect { at, may_return, reason }).await?;
    Ok(DisconnectResponse {})
}

/// `RevokeTokens`.
pub(super) async fn revoke_tokens(
    backplane: &dyn Backplane,
    users: &Users,
    by: Option<&str>,
    request: RevokeTokensRequest,
) -> Result<RevokeTokensResponse, Outcome> {
    let RevokeTokensRequest { sub, issued_before } = request;
    check_subject(&sub)?;
    let now = Timestamp::now();
    let issued_before = match issued_before {
        None => now,
        Some(asked) => {
            let at = Timestamp::new(asked.seconds, asked.nanos).ok();
            at.ok_or_else(|| invalid("issued_before: no time that there is"))?
        }
    };
    info!(target: "audit", parent: None, sub = by, target_sub = sub, %issued_before, "tokens revoked");
    direct(backplane, users, &sub, Directive::Revoke { issued_before }).await?;
    Ok(RevokeTokensResponse {})
}

/// Tells all replicas, and this one at once.
async fn direct(
    backplane: &dyn Backplane,
    users: &Users,
    subject: &str,
    directive: Directive,
) -> Result<(), Outcome> {
    backplane.direct(subject, &directive).await.map_err(|error| match error {
        DirectError::Full => Outcome::Admin(AdminRefusal::TooManyDirectives),
        DirectError::Unavailable(error) => unreachable(error),
    })?;
    if let Some(directives) = backplane.directives(0).await.map_err(unreachable)? {
        users.heed(&directives.all);
    }
    Ok(())
}

fn check_subject(subject: &str) -> Result<(), Outcome> {
    if subject.is_empty() || subject.len() > SUBJECT {
        return Err(invalid("sub: 1 to 256 bytes"));
    }
    Ok(())
}

fn invalid(why: &str) -> Outcome {
    Outcome::Admin(AdminRefusal::Invalid(why.to_owned()))
}

fn list_error(error: ListError) -> Outcome {
    match error {
        ListError::Place => Outcome::PageToken,
        ListError::Unavailable(error) => unreachable(error),
    }
}

fn unreachable(Unavailable: Unavailable) -> Outcome {
    Outcome::Unreachable
}
