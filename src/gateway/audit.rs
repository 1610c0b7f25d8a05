//! Who came, who went, and who was refused: a line each under the target `audit`, with identity and
//! peer, never with a message or a token.
//!
//! What one address does again and again is summed up, so that nobody can push the lines of others out of a log
//! that is rotated: whoever comes beyond a burst, with its end, and refusals beyond the first few of a kind.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::HeaderMap;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::info;

use super::{ADDRESSES, principal::Principal};
use crate::{
    domain::{RoomName, SessionId, Username, origin},
    metrics::{Label as _, Refusal},
    room::{Rate, RateLimiter, RateLimiters},
};

/// How many sessions of an address are told one by one, after its burst.
const SESSIONS: Duration = Duration::from_millis(100);

/// How many refusals of an address for one reason are told one by one.
const REFUSALS: Rate = Rate { interval: Duration::from_secs(10), burst: 5 };

/// The same for all addresses and reasons together.
const ALL_REFUSALS: Rate = Rate { interval: Duration::from_millis(100), burst: 200 };

/// How many addresses are told apart in sums.
const SUMS: usize = 256;

/// How often sums are told.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is summed up as sessions; refusals have their reasons.
const CAME: &str = "";

/// What is told one by one, and what was not.
#[derive(Debug)]
pub struct Audit {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sessions: RateLimiters<IpAddr>,
    refusals: RateLimiters<(IpAddr, &'static str)>,
    all_refusals: RateLimiter,
    /// How often what was not told since sums were.
    sums: HashMap<(IpAddr, &'static str), u64>,
}

impl Audit {
    /// So many sessions of one address may come at once and are all told.
    pub fn new(burst: usize) -> Arc<Self> {
        let burst = u32::try_from(burst).unwrap_or(u32::MAX);
        let state = State {
            sessions: RateLimiters::new(Rate { interval: SESSIONS, burst }, ADDRESSES),
            refusals: RateLimiters::new(REFUSALS, ADDRESSES),
            all_refusals: RateLimiter::full(ALL_REFUSALS, Instant::now()),
            sums: HashMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Whether a session that begins is told, and its end.
    fn tells_session(&self, peer: IpAddr) -> bool {
        self.decide(peer, CAME, |state, peer, now| state.sessions.take(peer, now).is_ok())
    }

    fn tells_refusal(&self, peer: IpAddr, reason: &'static str) -> bool {
        self.decide(peer, reason, |state, peer, now| {
            let of_all = state.all_refusals.ready(now);
            // Nothing is taken of all for what its own address may not have.
            of_all.and_then(|()| state.refusals.take((peer, reason), now)).is_ok()
                && state.all_refusals.take(now).is_ok()
        })
    }

    fn decide(
        &self,
        peer: IpAddr,
        reason: &'static str,
        decide: impl FnOnce(&mut State, IpAddr, Instant) -> bool,
    ) -> bool {
        let (peer, now) = (origin(peer), Instant::now());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let tells = decide(&mut state, peer, now);
        if !tells {
            let known = state.sums.len() < SUMS || state.sums.contains_key(&(peer, reason));
            let peer = if known { peer } else { Ipv4Addr::UNSPECIFIED.into() };
            *state.sums.entry((peer, reason)).or_default() += 1;
        }
        tells
    }

    /// A whole connection is refused.
    pub(super) fn refused(&self, peer: SocketAddr, kind: Refusal, reason: &dyn std::fmt::Display) {
        if self.tells_refusal(peer.ip(), kind.value()) {
            info!(target: "audit", parent: None, %peer, reason = reason.to_string(), "refused");
        }
    }

    /// Tells sums, every ten seconds and at the end.
    pub async fn tell_until(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.tell_sums();
        }
        self.tell_sums();
    }

    fn tell_sums(&self) {
        let sums = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut state.sums)
        };
        for ((peer, reason), count) in sums {
            // More than there are in sums have no address of their own here.
            let address = (!peer.is_unspecified()).then_some(tracing::field::display(peer));
            if reason == CAME {
                info!(target: "audit", parent: None, address, count, "more joined, and left");
            } else {
                info!(target: "audit", parent: None, address, reason, count, "more refused");
            }
        }
    }
}

/// The most characters of anything that a client made up.
const SHOWN: usize = 64;

/// Who calls. Dropped before its end was told, as when the connection breaks, it tells that.
#[derive(Debug)]
pub(super) struct Caller {
    audit: Arc<Audit>,
    peer: SocketAddr,
    /// Whom its certificate names, if it had to show one.
    certificate: Option<Arc<str>>,
    /// Whom its token is for.
    subject: Option<String>,
    /// Whom a load balancer says it speaks for; whoever reaches the port can say anything.
    forwarded_for: Option<String>,
    room: Option<RoomName>,
    /// The name as it was asked for, then as it is held.
    user: Option<String>,
    session: Option<SessionId>,
    /// That it came in was not told, and its end is not either.
    summed: bool,
    told: bool,
}

impl Caller {
    pub(super) fn new(
        audit: Arc<Audit>,
        peer: SocketAddr,
        certificate: Option<Arc<str>>,
        headers: &HeaderMap,
    ) -> Self {
        // Proxies add whom they have seen at the end; what comes before, a client may have made up.
        let forwarded_for = headers.get_all("x-forwarded-for").iter().next_back();
        let forwarded_for = forwarded_for.and_then(|it| it.to_str().ok()).map(end_of);
        let (subject, room, user, session) = (None, None, None, None);
        let (summed, told) = (false, false);
        Self { audit, peer, certificate, subject, forwarded_for, room, user, session, summed, told }
    }

