//! What moderators do, and what becomes of those whom it is done to.

mod asking;
mod races;
mod rooms;

use roomcast_auth::Role;
use roomcast_proto::room::{
    BanRequest, BanResponse, KickRequest, LeftCause, ListBansRequest, ListEventsRequest, Moderated,
    ModerationAction, MuteRequest, NackReason, SetRoleRequest, UnbanRequest, UnmuteRequest,
    ban_request, event::What, kick_request, moderation_service_client::ModerationServiceClient,
    mute_request, set_role_request, unban_request, unmute_request,
};
use tonic::{Code, Status, transport::Channel};

use crate::harness::{
    Cluster, Endpoint, Layout, RichClient, SOON,
    tokens::{self, claims, of_role, token},
};

on_both_backplanes!(
    who_is_kicked_is_out_everywhere_and_may_come_again,
    who_is_banned_is_kept_out_by_every_replica,
    a_ban_ends_by_itself,
    who_is_muted_is_silent_until_then,
    roles_are_given_and_taken,
    where_nobody_shows_a_token_names_are_banned,
);

/// The key of backends.
const KEY: &str = "a-key-of-backends-that-only-the-tests-know";

/// Calls of a moderator by this endpoint.
struct Moderator {
    client: ModerationServiceClient<Channel>,
    endpoint: Endpoint,
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

impl Moderator {
    async fn at(endpoint: Endpoint) -> Self {
        Self { client: ModerationServiceClient::new(endpoint.channel().await), endpoint }
    }

    async fn kick(&mut self, room: &str, who: kick_request::Who) -> Result<u32, Status> {
        let (room, reason) = (room.to_owned(), "spam".to_owned());
        let request = self.endpoint.authorized(KickRequest { room, reason, who: Some(who) });
        Ok(self.client.kick(request).await?.into_inner().members)
    }

    async fn kick_name(&mut self, room: &str, name: &str) -> Result<u32, Status> {
        self.kick(room, kick_request::Who::Username(name.to_owned())).await
    }

    async fn ban(
        &mut self,
        room: &str,
        who: ban_request::Who,
        duration: Option<prost_types::Duration>,
    ) -> Result<BanResponse, Status> {
        let (room, reason, who) = (room.to_owned(), "spam".to_owned(), Some(who));
        let request = self.endpoint.authorized(BanRequest { room, reason, duration, who });
        Ok(self.client.ban(request).await?.into_inner())
    }

    async fn ban_sub(&mut self, room: &str, sub: &str) -> Result<BanResponse, Status> {
        self.ban(room, ban_request::Who::Sub(sub.to_owned()), Some(seconds(3600))).await
    }

    async fn unban(&mut self, room: &str, who: unban_request::Who) -> Result<(), Status> {
        let (room, reason, who) = (room.to_owned(), String::new(), Some(who));
        let request = self.endpoint.authorized(UnbanRequest { room, reason, who });
        self.client.unban(request).await.map(drop)
    }

    async fn mute_sub(
        &mut self,
        room: &str,
        sub: &str,
        duration: Option<prost_types::Duration>,
    ) -> Result<u32, Status> {
        let who = Some(mute_request::Who::Sub(sub.to_owned()));
        let (room, reason) = (room.to_owned(), "loud".to_owned());
        let request = self.endpoint.authorized(MuteRequest { room, reason, duration, who });
        Ok(self.client.mute(request).await?.into_inner().members)
    }

    async fn unmute_sub(&mut self, room: &str, sub: &str) -> Result<(), Status> {
        let who = Some(unmute_request::Who::Sub(sub.to_owned()));
        let (room, reason) = (room.to_owned(), String::new());
        let request = self.endpoint.authorized(UnmuteRequest { room, reason, who });
        self.client.unmute(request).await.map(drop)
    }

