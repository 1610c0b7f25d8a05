//! Who came, who went, and who was refused: a line each under the target `audit`, with identity and
//! peer, never with a message or a token.

use std::{net::SocketAddr, sync::Arc};

use http::HeaderMap;
use tonic::{Code, Status};
use tracing::info;

use crate::domain::{RoomName, SessionId, Username};

/// The most characters of anything that a client made up.
const SHOWN: usize = 64;

/// Who calls. Dropped before its end was told, as when the connection breaks, it tells that.
#[derive(Debug)]
pub(super) struct Caller {
    peer: SocketAddr,
    /// Whom its certificate names, if it had to show one.
    certificate: Option<Arc<str>>,
    /// Whom a load balancer says it speaks for; whoever reaches the port can say anything.
    forwarded_for: Option<String>,
    room: Option<RoomName>,
    /// The name as it was asked for, then as it is held.
    user: Option<String>,
    session: Option<SessionId>,
    told: bool,
}

impl Caller {
    pub(super) fn new(
        peer: SocketAddr,
        certificate: Option<Arc<str>>,
        headers: &HeaderMap,
    ) -> Self {
        let forwarded_for = headers.get("x-forwarded-for").and_then(|it| it.to_str().ok());
        let forwarded_for = forwarded_for.map(shortened);
        let (room, user, session, told) = (None, None, None, false);
        Self { peer, certificate, forwarded_for, room, user, session, told }
    }

    /// It asks for a name in a room.
    pub(super) fn asks(&mut self, room: &RoomName, user: &str) {
        self.room = Some(room.clone());
        self.user = Some(shortened(user));
    }

    /// It has the name.
    pub(super) fn joined(&mut self, user: &Username, session: SessionId, trace_id: Option<&str>) {
        self.user = Some(user.to_string());
        self.session = Some(session);
        self.tell("joined", None, trace_id);
    }

    /// Its stream ends.
    pub(super) fn ended(&mut self, status: &Status) {
        self.told = true;
        self.tell(if self.session.is_some() { "left" } else { "refused" }, Some(status), None);
    }

    fn tell(&self, what: &'static str, status: Option<&Status>, trace_id: Option<&str>) {
        info!(
            target: "audit",
            parent: None,
            peer = %self.peer,
            certificate = self.certificate.as_deref(),
            forwarded_for = self.forwarded_for,
            room = self.room.as_ref().map(RoomName::as_str),
            // As text, so that whatever it contains is escaped.
            user = self.user,
            session = self.session.map(tracing::field::display),
            code = status.map(|status| tracing::field::debug(status.code())),
            reason = status.map(Status::message),
            trace_id,
            "{what}"
        );
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.told {
            self.ended(&Status::new(Code::Cancelled, "the connection broke"));
        }
    }
}

/// A whole connection is refused.
pub(super) fn refused(peer: SocketAddr, reason: &dyn std::fmt::Display) {
    info!(target: "audit", parent: None, %peer, reason = reason.to_string(), "refused");
}

fn shortened(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_made_up_is_cut() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "1".repeat(4000).parse().unwrap());
        let mut caller = Caller::new(([127, 0, 0, 1], 1).into(), None, &headers);
        caller.asks(&RoomName::lobby(), &"ü".repeat(4000));
        assert_eq!(caller.forwarded_for.as_ref().unwrap().len(), SHOWN);
        assert_eq!(caller.user.as_ref().unwrap(), &"ü".repeat(SHOWN));
    }
}
