//! `ModerationService`: what moderators ask for, checked, carried out, and told in the audit log.

mod call;

use std::time::Duration;

use async_trait::async_trait;
use prost::Message;
use tonic::{Request, Response, Status};
use tracing::info;

use self::call::{Who, authority, bad, decide_error};
use super::{
    V1, caller,
    queries::{may, room, unavailable},
    translate,
};
use crate::{
    backplane::{Ban, Bans, MembersCursor},
    domain::{Identity, RoomRole, RoomSettings},
    gateway::{
        principal::{Action, Principal},
        status::Outcome,
    },
    hub::{Carried, Order, Target},
    proto::room::{self as proto, moderation_service_server::ModerationService},
};

/// How long something holds at the most, short of for ever.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Whom a request means, whichever it is.
macro_rules! who {
    ($service:expr, $request:expr, $module:ident) => {
        match $request.who {
            Some(proto::$module::Who::Username(name)) => $service.who(Some(name), None),
            Some(proto::$module::Who::Sub(sub)) => $service.who(None, Some(sub)),
            None => $service.who(None, None),
        }
    };
}

/// The service.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Moderators(pub(in crate::gateway) V1);

impl Moderators {
    async fn kick(
        &self,
        principal: &Principal,
        request: proto::KickRequest,
    ) -> Result<proto::KickResponse, Outcome> {
        let who = who!(self, request, kick_request);
        let (room, reason) = (&request.room, request.reason);
        let call = self.call(principal, Action::Moderate, room, who, reason).await?;
        let carried = match &call.who {
            // Whoever has the name, with a token or without.
            Who::Name(name) => {
                let target =
                    Target { identity: None, name: Some(name.clone()), only_by_name: true };
                self.carry_out(&call, &target, Order::Kick).await?
            }
            Who::Subject(_) => self.order(&call, Order::Kick).await?,
        };
        Ok(proto::KickResponse { members: count(carried.members) })
    }

    async fn ban(
        &self,
        principal: &Principal,
        request: proto::BanRequest,
    ) -> Result<proto::BanResponse, Outcome> {
        let who = who!(self, request, ban_request);
        let time = time(request.duration)?;
        let (room, reason) = (&request.room, request.reason);
        let call = self.call(principal, Action::Moderate, room, who, reason).await?;
        let Carried { until, members } = self.order(&call, Order::Ban(time)).await?;
        let until = until.map(translate::timestamp);
        Ok(proto::BanResponse { members: count(members), until })
    }

    async fn unban(
        &self,
        principal: &Principal,
        request: proto::UnbanRequest,
    ) -> Result<proto::UnbanResponse, Outcome> {
        let who = who!(self, request, unban_request);
        let (room, reason) = (&request.room, request.reason);
        let call = self.call(principal, Action::Moderate, room, who, reason).await?;
        let targets = match &call.who {
            Who::Name(name) if self.0.acceptor.authenticator.wants_tokens() => {
                self.banned_as(&call.room, name).await?
            }
            Who::Name(_) | Who::Subject(_) => vec![self.target(&call, Order::Unban).await?],
        };
        for target in &targets {
            self.carry_out(&call, target, Order::Unban).await?;
        }
        Ok(proto::UnbanResponse {})
    }

