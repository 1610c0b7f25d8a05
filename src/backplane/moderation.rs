//! What moderators decide in a room, and how it is kept and carried out.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::Unavailable;
use crate::domain::{
    DisplayName, Event, Identity, Member, RoomName, RoomRole, RoomSettings, Until,
};

/// The most bans, mutes and roles of a room together. Those that have ended make room for others.
pub const DECISIONS: usize = 10_000;

/// The most members in one call of [`super::Backplane::enforce`].
pub const ENFORCE_BATCH: usize = 128;

/// The most bans in one page of [`super::Backplane::bans`], about.
pub const BANS_PAGE: usize = 500;

/// Something that is kept of a room, whoever is in it, and judged whenever somebody joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision<'a> {
    /// Nobody of this identity may come in for so long; or for ever.
    Ban(&'a Identity, Option<Duration>, &'a BanNote),
    /// They may again.
    Unban(&'a Identity),
    /// Nobody of this identity may speak for so long; or for ever.
    Mute(&'a Identity, Option<Duration>),
    /// They may again.
    Unmute(&'a Identity),
    /// Whoever is of this identity has this role, whatever a token says; or again what that says.
    Role(&'a Identity, Option<RoomRole>),
    /// What holds for all but moderators.
    Room(RoomSettings),
}

/// What is known of a ban beside whom it is about and until when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BanNote {
    /// The name that the banned one went by, if that is known.
    pub name: Option<DisplayName>,
    /// Who did it, for people.
    pub by: DisplayName,
    /// Why, for people.
    pub reason: Arc<str>,
    /// When.
    pub at: Timestamp,
}

/// Why a decision is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecideError {
    /// There are [`DECISIONS`] already.
    #[error("the room has {DECISIONS} bans, mutes and roles already")]
    Full,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What is done to members who are in a room, in one step with what it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure<'a> {
    /// They are put out: their sessions are over, whoever carries them.
    Remove {
        /// Why, for them.
        reason: &'a str,
    },
    /// They may not speak until then; or they may again.
    Mute(Option<Until>),
    /// They have this role, whatever their tokens say; or again what these say.
    Role(Option<RoomRole>),
    /// Nothing; what holds in the room is another.
    Room(RoomSettings),
    /// Nothing; the room is only told.
    Nothing,
}

/// A member to whom something is done.
#[derive(Clone, PartialEq, Debug)]
pub struct Affected {
    /// The name's skeleton.
    pub skeleton: String,
    /// Who. Nothing is done to another session under the name.
    pub member: Member,
    /// What the room is told of it.
    pub told: Arc<Event>,
    /// Its `left`, where it is put out.
    pub left: Option<Arc<Event>>,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Enforcement<'a> {
    /// In which room. Where nobody ever was, or long ago, nothing is done and nobody told.
    pub room: &'a RoomName,
    /// What.
    pub measure: Measure<'a>,
    /// To whom, at most [`ENFORCE_BATCH`].
    pub members: &'a [Affected],
    /// What the room is told where it is done to nobody.
    pub otherwise: Option<&'a Arc<Event>>,
}

/// How somebody stands in a room, by what was decided there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Standing {
    /// Until when it may not come in.
    pub banned: Option<Until>,
    /// Until when it may not speak.
    pub muted: Option<Until>,
    /// The role that it has, whatever its token says.
    pub role: Option<RoomRole>,
    /// What holds in the room.
    pub settings: RoomSettings,
}

/// Why a member may not speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Silenced {
    /// It is muted.
    Muted(Until),
    /// Its role in the room is that of a reader.
    Reader,
    /// Nobody may but moderators.
    ReadOnly,
    /// It has just spoken: it may in so long.
    SlowMode(Duration),
}

/// A ban that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ban {
    /// Whom it is about.
    pub identity: Identity,
    /// Until when.
    pub until: Until,
    /// What else is known of it.
    pub note: BanNote,
}

/// A page of a room's bans.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bans {
    /// Some bans, in no order.
    pub bans: Vec<Ban>,
    /// Where the next page begins; `None` when this is the last one.
    pub next: Option<super::MembersCursor>,
}
