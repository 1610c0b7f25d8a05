//! What moderators have decided, room by room. It outlives the rooms.

use std::{collections::BTreeMap, collections::HashMap, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::leases::later;
use crate::{
    backplane::{
        BANS_PAGE, Ban, BanNote, Bans, DECISIONS, DecideError, Decision, MembersCursor, Standing,
    },
    domain::{Identity, RoomName, RoomRole, RoomSettings, Until},
};

/// When something ends: judged by this clock, and told by that of the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ends {
    /// `None`: never.
    at: Option<(Instant, Timestamp)>,
}

impl Ends {
    fn after(time: Option<Duration>, now: Instant) -> Self {
        let at = time.map(|time| {
            let told = Timestamp::now().checked_add(time).unwrap_or(Timestamp::MAX);
            // As precise as others keep it.
            let told = Timestamp::from_millisecond(told.as_millisecond()).unwrap_or(told);
            (later(now, time), told)
        });
        Self { at }
    }

    /// The same as it was told.
    pub(super) fn told(until: Until, now: Instant) -> Self {
        let at = until.map(|until| {
            let left = Duration::try_from(until.duration_since(Timestamp::now()));
            (later(now, left.unwrap_or_default()), until)
        });
        Self { at }
    }

    /// Until when it holds, if it still does.
    pub(super) fn holds(self, now: Instant) -> Option<Until> {
        match self.at {
            None => Some(None),
            Some((ends, told)) => (ends > now).then_some(Some(told)),
        }
    }

    fn until(self) -> Until {
        self.at.map(|(_, told)| told)
    }
}

/// What is decided of one identity, and what holds in the room, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Decided {
    pub(super) banned: Option<Until>,
    pub(super) muted: Option<Ends>,
    pub(super) role: Option<RoomRole>,
    pub(super) settings: RoomSettings,
}

impl Decided {
    /// The same for those who ask.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        let muted = self.muted.and_then(|ends| ends.holds(now));
        Standing { banned: self.banned, muted, role: self.role, settings: self.settings }
    }
}

/// All decisions.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    by_room: HashMap<RoomName, OfRoom>,
}

#[derive(Debug, Default)]
struct OfRoom {
    /// By the keys of identities, numbered in their order of coming for pages.
    bans: BTreeMap<u64, (Identity, Ends, BanNote)>,
    numbers: HashMap<Identity, u64>,
    last_number: u64,
    mutes: HashMap<Identity, Ends>,
    roles: HashMap<Identity, RoomRole>,
    settings: RoomSettings,
}

impl Decisions {
    /// What is decided of an identity, or of nobody in particular.
    pub(super) fn of(&self, room: &RoomName, identity: Option<&Identity>, now: Instant) -> Decided {
        let Some(room) = self.by_room.get(room) else { return Decided::default() };
        let settings = room.settings;
        let Some(identity) = identity else { return Decided { settings, ..Decided::default() } };
        let ban = room.numbers.get(identity).and_then(|number| room.bans.get(number));
        Decided {
            banned: ban.and_then(|(_, ends, _)| ends.holds(now)),
            muted: room.mutes.get(identity).copied().filter(|ends| ends.holds(now).is_some()),
            role: room.roles.get(identity).copied(),
            settings,
        }
    }

    /// See [`crate::backplane::Backplane::decide`].
    pub(super) fn decide(
        &mut self,
        room: &RoomName,
        decision: Decision<'_>,
        now: Instant,
    ) -> Result<Until, DecideError> {
        let of_room = self.by_room.entry(room.clone()).or_default();
        let until = of_room.decide(decision, now);
        if of_room.is_empty() {
            self.by_room.remove(room);
        }
        until
    }

    /// See [`crate::backplane::Backplane::bans`]. Those that came first are told first.
    pub(super) fn bans(
        &self,
        room: &RoomName,
        cursor: Option<MembersCursor>,
        limit: usize,
        now: Instant,
    ) -> Bans {
        let Some(room) = self.by_room.get(room) else { return Bans { bans: vec![], next: None } };
        let after = cursor.map_or(0, |MembersCursor(after)| after);
        let mut numbered = room.bans.range(after.saturating_add(1)..);
        let page: Vec<_> = numbered.by_ref().take(limit.clamp(1, BANS_PAGE)).collect();
        let next = page.last().filter(|_| numbered.next().is_some());
        let next = next.map(|(number, _)| MembersCursor(**number));
        let bans = page.into_iter().filter_map(|(_, (identity, ends, note))| {
            let until = ends.holds(now)?;
            Some(Ban { identity: identity.clone(), until, note: note.clone() })
        });
        Bans { bans: bans.collect(), next }
    }
}

impl OfRoom {
    fn decide(&mut self, decision: Decision<'_>, now: Instant) -> Result<Until, DecideError> {
        let adds = match decision {
            Decision::Ban(identity, ..) => !self.numbers.contains_key(identity),
            Decision::Mute(identity, _) => !self.mutes.contains_key(identity),
            Decision::Role(identity, Some(_)) => !self.roles.contains_key(identity),
            Decision::Unban(_) | Decision::Unmute(_) | Decision::Role(_, None) => false,
            Decision::Room(settings) => {
                settings != RoomSettings::default() && self.settings == RoomSettings::default()
            }
        };
        if adds && self.len() >= DECISIONS {
            self.sweep(now);
            if self.len() >= DECISIONS {
                return Err(DecideError::Full);
            }
        }
        let mut ends = Ends { at: None };
        match decision {
            Decision::Ban(identity, time, note) => {
                ends = Ends::after(time, now);
                self.unban(identity);
                self.last_number += 1;
                self.numbers.insert(identity.clone(), self.last_number);
                self.bans.insert(self.last_number, (identity.clone(), ends, note.clone()));
            }
            Decision::Unban(identity) => self.unban(identity),
            Decision::Mute(identity, time) => {
                ends = Ends::after(time, now);
                self.mutes.insert(identity.clone(), ends);
            }
            Decision::Unmute(identity) => drop(self.mutes.remove(identity)),
            Decision::Role(identity, Some(role)) => {
                self.roles.insert(identity.clone(), role);
            }
            Decision::Role(identity, None) => drop(self.roles.remove(identity)),
            Decision::Room(settings) => self.settings = settings,
        }
        Ok(ends.until())
    }

    fn unban(&mut self, identity: &Identity) {
        if let Some(number) = self.numbers.remove(identity) {
            self.bans.remove(&number);
        }
    }

    /// Removes what has ended.
    fn sweep(&mut self, now: Instant) {
        self.bans.retain(|_, (_, ends, _)| ends.holds(now).is_some());
        let bans = &self.bans;
        self.numbers.retain(|_, number| bans.contains_key(number));
        self.mutes.retain(|_, ends| ends.holds(now).is_some());
    }

    fn len(&self) -> usize {
        let settings = usize::from(self.settings != RoomSettings::default());
        self.bans.len() + self.mutes.len() + self.roles.len() + settings
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