    /// It has shown who it is.
    pub(super) fn shows(&mut self, principal: &Principal) {
        self.subject = principal.subject().map(str::to_owned);
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
        self.summed = !self.audit.tells_session(self.peer.ip());
        if self.summed {
            return;
        }
        self.tell(if resumed { "resumed" } else { "joined" }, None, trace_id);
    }

    /// Its stream ends; as a refusal, or because the client is done or gone.
    pub(super) fn ended(&mut self, status: &Status, refusal: Option<Refusal>) {
        self.tell_end(status.code(), status.message(), refusal);
    }

    fn tell_end(&mut self, code: Code, reason: &str, refusal: Option<Refusal>) {
        self.told = true;
        let tells = match self.session {
            Some(_) => !self.summed,
            None => {
                let kind = refusal.map_or("cancelled", Refusal::value);
                self.audit.tells_refusal(self.peer.ip(), kind)
            }
        };
        if tells {
            let what = if self.session.is_some() { "left" } else { "refused" };
            self.tell(what, Some((code, reason)), None);
        }
    }

    fn tell(&self, what: &'static str, end: Option<(Code, &str)>, trace_id: Option<&str>) {
        info!(
            target: "audit",
            parent: None,
            peer = %self.peer,
            certificate = self.certificate.as_deref(),
            sub = self.subject,
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
            self.tell_end(Code::Cancelled, "the connection broke", None);
        }
    }
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
        let mut caller = Caller::new(Audit::new(1), ([127, 0, 0, 1], 1).into(), None, &headers);
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

    fn sums(audit: &Audit) -> HashMap<(IpAddr, &'static str), u64> {
        audit.state.lock().unwrap().sums.clone()
    }

    #[test]
    fn those_who_come_in_are_told_and_churn_is_summed_up() {
        let audit = Audit::new(100);
        let (one, two): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let told = (0..5000).filter(|_| audit.tells_session(one)).count();
        assert!((100..150).contains(&told), "{told}");
        assert!((0..100).all(|_| audit.tells_session(two)), "the others are told as ever");
        assert_eq!(sums(&audit), HashMap::from([((one, CAME), 5000 - told as u64)]));
        audit.tell_sums();
        assert!(sums(&audit).is_empty());
    }

    #[test]
    fn refusals_are_summed_up_by_address_and_reason() {
        let audit = Audit::new(100);
        let one = IpAddr::from([10, 0, 0, 1]);
        for reason in ["name_taken", "streams"] {
            assert_eq!((0..1000).filter(|_| audit.tells_refusal(one, reason)).count(), 5);
            assert_eq!(sums(&audit)[&(one, reason)], 995);
        }
        // Many addresses are no way round it, and take no more than so much memory.
        let all = (0..20_000_u32).map(|it| IpAddr::from(it.to_be_bytes()));
        let told = all.filter(|it| audit.tells_refusal(*it, "streams")).count();
        assert!((150..250).contains(&told), "{told}");
        assert!(sums(&audit).len() <= SUMS + 2, "{}", sums(&audit).len());
    }
}
