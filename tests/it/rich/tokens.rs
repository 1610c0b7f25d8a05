//! A token resumes its own session, and does nothing else. Clients come by way of Envoy.

use tonic::Code;

use crate::harness::{Cluster, Dialect, Proxy, RichClient};

#[tokio::test]
async fn only_the_sessions_own_token_resumes_it() {
    for plan in [Cluster::memory(), Cluster::redis(2)] {
        let cluster = plan.start().await;
        let proxy = Proxy::start(&cluster).await;
        let endpoint = proxy.endpoint(Dialect::Typed);
        let mut alice = RichClient::open(&endpoint, RichClient::asking("den", "alice")).await;
        let token = alice.welcome().await.session_token;
        let mut other = RichClient::open(&endpoint, RichClient::asking("attic", "alice")).await;
        let elsewhere = other.welcome().await.session_token;
        let forged = [&token[..16], &[7; 32][..]].concat();
        for (room, name, token, code) in [
            ("den", "alice", forged, Code::PermissionDenied),
            ("den", "alice", b"short".to_vec(), Code::PermissionDenied),
            ("den", "alice", [&token[..], &[0]].concat(), Code::PermissionDenied),
            ("den", "alice", elsewhere.clone(), Code::NotFound),
            ("den", "bob", token.clone(), Code::NotFound),
            ("attic", "alice", token.clone(), Code::NotFound),
            ("cellar", "alice", token.clone(), Code::NotFound),
            ("den", "alice", vec![], Code::AlreadyExists),
        ] {
            let mut join = RichClient::asking(room, name);
            join.session_token = token;
            let client = RichClient::open(&endpoint, join).await;
            client.expect_end(code).await;
        }
        alice.say_and_wait(1, "untouched").await;
        other.say_and_wait(1, "untouched").await;
        // Shown by the same user, it takes over; when the session has ended, it is of no use.
        let mut newer = alice.resume(&endpoint, None).await;
        assert!(newer.welcome().await.resumed);
        alice.expect_end(Code::Aborted).await;
        newer.leave().await;
        let late = newer.resume(&endpoint, None).await;
        late.expect_end(Code::NotFound).await;
        let mut anew = RichClient::open(&endpoint, RichClient::asking("den", "alice")).await;
        assert!(!anew.welcome().await.resumed);
        cluster.assert_no_errors();
    }
}
