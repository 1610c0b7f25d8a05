//! A moderator's call about somebody: whom it means, whether that may be, and how it is carried out and told.

use std::sync::Arc;

use tracing::info;

use super::Moderators;
use crate::{
    backplane::{BANS_PAGE, DecideError, Standing},
    domain::{DisplayName, Identity, RoomName, RoomRole, Username},
    gateway::{
        principal::{Action, Principal},
        status::{Denial, Outcome},
        v1::queries::{may, room, unavailable},
    },
    hub::{Authority, Carried, Order, Target},
};

/// The most bytes of a reason: it is told to the room.
const REASON: usize = 512;

/// How many pages of bans are looked through for a name.
const BAN_PAGES: usize = 1000;

/// Whom a call means, as it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Who {
    Name(Username),
    Subject(String),
}

/// A call about somebody, checked.
pub(super) struct Call<'a> {
    principal: &'a Principal,
    pub(super) room: RoomName,
    pub(super) who: Who,
    authority: Authority,
}

impl Moderators {
    pub(super) fn who(
        &self,
        username: Option<String>,
        sub: Option<String>,
    ) -> Result<Who, Outcome> {
        match (username, sub) {
            (Some(name), None) => {
                let name = Username::parse(&name, self.0.config.names).map_err(Outcome::Name)?;
                Ok(Who::Name(name))
            }
            (None, Some(sub))
                if !sub.is_empty() && self.0.acceptor.authenticator.wants_tokens() =>
            {
                Ok(Who::Subject(sub))
            }
            (None, Some(sub)) if !sub.is_empty() => {
                Err(bad("sub: nobody has one, as auth.mode is \"open\"; give the username"))
            }
            _ => Err(bad("whom? give username or sub")),
        }
    }

