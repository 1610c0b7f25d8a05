//! Who somebody is and what they may do.

use std::fmt;

use jiff::Timestamp;

use crate::grant::{Grant, Role};

/// Whom a token is for.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    /// The identity, unique at its issuer: bans, audit and limits go by it.
    pub sub: String,
    /// The only name that this principal may take, or any.
    pub name: Option<String>,
    /// Roles in rooms.
    pub grants: Vec<Grant>,
    /// May do everything, in every room and outside of rooms.
    pub admin: bool,
    /// When all of this ends, without any leeway.
    pub expires_at: Timestamp,
    /// When it began, if that is known.
    pub issued_at: Option<Timestamp>,
}

impl Principal {
    /// The role in a room: the highest of the grants for it, or else `default`. An admin is owner of
    /// every room, and may do more than that outside of rooms. A grant also goes before a higher
    /// default, so that a grant can make somebody a mere reader where others are members.
    pub fn role_in(&self, room: &str, default: Option<Role>) -> Option<Role> {
        if self.admin {
            return Some(Role::Owner);
        }
        let granted = self.grants.iter().filter(|it| it.rooms.matches(room));
        granted.map(|it| it.role).max().or(default)
    }
}

/// Without what was in the token.
impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("grants", &self.grants.len())
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(grants: &[(&str, Role)], admin: bool) -> Principal {
        let grant = |&(rooms, role): &(&str, Role)| Grant { rooms: rooms.parse().unwrap(), role };
        Principal {
            sub: "u1".to_owned(),
            name: None,
            grants: grants.iter().map(grant).collect(),
            admin,
            expires_at: Timestamp::MAX,
            issued_at: None,
        }
    }

    #[test]
    fn the_highest_grant_wins_in_any_order() {
        let grants = [("*", Role::Reader), ("team-*", Role::Moderator), ("team-1", Role::Member)];
        for grants in [grants, [grants[2], grants[1], grants[0]]] {
            let principal = principal(&grants, false);
            assert_eq!(principal.role_in("team-1", None), Some(Role::Moderator));
            assert_eq!(principal.role_in("team", None), Some(Role::Reader));
        }
    }

    #[test]
    fn the_default_is_for_rooms_that_no_grant_names() {
        let principal = principal(&[("quiet", Role::Reader)], false);
        assert_eq!(principal.role_in("lobby", Some(Role::Member)), Some(Role::Member));
        assert_eq!(principal.role_in("lobby", None), None);
        assert_eq!(principal.role_in("quiet", Some(Role::Member)), Some(Role::Reader));
    }

    #[test]
    fn an_admin_owns_every_room() {
        assert_eq!(principal(&[], true).role_in("any", None), Some(Role::Owner));
        let reader = principal(&[("any", Role::Reader)], true);
        assert_eq!(reader.role_in("any", None), Some(Role::Owner));
    }
}
