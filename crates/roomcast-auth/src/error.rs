//! Why a token is refused.

use std::fmt;

/// Why a token is refused, in words for the client that sent it. Nothing of the token or of a key is
/// in them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// It is no signed JWT of a kind that is accepted here.
    #[error("malformed token: {0}")]
    Malformed(Malformed),
    /// The signature is not by the key.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// No key of the set has the token's `kid`. A newer set might have one.
    #[error("the token's key id is not known")]
    UnknownKeyId,
    /// It names no key, and several could be meant.
    #[error("the token has no key id, and several keys are for its algorithm")]
    MissingKeyId,
    /// It is signed with another algorithm than the key is for, or with none.
    #[error("the token's algorithm is not the one that the key is for")]
    AlgorithmMismatch,
    /// Its `exp` has passed.
    #[error("token expired")]
    Expired,
    /// Its `nbf` or `iat` is still to come.
    #[error("token not valid yet")]
    NotYetValid,
    /// Its `iss` is another one.
    #[error("the token is from another issuer")]
    IssuerMismatch,
    /// Its `aud` is another one.
    #[error("the token is for another audience")]
    AudienceMismatch,
    /// It lacks a claim that it has to have.
    #[error("the token has no claim {0}")]
    MissingClaim(Claim),
    /// A claim is of another type or has a value that is not allowed.
    #[error("the token's claim {0} is invalid: {requirement}", requirement = .0.requirement())]
    InvalidClaim(Claim),
    /// The key set has not been had yet. This says nothing about the token.
    #[error("the keys that verify tokens are not loaded yet")]
    KeysUnavailable,
}

/// What makes a token no signed JWT that is accepted here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// It is too long to be looked at.
    #[error("it has more than 8192 bytes")]
    TooLong,
    /// It does not have three parts.
    #[error("it does not have three parts with dots between them")]
    Parts,
    /// A part is not base64url without padding.
    #[error("its parts are not in base64url without padding")]
    Encoding,
    /// The header is no JSON object with what a header has.
    #[error("its header cannot be read")]
    Header,
    /// `typ` is neither `JWT` nor `at+jwt`.
    #[error("its type is neither JWT nor at+jwt")]
    Type,
    /// `crit` or `b64` asks for what is not supported.
    #[error("its header asks for an extension that is not supported")]
    Extension,
    /// The claims are no JSON object, or two have the same name.
    #[error("its claims cannot be read")]
    Claims,
}

/// A claim, or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// `sub`.
    Subject,
    /// `exp`.
    Expiry,
    /// `nbf`.
    NotBefore,
    /// `iat`.
    IssuedAt,
    /// `iss`.
    Issuer,
    /// `aud`.
    Audience,
    /// `name`.
    Name,
    /// `roomcast`.
    Roomcast,
    /// `roomcast.admin`.
    Admin,
    /// `roomcast.rooms`.
    Rooms,
    /// One of `roomcast.rooms`, counted from 0.
    Grant(usize),
    /// `match` in one of `roomcast.rooms`.
    GrantMatch(usize),
    /// `role` in one of `roomcast.rooms`.
    GrantRole(usize),
}

impl Claim {
    const fn requirement(self) -> &'static str {
        match self {
            Self::Subject => "a string of 1 to 256 bytes without control characters is needed",
            Self::Expiry | Self::NotBefore | Self::IssuedAt => {
                "a number of seconds from 1970 to 9999 is needed"
            }
            Self::Issuer | Self::Name => "a string is needed",
            Self::Audience => "a string or a list of strings is needed",
            Self::Roomcast | Self::Grant(_) => "an object is needed",
            Self::Admin => "true or false is needed",
            Self::Rooms => "a list of at most 256 grants is needed",
            Self::GrantMatch(_) => "the name of a room, or a prefix and a final *, is needed",
            Self::GrantRole(_) => "reader, member, moderator or owner is needed",
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subject => "sub",
            Self::Expiry => "exp",
            Self::NotBefore => "nbf",
            Self::IssuedAt => "iat",
            Self::Issuer => "iss",
            Self::Audience => "aud",
            Self::Name => "name",
            Self::Roomcast => "roomcast",
            Self::Admin => "roomcast.admin",
            Self::Rooms => "roomcast.rooms",
            Self::Grant(index) => return write!(f, "roomcast.rooms[{index}]"),
            Self::GrantMatch(index) => return write!(f, "roomcast.rooms[{index}].match"),
            Self::GrantRole(index) => return write!(f, "roomcast.rooms[{index}].role"),
        })
    }
}
