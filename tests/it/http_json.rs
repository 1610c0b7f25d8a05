//! Unary calls over plain HTTP, on the port of gRPC.

mod connections;
mod documents;
mod drain;
mod shapes;
mod tls;

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use roomcast_auth::Role;
use roomcast_proto::room::{ListMembersRequest, ListMembersResponse};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};
use tonic::Code;

use crate::harness::{
    Cluster, Layout, RichClient, SOON,
    http1::{Http1, post},
    tokens,
};

on_both_backplanes!(moderators_call_with_json,);

const LIST_MEMBERS: &str = "/roomcast.v1.RoomService/ListMembers";
const LIST_EVENTS: &str = "/roomcast.v1.RoomService/ListEvents";
const KICK: &str = "/roomcast.v1.ModerationService/Kick";

/// The same request over HTTP/2, and the HTTP status and the body of its answer.
async fn over_http2(
    cluster: &Cluster,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Bytes) {
    let addr = cluster.replicas[0].grpc();
    let io = TokioIo::new(TcpStream::connect(addr).await.expect("the server listens"));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut requests, connection) = handshake.await.expect("HTTP/2");
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let mut request = http::Request::post(format!("http://{addr}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
    let exchange = async {
        let (head, body) = requests.send_request(request).await.expect("an answer").into_parts();
        assert!(!head.headers.keys().any(|name| name.as_str().starts_with("grpc-")), "{head:?}");
        (head.status.as_u16(), body.collect().await.expect("a body").to_bytes())
    };
    tokio::time::timeout(SOON, exchange).await.expect("an answer in time")
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// Somebody in the room `den`.
async fn alice(cluster: &Cluster) -> RichClient {
    let asking = RichClient::asking("den", "alice");
    let mut alice = RichClient::open(&cluster.endpoint(0), asking).await;
    alice.welcome().await;
    alice
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_in_json_over_both_versions() {
    let cluster = Cluster::memory().start().await;
    let mut alice = alice(&cluster).await;
    alice.say_through(1, "hello").await;
    let mut client = Http1::open(cluster.replicas[0].grpc()).await;
    let answer = client.post(LIST_MEMBERS, &[], r#"{"room":"den"}"#).await;
    assert_eq!((answer.status, &*answer.headers["content-type"]), (200, "application/json"));
    assert_eq!(answer.json()["members"][0]["username"], "alice", "{answer:?}");
    let newest = r#"{"room":"den","pageSize":1}"#;
    let answer = client.post(LIST_EVENTS, &["connect-protocol-version: 1"], newest).await;
    let event = &answer.json()["events"][0];
    assert_eq!(event["said"]["content"], "hello", "{answer:?}");
    // 64 bits are text in JSON, and times too.
    assert!(event["position"]["seq"].is_string() && event["time"].is_string(), "{event}");
    assert!(!answer.headers.keys().any(|name| name.starts_with("access-control-")), "{answer:?}");

    let (status, body) = over_http2(&cluster, LIST_MEMBERS, &[JSON], br#"{"room":"den"}"#).await;
    let told: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, &told["members"][0]["username"]), (200, &json!("alice")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_in_protobuf_too() {
    let cluster = Cluster::memory().start().await;
    let _alice = alice(&cluster).await;
    let asked = ListMembersRequest { room: "den".to_owned(), ..ListMembersRequest::default() };
    let proto = ("content-type", "application/proto");
    let (status, body) = over_http2(&cluster, LIST_MEMBERS, &[proto], &asked.encode_to_vec()).await;
    let told = ListMembersResponse::decode(body).expect("a message");
    assert_eq!((status, &*told.members[0].username), (200, "alice"));
    let nowhere = ListMembersRequest { room: "no room".to_owned(), ..asked }.encode_to_vec();
    let (status, body) = over_http2(&cluster, LIST_MEMBERS, &[proto], &nowhere).await;
    let told: Value = serde_json::from_slice(&body).expect("an error is JSON");
    assert_eq!((status, &told["code"]), (400, &json!("invalid_argument")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_may_be_packed_with_gzip() {
    let cluster = Cluster::memory().start().await;
    let _alice = alice(&cluster).await;
    let pack = |json: &str| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(json.as_bytes()).expect("packed");
        packer.finish().expect("packed")
    };
    let gzip = [JSON, ("content-encoding", "gzip")];
    let (status, _) = over_http2(&cluster, LIST_MEMBERS, &gzip, &pack(r#"{"room":"den"}"#)).await;
    assert_eq!(status, 200);
    // It is small only as long as it is packed.
    let (status, body) =
        over_http2(&cluster, LIST_MEMBERS, &gzip, &pack(&" ".repeat(1 << 20))).await;
    let told: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, &told["code"]), (429, &json!("resource_exhausted")), "{told}");
}

async fn moderators_call_with_json(layout: Layout) {
    let plan = layout
        .plan()
        .wanting_tokens()
        .with("ROOMCAST_API__KEY", "the-key-of-backends-that-only-this-test-knows");
    let cluster = plan.start().await;
    let token = tokens::token(&tokens::claims("alice"));
    let endpoint = cluster.endpoint(1).bearing(&token);
    let mut alice = RichClient::open(&endpoint, RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    let mut client = Http1::open(cluster.replicas[0].grpc()).await;
    let kick = r#"{"room":"den","username":"alice","reason":"spam"}"#;

    let answer = client.post(KICK, &[], kick).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("unauthenticated")));
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    let member = format!("authorization: Bearer {token}");
    let answer = client.post(KICK, &[&member], kick).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("permission_denied")));
    let detail = &answer.json()["details"][0];
    assert_eq!(detail["type"], "google.rpc.ErrorInfo", "{answer:?}");
    assert_eq!(detail["debug"]["domain"], "roomcast", "{answer:?}");

    let moderator = tokens::of_role("mod", Role::Moderator);
    let moderator = format!("authorization: Bearer {moderator}");
    let backend = "authorization: Bearer the-key-of-backends-that-only-this-test-knows";
    let ban = r#"{"room":"den","sub":"bob","duration":"60s","reason":"spam"}"#;
    let answer = client.post("/roomcast.v1.ModerationService/Ban", &[&moderator], ban).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["until"].is_string(), "{answer:?}");
    let answer = client.post(KICK, &[backend], kick).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "members": 1 })));
    assert_eq!(alice.expect_end(Code::PermissionDenied).await, "kicked: spam");
    let list = r#"{"room":"den"}"#;
    let answer = client.post("/roomcast.v1.ModerationService/ListBans", &[backend], list).await;
    assert_eq!(answer.json()["bans"][0]["sub"], "bob", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_publish_with_json() {
    const KEY: &str = "the-key-of-backends-that-only-this-test-knows";
    const PUBLISH: &str = "/roomcast.v1.AdminService/Publish";
    let cluster = Cluster::memory().with("ROOMCAST_API__KEY", KEY).start().await;
    let mut alice = alice(&cluster).await;
    let mut client = Http1::open(cluster.replicas[0].grpc()).await;
    let key = format!("authorization: Bearer {KEY}");
    let bulletin = r#"{"room":"den","content":"hello \u00e4","username":"news"}"#;
    let answer = client.post(PUBLISH, &[], bulletin).await;
    assert!([401, 403].contains(&answer.status), "{answer:?}");
    let answer = client.post(PUBLISH, &[&key], bulletin).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["position"]["seq"].is_string(), "{answer:?}");
    alice.expect_said("news", "hello ä").await;
    // Larger than other calls may be, as it may be over gRPC.
    let many = vec![r#"{"room":"den","content":"again"}"#; 1000].join(",");
    let many = format!(r#"{{"messages":[{many}]}}"#);
    let answer = client.post("/roomcast.v1.AdminService/PublishMany", &[&key], &many).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["results"].as_array().map(Vec::len), Some(1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_takes_no_longer_than_its_client_waits() {
    let cluster = Cluster::memory().start().await;
    let mut client = Http1::open(cluster.replicas[0].grpc()).await;
    let whole = post(LIST_MEMBERS, &["connect-timeout-ms: 50"], r#"{"room":"den"}"#);
    // All but the last byte.
    let answer = client.ask(&whole[..whole.len() - 1]).await;
    let (status, code, text) = answer.error();
    assert_eq!((status, &*code), (504, "deadline_exceeded"), "{text}");
}
