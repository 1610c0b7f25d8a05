//! Tokens, and replicas that want them.

use jiff::{SignedDuration, Timestamp};
use roomcast_auth::{Claims, Grant, Role, RoomcastClaim, Signer};

use super::cluster::Plan;

/// What tokens are signed with.
pub(crate) const SECRET: &str = "a secret that only the tests know 0123456789";
/// Who makes tokens.
const ISSUER: &str = "https://id.example.com";
/// Whom they are for.
const AUDIENCE: &str = "roomcast";

/// So many seconds from now.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    (Timestamp::now() + SignedDuration::from_secs(seconds)).as_second()
}

/// What a good token of somebody says who may speak everywhere.
pub(crate) fn claims(sub: &str) -> Claims {
    let everywhere = Grant { rooms: "*".parse().expect("a pattern"), role: Role::Member };
    Claims {
        sub: sub.to_owned(),
        exp: in_seconds(3600),
        iat: None,
        nbf: None,
        iss: Some(ISSUER.to_owned()),
        aud: Some(AUDIENCE.to_owned()),
        name: None,
        roomcast: Some(RoomcastClaim { rooms: vec![everywhere], admin: false }),
    }
}

/// The same, with these roles only.
pub(crate) fn with_roles(sub: &str, roles: &[(&str, Role)]) -> Claims {
    let grant =
        |&(rooms, role): &(&str, Role)| Grant { rooms: rooms.parse().expect("rooms"), role };
    let rooms = roles.iter().map(grant).collect();
    Claims { roomcast: Some(RoomcastClaim { rooms, admin: false }), ..claims(sub) }
}

/// The claims as a token, signed with this.
pub(crate) fn sign_with(secret: &str, claims: &Claims) -> String {
    Signer::from_secret(secret.as_bytes()).expect("long enough").sign(claims).expect("signed")
}

/// A token that replicas of a [`Plan::wanting_tokens`] take.
pub(crate) fn token(claims: &Claims) -> String {
    sign_with(SECRET, claims)
}

/// A token of somebody who has this role in all rooms.
pub(crate) fn of_role(sub: &str, role: Role) -> String {
    token(&with_roles(sub, &[("*", role)]))
}

impl Plan {
    /// Replicas that want tokens, by [`SECRET`].
    pub(crate) fn wanting_tokens(self) -> Self {
        let plan = self.with("ROOMCAST_AUTH__MODE", "token").with("ROOMCAST_AUTH__SECRET", SECRET);
        plan.with("ROOMCAST_AUTH__ISSUER", ISSUER).with("ROOMCAST_AUTH__AUDIENCE", AUDIENCE)
    }
}