    async fn list_bans(
        &self,
        principal: &Principal,
        request: proto::ListBansRequest,
    ) -> Result<proto::ListBansResponse, Outcome> {
        let room = room(&request.room)?;
        let backplane = self.0.acceptor.hub.backplane();
        may(backplane, principal, Action::Moderate, &room).await?;
        let cursor = match &*request.page_token {
            "" => None,
            token => Some(u64::from_str_radix(token, 16).map_err(|_| Outcome::PageToken)?),
        };
        let limit = self.0.query_limits().page(request.page_size);
        let page = backplane.bans(&room, cursor.map(MembersCursor), limit).await;
        let Bans { bans, next } = page.map_err(unavailable)?;
        let next = next.map(|MembersCursor(next)| format!("{next:x}"));
        Ok(proto::ListBansResponse {
            bans: bans.into_iter().map(ban).collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }

    async fn mute(
        &self,
        principal: &Principal,
        request: proto::MuteRequest,
    ) -> Result<proto::MuteResponse, Outcome> {
        let who = who!(self, request, mute_request);
        let time = time(request.duration)?;
        let (room, reason) = (&request.room, request.reason);
        let call = self.call(principal, Action::Moderate, room, who, reason).await?;
        let Carried { until, members } = self.order(&call, Order::Mute(time)).await?;
        let until = until.map(translate::timestamp);
        Ok(proto::MuteResponse { members: count(members), until })
    }

    async fn unmute(
        &self,
        principal: &Principal,
        request: proto::UnmuteRequest,
    ) -> Result<proto::UnmuteResponse, Outcome> {
        let who = who!(self, request, unmute_request);
        let (room, reason) = (&request.room, request.reason);
        let call = self.call(principal, Action::Moderate, room, who, reason).await?;
        self.order(&call, Order::Unmute).await?;
        Ok(proto::UnmuteResponse {})
    }

    async fn set_role(
        &self,
        principal: &Principal,
        request: proto::SetRoleRequest,
    ) -> Result<proto::SetRoleResponse, Outcome> {
        let who = who!(self, request, set_role_request);
        let role = match &*request.role {
            "" => None,
            name => Some(RoomRole::named(name).ok_or_else(|| {
                bad("role: \"none\", \"reader\", \"member\", \"moderator\" or \"owner\"; empty for what tokens say")
            })?),
        };
        let (room, reason) = (&request.room, request.reason);
        let call = self.call(principal, Action::SetRole, room, who, reason).await?;
        self.order(&call, Order::Role(role)).await?;
        Ok(proto::SetRoleResponse {})
    }

    async fn set_room(
        &self,
        principal: &Principal,
        request: proto::SetRoomRequest,
    ) -> Result<proto::SetRoomResponse, Outcome> {
        let room = room(&request.room)?;
        let authority = authority(principal, request.reason)?;
        let hub = &self.0.acceptor.hub;
        let standing = may(hub.backplane(), principal, Action::Moderate, &room).await?;
        let mut settings = standing.settings;
        if let Some(slow) = request.slow_mode {
            let slow = Duration::try_from(slow).ok();
            let slow = slow.filter(|slow| *slow <= RoomSettings::LONGEST_SLOW_MODE);
            settings.slow_mode = slow.ok_or_else(|| bad("slow_mode: from 0s to 86400s"))?;
        }
        settings.read_only = request.read_only.unwrap_or(settings.read_only);
        settings.history_hidden = request.history_hidden.unwrap_or(settings.history_hidden);
        // As it is kept.
        let settings = RoomSettings::from_number(settings.number());
        hub.set_room(&room, settings, &authority).await.map_err(decide_error)?;
        info!(
            target: "audit",
            parent: None,
            by = %authority.by,
            sub = principal.subject(),
            room = %room,
            slow_mode_ms = u64::try_from(settings.slow_mode.as_millis()).unwrap_or(u64::MAX),
            read_only = settings.read_only,
            history_hidden = settings.history_hidden,
            reason = &*authority.reason,
            "room_set"
        );
        Ok(proto::SetRoomResponse { settings: Some(translate::settings(settings)) })
    }

    /// Answers a call when its turn comes.
    async fn answer<A, B: Message>(
        &self,
        request: Request<A>,
        work: impl AsyncFnOnce(&Principal, A) -> Result<B, Outcome>,
    ) -> Result<Response<B>, Status> {
        let (party, principal) = caller(&request)?;
        let asked = request.into_inner();
        let worked = async { work(&principal, asked).await };
        self.0.query(party, &principal, worked).await
    }
}

#[async_trait]
impl ModerationService for Moderators {
    async fn kick(
        &self,
        request: Request<proto::KickRequest>,
    ) -> Result<Response<proto::KickResponse>, Status> {
        self.answer(request, async |principal, asked| self.kick(principal, asked).await).await
    }

    async fn ban(
        &self,
        request: Request<proto::BanRequest>,
    ) -> Result<Response<proto::BanResponse>, Status> {
        self.answer(request, async |principal, asked| self.ban(principal, asked).await).await
    }

    async fn unban(
        &self,
        request: Request<proto::UnbanRequest>,
    ) -> Result<Response<proto::UnbanResponse>, Status> {
        self.answer(request, async |principal, asked| self.unban(principal, asked).await).await
    }

    async fn list_bans(
        &self,
        request: Request<proto::ListBansRequest>,
    ) -> Result<Response<proto::ListBansResponse>, Status> {
        self.answer(request, async |principal, asked| self.list_bans(principal, asked).await).await
    }

    async fn mute(
        &self,
        request: Request<proto::MuteRequest>,
    ) -> Result<Response<proto::MuteResponse>, Status> {
        self.answer(request, async |principal, asked| self.mute(principal, asked).await).await
    }

    async fn unmute(
        &self,
        request: Request<proto::UnmuteRequest>,
    ) -> Result<Response<proto::UnmuteResponse>, Status> {
        self.answer(request, async |principal, asked| self.unmute(principal, asked).await).await
    }

    async fn set_role(
        &self,
        request: Request<proto::SetRoleRequest>,
    ) -> Result<Response<proto::SetRoleResponse>, Status> {
        self.answer(request, async |principal, asked| self.set_role(principal, asked).await).await
    }

    async fn set_room(
        &self,
        request: Request<proto::SetRoomRequest>,
    ) -> Result<Response<proto::SetRoomResponse>, Status> {
        self.answer(request, async |principal, asked| self.set_room(principal, asked).await).await
    }
}

fn count(members: usize) -> u32 {
    u32::try_from(members).unwrap_or(u32::MAX)
}

/// For how long something holds; `None` for ever.
fn time(asked: Option<prost_types::Duration>) -> Result<Option<Duration>, Outcome> {
    let Some(asked) = asked else { return Ok(None) };
    let time = Duration::try_from(asked).ok();
    let time = time.filter(|time| !time.is_zero() && *time <= LONGEST);
    time.map(Some)
        .ok_or_else(|| bad("duration: more than 0s, and at most 100 years; absent for ever"))
}

fn ban(Ban { identity, until, note }: Ban) -> proto::Ban {
    proto::Ban {
        sub: identity.subject().map_or_else(String::new, ToString::to_string),
        username: match (&identity, note.name) {
            (_, Some(name)) => name.to_string(),
            (Identity::Name(skeleton), None) => skeleton.to_string(),
            (Identity::Subject(_), None) => String::new(),
        },
        by: note.by.to_string(),
        reason: note.reason.to_string(),
        time: Some(translate::timestamp(note.at)),
        until: until.map(translate::timestamp),
    }
}
