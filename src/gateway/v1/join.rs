//! What a join asks for, checked, and the token by which a session is resumed.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::{V1Config, translate};
use crate::{
    domain::{RoomName, SecretHash, SessionId, TraceParent, Username},
    gateway::{principal::Principal, status::Outcome},
    hub::{Claim, SessionClaim, StartFrom},
    proto::room::{Join, join::Since as AskedSince},
};

/// What a client shows to resume its session: the session and its secret. Only the client has
/// it; others know the secret's hash. Never logged.
#[derive(Clone)]
pub(super) struct Token {
    session: SessionId,
    secret: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// That of a new session.
    fn new() -> Self {
        Self { session: SessionId::from_bytes(rand::random()), secret: rand::random() }
    }

    /// One that came from a client.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (session, secret) = bytes.split_first_chunk::<16>()?;
        Some(Self { session: SessionId::from_bytes(*session), secret: secret.try_into().ok()? })
    }

    /// What others know of its secret. It is good only for whoever it was given to: a session is one subject's.
    fn hash(&self, principal: &Principal) -> SecretHash {
        match principal.subject() {
            None => SecretHash::of(&self.secret),
            Some(subject) => SecretHash::of_subject(&self.secret, subject),
        }
    }

    /// Its 48 bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        [&self.session.as_bytes()[..], &self.secret].concat()
    }
}

/// What a join asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) claim: Claim,
    pub(super) token: Token,
    /// The name as it was spelled.
    pub(super) name: String,
    pub(super) trace: Option<TraceParent>,
}

impl Asked {
    /// Checks a join.
    pub(super) fn read(
        join: Join,
        trace: Option<TraceParent>,
        config: &V1Config,
        principal: &Principal,
        begun: Arc<AtomicBool>,
    ) -> Result<Self, Outcome> {
        let room = match &*join.room {
            "" => RoomName::lobby(),
            room => RoomName::parse(room).map_err(Outcome::JoinRoom)?,
        };
        let name = Username::parse(&join.username, config.names).map_err(Outcome::Name)?;
        let (token, session) = if join.session_token.is_empty() {
            let token = Token::new();
            let session = SessionClaim::New(token.session, token.hash(principal));
            (token, session)
        } else {
            let token = Token::read(&join.session_token).ok_or(Outcome::NoToken)?;
            let session = SessionClaim::Resumed(token.session, token.hash(principal));
            (token, session)
        };
        let since = match join.since {
            None => StartFrom::Now,
            Some(AskedSince::After(position)) => {
                StartFrom::After(translate::read_position(position))
            }
            Some(AskedSince::Latest(events)) => {
                StartFrom::Latest(events.min(u32::try_from(config.page_size).unwrap_or(u32::MAX)))
            }
        };
        // A negative one is none at all.
        let linger = join.linger.map(|it| Duration::try_from(it).unwrap_or_default());
        let linger = linger.map_or(config.linger, |linger| linger.min(config.linger));
        let trace = TraceParent::parse(&join.traceparent).or(trace);
        // The welcome tells a new session's client of it.
        let told = match session {
            SessionClaim::Resumed(..) => Arc::new(AtomicBool::new(true)),
            SessionClaim::New(..) | SessionClaim::Plain => begun,
        };
        let attempt = join.attempt;
        let (identity, role) = (principal.identity(&name), principal.role(&room));
        let claim = Claim { room, name, identity, role, session, since, linger, attempt, told };
        Ok(Self { claim, token, name: join.username, trace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was_and_is_shown_to_nobody() {
        let token = Token::new();
        let bytes = token.to_bytes();
        assert_eq!(bytes.len(), 48);
        assert_eq!(Token::read(&bytes).unwrap().to_bytes(), bytes);
        for bad in [&bytes[1..], &bytes[..16], &[&bytes[..], &[0]].concat(), &[]] {
            assert!(Token::read(bad).is_none());
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