    /// Checks a call about somebody, and that whoever asks may do it to them.
    pub(super) async fn call<'a>(
        &self,
        principal: &'a Principal,
        action: Action,
        room_name: &str,
        who: Result<Who, Outcome>,
        reason: String,
    ) -> Result<Call<'a>, Outcome> {
        let room = room(room_name)?;
        let who = who?;
        let authority = authority(principal, reason)?;
        let standing = may(self.0.acceptor.hub.backplane(), principal, action, &room).await?;
        let call = Call { principal, room, who, authority };
        self.outranks(&call, &standing).await?;
        Ok(call)
    }

    /// Nobody does anything to somebody whose role is as high as their own, but owners.
    async fn outranks(&self, call: &Call<'_>, standing: &Standing) -> Result<(), Outcome> {
        let own = standing.role.unwrap_or_else(|| call.principal.role(&call.room));
        if own == RoomRole::Owner {
            return Ok(());
        }
        let backplane = self.0.acceptor.hub.backplane();
        let (role, shown) = match &call.who {
            Who::Name(name) => {
                let seated = backplane.lookup(&call.room, name).await.map_err(unavailable)?;
                (seated.map(|seated| seated.role), format!("\"{name}\""))
            }
            Who::Subject(sub) => {
                let identity = Identity::Subject(Arc::from(&**sub));
                let target = backplane.standing(&call.room, Some(&identity)).await;
                let mut role = target.map_err(unavailable)?.role;
                let members = self.0.acceptor.hub.members_of(&call.room, sub).await;
                for (_, present) in members.map_err(unavailable)? {
                    role = role.max(Some(present.role));
                }
                (role, "whoever has this sub".to_owned())
            }
        };
        if role >= Some(own) { Err(Outcome::Denied(Denial::AsHigh(shown))) } else { Ok(()) }
    }

    /// Of whom something is decided: for a name that nobody has where tokens are shown, of nobody.
    pub(super) async fn target(&self, call: &Call<'_>, order: Order) -> Result<Target, Outcome> {
        let only_by_name = order == Order::Kick && matches!(call.who, Who::Name(_));
        match &call.who {
            Who::Subject(sub) => {
                let members = self.0.acceptor.hub.members_of(&call.room, sub).await;
                let member = members.map_err(unavailable)?.into_iter().next();
                let name = member.map(|(name, _)| name);
                let identity = Some(Identity::Subject(Arc::from(&**sub)));
                Ok(Target { identity, name, only_by_name })
            }
            Who::Name(name) if !self.0.acceptor.authenticator.wants_tokens() => {
                let identity = Some(Identity::Name(name.skeleton().into()));
                Ok(Target { identity, name: Some(name.clone()), only_by_name })
            }
            Who::Name(name) => {
                let backplane = self.0.acceptor.hub.backplane();
                let seated = backplane.lookup(&call.room, name).await.map_err(unavailable)?;
                let subject = seated.as_ref().and_then(|seated| seated.subject.clone());
                let (Some(subject), Some(seated)) = (subject, seated) else {
                    let room = &call.room;
                    return Err(Outcome::Denied(Denial::NobodyThere(format!(
                        "nobody with a token is called \"{name}\" in room \"{room}\" now; give the sub"
                    ))));
                };
                let name = Some(name.clone().spelled(seated.member.name));
                Ok(Target { identity: Some(Identity::Subject(subject)), name, only_by_name })
            }
        }
    }

    pub(super) async fn carry_out(
        &self,
        call: &Call<'_>,
        target: &Target,
        order: Order,
    ) -> Result<Carried, Outcome> {
        let hub = &self.0.acceptor.hub;
        let carried = hub.moderate(&call.room, target, order, &call.authority).await;
        let carried = carried.map_err(decide_error)?;
        if order == Order::Kick && carried.members == 0 {
            let room = &call.room;
            return Err(Outcome::Denied(Denial::NobodyThere(format!(
                "nobody like that is in room \"{room}\""
            ))));
        }
        tell(call, target, order, carried);
        Ok(carried)
    }

    pub(super) async fn order(&self, call: &Call<'_>, order: Order) -> Result<Carried, Outcome> {
        let target = self.target(call, order).await?;
        self.carry_out(call, &target, order).await
    }

    /// Those who went by that name when they were banned.
    pub(super) async fn banned_as(
        &self,
        room: &RoomName,
        name: &Username,
    ) -> Result<Vec<Target>, Outcome> {
        let backplane = self.0.acceptor.hub.backplane();
        let (mut targets, mut cursor) = (Vec::new(), None);
        for _ in 0..BAN_PAGES {
            let page = backplane.bans(room, cursor, BANS_PAGE).await.map_err(unavailable)?;
            for ban in page.bans {
                let known = ban.note.name.as_ref().map(DisplayName::as_str);
                let known = known.map(|known| Username::parse(known, self.0.config.names));
                if known.is_some_and(|known| known.as_ref() == Ok(name)) {
                    let (identity, name) = (Some(ban.identity), Some(name.clone()));
                    targets.push(Target { identity, name, only_by_name: false });
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        if targets.is_empty() {
            let why = format!("nobody who was called \"{name}\" is banned from room \"{room}\"");
            return Err(Outcome::Denied(Denial::NobodyThere(why)));
        }
        Ok(targets)
    }
}

pub(super) fn bad(why: &str) -> Outcome {
    Outcome::Denied(Denial::BadRequest(why.to_owned()))
}

pub(super) fn decide_error(error: DecideError) -> Outcome {
    match error {
        DecideError::Full => Outcome::Denied(Denial::TooManyDecisions),
        DecideError::Unavailable(error) => unavailable(error),
    }
}

pub(super) fn authority(principal: &Principal, reason: String) -> Result<Authority, Outcome> {
    if reason.len() > REASON {
        return Err(bad("reason: at most 512 bytes"));
    }
    if reason.chars().any(char::is_control) {
        return Err(bad("reason: no control characters"));
    }
    let by = DisplayName::from_log(principal.shown_as());
    Ok(Authority { by, reason: reason.into() })
}

/// Tells the audit log who did what to whom.
fn tell(call: &Call<'_>, target: &Target, order: Order, carried: Carried) {
    let what = match order {
        Order::Kick => "kicked",
        Order::Ban(_) => "banned",
        Order::Unban => "unbanned",
        Order::Mute(_) => "muted",
        Order::Unmute => "unmuted",
        Order::Role(_) => "role_set",
    };
    let role = match order {
        Order::Role(role) => role.map(RoomRole::name),
        _ => None,
    };
    info!(
        target: "audit",
        parent: None,
        by = %call.authority.by,
        sub = call.principal.subject(),
        room = %call.room,
        user = target.name.as_ref().map(|name| name.display().as_str().to_owned()),
        target_sub = target.identity.as_ref().and_then(Identity::subject).map(|it| &**it),
        until = carried.until.map(tracing::field::display),
        members = carried.members,
        role,
        reason = &*call.authority.reason,
        "{what}"
    );
}