    async fn set_role(&mut self, room: &str, sub: &str, role: &str) -> Result<(), Status> {
        let who = Some(set_role_request::Who::Sub(sub.to_owned()));
        let (room, reason, role) = (room.to_owned(), String::new(), role.to_owned());
        let request = self.endpoint.authorized(SetRoleRequest { room, reason, role, who });
        self.client.set_role(request).await.map(drop)
    }
}

/// Replicas that want tokens, and know the key of backends.
async fn start(layout: Layout) -> Cluster {
    let plan = layout.plan().wanting_tokens().with("ROOMCAST_API__KEY", KEY);
    // All calls come from one address.
    plan.with("ROOMCAST_LIMITS__QUERY_INTERVAL", "0s").start().await
}

/// A moderator of all rooms, by a replica.
async fn moderator(cluster: &Cluster, replica: usize) -> Moderator {
    Moderator::at(cluster.endpoint(replica).bearing(&of_role("mod", Role::Moderator))).await
}

/// Somebody who comes into a room by its token, by a replica.
async fn enter(cluster: &Cluster, replica: usize, room: &str, name: &str) -> RichClient {
    enter_as(name, cluster, replica, room, name).await
}

/// The same under another name than its subject.
async fn enter_as(
    sub: &str,
    cluster: &Cluster,
    replica: usize,
    room: &str,
    name: &str,
) -> RichClient {
    let endpoint = cluster.endpoint(replica).bearing(&token(&claims(sub)));
    let mut client = RichClient::open(&endpoint, RichClient::asking(room, name)).await;
    client.welcome().await;
    client
}

/// What a moderator did, as the next thing that a member hears of.
async fn expect_moderated(client: &mut RichClient, name: &str) -> Moderated {
    let event = client.next_event().await;
    assert_eq!(event.username, name, "{event:?}");
    match event.what {
        Some(What::Moderated(moderated)) => moderated,
        other => panic!("expected what a moderator did, got {other:?}"),
    }
}

fn denied<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    let status = outcome.expect_err("it is denied");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    status.message().to_owned()
}

async fn who_is_kicked_is_out_everywhere_and_may_come_again(layout: Layout) {
    let cluster = start(layout).await;
    let mut alice = enter(&cluster, 0, "lobby", "alice").await;
    let mut bob = enter(&cluster, 1, "lobby", "bob").await;
    alice.expect_joined("bob").await;
    let mut plain = cluster.endpoint(2).bearing(&token(&claims("carol"))).join("carol").await;
    alice.expect_joined("carol").await;
    bob.say_and_wait(1, "one").await;
    alice.expect_said("bob", "one").await;

    let mut moderator = moderator(&cluster, 0).await;
    assert_eq!(moderator.kick_name("lobby", "BOB").await.expect("a moderator may"), 1);
    let kicked = expect_moderated(&mut alice, "bob").await;
    assert_eq!(kicked.action(), ModerationAction::Kicked);
    assert_eq!((&*kicked.by, &*kicked.reason), ("a moderator", "spam"));
    alice.expect_left("bob", LeftCause::Kicked).await;
    assert_eq!(bob.expect_end(Code::PermissionDenied).await, "kicked: spam");
    plain.expect_said("bob", "one").await;
    plain.expect_system("bob left").await;
    // The session is over, and nothing of it comes back.
    let endpoint = cluster.endpoint(2).bearing(&token(&claims("bob")));
    bob.resume(&endpoint, None).await.expect_end(Code::NotFound).await;
    let again = denied_not_found(moderator.kick_name("lobby", "bob").await);
    assert!(again.contains("nobody like that"), "{again}");

    // All of a subject, whatever they are called.
    let mut other = enter(&cluster, 2, "lobby", "bob").await;
    alice.expect_joined("bob").await;
    let who = kick_request::Who::Sub("bob".to_owned());
    assert_eq!(moderator.kick("lobby", who).await.expect("a moderator may"), 1);
    assert_eq!(other.expect_end(Code::PermissionDenied).await, "kicked: spam");
    expect_moderated(&mut alice, "bob").await;
    alice.expect_left("bob", LeftCause::Kicked).await;
    other = enter(&cluster, 0, "lobby", "bob").await;
    other.say_and_wait(1, "back").await;

    assert_eq!(moderator.kick_name("lobby", "carol").await.expect("a moderator may"), 1);
    assert_eq!(plain.expect_end(Code::PermissionDenied).await, "kicked: spam");
    cluster.assert_no_errors();
}

fn denied_not_found<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    let status = outcome.expect_err("nobody is there");
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    status.message().to_owned()
}

