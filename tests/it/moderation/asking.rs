//! What moderators' calls are refused for.

use roomcast_auth::Role;
use roomcast_proto::room::{
    BanRequest, KickRequest, ListBansRequest, MuteRequest, SetRoleRequest, SetRoomRequest,
    ban_request, kick_request, mute_request,
};
use tonic::{Code, Status};

use super::{Moderator, denied, moderator, seconds, start};
use crate::harness::{Layout, tokens::of_role};

on_both_backplanes!(who_may_not_is_told_so, what_cannot_be_is_refused);

async fn who_may_not_is_told_so(layout: Layout) {
    let cluster = start(layout).await;
    let mut nobody = Moderator::at(cluster.endpoint(0)).await;
    let status = nobody.kick_name("lobby", "bob").await.expect_err("no token");
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    for role in [Role::Reader, Role::Member] {
        let endpoint = cluster.endpoint(1).bearing(&of_role("m", role));
        let mut member = Moderator::at(endpoint.clone()).await;
        denied(member.kick_name("lobby", "bob").await);
        denied(member.ban_sub("lobby", "b").await);
        denied(member.mute_sub("lobby", "b", None).await);
        denied(member.unmute_sub("lobby", "b").await);
        denied(member.set_role("lobby", "b", "reader").await);
        denied(member.client.list_bans(endpoint.authorized(ListBansRequest::default())).await);
        denied(member.client.set_room(endpoint.authorized(SetRoomRequest::default())).await);
    }
    let nowhere = cluster.endpoint(2).bearing(&of_role("x", Role::Moderator));
    let status = Moderator::at(nowhere).await.kick_name("no such room", "bob").await;
    assert_eq!(status.expect_err("a bad name").code(), Code::InvalidArgument);
    // A moderator who is banned is none.
    let mut owner = Moderator::at(cluster.endpoint(0).bearing(&of_role("o", Role::Owner))).await;
    owner.ban_sub("lobby", "mod").await.expect("an owner may");
    let words = denied(moderator(&cluster, 1).await.ban_sub("lobby", "b").await);
    assert!(words.starts_with("banned until"), "{words}");
}

async fn what_cannot_be_is_refused(layout: Layout) {
    let cluster = start(layout).await;
    let Moderator { mut client, endpoint } = moderator(&cluster, 0).await;
    let bad = |outcome: Result<(), Status>, why: &str| {
        let status = outcome.expect_err("it cannot be");
        assert_eq!(status.code(), Code::InvalidArgument, "{why}: {status:?}");
        assert!(status.message().contains(why), "{why}: {status:?}");
    };
    let kick = KickRequest::default();
    bad(client.kick(endpoint.authorized(kick)).await.map(drop), "username or sub");
    let kick = KickRequest { who: Some(kick_request::Who::Sub(String::new())), ..<_>::default() };
    bad(client.kick(endpoint.authorized(kick)).await.map(drop), "username or sub");
    let who = || Some(kick_request::Who::Username("bob".to_owned()));
    let kick = KickRequest { reason: "x".repeat(513), who: who(), ..<_>::default() };
    bad(client.kick(endpoint.authorized(kick)).await.map(drop), "at most 512 bytes");
    let kick = KickRequest { reason: "a\nb".to_owned(), who: who(), ..<_>::default() };
    bad(client.kick(endpoint.authorized(kick)).await.map(drop), "control characters");
    let who = Some(kick_request::Who::Username(" ".to_owned()));
    let kick = KickRequest { who, ..<_>::default() };
    bad(client.kick(endpoint.authorized(kick)).await.map(drop), "username cannot be empty");
    for duration in [seconds(0), seconds(-5), seconds(i64::MAX)] {
        let who = Some(ban_request::Who::Sub("b".to_owned()));
        let ban = BanRequest { duration: Some(duration), who, ..<_>::default() };
        bad(client.ban(endpoint.authorized(ban)).await.map(drop), "duration");
        let who = Some(mute_request::Who::Sub("b".to_owned()));
        let mute = MuteRequest { duration: Some(duration), who, ..<_>::default() };
        bad(client.mute(endpoint.authorized(mute)).await.map(drop), "duration");
        let slow_mode = if duration.seconds == 0 { seconds(86_401) } else { duration };
        let room = SetRoomRequest { slow_mode: Some(slow_mode), ..<_>::default() };
        bad(client.set_room(endpoint.authorized(room)).await.map(drop), "slow_mode");
    }
    let page = ListBansRequest { page_token: "x".to_owned(), ..<_>::default() };
    bad(client.list_bans(endpoint.authorized(page)).await.map(drop), "page_token");
    let owner = cluster.endpoint(0).bearing(&of_role("o", Role::Owner));
    let who = Some(roomcast_proto::room::set_role_request::Who::Sub("b".to_owned()));
    let role = SetRoleRequest { role: "king".to_owned(), who, ..<_>::default() };
    bad(client.set_role(owner.authorized(role)).await.map(drop), "\"moderator\"");
}
