//! Carries out what moderators want: what is to be kept is decided first, then it is looked who is in, then it is
//! done to them and told. So it misses nobody, whoever comes meanwhile.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::Hub;
use crate::{
    backplane::{
        Affected, BanNote, DecideError, Decision, ENFORCE_BATCH, Enforcement, MEMBERS_PAGE,
        Measure, MembersPage, Present, Unavailable,
    },
    domain::{
        DisplayName, Event, EventKind, Identity, LeftCause, Member, Moderation, ModerationAction,
        RoomName, RoomRole, RoomSettings, SessionId, Until, Username, UsernameLimits,
    },
};

/// Whom a moderator means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Of whom something is decided. `None`: of nobody, it is about a member only.
    pub identity: Option<Identity>,
    /// The name that was given, or is known.
    pub name: Option<Username>,
    /// Only who has that name now, whoever else is of the same identity.
    pub only_by_name: bool,
}

/// What a moderator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Put it out.
    Kick,
    /// Put it out, and have it not come again for so long; or at all.
    Ban(Option<Duration>),
    /// Have it come again.
    Unban,
    /// Have it not speak for so long; or at all.
    Mute(Option<Duration>),
    /// Have it speak again.
    Unmute,
    /// Give it a role, whatever its token says; or that again.
    Role(Option<RoomRole>),
}

/// Who wants it, and why: as the room is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// Who, for people.
    pub by: DisplayName,
    /// Why, for people.
    pub reason: Arc<str>,
}

/// What it came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried {
    /// Until when it holds.
    pub until: Until,
    /// How many members it was done to.
    pub members: usize,
}

impl Hub {
    /// Does what a moderator wants.
    pub async fn moderate(
        &self,
        room: &RoomName,
        target: &Target,
        order: Order,
        authority: &Authority,
    ) -> Result<Carried, DecideError> {
        let until = self.decide(room, target, order, authority).await?;
        let action = match order {
            Order::Kick => ModerationAction::Kicked,
            Order::Ban(_) => ModerationAction::Banned(until),
            Order::Unban => ModerationAction::Unbanned,
            Order::Mute(_) => ModerationAction::Muted(until),
            Order::Unmute => ModerationAction::Unmuted,
            Order::Role(role) => ModerationAction::RoleSet(role),
        };
        let measure = match order {
            Order::Kick | Order::Ban(_) | Order::Role(Some(RoomRole::None)) => {
                Measure::Remove { reason: &authority.reason }
            }
            Order::Unban => Measure::Nothing,
            Order::Mute(_) => Measure::Mute(Some(until)),
            Order::Unmute => Measure::Mute(None),
            Order::Role(role) => Measure::Role(role),
        };
        let removes = matches!(measure, Measure::Remove { .. });
        let found = self.who_is_in(room, target).await?;
        let affected: Vec<Affected> = found
            .into_iter()
            .map(|(skeleton, member)| {
                let told = told(member.clone(), action, authority);
                let left = removes.then(|| {
                    let what = EventKind::Left { cause: LeftCause::Kicked };
                    event(member.clone(), what)
                });
                Affected { skeleton, member, told, left }
            })
            .collect();
        // Who is not there was not put out; of everything else the room is told all the same.
        let otherwise =
            (order != Order::Kick).then(|| told(nobody(target.name.as_ref()), action, authority));
        let members = self.enforce(room, measure, &affected, otherwise.as_ref()).await?;
        Ok(Carried { until, members })
    }

    /// Has something hold in a room for all but its moderators.
    pub async fn set_room(
        &self,
        room: &RoomName,
        settings: RoomSettings,
        authority: &Authority,
    ) -> Result<(), DecideError> {
        self.backplane.decide(room, Decision::Room(settings)).await?;
        let told = told(nobody(None), ModerationAction::RoomSet(settings), authority);
        self.enforce(room, Measure::Room(settings), &[], Some(&told)).await?;
        Ok(())
    }

    async fn decide(
        &self,
        room: &RoomName,
        target: &Target,
        order: Order,
        authority: &Authority,
    ) -> Result<Until, DecideError> {
        let Some(identity) = &target.identity else { return Ok(None) };
        let note = BanNote {
            name: target.name.as_ref().map(|name| name.display().clone()),
            by: authority.by.clone(),
            reason: Arc::clone(&authority.reason),
            at: Timestamp::now(),
        };
        let decision = match order {
            Order::Kick => return Ok(None),
            Order::Ban(time) => Decision::Ban(identity, time, &note),
            Order::Unban => Decision::Unban(identity),
            Order::Mute(time) => Decision::Mute(identity, time),
            Order::Unmute => Decision::Unmute(identity),
            Order::Role(role) => Decision::Role(identity, role),
        };
        self.backplane.decide(room, decision).await
    }

    /// The members that are meant, with the skeletons of their names.
    async fn who_is_in(
        &self,
        room: &RoomName,
        target: &Target,
    ) -> Result<Vec<(String, Member)>, Unavailable> {
        if let (Some(Identity::Subject(subject)), false) = (&target.identity, target.only_by_name) {
            let members = self.members_of(room, subject).await?.into_iter();
            let found = members.map(|(name, it)| (name.skeleton().to_owned(), it.member));
            return Ok(found.collect());
        }
        let Some(name) = &target.name else { return Ok(Vec::new()) };
        let seated = self.backplane.lookup(room, name).await?;
        let found = seated.map(|seated| (name.skeleton().to_owned(), seated.member));
        Ok(found.into_iter().collect())
    }

    /// The members of a room that a subject is, and their names.
    pub async fn members_of(
        &self,
        room: &RoomName,
        subject: &str,
    ) -> Result<Vec<(Username, Present)>, Unavailable> {
        let mut found = Vec::new();
        let mut page = MembersPage { cursor: None, limit: MEMBERS_PAGE };
        loop {
            let members = self.backplane.members(room, page).await?;
            let here = members.members.into_iter();
            let here = here.filter(|present| present.subject.as_deref() == Some(subject));
            found.extend(here.filter_map(|present| {
                let any = UsernameLimits { max_chars: usize::MAX };
                let name = Username::parse(present.member.name.as_str(), any).ok()?;
                Some((name, present))
            }));
            match members.next {
                Some(next) => page.cursor = Some(next),
                None => return Ok(found),
            }
        }
    }

    async fn enforce(
        &self,
        room: &RoomName,
        measure: Measure<'_>,
        affected: &[Affected],
        otherwise: Option<&Arc<Event>>,
    ) -> Result<usize, Unavailable> {
        if affected.is_empty() {
            let enforcement = Enforcement { room, measure, members: &[], otherwise };
            return self.backplane.enforce(enforcement).await;
        }
        let mut done = 0;
        for members in affected.chunks(ENFORCE_BATCH) {
            let enforcement = Enforcement { room, measure, members, otherwise: None };
            done += self.backplane.enforce(enforcement).await?;
        }
        Ok(done)
    }
}

fn told(member: Member, action: ModerationAction, authority: &Authority) -> Arc<Event> {
    let Authority { by, reason } = authority.clone();
    event(member, EventKind::Moderated(Arc::new(Moderation { action, by, reason })))
}

fn event(member: Member, what: EventKind) -> Arc<Event> {
    Arc::new(Event { at: Timestamp::now(), member, what, trace: None })
}

/// Whom an event is about that is about no member.
fn nobody(name: Option<&Username>) -> Member {
    let name = name.map_or_else(|| DisplayName::from_log(""), |name| name.display().clone());
    Member { name, session: SessionId::from_bytes([0; 16]) }
}