async fn who_is_banned_is_kept_out_by_every_replica(layout: Layout) {
    let cluster = start(layout).await;
    let mut alice = enter(&cluster, 0, "lobby", "alice").await;
    let bob = enter(&cluster, 1, "lobby", "bob").await;
    alice.expect_joined("bob").await;
    let mut moderator = moderator(&cluster, 2).await;
    let who = ban_request::Who::Username("bob".to_owned());
    let banned = moderator.ban("lobby", who, Some(seconds(3600))).await.expect("a moderator may");
    assert_eq!(banned.members, 1);
    let until = banned.until.expect("it ends");
    assert_eq!(bob.expect_end(Code::PermissionDenied).await, "kicked: spam");
    let told = expect_moderated(&mut alice, "bob").await;
    assert_eq!((told.action(), told.until), (ModerationAction::Banned, Some(until)));
    alice.expect_left("bob", LeftCause::Kicked).await;

    for replica in 0..3 {
        let endpoint = cluster.endpoint(replica).bearing(&token(&claims("bob")));
        // Whatever it calls itself, in both protocols, and by the calls.
        let rich = RichClient::open(&endpoint, RichClient::asking("lobby", "robert")).await;
        let words = rich.expect_end(Code::PermissionDenied).await;
        let at = words.strip_prefix("banned until ").expect("the time is told");
        let at: jiff::Timestamp = at.parse().expect("a time");
        assert_eq!(at.as_second(), until.seconds);
        let plain = endpoint.join("robert").await.expect_end(Code::PermissionDenied).await;
        assert_eq!(plain, words);
        let mut calls = RichClient::calls(&endpoint).await;
        let events = calls.list_events(endpoint.authorized(ListEventsRequest::default())).await;
        assert_eq!(denied(events), words);
        // Other rooms are open.
        drop(enter(&cluster, replica, &format!("room-{replica}"), "bob").await);
    }
    let request = moderator.endpoint.authorized(ListBansRequest::default());
    let bans = moderator.client.list_bans(request).await.expect("a moderator may").into_inner();
    let [ban] = &bans.bans[..] else { panic!("one ban: {bans:?}") };
    assert_eq!((&*ban.sub, &*ban.username, &*ban.reason), ("bob", "bob", "spam"));
    assert_eq!((ban.until, &*ban.by), (Some(until), "a moderator"));

    let stranger = unban_request::Who::Username("alice".to_owned());
    denied_not_found(moderator.unban("lobby", stranger).await);
    let who = unban_request::Who::Username("Bob".to_owned());
    moderator.unban("lobby", who).await.expect("a moderator may");
    assert_eq!(expect_moderated(&mut alice, "Bob").await.action(), ModerationAction::Unbanned);
    enter(&cluster, 0, "lobby", "bob").await;
    alice.expect_joined("bob").await;
    // Who is not there can be banned, too.
    moderator.ban_sub("lobby", "dave").await.expect("a moderator may");
    assert_eq!(expect_moderated(&mut alice, "").await.action(), ModerationAction::Banned);
    let endpoint = cluster.endpoint(1).bearing(&token(&claims("dave")));
    endpoint.join("dave").await.expect_end(Code::PermissionDenied).await;
    cluster.assert_no_errors();
}

async fn a_ban_ends_by_itself(layout: Layout) {
    let cluster = start(layout).await;
    let mut moderator = moderator(&cluster, 0).await;
    let who = || ban_request::Who::Sub("bob".to_owned());
    moderator.ban("lobby", who(), Some(seconds(2))).await.expect("a moderator may");
    let endpoint = cluster.endpoint(1).bearing(&token(&claims("bob")));
    endpoint.join("bob").await.expect_end(Code::PermissionDenied).await;
    crate::harness::eventually(SOON, "the ban ends", async || {
        let client = RichClient::open(&endpoint, RichClient::asking("lobby", "bob")).await;
        let answered = client.inbox().wait(SOON, |state| {
            let welcomed = (!state.told.is_empty()).then_some(true);
            welcomed.or_else(|| state.ended.as_ref().map(|_| false))
        });
        answered.await.unwrap_or(false).then_some(())
    })
    .await;
    // One without an end does not.
    let banned = moderator.ban("lobby", who(), None).await.expect("a moderator may");
    assert_eq!(banned.until, None);
    assert_eq!(endpoint.join("bob").await.expect_end(Code::PermissionDenied).await, "banned");
}

async fn who_is_muted_is_silent_until_then(layout: Layout) {
    let cluster = start(layout).await;
    let mut alice = enter(&cluster, 0, "lobby", "alice").await;
    let mut bob = enter(&cluster, 1, "lobby", "bob").await;
    alice.expect_joined("bob").await;
    bob.say_and_wait(1, "one").await;
    let mut moderator = moderator(&cluster, 2).await;
    assert_eq!(moderator.mute_sub("lobby", "bob", Some(seconds(3600))).await.expect("may"), 1);
    alice.expect_said("bob", "one").await;
    let told = expect_moderated(&mut alice, "bob").await;
    assert_eq!((told.action(), &*told.reason), (ModerationAction::Muted, "loud"));
    bob.say(2, "two").await;
    let nack = bob.expect_nack(2).await;
    assert_eq!(nack.reason(), NackReason::Muted);
    let left = nack.retry_after.expect("the time is told").seconds;
    assert!((3500..=3600).contains(&left), "{left}");
    assert!(nack.detail.starts_with("muted until 2"), "{}", nack.detail);
    // On another stream and under another name as well.
    let mut other = enter_as("bob", &cluster, 2, "lobby", "bob 2").await;
    other.say(1, "x").await;
    assert_eq!(other.expect_nack(1).await.reason(), NackReason::Muted);
    let plain = cluster.endpoint(0).bearing(&token(&claims("bob"))).join("bob 3").await;
    alice.expect_joined("bob 2").await;
    alice.expect_joined("bob 3").await;
    plain.say("y").await;
    let words = plain.expect_end(Code::PermissionDenied).await;
    assert!(words.starts_with("muted until 2"), "{words}");

    moderator.unmute_sub("lobby", "bob").await.expect("a moderator may");
    bob.say_and_wait(2, "two").await;
    other.say_and_wait(1, "x").await;
    cluster.assert_no_errors();
}

