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
        // Proxies add whom they have seen at the end; what comes before, a client may have made up.
        let forwarded_for = headers.get_all("x-forwarded-for").iter().next_back();
        let forwarded_for = forwarded_for.and_then(|it| it.to_str().ok()).map(end_of);
        let (room, user, session, told) = (None, None, None, false);
        Self { peer, certificate, forwarded_for, room, user, session, told }
    }

    /// It asks for a name in a room.
    pub(super) fn asks(&mut self, room: &RoomName, user: &str) {
        self.room = Some(room.clone());
        self.user = Some(shortened(user));
    }

    /// It has the name.
    pub(super) fn joined(
        &mut self,
        user: &Username,
        session: SessionId,
        resumed: bool,
        trace_id: Option<&str>,
    ) {
        self.user = Some(user.to_string());
        self.session = Some(session);
        self.tell(if resumed { "resumed" } else { "joined" }, None, trace_id);
    }

    /// Its stream ends.
    pub(super) fn ended(&mut self, status: &Status) {
        self.tell_end(status.code(), status.message());
    }

    fn tell_end(&mut self, code: Code, reason: &str) {
        self.told = true;
        let what = if self.session.is_some() { "left" } else { "refused" };
        self.tell(what, Some((code, reason)), None);
    }

    fn tell(&self, what: &'static str, end: Option<(Code, &str)>, trace_id: Option<&str>) {
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
            code = end.map(|(code, _)| tracing::field::debug(code)),
            reason = end.map(|(_, reason)| reason),
            trace_id,
            "{what}"
        );
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.told {
            self.tell_end(Code::Cancelled, "the connection broke");
        }
    }
}

/// A whole connection is refused.
pub(super) fn refused(peer: SocketAddr, reason: &dyn std::fmt::Display) {
    info!(target: "audit", parent: None, %peer, reason = reason.to_string(), "refused");
}

/// The beginning, on one line and without what turns a terminal's head.
fn shortened(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(visible).collect()
}

fn end_of(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(SHOWN);
    text.chars().skip(skip).collect()
}

/// A character that can be seen as it is; others as their escapes, as Rust writes them.
fn visible(character: char) -> impl Iterator<Item = char> {
    let quoted = matches!(character, '"' | '\'' | '\\');
    let escaped = character.escape_debug();
    let shown = (quoted || escaped.len() == 1).then_some(character);
    shown.into_iter().chain(escaped.filter(move |_| shown.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_made_up_is_cut() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "192.0.2.1".parse().unwrap());
        let long = format!("{}, 203.0.113.9", "1".repeat(4000));
        headers.append("x-forwarded-for", long.parse().unwrap());
        let mut caller = Caller::new(([127, 0, 0, 1], 1).into(), None, &headers);
        caller.asks(&RoomName::lobby(), &"ü".repeat(4000));
        let forwarded_for = caller.forwarded_for.as_ref().unwrap();
        assert!(forwarded_for.ends_with("1, 203.0.113.9"), "{forwarded_for}");
        assert_eq!(forwarded_for.len(), SHOWN);
        assert_eq!(caller.user.as_ref().unwrap(), &"ü".repeat(SHOWN));
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        let name = "Zoë \"x\"\u{9b}31m\u{202e}\u{2028}\n";
        assert_eq!(shortened(name), "Zoë \"x\"\\u{9b}31m\\u{202e}\\u{2028}\\n");
    }
}
