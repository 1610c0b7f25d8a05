//! Over TLS the client says by ALPN what it speaks, and what it says then counts.

use super::LIST_MEMBERS;
use crate::{
    harness::{Authority, http1::Http1},
    tls::{handshake, serving},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_over_tls() {
    let authority = Authority::new("servers");
    let cluster = serving(&authority.issue_files("server")).await;
    let addr = cluster.replicas[0].grpc();
    for alpn in [&["http/1.1"][..], &[]] {
        let stream = handshake(addr, &authority, rustls::ALL_VERSIONS, alpn).await.expect("TLS");
        let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(chosen.as_deref(), alpn.first().map(|it| it.as_bytes()));
        let mut client = Http1::on(stream);
        for _ in 0..2 {
            assert_eq!(client.post(LIST_MEMBERS, &[], r#"{"room":"den"}"#).await.status, 200);
        }
    }
}