async fn roles_are_given_and_taken(layout: Layout) {
    let cluster = start(layout).await;
    let mut owner = Moderator::at(cluster.endpoint(0).bearing(&of_role("o", Role::Owner))).await;
    let mut helper =
        Moderator::at(cluster.endpoint(1).bearing(&of_role("helper", Role::Member))).await;
    let mut bob = enter(&cluster, 2, "lobby", "bob").await;
    let words = denied(helper.kick_name("lobby", "bob").await);
    assert_eq!(words, "this needs the role moderator in room \"lobby\"");
    let words = denied(helper.set_role("lobby", "helper", "owner").await);
    assert_eq!(words, "this needs the role owner in room \"lobby\"");
    owner.set_role("lobby", "helper", "moderator").await.expect("an owner may");
    helper.mute_sub("lobby", "bob", None).await.expect("it is a moderator now");
    helper.unmute_sub("lobby", "bob").await.expect("it is a moderator now");
    let words = denied(helper.set_role("lobby", "bob", "moderator").await);
    assert_eq!(words, "this needs the role owner in room \"lobby\"");
    denied(helper.kick_name("team-1", "bob").await);
    // Nobody does anything to their likes.
    owner.set_role("lobby", "bob", "moderator").await.expect("an owner may");
    let words = denied(helper.kick_name("lobby", "bob").await);
    assert!(words.contains("as high as yours"), "{words}");
    let words = denied(helper.ban_sub("lobby", "bob").await);
    assert!(words.contains("as high as yours"), "{words}");

    owner.set_role("lobby", "bob", "reader").await.expect("an owner may");
    bob.say(1, "x").await;
    assert_eq!(bob.expect_nack(1).await.reason(), NackReason::Forbidden);
    owner.set_role("lobby", "bob", "").await.expect("an owner may");
    bob.say_and_wait(1, "x").await;
    owner.set_role("lobby", "bob", "none").await.expect("an owner may");
    bob.expect_end(Code::PermissionDenied).await;
    let endpoint = cluster.endpoint(0).bearing(&token(&claims("bob")));
    let words = endpoint.join("bob").await.expect_end(Code::PermissionDenied).await;
    assert_eq!(words, "no access to room \"lobby\"");

    // A role gives what no token does, in that room only.
    let nothing = token(&tokens::with_roles("guest", &[("elsewhere", Role::Member)]));
    let guest = cluster.endpoint(1).bearing(&nothing);
    guest.join("guest").await.expect_end(Code::PermissionDenied).await;
    owner.set_role("lobby", "guest", "member").await.expect("an owner may");
    let mut guest = RichClient::open(&guest, RichClient::asking("lobby", "guest")).await;
    guest.welcome().await;
    guest.say_and_wait(1, "hello").await;
    cluster.assert_no_errors();
}

async fn where_nobody_shows_a_token_names_are_banned(layout: Layout) {
    let cluster = layout.plan().with("ROOMCAST_API__KEY", KEY).start().await;
    let mut nobody = Moderator::at(cluster.endpoint(0)).await;
    let words = denied(nobody.kick_name("lobby", "bob").await);
    assert_eq!(words, "this needs the role moderator in room \"lobby\"");
    let mut backend = Moderator::at(cluster.endpoint(1).bearing(KEY)).await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let bob = cluster.endpoint(2).enter_seen_by("bob", &mut [&mut alice]).await;
    let who = || ban_request::Who::Username("bob".to_owned());
    backend.ban("lobby", who(), None).await.expect("a backend may");
    assert_eq!(bob.expect_end(Code::PermissionDenied).await, "kicked: spam");
    alice.expect_system("bob left").await;
    for (replica, spelling) in ["bob", "BOB", "ｂｏｂ"].into_iter().enumerate() {
        let outcome = cluster.endpoint(replica).join(spelling).await;
        assert_eq!(outcome.expect_end(Code::PermissionDenied).await, "banned");
    }
    let sub = backend.ban_sub("lobby", "bob").await.expect_err("nobody has a sub");
    assert_eq!(sub.code(), Code::InvalidArgument, "{sub:?}");
    let who = unban_request::Who::Username("Bob".to_owned());
    backend.unban("lobby", who).await.expect("a backend may");
    cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await.assert_open();
    cluster.assert_no_errors();
}
